"""``--session-out`` and ``--session-in``: sessions that outlive the process."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trio_tls import Session, TLSStream
from trio_tls.cli import sessions
from trio_tls.cli.problem import Problem

from ..support import HOST, server_config
from .conftest import Files
from .driving import files_in, on_both_machines, ran, s_server, said, serving

Capture = pytest.CaptureFixture[str]


def trusting(files: Files) -> tuple[str | Path, ...]:
    return ("--ca-file", files.ca, "--server-name", HOST)


def session_row(text: str) -> str:
    return next(line[13:] for line in text.splitlines() if line.startswith("session "))


async def test_a_saved_session_is_resumed_and_renewed(capsys: Capture, files: Files, tmp_path: Path) -> None:
    kept = tmp_path / "session"
    async with serving(server_config()) as port:
        where = ("connect", f"127.0.0.1:{port}", *trusting(files), "--check")
        first = await said(capsys, *where, "--session-out", kept)
        assert (first.status, session_row(first.err)) == (0, "new")
        assert kept.stat().st_mode & 0o777 == 0o600
        assert files_in(tmp_path) == [kept]
        before = kept.read_bytes()
        second = await said(capsys, *where, "--session-in", kept, "--session-out", kept)
        assert (second.status, session_row(second.err)) == (0, "resumed")
        assert kept.read_bytes() != before, "a ticket is for one connection"
        third = json.loads((await said(capsys, *where, "--session-in", kept, "--json")).out)
        assert third["session_reused"] is True
        assert third["verification"]["status"] == "passed"
        assert len(third["verified_chain"]) == 2, "as it was verified then"


async def test_a_session_of_a_conversation_with_s_server_is_saved(files: Files, tmp_path: Path) -> None:
    kept = tmp_path / "session"
    async with s_server("-cert", files.server, "-rev") as (_, port):
        where = ("connect", f"127.0.0.1:{port}", *trusting(files), "-q")
        first = await ran(*where, "--session-out", kept, stdin=b"abc\n")
        assert (first.out, first.err) == ("cba\n", "")
        second = await ran("connect", f"127.0.0.1:{port}", *trusting(files), "--session-in", kept, stdin=b"def\n")
        assert second.out == "fed\n"
        assert session_row(second.err) == "resumed"


@on_both_machines
async def test_a_server_that_resumes_nothing_is_told(
    capsys: Capture, files: Files, tmp_path: Path, options: tuple[str, ...]
) -> None:
    kept = tmp_path / "session"
    async with serving(server_config().replace(tickets=0)) as port:
        where = ("connect", f"127.0.0.1:{port}", *trusting(files), "--check")
        if not options:
            without = await said(capsys, *where, "--session-out", kept, "-q")
            assert without.status == 4
            assert without.err.startswith("trio-tls: there is no session to save: the server has sent no ticket\n")
            assert not kept.exists()
        again = await said(capsys, *where, "--reconnect", 1, *options)
    assert again.status == 0
    assert again.err.endswith("\nsession      new: the server did not resume it\n")


async def test_a_session_that_does_not_fit_is_told_and_not_offered(
    capsys: Capture, files: Files, tmp_path: Path
) -> None:
    kept = tmp_path / "session"
    async with serving(server_config()) as port:
        where = ("connect", f"127.0.0.1:{port}", *trusting(files), "--check")
        await said(capsys, *where, "--session-out", kept)
        session = Session.from_bytes(kept.read_bytes())

        async def judged(changed: Session, *options: str) -> str:
            kept.write_bytes(changed.to_bytes())
            result = await said(capsys, *where, "--session-in", kept, *options)
            assert result.status == 0
            told = json.loads((await said(capsys, *where, "--session-in", kept, "--json", *options)).out)
            assert told["session_reused"] is False
            assert told["session_not_offered"] in result.err
            return session_row(result.err)

        refusal = "new: the saved one cannot be resumed: "
        assert await judged(replace(session, server_name="other.example")) == f"{refusal}it is one with other.example"
        old = replace(session, received_at=time.time() - 8 * 24 * 3600)
        assert await judged(old) == f"{refusal}it has expired"
        assert (await judged(session, "--alpn", "h2")).startswith(f"{refusal}it was made with other options")


async def test_a_session_is_saved_even_if_the_connection_is_cut_off(files: Files, tmp_path: Path) -> None:
    async def cut(stream: TLSStream[Any]) -> None:
        assert stream.transport_stream is not None
        await stream.send_all(b"half of")
        await stream.flush()
        stream.transport_stream.socket.close()

    kept = tmp_path / "session"
    async with serving(server_config(), cut) as port:
        where = ("connect", f"127.0.0.1:{port}", *trusting(files), "-q", "--no-input", "--session-out", kept)
        result = await ran(*where)
    assert result.status == 4
    assert result.out == "half of"
    assert Session.from_bytes(kept.read_bytes()).server_name == HOST


async def test_a_place_that_refuses_the_session_is_a_mistake(capsys: Capture, files: Files, tmp_path: Path) -> None:
    async with serving(server_config()) as port:
        where = ("connect", f"127.0.0.1:{port}", *trusting(files), "--check", "-q")
        result = await said(capsys, *where, "--session-out", tmp_path)
    assert result.status == 2
    assert result.err.startswith(f"trio-tls: --session-out {tmp_path}: ")
    assert list(tmp_path.parent.glob(f".{tmp_path.name}.*")) == [], "nothing is left behind"


def test_what_is_no_session_is_told(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense"
    nonsense.write_bytes(b"nonsense")
    with pytest.raises(Problem, match="Save a session with --session-out"):
        sessions.load(str(nonsense))


def test_what_is_no_file_is_not_replaced_by_a_session(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(Problem, match="is no file"):
        sessions.check_place(str(pipe))
    assert pipe.is_fifo()


def test_a_symbolic_link_to_a_session_stays_one(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "session"
    link.symlink_to(target)
    sessions.check_place(str(link))
    sessions.save(Session(0x1301, bytes(32), b"ticket", 0, 3600, 0.0, 0.0, HOST, None, b"", (), (), None), str(link))
    assert link.is_symlink() and target.stat().st_mode & 0o777 == 0o600
