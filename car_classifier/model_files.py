"""A look at a model file before a library is let near it: it may come from anywhere."""

from __future__ import annotations

import zipfile
from pathlib import Path

from car_classifier.errors import ModelError

__all__ = ["check_keras_archive"]

# What Keras writes for a classifier of images. It can read more: vocabularies, which it unpacks to
# the disk, and weights in other forms. None of that belongs here.
_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
# Keras stores its files uncompressed, and weights would shrink by a tenth.
_MOST_INFLATION = 10


def check_keras_archive(path: Path) -> None:
    """Refuse an archive that holds anything but a model, or that swells when it is unpacked.

    Raises:
        ModelError: says what was found.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ModelError(
            f"{path}: expected a .keras file, which is a zip archive; got something else "
            f"or a part of one ({error})"
        ) from error
    names = [member.filename for member in members]
    strange = sorted(name for name in names if name not in _MEMBERS)
    if strange:
        raise ModelError(
            f"{path}: expected nothing but {', '.join(sorted(_MEMBERS))} in the archive; "
            f"it also holds {strange[0]!r:.100}"
        )
    if missing := _MEMBERS.difference(names):
        raise ModelError(f"{path}: expected a Keras model file: no {min(missing)} in the archive")
    if len(set(names)) < len(names):
        raise ModelError(f"{path}: expected each file once in the archive")
    for member in members:
        if member.file_size > _MOST_INFLATION * max(member.compress_size, 2**16):
            raise ModelError(
                f"{path}: {member.filename} swells from {member.compress_size:,} bytes to "
                f"{member.file_size:,}: expected at most {_MOST_INFLATION} times as many"
            )
    packed = sum(member.compress_size for member in members)
    if packed > path.stat().st_size:
        raise ModelError(f"{path}: its files overlap: expected each to have bytes of its own")
