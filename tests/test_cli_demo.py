"""``trio-tls demo``, run as its users run it: in a process, through a pipe and in a terminal."""

from __future__ import annotations

import os
import pty
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import trio

import trio_tls
from trio_tls import TLSError, TLSStream
from trio_tls.cli import demo, main
from trio_tls.cli.certificates import Authority

COMMAND = [sys.executable, "-m", "trio_tls", "demo"]

#: Seconds after which it hangs. It works for ten or so, if it has a core to itself.
PATIENCE = 240


@pytest.fixture(scope="module", params=["own", "openssl"])
def machine(request: pytest.FixtureRequest) -> str:
    """Who speaks TLS in the demo."""
    return str(request.param)


@pytest.fixture(scope="module")
def finished(machine: str) -> subprocess.CompletedProcess[str]:
    """The demo, run once through pipes."""
    command = COMMAND if machine == "own" else [*COMMAND, "--openssl"]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_the_demo_holds(finished: subprocess.CompletedProcess[str]) -> None:
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stderr == ""


def test_the_closing_line_tells_what_was_survived(finished: subprocess.CompletedProcess[str]) -> None:
    figures = re.fullmatch(
        r"Everything held: handshake cancels survived (\d+), sends cancelled ([\d,]+), receives cancelled ([\d,]+), "
        r"bytes each way ([\d,]+), mismatches 0, \d+\.\d seconds",
        finished.stdout.splitlines()[-1],
    )
    assert figures is not None, finished.stdout
    handshakes, sends, receives, each_way = (int(figure.replace(",", "")) for figure in figures.groups())
    assert handshakes > 20
    assert sends > 100
    assert receives > 100
    assert each_way > 2 * demo.MANY


@pytest.mark.parametrize(
    ("machine", "chapters"),
    [
        ("own", ["TLS 1.3", "TLS 1.3, after a HelloRetryRequest"]),
        ("openssl", ["TLS 1.3", "TLS 1.2"]),
    ],
    indirect=["machine"],
    scope="module",
)
def test_the_story_has_its_chapters_and_the_comparison(
    finished: subprocess.CompletedProcess[str], chapters: list[str]
) -> None:
    story = finished.stdout
    assert re.findall(r"\n\n(.+)\n  New connections", story) == chapters
    assert story.index("New connections") < story.index("trio.SSLStream")
    assert "cancelled at step 2 and called again: BrokenResourceError\n" in story
    assert all(len(line) <= 80 for line in story.splitlines()[:-1])


def test_steps_are_cancelled_one_after_the_other_without_a_gap(finished: subprocess.CompletedProcess[str]) -> None:
    sweeps = re.findall(r"then at step([\d\s]+)ok: (\d+) cancels", finished.stdout)
    assert len(sweeps) == 2
    for steps, cancels in sweeps:
        numbers = [int(step) for step in steps.split()]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) + 1 == int(cancels)


def test_a_pipe_gets_plain_text(finished: subprocess.CompletedProcess[str]) -> None:
    assert "\x1b" not in finished.stdout


@pytest.mark.parametrize(("no_color", "coloured"), [(None, True), ("1", False)])
def test_a_terminal_gets_colours_unless_no_color_is_set(no_color: str | None, coloured: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    if no_color is not None:
        environment["NO_COLOR"] = no_color
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*COMMAND, "--openssl"], stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b"".join(everything(ours))
    os.close(ours)
    assert process.wait(timeout=PATIENCE) == 0
    assert b"Everything held:" in shown
    assert (b"\x1b[" in shown) is coloured


def everything(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # how Linux tells the end of a terminal
            return
        if not part:
            return
        yield part


def test_ctrl_c_ends_it_without_a_traceback() -> None:
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while True:  # a Ctrl-C that strikes in a destructor is dropped by Python; a person presses again
            process.send_signal(signal.SIGINT)
            try:
                _, complaints = process.communicate(timeout=2)
            except subprocess.TimeoutExpired:
                continue
            break
    assert process.returncode == 130
    assert complaints == "\ninterrupted\n"


def test_a_closed_stdout_ends_it_without_a_complaint() -> None:
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=PATIENCE) == 141


def test_the_demo_fails_when_a_cancel_is_fatal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fragile(TLSStream[Any]):
        """Behaves as trio.SSLStream does."""

        broken = False

        async def do_handshake(self) -> None:
            if self.broken:
                raise TLSError("it was cancelled before")
            try:
                await super().do_handshake()
            except trio.Cancelled:
                self.broken = True
                raise

    monkeypatch.setattr(demo, "TLSStream", Fragile)
    assert main(["demo", "--openssl"]) == 1
    assert "It did not hold: TLSError: it was cancelled before" in capsys.readouterr().out


def test_the_demo_fails_when_a_byte_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Careless(TLSStream[Any]):
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            data = await super().receive_some(max_bytes)
            return data[:-1] + b"\0" if len(data) > 100 else data

    monkeypatch.setattr(demo, "TLSStream", Careless)
    assert main(["demo"]) == 1
    assert "It did not hold: BytesDiffer: " in capsys.readouterr().out


def test_without_a_command_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "demo" in capsys.readouterr().err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["--version"])
    assert exit_info.value.code == 0
    assert capsys.readouterr().out == f"trio-tls {trio_tls.__version__}\n"


def test_throw_away_certificates_are_strictly_valid() -> None:
    authority = Authority()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue("host.example.org", "::1").load_into(server)
    client = ssl.create_default_context(cadata=authority.pem)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    for name in ("host.example.org", "::1"):
        there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = client.wrap_bio(back, there, server_hostname=name)
        theirs = server.wrap_bio(there, back, server_side=True)
        for end in (ours, theirs, ours, theirs):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
        assert ours.version() == theirs.version() == "TLSv1.3"
        certificate = ours.getpeercert()
        assert certificate is not None
        assert len(certificate["subjectAltName"]) == 2
