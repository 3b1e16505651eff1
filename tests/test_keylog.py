"""Key logs: the lines, where they go, and that they never break anything."""

from __future__ import annotations

import gc
import io
import logging
import os
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import HOST, client_context, server_context
from trio_tls.keylog import KeyLog, _keylog_at, keylog_from_environment

RANDOM, SECRET = bytes(range(32)), b"\xab" * 48
LINE = f"CLIENT_TRAFFIC_SECRET_0 {RANDOM.hex()} {SECRET.hex()}"


def write(keylog: KeyLog, label: str = "CLIENT_TRAFFIC_SECRET_0") -> None:
    keylog(label, RANDOM, SECRET)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    _keylog_at.cache_clear()


def test_a_function_gets_each_line() -> None:
    lines: list[str] = []
    write(KeyLog(lines.append))
    assert lines == [LINE]


def test_an_open_text_file_is_flushed_after_each_line(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    with path.open("w") as file:
        keylog = KeyLog(file)
        write(keylog)
        assert path.read_text() == LINE + "\n"
    text = io.StringIO()
    write(KeyLog(text))
    assert text.getvalue() == LINE + "\n"


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_appended_to(tmp_path: Path, kind: type[str] | type[Path]) -> None:
    path = tmp_path / "keys"
    path.write_text("# what is there already\n")
    keylog = KeyLog(kind(path))
    write(keylog)
    write(keylog, "EXPORTER_SECRET")
    assert (
        path.read_text()
        == f"# what is there already\n{LINE}\n{LINE.replace('CLIENT_TRAFFIC_SECRET_0', 'EXPORTER_SECRET')}\n"
    )


def test_a_file_is_made_at_the_first_line_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keylog = KeyLog(path)
    assert not path.exists()
    write(keylog)
    assert path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
def test_a_file_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    write(KeyLog(tmp_path / "keys"))
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o600


def test_the_file_is_closed_with_the_last_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    close = os.close

    def note(fd: int) -> None:
        closed.append(fd)
        close(fd)

    monkeypatch.setattr(os, "close", note)
    keylog = KeyLog(tmp_path / "keys")
    write(keylog)
    assert not closed
    del keylog
    gc.collect()
    assert len(closed) == 1


def test_several_logs_may_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    first, second = KeyLog(path), KeyLog(path)
    for keylog in (first, second, first):
        write(keylog)
    assert path.read_text() == f"{LINE}\n" * 3


def test_what_goes_wrong_is_logged_once_and_breaks_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keylog = KeyLog(tmp_path / "missing" / "keys")
    with caplog.at_level(logging.WARNING):
        write(keylog)
        write(keylog)
    (record,) = caplog.records
    assert record.name == "trio_tls.keylog"
    assert "missing" in record.getMessage()
    assert "FileNotFoundError" in record.getMessage()


def test_a_log_goes_on_when_what_was_wrong_is_right_again(tmp_path: Path) -> None:
    keylog = KeyLog(tmp_path / "missing" / "keys")
    write(keylog)
    (tmp_path / "missing").mkdir()
    write(keylog)
    assert (tmp_path / "missing" / "keys").read_text() == LINE + "\n"


def test_row_84_a_failing_function_does_not_get_secrets_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def fail(line: str) -> None:
        raise RuntimeError("no room")

    with caplog.at_level(logging.DEBUG):
        write(KeyLog(fail))
    assert SECRET.hex() not in caplog.text
    assert "no room" in caplog.text


def test_an_interrupt_is_not_swallowed() -> None:
    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(KeyLog(interrupt))


def test_what_is_no_target_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="a path, a text file or a function"):
        KeyLog(3)  # type: ignore[arg-type]


def test_a_key_log_tells_where_it_writes_to(tmp_path: Path) -> None:
    assert repr(KeyLog(tmp_path / "keys")) == f"<KeyLog to {tmp_path / 'keys'}>"
    assert "StringIO" in repr(KeyLog(io.StringIO()))


def test_the_environment_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(path))
    keylog = keylog_from_environment()
    assert keylog is not None
    assert keylog_from_environment() is keylog
    write(keylog)
    assert path.read_text() == LINE + "\n"


@pytest.mark.parametrize("value", [None, ""])
def test_without_the_variable_there_is_no_log(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSLKEYLOGFILE", raising=False)
    if value is not None:
        monkeypatch.setenv("SSLKEYLOGFILE", value)
    assert keylog_from_environment() is None


def test_a_python_that_ignores_the_environment_ignores_the_variable(tmp_path: Path) -> None:
    program = "import trio_tls.keylog as k; print(k.keylog_from_environment())"
    environment = os.environ | {"SSLKEYLOGFILE": str(tmp_path / "keys")}
    # -E would also ignore where the package is found, so the path is given
    command = [sys.executable, "-E", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == "None\n"


def test_the_lines_have_the_form_of_openssls(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    client = client_context()
    client.keylog_filename = str(theirs)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=HOST),
        server_context().wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(3):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    ours: list[str] = []
    keylog = KeyLog(ours.append)
    lines = [line for line in theirs.read_text().splitlines() if not line.startswith("#")]
    for line in lines:
        label, client_random, secret = line.split()
        keylog(label, bytes.fromhex(client_random), bytes.fromhex(secret))
    assert ours == lines
    assert len(lines) == 5
