"""A broker that asks for certificates, and one that is away or no broker at all."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from car_classifier.embedded_broker import free_port
from car_classifier.refusal import refusal
from car_classifier.security import Security
from tests.certificates import Authority
from tests.kafka_services import Broker


@contextlib.contextmanager
def server(certificate: Path, authority: Authority) -> Iterator[int]:
    """The port of a server that lets nobody in without a certificate, and says nothing then."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), context.wrap_socket(client, server_side=True) as tls:
                tls.recv(100)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(10)


@pytest.mark.parametrize(
    ("valid_days", "own", "reason"),
    [
        (2, False, "ends the TLS connection .*KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE"),
        (1, False, "shows a certificate out of its time .*expired"),
        (2, True, None),  # let in; that it says nothing then is no refusal
    ],
)
def test_certificates_are_asked_for_and_looked_at(
    tmp_path: Path, valid_days: int, own: bool, reason: str | None
) -> None:
    authority = Authority(tmp_path)
    certificate = authority.issue("broker", ["127.0.0.1"], valid_days=valid_days)
    security = Security(
        security_protocol="SSL",
        ssl_cafile=str(authority.file),
        ssl_certfile=str(authority.issue("camera", ["camera"])) if own else "",
    )

    with server(certificate, authority) as port:
        found = refusal("127.0.0.1", port, security)

    if reason is None:
        assert found is None
    else:
        assert re.search(reason, found or "")


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
def test_a_broker_that_is_away_refuses_nobody(protocol: str) -> None:
    assert refusal("127.0.0.1", free_port(), Security(security_protocol=protocol)) is None


def test_a_broker_that_asks_for_no_login_refuses_nobody(broker: Broker) -> None:
    """The embedded one would take a login, and serves whoever gives none."""
    host, port = broker.bootstrap_servers.split(":")
    assert refusal(host, int(port), Security(security_protocol="PLAINTEXT")) is None
