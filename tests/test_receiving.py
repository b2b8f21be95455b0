"""What comes off the network in large pieces is what was sent, and its end is noticed."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.errors import KafkaConnectionError
from kafka.net.transport import KafkaTCPTransport
from kafka.protocol.frame import KafkaBytes

from car_classifier.receiving import PIECE_BYTES, receive_in_large_pieces

receive_in_large_pieces()
receive_in_large_pieces()  # a second consumer of the process


@pytest.fixture
def ends() -> Iterator[tuple[Any, socket.socket]]:
    """A transport of the library, and the socket that it hears."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield KafkaTCPTransport(None, ours), theirs


def test_all_that_is_sent_is_received_in_order(ends: tuple[Any, socket.socket]) -> None:
    transport, sender = ends
    sent = bytes(itertools.islice(itertools.cycle(range(251)), 3 * PIECE_BYTES + 17))
    left, received, calls = memoryview(sent), b"", 0
    while len(received) < len(sent):
        if left:
            left = left[sender.send(left) :]
        piece, error = transport._sock_recv()
        assert error is None
        received += piece
        calls += 1
    assert received == sent
    assert calls < len(sent) / 4096 / 4  # the library's own way takes more


def test_without_anything_to_receive_it_waits_for_more(ends: tuple[Any, socket.socket]) -> None:
    transport, _ = ends
    assert transport._sock_recv() == (b"", None)


def test_the_end_of_a_connection_is_an_error_behind_all_that_came_before(
    ends: tuple[Any, socket.socket],
) -> None:
    transport, sender = ends
    sender.send(b"the last")
    sender.close()
    piece, error = transport._sock_recv()
    assert (bytes(piece), error) == (b"the last", None)
    _, error = transport._sock_recv()
    assert isinstance(error, KafkaConnectionError)


def test_a_socket_that_fails_is_an_error(ends: tuple[Any, socket.socket]) -> None:
    transport, _ = ends
    transport._sock.close()
    _, error = transport._sock_recv()
    assert isinstance(error, KafkaConnectionError)


@given(st.lists(st.binary(max_size=50)), st.lists(st.integers(0, 80)))
def test_a_response_is_read_as_it_was_written(pieces: list[bytes], counts: list[int]) -> None:
    # Given a response that was written piece by piece from a buffer that is used again
    whole = b"".join(pieces)
    response = KafkaBytes(len(whole))
    for piece in pieces:
        buffer = bytearray(piece)
        response.write(memoryview(buffer))
        buffer[:] = bytes(len(buffer))
    assert response.tell() == len(whole)
    # When it is read in other portions, beyond its end as well
    response.seek(0)
    parts = [response.read(count) for count in counts]
    # Then nothing is lost, and each part is as long as asked for while there is enough
    assert b"".join(parts) + response.read() == whole
    assert all(type(part) is bytes for part in parts)
    places = itertools.accumulate(counts, initial=0)
    assert parts == [whole[at : at + count] for at, count in zip(places, counts, strict=False)]
