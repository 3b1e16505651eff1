"""The watch over what tests leave behind notices it."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio

from .leaks import DESCRIPTORS, nothing_left


def test_nothing_is_no_leak() -> None:
    with nothing_left():
        left, right = socket.socketpair()
        left.close()
        right.close()


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="descriptors are looked at in /proc")
def test_an_open_socket_and_an_open_file_are_noticed(tmp_path: Path) -> None:
    ends = socket.socketpair()
    with pytest.raises(AssertionError, match="socket:"), nothing_left():
        third, fourth = socket.socketpair()
    for end in (*ends, third, fourth):
        end.close()
    with pytest.raises(AssertionError, match="a file"), nothing_left():
        file = (tmp_path / "a file").open("w")
    file.close()


@pytest.mark.parametrize("daemon", [False, True])
def test_a_thread_that_goes_on_is_noticed(daemon: bool) -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="goes on", daemon=daemon)
    with pytest.raises(AssertionError, match="goes on"), nothing_left():
        thread.start()
    over.set()
    thread.join()


async def test_threads_that_trio_keeps_for_later_are_no_leak() -> None:
    with nothing_left():
        await trio.to_thread.run_sync(threading.Event().is_set)


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="processes are looked at in /proc")
def test_a_process_that_goes_on_is_noticed() -> None:
    with pytest.raises(AssertionError, match="processes that run still"), nothing_left():
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process.communicate(b"\n")
