"""The guides of the manual: what they show is what happens."""

from __future__ import annotations

import os
import re
import shutil
import ssl
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from trio_tls import ClientConfig, PrivatePolicy, TLSStream, TrustAnchors, Verifier, serve_tls_over_tcp

from .cli.driving import Said, ran
from .recorded import write_pcap
from .support import HOST, authority, client_context, server_context
from .test_docs_examples import EXAMPLES, example


def shown(name: str) -> str:
    """What the manual shows."""
    return (EXAMPLES / f"{name}.txt").read_text()


def own_client() -> ClientConfig:
    anchors = TrustAnchors.from_pem(authority().cert_pem.bytes())
    return ClientConfig(verify=Verifier(anchors, PrivatePolicy()))


# -- timeouts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [own_client, client_context])
async def test_a_question_is_asked_once_however_slow_the_server_is(
    config: Any, capsys: pytest.CaptureFixture[str], autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    received = b""

    async def serve() -> None:
        nonlocal received
        async with TLSStream(theirs, server_context(), server_side=True) as stream:
            await trio.sleep(5)
            while len(received) < 300_000:
                received += await stream.receive_some()
            await trio.sleep(5)
            await stream.send_all(b"answer")

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            async with TLSStream(ours, config(), server_hostname=HOST) as stream:
                answer = await example("timeouts").converse(stream, b"question" * 37_500)
    assert (answer, received) == (b"answer", b"question" * 37_500)
    assert "still sending" in capsys.readouterr().out


async def test_a_connection_that_is_gone_is_made_anew(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[bytes] = []

    async def handle(stream: TLSStream[Any]) -> None:
        asked.append(bytes(await stream.receive_some()))
        if len(asked) == 1:
            await trio.aclose_forcefully(stream)
        else:
            await stream.send_all(b"answer")

    autojump_clock.autojump_threshold = 1  # the kernel takes its time: no jump while sockets are under way
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            start = partial(serve_tls_over_tcp, handle, 0, server_context(), host="127.0.0.1")
            (listener,) = await nursery.start(start)
            port = listener.transport_listener.socket.getsockname()[1]
            config = ClientConfig(verify=lambda need: None)
            assert await example("timeouts").ask("127.0.0.1", port, config, b"question") == b"answer"
            nursery.cancel_scope.cancel()
    assert asked == [b"question", b"question"]
    assert "that connection" in capsys.readouterr().out


async def test_after_three_connections_it_gives_up(autojump_clock: trio.testing.MockClock) -> None:
    with trio.socket.socket() as nobody:
        await nobody.bind(("127.0.0.1", 0))
        with pytest.raises(TimeoutError, match="does not answer"):
            await example("timeouts").ask("127.0.0.1", nobody.getsockname()[1], own_client(), b"question")


# -- migration ---------------------------------------------------------------------------------------------------


def test_what_a_context_has_and_a_config_has_not_is_told_as_the_manual_shows_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    authority().configure_trust(context)
    config = example("from_context").config_from(context)
    assert isinstance(config.verify, Verifier)
    assert capsys.readouterr().out == shown("from_context")
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    assert example("from_context").config_from(context).verify == config.verify
    assert capsys.readouterr().out == ""


def test_each_name_of_trio_in_the_table_of_the_manual_is_one_of_ours() -> None:
    import trio_tls

    page = (EXAMPLES.parent / "from-sslstream.rst").read_text()
    pairs = re.findall(r"   \* - ``trio\.(\w+)\(.*\n     - ``trio_tls\.(\w+)\(", page)
    assert len(pairs) == 5
    for theirs, ours in pairs:
        assert hasattr(trio, theirs)
        assert hasattr(trio_tls, ours)
    for name in ("SSLStream", "SSLListener"):
        assert issubclass(getattr(trio_tls, name.replace("SSL", "TLS")), getattr(trio, name))


# -- certificates ------------------------------------------------------------------------------------------------


def plainly(text: str, here: Path) -> str:
    """Without what is different on each day and machine."""
    text = text.replace(f"{here}/data", "/home/ann/.local/share").replace(f"{here}/", "")
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "DATE", text)
    return re.sub(r"\d+ days left|OpenSSL [\w.]+", "...", text)


async def test_the_commands_for_certificates_say_what_the_manual_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    async def run(*arguments: str) -> Said:
        return await ran(*arguments)

    made = await run("cert", "app.test", "*.app.test")
    assert plainly(made.out, tmp_path) == plainly(shown("cert"), tmp_path)
    ca = str(tmp_path / "data" / "trio-tls" / "ca.pem")
    checked = await run("check", "app.test.pem", "--ca-file", ca, "--name", "app.test", "--name", "other.test")
    assert checked.status == 5
    assert plainly(checked.out, tmp_path) == plainly(shown("check"), tmp_path)


# -- Wireshark ---------------------------------------------------------------------------------------------------


def tshark() -> str:
    found = shutil.which("tshark")
    if found is None:
        text = "there is no tshark: install it (its name in Debian) to run this test"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["own", "openssl"])
async def test_wireshark_decrypts_what_was_recorded_with_the_key_log_of_one_end(tmp_path: Path, machine: str) -> None:
    command = tshark()
    keys, recording = tmp_path / "keys.log", tmp_path / "handshake.pcap"
    client: ClientConfig | ssl.SSLContext
    if machine == "own":
        client = example("keylog").with_key_log(own_client(), keys)
        assert isinstance(client, ClientConfig)
    else:
        client = client_context()
        client.minimum_version = ssl.TLSVersion.TLSv1_3
        client.keylog_filename = str(keys)
    pieces: list[tuple[bool, bytes]] = []
    ours, theirs = trio.testing.memory_stream_pair()
    for by_client, end in ((True, ours), (False, theirs)):
        record(end, by_client=by_client, pieces=pieces)
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            async with TLSStream(theirs, server_context(), server_side=True) as stream:
                assert await stream.receive_some() == b"a question"
                await stream.send_all(b"an answer")
                assert not await stream.receive_some()

        nursery.start_soon(serve)
        async with TLSStream(ours, client, server_hostname=HOST) as stream:
            await stream.send_all(b"a question")
            assert await stream.receive_some() == b"an answer"
            await stream.send_eof()
    write_pcap(recording, pieces)
    assert keys.stat().st_mode & 0o077 == 0 or machine == "openssl"
    with_keys = ["-o", f"tls.keylog_file:{keys}", "-d", "tcp.port==4433,tls"]

    async def asked(*arguments: str) -> str:
        with trio.fail_after(60):
            done = await trio.run_process(
                [command, "-r", str(recording), *arguments], capture_stdout=True, capture_stderr=True
            )
        return done.stdout.decode()

    shown_by_it = await asked(*with_keys, "-Y", "tls")
    if machine == "own":
        assert messages(shown_by_it) == messages(shown("tshark"))
    assert "Encrypted Extensions" in shown_by_it
    assert "a question" in await asked(*with_keys, "-q", "-z", "follow,tls,ascii,0")
    assert "an answer" in await asked(*with_keys, "-q", "-z", "follow,tls,ascii,0")
    assert HOST in await asked(*with_keys, "-Y", "tls.handshake.type==11", "-V"), "the certificate's name"
    without = await asked("-d", "tcp.port==4433,tls", "-Y", "tls")
    assert "Encrypted Extensions" not in without


def record(stream: Any, *, by_client: bool, pieces: list[tuple[bool, bytes]]) -> None:
    """Note what is sent on this end of a memory stream."""
    send = stream.send_stream.send_all

    async def send_all(data: bytes) -> None:
        pieces.append((by_client, bytes(data)))
        await send(data)

    stream.send_stream.send_all = send_all


def messages(lines: str) -> list[str]:
    """The messages that tshark has found, packet by packet."""
    return re.findall(r"TLSv1(?:\.3)? \d+ (.*)", lines)
