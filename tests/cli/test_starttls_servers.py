"""STARTTLS against servers that people run: Exim, Dovecot and PostgreSQL, each with a throw-away configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from ..servers import (
    PATIENCE,
    Place,
    dovecot,
    exim,
    postgres_message,
    postgresql,
    server_command,
    some_place,
)
from .driving import COMMAND, ran

pytestmark = pytest.mark.slow


@pytest.fixture
def place() -> Iterator[Place]:
    with some_place() as made:
        yield made


def where(place: Place, protocol: str) -> tuple[str | Path, ...]:
    return ("connect", f"localhost:{place.port}", "--starttls", protocol, "--ca-file", place.ca)


async def test_exim_speaks_smtp_over_tls(place: Place) -> None:
    async with exim(place):
        result = await ran(*where(place, "smtp"), stdin=b"EHLO me.example.org\r\nQUIT\r\n")
    assert result.status == 0, result.err
    assert '\nSTARTTLS     smtp, greeted with "localhost ESMTP Exim ' in result.err
    assert "\nverification passed" in result.err
    assert "250-localhost Hello me.example.org" in result.out
    assert "STARTTLS" not in result.out, "it is encrypted already"
    assert "221 localhost closing connection" in result.out


async def test_dovecot_speaks_imap_over_tls(place: Place) -> None:
    async with dovecot(place):
        result = await ran(*where(place, "imap"), stdin=b"a1 CAPABILITY\r\na2 LOGOUT\r\n")
    assert result.status == 0, result.err
    assert "\nSTARTTLS     imap, greeted with " in result.err
    assert "\nverification passed" in result.err
    assert "a1 OK" in result.out
    assert "STARTTLS" not in result.out, "it is encrypted already"
    assert "a2 OK Logout completed" in result.out


async def test_postgresql_speaks_its_protocol_over_tls_and_refuses_it_on_a_unix_socket(place: Place) -> None:
    async with postgresql(place):
        checked = await ran(*where(place, "postgres"), "--check")
        assert checked.status == 0, checked.err
        assert "\nSTARTTLS     postgres\n" in checked.err
        assert "\nverification passed" in checked.err
        with trio.fail_after(PATIENCE):
            talked = await trio.run_process(
                [*COMMAND, *map(str, where(place, "postgres")), "-q"],
                stdin=postgres_message("user", "somebody", "database", "postgres") + b"X\x00\x00\x00\x04",
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
        assert talked.stdout.startswith(b"R\x00\x00\x00\x08\x00\x00\x00\x00"), "AuthenticationOk"
        assert b"server_version\x00" in talked.stdout
        assert (talked.returncode, talked.stderr) == (0, b"")
        path = place.directory / f".s.PGSQL.{place.port}"
        trust = ("--ca-file", place.ca, "--server-name", "localhost")
        refused = await ran("connect", "--unix", path, "--starttls", "postgres", *trust, "-q")
    assert refused.status == 3
    assert refused.err.startswith("trio-tls: STARTTLS: the postgres server has TLS switched off\n")


def test_a_missing_server_is_skipped_but_fails_in_continuous_integration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="install no-such-package"):
        server_command("no-such-server", "no-such-package")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="install no-such-package"):
        server_command("no-such-server", "no-such-package")
