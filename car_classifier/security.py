"""Who we are to the broker, and how we know it: SASL and TLS, by Kafka's usual settings.

All of them come from environment variables: a command line can be read by everybody on the machine.
A secret may lie in a file instead, which is how container platforms hand them out.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from car_classifier.errors import SettingsError

__all__ = ["Security"]

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_SECRETS = ("sasl_password", "ssl_key_password")
# Of kafka-python: at DEBUG they show each request as it is, one with the password, too.
_LOGGERS_OF_REQUESTS = ("kafka.net.connection", "kafka.protocol.parser")
_SWITCH = {"true": True, "false": False}


@dataclass(frozen=True)
class Security:
    """How to log in at the broker, and how to be sure that it is the right one.

    A field comes from the environment variable ``KAFKA_`` and its name in capitals. The ``repr``
    leaves secrets out.
    """

    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = ""
    sasl_username: str = ""
    sasl_password: str = field(default="", repr=False)
    # PEM files. Without one of CAs, those that the operating system trusts are trusted.
    ssl_cafile: str = ""
    ssl_certfile: str = ""  # of this client, where the broker asks for one
    ssl_keyfile: str = ""  # unless it is in the certificate's file
    ssl_key_password: str = field(default="", repr=False)
    ssl_check_hostname: bool = True

    def __post_init__(self) -> None:
        """Refuse what contradicts itself, and files that do not serve.

        Raises:
            SettingsError: says which variable should be what.
        """
        _one_of("security_protocol", self.security_protocol, PROTOCOLS)
        self._refuse_ignored("sasl_", self.uses_sasl, "SASL_SSL")
        self._refuse_ignored("ssl_", self.uses_tls, "SASL_SSL or SSL")
        if self.uses_sasl:
            _one_of("sasl_mechanism", self.sasl_mechanism, MECHANISMS)
            for name in ("sasl_username", "sasl_password"):
                if not getattr(self, name):
                    or_file = f" (or {_variable(name)}_FILE)" if name in _SECRETS else ""
                    raise SettingsError(
                        f"{_variable(name)}{or_file}: expected, for "
                        f"{_variable('security_protocol')} is {self.security_protocol}; not set"
                    )
                if not _is_text(getattr(self, name)):
                    raise SettingsError(f"{_variable(name)}: expected text in UTF-8")
        if self.uses_tls:
            self.tls_context()

    @property
    def uses_sasl(self) -> bool:
        """Whether we log in with a name and a password."""
        return self.security_protocol.startswith("SASL_")

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted and the broker has to show a certificate."""
        return self.security_protocol.endswith("SSL")

    @property
    def shows_password(self) -> bool:
        """Whether the password goes over the network as it is."""
        return self.uses_sasl and not self.uses_tls and self.sasl_mechanism == "PLAIN"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Security:
        """Read the variables; an empty one counts as not set.

        Raises:
            SettingsError: a value cannot be what it should, or they contradict each other.
        """
        given: dict[str, Any] = {
            setting.name: value
            for setting in fields(cls)
            if (value := environment.get(_variable(setting.name)))
        }
        for name in _SECRETS:
            if path := environment.get(f"{_variable(name)}_FILE"):
                if name in given:
                    raise SettingsError(
                        f"{_variable(name)} and {_variable(name)}_FILE: both set, expected one"
                    )
                given[name] = _read_secret(f"{_variable(name)}_FILE", Path(path))
        check = given.get("ssl_check_hostname")
        if check is not None:
            _one_of("ssl_check_hostname", check.lower(), tuple(_SWITCH))
            given["ssl_check_hostname"] = _SWITCH[check.lower()]
        return cls(**given)

    def client_options(self) -> dict[str, Any]:
        """The settings under the names that kafka-python gives them."""
        options: dict[str, Any] = {"security_protocol": self.security_protocol}
        if self.uses_sasl:
            for name in _LOGGERS_OF_REQUESTS:
                logging.getLogger(name).addFilter(_is_no_request)
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        if self.uses_tls:
            # Files, not a context: they are read at each connection, so a renewed certificate
            # needs no restart.
            options |= {
                "ssl_check_hostname": self.ssl_check_hostname,
                "ssl_cafile": self.ssl_cafile or None,
                "ssl_certfile": self.ssl_certfile or None,
                "ssl_keyfile": self.ssl_keyfile or None,
                "ssl_password": self.ssl_key_password or None,
            }
        return options

    def tls_context(self) -> ssl.SSLContext:
        """What a connection is made with; also shows whether the files serve.

        Raises:
            SettingsError: one is missing, no PEM file, or the key does not fit.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self.ssl_check_hostname
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
            path = getattr(self, name)
            if path and not Path(path).is_file():
                raise SettingsError(f"{_variable(name)}: no file {path}: expected a PEM file")
        if self.ssl_keyfile and not self.ssl_certfile:
            raise SettingsError(
                f"{_variable('ssl_keyfile')} is set: expected {_variable('ssl_certfile')}, too"
            )
        if self.ssl_cafile:
            try:
                context.load_verify_locations(self.ssl_cafile)
            except OSError as error:
                raise SettingsError(
                    f"{_variable('ssl_cafile')}: {self.ssl_cafile}: expected certificates "
                    f"in PEM form: {_first_line(error)}"
                ) from None
        else:
            context.load_default_certs()
        if self.ssl_certfile:
            try:
                # Text, even if it is empty: without any OpenSSL would ask at the terminal.
                context.load_cert_chain(
                    self.ssl_certfile, self.ssl_keyfile or None, self.ssl_key_password
                )
            except OSError as error:
                raise SettingsError(
                    f"{_variable('ssl_certfile')}: {self.ssl_certfile}: expected a certificate in "
                    f"PEM form and its key, in {_variable('ssl_keyfile')} or the same file, with "
                    f"{_variable('ssl_key_password')} if it is encrypted: {_first_line(error)}"
                ) from None
        return context

    def _refuse_ignored(self, prefix: str, used: bool, protocol: str) -> None:
        """Refuse settings that the protocol would pass over: they were meant to protect."""
        ignored = [
            _variable(setting.name)
            for setting in fields(self)
            if setting.name.startswith(prefix) and getattr(self, setting.name) != setting.default
        ]
        if ignored and not used:
            raise SettingsError(
                f"{', '.join(ignored)}: without effect, for {_variable('security_protocol')} is "
                f"{self.security_protocol}; expected {protocol}"
            )


def _variable(name: str) -> str:
    return f"KAFKA_{name.upper()}"


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SettingsError(
            f"{_variable(name)}: expected {', '.join(allowed[:-1])} or {allowed[-1]}, "
            + (f"got {value!r}" if value else "not set")
        )


def _is_text(value: str) -> bool:
    """Whether it can be sent: variables of other encodings come with stand-ins for their bytes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_no_request(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG


def _read_secret(variable: str, path: Path) -> str:
    """The text of a file without the line's end that an editor leaves."""
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise SettingsError(f"{variable}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:  # its message quotes bytes of the secret
        raise SettingsError(f"{variable}: {path}: expected text in UTF-8") from None
    if not secret:
        raise SettingsError(f"{variable}: {path} is empty: expected the password")
    return secret


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
