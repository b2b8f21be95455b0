"""Logging in: settings that do not fit are refused with what to set, and secrets never show."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from car_classifier.broker import BrokerSettings
from car_classifier.errors import SettingsError
from car_classifier.security import Security
from tests.certificates import Authority
from tests.scripts import CONSUMER, PRODUCER, ROOT, clean_environment

SECRET = "s3cret-of-the-camera"
LOGIN = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_SASL_USERNAME": "camera",
    "KAFKA_SASL_PASSWORD": SECRET,
}
FILES = ("KAFKA_SSL_CAFILE", "KAFKA_SSL_CERTFILE", "KAFKA_SSL_KEYFILE")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def read(**variables: str) -> Security:
    return Security.from_environment(variables)


def test_without_settings_the_connection_is_plain() -> None:
    assert read().client_options() == {"security_protocol": "PLAINTEXT"}
    assert read(**dict.fromkeys([*LOGIN, *FILES], "")) == Security()


def test_every_setting_reaches_the_client_library(authority: Authority) -> None:
    certificate = str(authority.issue("camera", ["camera"], password="of the key"))
    settings = BrokerSettings.from_environment(
        LOGIN
        | dict.fromkeys(("KAFKA_SSL_CERTFILE", "KAFKA_SSL_KEYFILE"), certificate)
        | {
            "KAFKA_BOOTSTRAP_SERVERS": "a:1, b:2",
            "KAFKA_SSL_CAFILE": str(authority.file),
            "KAFKA_SSL_KEY_PASSWORD": "of the key",
            "KAFKA_SSL_CHECK_HOSTNAME": "False",
        }
    )

    assert settings.client_options() == {
        "bootstrap_servers": ["a:1", "b:2"],
        "bootstrap_timeout_ms": 5000,
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "camera",
        "sasl_plain_password": SECRET,
        "ssl_check_hostname": False,
        "ssl_cafile": str(authority.file),
        "ssl_certfile": certificate,
        "ssl_keyfile": certificate,
        "ssl_password": "of the key",
    }


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
def test_the_broker_is_checked_unless_that_is_switched_off(protocol: str) -> None:
    login = LOGIN if protocol == "SASL_SSL" else {}
    options = read(**login | {"KAFKA_SECURITY_PROTOCOL": protocol}).client_options()

    assert options["ssl_check_hostname"] is True
    assert options["ssl_cafile"] is None  # which means: those that the system trusts


def test_a_password_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(f"{SECRET}\n")
    variables = LOGIN | {"KAFKA_SASL_PASSWORD": "", "KAFKA_SASL_PASSWORD_FILE": str(path)}

    assert read(**variables) == read(**LOGIN)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL: expected PLAINTEXT, SSL"),
        ({"KAFKA_SECURITY_PROTOCOL": ""}, "KAFKA_SASL_PASSWORD: without effect.*expected SASL_SSL"),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL"}, "without effect.*expected SASL_SSL"),
        ({"KAFKA_SASL_MECHANISM": ""}, "KAFKA_SASL_MECHANISM: expected PLAIN, .*, not set"),
        ({"KAFKA_SASL_MECHANISM": "GSSAPI"}, "expected PLAIN, SCRAM-SHA-256 or .* got 'GSSAPI'"),
        ({"KAFKA_SASL_USERNAME": ""}, "KAFKA_SASL_USERNAME: expected"),
        ({"KAFKA_SASL_PASSWORD": ""}, r"KAFKA_SASL_PASSWORD \(or KAFKA_SASL_PASSWORD_FILE\): exp"),
        ({"KAFKA_SASL_PASSWORD_FILE": "some"}, "KAFKA_SASL_PASSWORD_FILE: both set"),
        ({"KAFKA_SSL_CHECK_HOSTNAME": "maybe"}, "expected true or false, got 'maybe'"),
        *(({name: "no.pem"}, f"{name}: no file no.pem: expected a PEM file") for name in FILES),
        ({"KAFKA_SSL_CAFILE": "README.md"}, "KAFKA_SSL_CAFILE: README.md: expected cert.* PEM"),
        ({"KAFKA_SSL_KEYFILE": "README.md"}, "expected KAFKA_SSL_CERTFILE, too"),
        ({"KAFKA_SSL_CERTFILE": "README.md"}, "README.md: expected a certificate in PEM form"),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SSL_CAFILE": "README.md"},
            "KAFKA_SSL_CAFILE: without effect.*expected SASL_SSL or SSL",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_what_to_set(
    changes: dict[str, str], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SettingsError, match=complaint) as caught:
        read(**LOGIN | changes)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "cannot read .*: No such file"), (b"\n", "is empty"), (b"\xff" * 9, "expected text")],
)
def test_a_password_file_that_holds_none_is_refused(
    content: bytes | None, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    variables = LOGIN | {"KAFKA_SASL_PASSWORD": "", "KAFKA_SASL_PASSWORD_FILE": str(path)}

    with pytest.raises(SettingsError, match=f"KAFKA_SASL_PASSWORD_FILE: .*{complaint}"):
        read(**variables)


@pytest.mark.parametrize("password", ["", "wrong"])
def test_the_password_of_a_key_is_never_asked_for_at_the_terminal(
    authority: Authority, password: str
) -> None:
    certificate = str(authority.issue("encrypted", ["camera"], password=SECRET))

    with pytest.raises(SettingsError, match="KAFKA_SSL_KEY_PASSWORD if it is encrypted"):
        read(
            KAFKA_SECURITY_PROTOCOL="SSL",
            KAFKA_SSL_CERTFILE=certificate,
            KAFKA_SSL_KEY_PASSWORD=password,
        )


def test_secrets_do_not_show_in_settings() -> None:
    settings = BrokerSettings.from_environment(LOGIN)

    shown = f"{settings} {settings!r} {settings.security}"
    assert "camera" in shown
    assert SECRET not in shown
    hidden = {field.name for field in dataclasses.fields(Security) if not field.repr}
    assert hidden == {name for name in vars(settings.security) if name.endswith("password")}


def run(script: str, *arguments: str, **variables: str) -> Any:
    return subprocess.run(
        [sys.executable, script, *arguments],
        cwd=ROOT,
        env=clean_environment(**variables),
        capture_output=True,
        text=True,
        timeout=90,
    )


@pytest.mark.parametrize("script", [PRODUCER, CONSUMER])
def test_help_shows_no_secret_and_offers_no_option_for_one(script: str) -> None:
    result = run(script, "--help", **LOGIN, DATABASE_URL=f"postgresql://me:{SECRET}@host/name")

    assert result.returncode == 0
    assert SECRET not in result.stdout + result.stderr
    assert not re.search("--[a-z-]*(password|secret)", result.stdout)


@pytest.mark.parametrize("script", [PRODUCER, CONSUMER])
def test_a_wrong_setting_ends_a_script_with_one_line(script: str) -> None:
    result = run(script, **LOGIN | {"KAFKA_SASL_MECHANISM": "NONE"})

    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: KAFKA_SASL_MECHANISM: expected PLAIN, ")
    assert SECRET not in line
