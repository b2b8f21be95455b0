"""The simulated camera: which photos it takes, in which order, and what it does to them."""

from __future__ import annotations

import errno
import io
import os
import random
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from car_classifier import camera
from car_classifier.camera import PhotoFolder, read_photo
from car_classifier.errors import PhotoFileError, SettingsError
from tests.photos import encoded, picture


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"a photo")


def names_of_round(folder: PhotoFolder) -> list[str]:
    return [path.name for path in folder.round()]


def test_photos_are_walked_by_name_again_and_again(tmp_path: Path) -> None:
    fill(tmp_path, "c.jpg", "a.jpg", "b10.jpg", "b2.jpg")
    folder = PhotoFolder(tmp_path)

    for _ in range(2):
        assert names_of_round(folder) == ["a.jpg", "b10.jpg", "b2.jpg", "c.jpg"]


def test_photos_are_known_by_their_ending_in_any_letter_case(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.JPG", "c.jpeg", "d.Jpeg", "e.png", "f.PNG", "g.webp", "h.BMP")
    fill(tmp_path, "CREDITS.md", "x.gif", "jpg", ".jpg", "x.jpg.part", "x.tiff")

    assert names_of_round(PhotoFolder(tmp_path)) == [
        *("a.jpg", "b.JPG", "c.jpeg", "d.Jpeg", "e.png", "f.PNG", "g.webp", "h.BMP")
    ]


def test_photos_added_and_removed_meanwhile_are_noticed(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "c.jpg", "d.jpg")
    walk = PhotoFolder(tmp_path).round()

    assert next(walk).name == "a.jpg"
    fill(tmp_path, "b.jpg")
    (tmp_path / "c.jpg").unlink()

    assert [path.name for path in walk] == ["b.jpg", "d.jpg"]


def test_a_folder_emptied_or_removed_meanwhile_gives_an_empty_round(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    fill(photos, "a.jpg")
    folder = PhotoFolder(photos)

    (photos / "a.jpg").unlink()
    assert names_of_round(folder) == []
    photos.rmdir()
    assert names_of_round(folder) == []
    photos.mkdir()
    fill(photos, "b.jpg")
    assert names_of_round(folder) == ["b.jpg"]


def test_a_photo_that_cannot_be_sent_is_left_out_until_its_file_changes(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.jpg")
    folder = PhotoFolder(tmp_path)

    folder.skip(tmp_path / "a.jpg")
    folder.skip(tmp_path / "gone.jpg")
    assert names_of_round(folder) == ["b.jpg"]
    assert names_of_round(folder) == ["b.jpg"]

    changed = (tmp_path / "a.jpg").stat().st_mtime_ns + 1_000_000
    os.utime(tmp_path / "a.jpg", ns=(changed, changed))
    assert names_of_round(folder) == ["a.jpg", "b.jpg"]


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """One entry for each time that a folder was listed."""
    made: list[Path] = []
    scandir = os.scandir

    def counting(folder: Path) -> Any:
        made.append(folder)
        return scandir(folder)

    monkeypatch.setattr(camera.os, "scandir", counting)
    return made


def test_a_folder_that_does_not_change_is_listed_once_a_round(
    tmp_path: Path, listings: list[Path]
) -> None:
    fill(tmp_path, *(f"{number}.jpg" for number in range(50)))
    minute_ago = time.time() - 60
    os.utime(tmp_path, (minute_ago, minute_ago))
    folder = PhotoFolder(tmp_path)
    listings.clear()

    for _ in range(3):
        assert len(names_of_round(folder)) == 50
    assert len(listings) == 3


def test_a_large_folder_is_not_listed_for_every_photo_while_others_are_added(
    tmp_path: Path, listings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a folder of many photos, and a clock that a photo takes a hundredth of a second of
    now = time.time()
    monkeypatch.setattr(camera.time, "time", lambda: now)
    fill(tmp_path, *(f"{number:05}.jpg" for number in range(2000)))
    walk = PhotoFolder(tmp_path).round()
    listings.clear()

    # When another is added after each, and one removed
    (tmp_path / "01999.jpg").unlink()
    shown = []
    for number in range(500):
        shown.append(next(walk).name)
        fill(tmp_path, f"a{number}.jpg")
        now += 0.01
    rest = [path.name for path in walk]

    # Then it is listed once a second and at the end, and all that are there are shown once
    assert len(listings) <= 8
    assert sorted(shown + rest) == sorted(path.name for path in tmp_path.iterdir())


def test_shuffled_rounds_show_each_photo_once_in_an_order_of_their_own(tmp_path: Path) -> None:
    expected = [f"{number:02}.jpg" for number in range(20)]
    fill(tmp_path, *expected)
    folder = PhotoFolder(tmp_path, shuffle=True)

    random.seed(1)
    first, second = names_of_round(folder), names_of_round(folder)

    assert sorted(first) == sorted(second) == expected
    assert first != second
    assert expected not in (first, second)


def test_a_missing_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no folder .*nowhere.* \(--images\)"):
        PhotoFolder(tmp_path / "nowhere")
    fill(tmp_path, "notes.txt")
    with pytest.raises(SettingsError, match=r"no photo in .*\.jpg, \.jpeg, \.png, \.webp, \.bmp"):
        PhotoFolder(tmp_path)
    with pytest.raises(SettingsError, match="no folder"):
        PhotoFolder(tmp_path / "notes.txt")


def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to("gone.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.jpg"))

    found = {path.name for path in PhotoFolder(tmp_path).round()}
    assert found == {"folder.jpg", "pipe.jpg", "link.jpg", "socket.jpg"}
    for name in found:
        with pytest.raises(PhotoFileError, match=rf"{name}: (cannot be read|expected a file)"):
            read_photo(tmp_path / name)


def test_what_is_no_file_is_left_out_once_it_has_been_reported(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to("gone.jpg")
    folder = PhotoFolder(tmp_path)
    for path in folder.round():
        folder.skip(path)

    assert names_of_round(folder) == []
    fill(tmp_path, "gone.jpg")  # and so the link leads somewhere
    assert names_of_round(folder) == ["gone.jpg", "link.jpg"]


def test_a_photo_that_we_may_not_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path, _: int) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    fill(tmp_path, "a.jpg")
    monkeypatch.setattr(camera.os, "open", forbidden)

    with pytest.raises(PhotoFileError, match=r"a\.jpg: cannot be read: Permission denied$"):
        read_photo(tmp_path / "a.jpg")


def test_a_file_larger_than_memory_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(2**40)  # takes no room on the disk

    with pytest.raises(PhotoFileError, match=r"1048576 MiB, more than"):
        read_photo(tmp_path / "a.jpg", max_side=100)


def test_half_a_photo_is_not_shrunk_to_a_whole_one(tmp_path: Path) -> None:
    whole = encoded(picture(900, 600), "JPEG", quality=95)
    path = tmp_path / "a.jpg"
    for part in (whole[: len(whole) // 2], whole[: len(whole) // 2] + b"\xff\xd9"):
        path.write_bytes(part)
        with pytest.raises(PhotoFileError, match=r"cannot be read: .*expected a whole JPEG"):
            read_photo(path, max_side=300)


def test_a_photo_is_sent_as_it_is(tmp_path: Path) -> None:
    # Given bytes that are no image: the camera does not judge, the service does
    path = tmp_path / "a.jpg"
    path.write_bytes(b"whatever")

    assert read_photo(path) == b"whatever"


def test_a_photo_no_larger_than_max_side_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture(300, 200), "PNG"))

    assert read_photo(path, max_side=300) == path.read_bytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_a_larger_photo_is_shrunk_to_a_jpeg_of_the_same_shape(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.photo"
    path.write_bytes(encoded(picture(900, 600), kind))

    with Image.open(io.BytesIO(read_photo(path, max_side=300))) as image:
        assert (image.format, image.size) == ("JPEG", (300, 200))


def test_a_shrunk_photo_stands_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(picture(900, 600), "JPEG", exif=exif))

    with Image.open(io.BytesIO(read_photo(path, max_side=300))) as image:
        assert image.size == (200, 300)
        assert image.getexif().get(0x0112, 1) == 1


def test_a_photo_that_cannot_be_sent_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    with pytest.raises(PhotoFileError, match=r"a\.jpg: cannot be read"):
        read_photo(path)

    path.write_bytes(b"")
    with pytest.raises(PhotoFileError, match="the file is empty"):
        read_photo(path)

    path.write_bytes(encoded(picture(900, 600), "JPEG")[:3000])
    with pytest.raises(PhotoFileError, match="cannot be read"):
        read_photo(path, max_side=300)

    path.write_bytes(encoded(picture(900, 600), "PNG"))
    monkeypatch.setattr(camera, "MAX_FILE_BYTES", 8 * 2**10)
    with pytest.raises(PhotoFileError, match=r"MiB that can be sent; --max-side shrinks photos"):
        read_photo(path)
    assert len(read_photo(path, max_side=100)) < 8 * 2**10


def test_damaged_photos_never_end_the_camera(tmp_path: Path) -> None:
    chance = random.Random(3)
    files = [encoded(picture(), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")]
    path = tmp_path / "a.jpg"
    refused = 0
    for _ in range(600):
        data = bytearray(chance.choice(files))
        for _ in range(5):
            data[chance.randrange(min(len(data), 200))] = chance.randrange(256)
        path.write_bytes(data)
        try:
            assert read_photo(path, max_side=16)
        except PhotoFileError:
            refused += 1
    assert 0 < refused < 600
