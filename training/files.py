"""Write files so that a crash or a full disk leaves the old one as it was."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; it takes the place of ``path`` when all has been written.

    Raises:
        OSError: the disk is full, say; ``path`` is then what it was, and nothing else is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffixes stay: Keras tells formats apart by them.
    unfinished = path.with_name(f"unfinished-{os.getpid()}-{path.name}")
    try:
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
