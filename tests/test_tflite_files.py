"""A damaged ``.tflite`` file is refused with a reason; it does not end the program without one."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from car_classifier.errors import ModelError
from car_classifier.tflite_files import check_tflite
from tests.models import HEIGHT, WIDTH, conv_model
from tests.scripts import ROOT, clean_environment
from training.export import int8_model

# Keras on its way to NumPy 2, and TensorFlow on its way to LiteRT.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning"),
]

DAMAGED = 60

# Each file in a process of its own that has TensorFlow already: prints how each of them ended.
LOAD_EACH = """
    import os, sys, warnings
    from pathlib import Path
    warnings.simplefilter("ignore")
    import numpy as np
    import tensorflow as tf
    from car_classifier.errors import ModelError
    from car_classifier.runtimes import load_runtime

    tf.lite.Interpreter
    for path in sorted(Path(sys.argv[1]).iterdir()):
        child = os.fork()
        if child == 0:
            try:
                runtime = load_runtime("litert", path)
                runtime.predict(np.zeros((1, *runtime.input_shape[1:]), np.uint8))
                os._exit(0)
            except ModelError:
                os._exit(10)
            except BaseException:
                os._exit(11)
        print(path.name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(scope="module")
def good() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        photos = np.random.default_rng(0).integers(0, 256, (30, HEIGHT, WIDTH, 3))
        return int8_model(conv_model(), photos.astype(np.uint8))


def damaged(data: bytes, seed: int) -> bytes:
    """The same with one to thirty bytes changed."""
    chance = random.Random(seed)
    changed = bytearray(data)
    for _ in range(chance.choice([1, 3, 30])):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def test_what_the_converter_writes_is_taken(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "good.tflite"
    path.write_bytes(good)

    check_tflite(path)
    check_tflite(next((ROOT / "models").glob("*.tflite")))


@pytest.mark.parametrize("length", [0, 3, 7, 8, 100, 2000])
def test_a_part_of_a_file_is_refused(good: bytes, tmp_path: Path, length: int) -> None:
    path = tmp_path / "part.tflite"
    path.write_bytes(good[:length])

    with pytest.raises(ModelError, match="expected a LiteRT model, got a damaged file: "):
        check_tflite(path)


def test_the_check_itself_stands_any_damage(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.tflite"
    refused = 0
    for seed in range(500):
        path.write_bytes(damaged(good, seed))
        try:
            check_tflite(path)
        except ModelError:
            refused += 1

    assert refused > 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
def test_a_damaged_file_never_ends_the_program_without_a_word(good: bytes, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for seed in range(DAMAGED):
        (files / f"{seed:03}.tflite").write_bytes(damaged(good, seed))

    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LOAD_EACH), files],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=250,
    )

    ends = dict(line.split() for line in result.stdout.splitlines())
    assert len(ends) == DAMAGED, result.stderr
    assert {name: end for name, end in ends.items() if int(end) < 0} == {}
