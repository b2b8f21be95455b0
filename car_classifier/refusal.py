"""Why a broker does not let us in: the client library tries again for ever and keeps it to itself.

To it a wrong password, somebody else's certificate and a broker that is away are all the same: no
connection. Here the first steps of one are taken slowly, and what goes wrong is named. Waiting
mends none of what is named here.

The few bytes of Kafka's protocol: https://kafka.apache.org/protocol.html (header version 1).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct

from kafka.net.sasl import get_sasl_mechanism

from car_classifier.predictions import printable
from car_classifier.security import Security

__all__ = ["refusal"]

SECONDS = 3.0  # for each step with a broker
MOST_BYTES = 2**20  # of an answer; what speaks another protocol may seem to announce more

_METADATA, _SASL_HANDSHAKE, _API_VERSIONS, _SASL_AUTHENTICATE = 3, 17, 18, 36
_OF_NO_TOPIC = struct.pack(">i", 0)  # the body of a request for metadata
_PLAIN = Security(security_protocol="PLAINTEXT")
_NO_SASL_HERE = 34  # the error of a listener that takes no login
_WRONG_HOST = (62, 64)  # OpenSSL's codes: of a name, of an IP address
_WRONG_TIME = (9, 10)  # not valid yet, not valid any more


def refusal(host: str, port: int, security: Security) -> str | None:
    """Try to get in, as far as the login: say why a broker that is there refuses us.

    Returns:
        The reason and the setting that it is about, to follow "Kafka at host:port"; None if the
        broker lets us in, is away, or gives no reason that could be named.
    """
    try:
        return _refusal(host, port, security)
    except (OSError, EOFError, struct.error, ValueError):
        return None


def _refusal(host: str, port: int, security: Security) -> str | None:
    """The same, but raises OSError, EOFError, struct.error or ValueError if it remains unknown."""
    protocol = f"KAFKA_SECURITY_PROTOCOL is {security.security_protocol}"
    try:
        with _connection(host, port, security) as connection:
            if security.uses_sasl:
                return _login(connection, host, security)
            error, mechanisms = _sasl_handshake(connection, "PLAIN")
            if error == _NO_SASL_HERE:
                return None
            # Some would take a login, and serve whoever gives none.
            if _answers(host, port, security, _METADATA, 1, _OF_NO_TOPIC):
                return None
            expected = "SASL_SSL" if security.uses_tls else "SASL_PLAINTEXT"
            return (
                f"asks for a login ({', '.join(mechanisms)}), but {protocol}: expected {expected}"
            )
    except ssl.SSLCertVerificationError as failure:
        return _bad_certificate(failure, security)
    except (OSError, EOFError):
        if not security.uses_tls and _speaks_tls(host, port):
            return f"speaks TLS only, but {protocol}: expected SASL_SSL or SSL"
        if security.uses_tls and (alert := _alert(host, port, security)):
            return (
                f"ends the TLS connection ({alert}): it may ask for a certificate that it trusts, "
                "in KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE"
            )
        if security.uses_tls and _answers(host, port, _PLAIN, _API_VERSIONS, 0, b""):
            return f"does not speak TLS, but {protocol}: expected SASL_PLAINTEXT or PLAINTEXT"
        raise


def _connection(host: str, port: int, security: Security) -> socket.socket:
    connection = socket.create_connection((host, port), timeout=SECONDS)
    if not security.uses_tls:
        return connection
    try:
        return security.tls_context().wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise


def _bad_certificate(error: ssl.SSLCertVerificationError, security: Security) -> str:
    if error.verify_code in _WRONG_HOST:
        return (
            f"shows the certificate of another host ({error.verify_message.rstrip('.')}): expected "
            "the name in KAFKA_BOOTSTRAP_SERVERS"
        )
    if error.verify_code in _WRONG_TIME:
        return f"shows a certificate out of its time ({error.verify_message})"
    trusted = (
        f"KAFKA_SSL_CAFILE ({security.ssl_cafile})"
        if security.ssl_cafile
        else "the operating system, and KAFKA_SSL_CAFILE is not set"
    )
    return f"shows a certificate of an unknown CA, not of {trusted}: {error.verify_message}"


def _answers(host: str, port: int, security: Security, api: int, version: int, body: bytes) -> bool:
    """Whether Kafka answers this request, made first and without a login."""
    with (
        contextlib.suppress(OSError, EOFError, ValueError),
        _connection(host, port, security) as connection,
    ):
        _ask(connection, api, version, body)
        return True
    return False


def _login(connection: socket.socket, host: str, security: Security) -> str | None:
    name = security.sasl_mechanism
    error, mechanisms = _sasl_handshake(connection, name)
    if error == _NO_SASL_HERE:
        expected = "SSL" if security.uses_tls else "PLAINTEXT"
        return (
            f"takes no login, but KAFKA_SECURITY_PROTOCOL is {security.security_protocol}: "
            f"expected {expected}"
        )
    if error:  # it does not support the mechanism
        return f"does not take KAFKA_SASL_MECHANISM {name}: expected {', '.join(mechanisms)}"
    mechanism = get_sasl_mechanism(name)(host=host, **security.client_options())
    while not mechanism.is_done():
        token = mechanism.auth_bytes()
        answer = _ask(connection, _SASL_AUTHENTICATE, 0, struct.pack(">i", len(token)) + token)
        (error,) = struct.unpack_from(">h", answer)
        text, rest = _read_text(answer[2:])
        if error:
            return (
                f"refuses the login of {security.sasl_username!r} with {name} ({text}): expected "
                "a name and password that it knows, in KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
            )
        (length,) = struct.unpack_from(">i", rest)
        mechanism.receive(rest[4 : 4 + length])
    return None


def _sasl_handshake(connection: socket.socket, mechanism: str) -> tuple[int, list[str]]:
    """Ask for a mechanism; return the error's number, 0 for none, and what the broker takes."""
    name = mechanism.encode()
    answer = _ask(connection, _SASL_HANDSHAKE, 1, struct.pack(">h", len(name)) + name)
    error, count = struct.unpack_from(">hi", answer)
    mechanisms, rest = [], answer[6:]
    for _ in range(count):
        taken, rest = _read_text(rest)
        mechanisms.append(taken)
    return error, mechanisms


def _read_text(data: bytes) -> tuple[str, bytes]:
    """A string, its length before it (-1 for none), and what comes after it."""
    (length,) = struct.unpack_from(">h", data)
    end = 2 + max(length, 0)
    # Whoever this is has not shown yet that we may trust it with our terminal.
    return printable(data[2:end].decode(errors="replace"), 300), data[end:]


def _ask(connection: socket.socket, api: int, version: int, body: bytes = b"") -> bytes:
    """Send a request; return its answer without the header.

    Raises:
        EOFError: the broker has closed the connection.
        ValueError: this is no answer of Kafka's.
    """
    request = struct.pack(">hhih", api, version, api, -1) + body  # -1: a client without a name
    connection.sendall(struct.pack(">i", len(request)) + request)
    size, number = struct.unpack(">ii", _read(connection, 8))
    if number != api or not 4 <= size <= MOST_BYTES:
        raise ValueError("no answer of Kafka's")
    return _read(connection, size - 4)


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _alert(host: str, port: int, security: Security) -> str:
    """What the broker has against our end of TLS; a request would come before it, and hide it."""
    try:
        with _connection(host, port, security) as connection:
            connection.settimeout(1.0)
            connection.recv(1)
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):
            return str(error.args[-1])
    except OSError:
        pass
    return ""


def _speaks_tls(host: str, port: int) -> bool:
    """Whether something answers there with TLS, whoever it is. Nothing is told to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False
