"""A header's name may be any bytes; the message is read, and sent on, as it came."""

from __future__ import annotations

import pytest
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from car_classifier.header_names import HeaderName, accept_any_header_name

ODD = HeaderName("\udcff\udcfename")


@pytest.mark.parametrize("compression", [0, 1], ids=["plain", "gzip"])
def test_a_name_that_is_no_utf8_is_read_and_written_as_it_came(compression: int) -> None:
    # Given a batch of three messages, the second with an odd name
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=compression,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=10_000,
    )
    headers = [[("plain", b"1")], [("before", b"2"), (ODD, b"3"), ("é", None)], [("é", b"4")]]
    for offset, one in enumerate(headers):
        builder.append(offset, 1_700_000_000_000, b"key", b"value %d" % offset, one)
    data = bytes(builder.build())
    assert b"\xff\xfename" in data or compression

    # When it is read
    accept_any_header_name()
    accept_any_header_name()  # a second consumer of the process
    records = list(DefaultRecordBatch(data))

    # Then nothing is lost or changed
    assert [record.value for record in records] == [b"value 0", b"value 1", b"value 2"]
    assert [record.headers for record in records] == headers
    (_, (name, _), _) = records[1].headers
    assert name.encode("utf-8") == b"\xff\xfename"


def test_a_name_that_utf8_has_is_an_ordinary_one() -> None:
    assert ODD.encode() == b"\xff\xfename"
    assert HeaderName("é").encode("utf-8") == "é".encode()
