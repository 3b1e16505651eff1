"""STARTTLS against servers that follow a script: what goes well, and everything that a server may do instead."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from trio_tls import TLSStream
from trio_tls.cli import starttls
from trio_tls.cli.problem import ExitStatus, Problem

from ..support import HOST, server_context
from .conftest import Files
from .driving import plain_server, said

#: Each server's part of a good conversation: what it says, and what it then waits for.
SMTP = (
    (b"220-mx.example.org ESMTP\r\n220 at your service\r\n", b"EHLO [127.0.0.1]\r\n"),
    (b"250-mx.example.org\r\n250-SIZE 1000\r\n250-starttls\r\n250 HELP\r\n", b"STARTTLS\r\n"),
    (b"220 go ahead\r\n", b""),
)
IMAP = (
    (b"* OK [CAPABILITY IMAP4rev1] ready\r\n", b"a1 CAPABILITY\r\n"),
    (b"* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\na1 OK done\r\n", b"a2 STARTTLS\r\n"),
    (b"a2 OK begin\r\n", b""),
)
POSTGRES = ((b"", b"\x00\x00\x00\x08\x04\xd2\x16\x2f"), (b"S", b""))

Script = Sequence[tuple[bytes, bytes]]


async def upgraded(protocol: str, script: Script, *, piece: int = 65536, end: bool = False) -> str:
    """Speak with a server that follows the script, whose words come in pieces of that size; the greeting."""
    ours, theirs = trio.testing.memory_stream_pair()

    async def serve() -> None:
        for says, waits_for in script:
            for start in range(0, len(says), piece):
                await theirs.send_all(says[start : start + piece])
                if piece < 65536:
                    await trio.testing.wait_all_tasks_blocked()
            heard = b""
            while len(heard) < len(waits_for):
                heard += await theirs.receive_some(len(waits_for) - len(heard))
            assert heard == waits_for
        if end:
            await theirs.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            return await starttls.upgrade(ours, protocol)
        except Problem as problem:
            nursery.cancel_scope.cancel()
            error = problem
    raise error


@pytest.mark.parametrize("piece", [1, 7, 65536])
@pytest.mark.parametrize(
    ("protocol", "script", "greeting"),
    [
        ("smtp", SMTP, "mx.example.org ESMTP"),
        ("imap", IMAP, "[CAPABILITY IMAP4rev1] ready"),
        ("postgres", POSTGRES, ""),
    ],
)
async def test_a_server_that_offers_tls(protocol: str, script: Script, greeting: str, piece: int) -> None:
    assert await upgraded(protocol, script, piece=piece) == greeting


async def test_a_greeting_cannot_harm_the_terminal() -> None:
    script = ((b"220 \x1b[2Jhello\xff\r\n", SMTP[0][1]), *SMTP[1:])
    assert await upgraded("smtp", script) == "\\x1b[2Jhello\\xff"


@pytest.mark.parametrize(
    ("protocol", "script"),
    [
        ("smtp", (*SMTP[:2], (b"220 go ahead\r\n250 injected\r\n", b""))),
        ("imap", (*IMAP[:2], (b"a2 OK begin\r\na3 OK injected\r\n", b""))),
    ],
)
async def test_text_behind_the_last_word_is_refused(protocol: str, script: Script) -> None:
    with pytest.raises(Problem, match="went on in plain text after it had agreed to TLS") as caught:
        await upgraded(protocol, script)
    assert caught.value.status is ExitStatus.NETWORK
    assert "CVE-2011-0411" in caught.value.hint


@pytest.mark.parametrize(
    ("protocol", "script", "sentence"),
    [
        ("smtp", [(b"554 no mail today\r\n", b"")], "the smtp server greeted with 554 no mail today"),
        ("smtp", [(b"SSH-2.0-OpenSSH\r\n", b"")], "said 'SSH-2.0-OpenSSH', which is no SMTP"),
        ("smtp", [SMTP[0], (b"502 what\r\n", b"")], "answered EHLO with 502 what"),
        ("smtp", [SMTP[0], (b"250-STARTTLS.example.org\r\n250 HELP\r\n", b"")], "does not offer STARTTLS"),
        ("smtp", [SMTP[0], (b"250 STARTTLS\r\n", b"")], "does not offer STARTTLS"),
        ("smtp", [*SMTP[:2], (b"454 not now\r\n", b"")], "answered STARTTLS with 454 not now"),
        ("smtp", [(b"220-more\r\n" * 200, b"")], "sent an answer of more than 128 lines"),
        ("smtp", [(b"220 " + b"x" * 20000, b"")], "sent a line longer than 8192 bytes"),
        ("smtp", [(b"\x16\x03\x03\x00\x02", b"")], "speaks TLS from the start"),
        ("imap", [(b"* BYE too busy\r\n", b"")], "said '* BYE too busy'"),
        ("imap", [(b"* PREAUTH welcome\r\n", b"")], "has logged us in before any TLS"),
        ("imap", [(b"220 mx ESMTP\r\n", b"")], "which is no IMAP"),
        ("imap", [IMAP[0], (b"* CAPABILITY IMAP4rev1\r\na1 OK\r\n", b"")], "does not offer STARTTLS"),
        ("imap", [IMAP[0], (b"* OK STARTTLS\r\na1 OK\r\n", b"")], "does not offer STARTTLS"),
        ("imap", [IMAP[0], (b"a1 BAD what\r\n", b"")], "answered CAPABILITY with BAD what"),
        ("imap", [*IMAP[:2], (b"a2 NO not now\r\n", b"")], "answered STARTTLS with NO not now"),
        ("imap", [IMAP[0], (b"* 1\r\n" * 200, b"")], "sent an answer of more than 128 lines"),
        ("postgres", [POSTGRES[0], (b"N", b"")], "has TLS switched off"),
        ("postgres", [POSTGRES[0], (b"E", b"")], "answered the request for TLS with an error"),
        ("postgres", [POSTGRES[0], (b"H", b"")], "which is no PostgreSQL"),
    ],
)
async def test_a_server_that_does_something_else(protocol: str, script: Script, sentence: str) -> None:
    with pytest.raises(Problem) as caught:
        await upgraded(protocol, script)
    assert sentence in caught.value.sentence
    assert caught.value.status is ExitStatus.NETWORK


@pytest.mark.parametrize(("protocol", "script"), [("smtp", SMTP), ("imap", IMAP), ("postgres", POSTGRES)])
@pytest.mark.parametrize("steps", [0, 1])
async def test_a_server_that_hangs_up(protocol: str, script: Script, steps: int) -> None:
    with pytest.raises(Problem, match=f"the {protocol} server closed the connection"):
        await upgraded(protocol, script[:steps] or [(b"", b"")], end=True)


async def test_a_server_that_is_gone() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await trio.aclose_forcefully(theirs)
    with pytest.raises(Problem, match="the postgres server reset the connection"):
        await starttls.upgrade(ours, "postgres")


async def converse(stream: trio.SocketStream, script: Script) -> None:
    for says, waits_for in script:
        await stream.send_all(says)
        heard = b""
        while len(heard) < len(waits_for):
            heard += await stream.receive_some(len(waits_for) - len(heard))


@pytest.mark.parametrize(("protocol", "script"), [("smtp", SMTP), ("imap", IMAP), ("postgres", POSTGRES)])
async def test_the_command_goes_on_with_tls(
    capsys: pytest.CaptureFixture[str], files: Files, protocol: str, script: Script
) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await converse(stream, script)
        async with TLSStream(stream, server_context(), server_side=True) as tls:
            assert await tls.receive_some() == b""

    async with plain_server(serve) as port:
        where = ("connect", f"127.0.0.1:{port}", "--ca-file", files.ca, "--server-name", HOST)
        result = await said(capsys, *where, "--starttls", protocol, "--check")
    assert result.status == 0, result.err
    assert f"\nSTARTTLS     {protocol}" in result.err
    assert "\nverification passed" in result.err


async def test_plain_text_behind_the_postgres_byte_never_counts_as_data(
    capsys: pytest.CaptureFixture[str], files: Files
) -> None:
    async def inject(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"Sinjected")
        await stream.receive_some()

    async with plain_server(inject) as port:
        result = await said(capsys, "connect", f"127.0.0.1:{port}", "--starttls", "postgres", "-q")
    assert result.status == 4
    assert "does not speak TLS" in result.err


async def test_a_server_that_falls_silent_is_told_with_the_phase(capsys: pytest.CaptureFixture[str]) -> None:
    async def fall_silent(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 hello\r\n")
        await trio.sleep_forever()

    async with plain_server(fall_silent) as port:
        where = ("connect", f"127.0.0.1:{port}", "--starttls", "smtp", "-q", "--timeout", "0.2")
        result = await said(capsys, *where)
    assert result.status == 3
    assert result.err.startswith(f"trio-tls: no STARTTLS with 127.0.0.1:{port} within 0.2 seconds\n")


def test_each_protocol_has_its_port() -> None:
    from trio_tls.cli.options import STARTTLS_PORTS

    assert STARTTLS_PORTS.keys() == starttls.PROTOCOLS.keys()
