"""A message's headers may have names that are not UTF-8; that must not stop whoever reads them.

Kafka's brokers take any bytes for a header's name. Kafka-python 3.0.12 reads UTF-8 only, and raises
out of ``poll`` at every other name: a consumer would never get past that message.
"""

from __future__ import annotations

from typing import Any

from kafka.record.default_records import DefaultRecordBatch

__all__ = ["HeaderName", "accept_any_header_name"]


class HeaderName(str):
    """A name whose bytes are no UTF-8: shown as surrogate escapes, and sent as it came."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> bytes:
        """Return the name's own bytes."""
        return super().encode(encoding, errors)


class _Lenient(bytes):
    """Bytes whose slices become names, whatever they are."""

    def __getitem__(self, place: Any) -> Any:
        part = super().__getitem__(place)
        return _Lenient(part) if isinstance(part, bytes) else part

    def decode(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> str:
        return HeaderName(super().decode(encoding, errors))


def accept_any_header_name() -> None:
    """Have every consumer of this process read on where the library would raise."""
    read = DefaultRecordBatch._read_msg
    if hasattr(read, "reads_any_name"):
        return

    def read_any(batch: Any, *arguments: Any) -> Any:
        try:
            return read(batch, *arguments)
        except UnicodeDecodeError:  # nothing is read yet: the library moves on at a record's end
            batch._buffer = _Lenient(batch._buffer)
            return read(batch, *arguments)

    read_any.reads_any_name = True  # type: ignore[attr-defined]
    DefaultRecordBatch._read_msg = read_any
