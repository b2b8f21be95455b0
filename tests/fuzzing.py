"""Messages gone wrong in every way we could think of, always the same ones for the same seed.

More of them, and others, than the tests take: `python -m tests.fuzzing --messages 100000 --seed 2`
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from car_classifier.class_map import CarClass
from car_classifier.classifying import Batching, Rejection, answer, decode
from tests.models import COLOURS, HEIGHT, WIDTH
from tests.photos import Record, encoded, message, picture

BATCH = 16
WARM_UP = 2_000  # messages, until every reader has been loaded and has its buffers


class StrongestColour:
    """What `tests.models.colour_model` says, without Keras."""

    input_size = (WIDTH, HEIGHT)
    classes = tuple(CarClass(car["make"], car.get("model", "")) for car in COLOURS.values())

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        strength = np.exp(images.mean(axis=(1, 2)) / 32)
        return (strength / strength.sum(axis=1, keepdims=True)).astype(np.float32)


@dataclass
class Tally:
    """What has become of the messages so far."""

    sent: int = 0
    predicted: int = 0
    dead: Counter[str] = field(default_factory=Counter)
    slowest_seconds: float = 0.0  # of a processor, for one message
    slowest: int = 0  # the number of that message
    grown_bytes: int = 0  # what the program takes more since the warm-up


def classify(values: Iterator[bytes | None]) -> Tally:
    """Take messages through the path that the service takes them, and count."""
    tally, warm = Tally(), 0
    batch: list[Any] = []
    classifier: Any = StrongestColour()

    def finish() -> None:
        answers = answer(batch, classifier, Batching())
        assert len(answers) == len(batch)
        for one in answers:
            if isinstance(one, Rejection):
                tally.dead[one.error.reason.value] += 1
                assert str(one).isprintable()
                assert len(str(one)) < 500
            else:
                tally.predicted += 1
                assert one.as_line().isprintable()
                assert len(one.as_line()) < 1000
                json.loads(one.as_json())
                one.as_json().encode()
        batch.clear()

    for value in values:
        started = time.thread_time()
        batch.append(decode(Record("fuzz", 0, tally.sent, value), classifier.input_size))
        if (took := time.thread_time() - started) > tally.slowest_seconds:
            tally.slowest_seconds, tally.slowest = took, tally.sent
        tally.sent += 1
        if len(batch) == BATCH:
            finish()
        if tally.sent == WARM_UP:
            warm = memory()
    finish()
    tally.grown_bytes = memory() - warm if warm else 0
    return tally


def memory() -> int:
    """Return the bytes of memory that this program takes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def mutants(seed: int, count: int) -> Iterator[bytes | None]:
    """Yield so many messages: real ones with wrong bytes, fields, photos and shapes."""
    chance = random.Random(seed)
    photos = _photos()
    for _ in range(count):
        yield chance.choice(_MUTATIONS)(chance, photos)


def _photos() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a camera"
    small, large = picture(40, 30), picture(320, 240)
    return [
        *(encoded(image, "JPEG", exif=exif) for image in (small, large)),
        encoded(small, "JPEG", restart_marker_blocks=2),
        encoded(large, "JPEG", progressive=True),
        encoded(small.convert("L"), "JPEG"),
        encoded(small.convert("CMYK"), "JPEG"),
        encoded(small, "PNG", exif=exif),
        encoded(small.quantize(16), "PNG", transparency=0),
        encoded(small.convert("RGBA"), "PNG"),
        encoded(Image.fromarray(np.asarray(small.convert("L"), np.uint16) * 257), "PNG"),
        encoded(small, "WEBP"),
        encoded(small.convert("RGBA"), "WEBP", lossless=True),
        encoded(small, "BMP"),
        encoded(small.quantize(16), "BMP"),
        encoded(small, "GIF", save_all=True, append_images=[small.rotate(90)], comment=b"a" * 300),
        encoded(small, "TIFF"),
    ]


def _with(photo: bytes, **changes: object) -> bytes:
    return message(**{"image_data": base64.b64encode(photo).decode(), **changes})


def _scratched(chance: random.Random, data: bytes) -> bytes:
    """Wrong bytes, missing ones, repeated ones: mostly at the start, where headers are."""
    wrong = bytearray(data)
    reach = min(len(wrong), chance.choice([30, 200, 1000, len(wrong)]))
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        place = chance.randrange(max(1, min(reach, len(wrong))))
        length = chance.choice([1, 1, 1, 2, 4, 50])
        match chance.randrange(6):
            case 0:
                wrong[place : place + length] = chance.randbytes(length)
            case 1:
                wrong[place : place + length] = chance.choice([b"\x00", b"\xff", b"\x7f"]) * length
            case 2:
                del wrong[place : place + length]
            case 3:
                wrong[place:place] = wrong[place : place + length] * chance.choice([1, 2, 100])
            case 4:
                other = chance.randrange(max(1, len(wrong)))
                wrong[place : place + length] = wrong[other : other + length]
            case _:
                wrong[place : place + 1] = (
                    bytes([wrong[place] ^ 1 << chance.randrange(8)]) if wrong else b""
                )
        if not wrong:
            break
    return bytes(wrong)


def _good(chance: random.Random, photos: Sequence[bytes]) -> bytes:
    return _with(chance.choice(photos), timestamp=chance.uniform(0, 4e9))


def _scratched_photo(chance: random.Random, photos: Sequence[bytes]) -> bytes:
    return _with(_scratched(chance, chance.choice(photos)))


def _cut_photo(chance: random.Random, photos: Sequence[bytes]) -> bytes:
    photo = chance.choice(photos)
    tail = chance.choice([b"", b"\xff\xd9", b";", b"\x00" * 9, chance.randbytes(20)])
    return _with(photo[: chance.randrange(len(photo))] + tail)


def _spliced_photos(chance: random.Random, photos: Sequence[bytes]) -> bytes:
    first, second = chance.choice(photos), chance.choice(photos)
    return _with(first[: chance.randrange(len(first))] + second[chance.randrange(len(second)) :])


def _scratched_message(chance: random.Random, photos: Sequence[bytes]) -> bytes:
    return _scratched(chance, _good(chance, photos))


def _cut_message(chance: random.Random, photos: Sequence[bytes]) -> bytes:
    value = _good(chance, photos)
    return value[: chance.randrange(len(value))]


def _odd_fields(chance: random.Random, photos: Sequence[bytes]) -> bytes:
    name = chance.choice(["timestamp", "camera_id", "image_name", "image_data", "more"])
    return _with(chance.choice(photos), **{name: chance.choice(_ODD)})


def _odd_encoding(chance: random.Random, photos: Sequence[bytes]) -> bytes:
    encoding = chance.choice(["utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp500", "utf-7"])
    return _good(chance, photos).decode().encode(encoding)


def _odd_base64(chance: random.Random, photos: Sequence[bytes]) -> bytes:
    photo = chance.choice(photos)
    change: Callable[[bytes], bytes] = chance.choice(
        [base64.urlsafe_b64encode, base64.encodebytes, base64.b32encode, base64.b85encode]
    )
    return _with(photo, image_data=change(photo).decode())


def _no_message(chance: random.Random, _: Sequence[bytes]) -> bytes | None:
    return chance.choice(
        [
            *(None, b"", b"null", b"[]", b"{}", b"\x00" * 50, b"[" * 100_000, b'{"a":' * 100_000),
            *(b"[1," * 3000, b"9" * 5000, b'"\\ud800"', b"NaN", b"\xef\xbb\xbf", b"\xff\xfe"),
            chance.randbytes(chance.randrange(300)),
        ]
    )


_ODD: tuple[object, ...] = (
    *(None, True, 0, -1, 1.5, 1e300, 10**400, float("nan"), float("inf"), -float("inf")),
    *("", "text", "1e9", [], [[[[]]]], {}, {"a": {"b": 1}}, "x" * 40_000, "汽" * 10_000),
    *("a\nb\r\x1b[2K\x00", "\u202egnp.exe", "\u2028", "\ud800", "\udfff\ud800", "<b>&amp;</b>"),
)
_MUTATIONS = (
    *(_good, _scratched_photo, _scratched_photo, _scratched_photo, _cut_photo, _spliced_photos),
    *(_scratched_message, _cut_message, _odd_fields, _odd_encoding, _odd_base64, _no_message),
)


def main() -> None:
    """Run the command line: classify mutants and say in a line of JSON what became of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    tally = classify(mutants(options.seed, options.messages))
    print(json.dumps(vars(tally)))
    assert tally.sent == tally.predicted + tally.dead.total()


if __name__ == "__main__":
    main()
