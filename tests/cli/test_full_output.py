"""The command when its output cannot be written, though somebody holds it open: a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from trio_tls.cli.problem import Problem
from trio_tls.cli.relay import StandardOutput

FULL = Path("/dev/full")

pytestmark = pytest.mark.skipif(not FULL.is_char_device(), reason="this system has no /dev/full")


def run(*arguments: str, out: str = "/dev/null", err: str | None = None) -> tuple[int, str]:
    with Path(out).open("w") as output, Path(err or "/dev/null").open("w") as errors:
        done = subprocess.run(
            [sys.executable, "-m", "trio_tls", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE if err is None else errors,
            text=True,
            timeout=60,
            check=False,
        )
    return done.returncode, done.stderr or ""


@pytest.mark.parametrize(
    "arguments", [("connect", "localhost:1", "--json"), ("serve", "--self-signed", "--port", "0")], ids=lambda a: a[0]
)
def test_an_output_that_is_full_is_told_in_one_sentence(arguments: tuple[str, ...]) -> None:
    status, told = run(*arguments, out="/dev/full")
    assert status == 2
    assert told.splitlines()[-2:] == [
        "trio-tls: standard output cannot be written: No space left on device",
        "  Check where it goes to",
    ]
    assert "Traceback" not in told


def test_errors_that_cannot_be_written_leave_the_exit_status_alone() -> None:
    assert run("connect", "localhost:1", err="/dev/full")[0] == 3


async def test_a_conversation_with_a_full_output_is_no_fault_of_the_network() -> None:
    descriptor = os.open(FULL, os.O_WRONLY)
    with pytest.raises(Problem, match="standard output cannot be written: No space left"):
        await StandardOutput(descriptor, raw=True).write(b"data")
    os.close(descriptor)


async def test_an_output_that_does_not_block_loses_nothing() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    data, read = bytes(range(256)) * 4096, bytearray()

    def drain() -> None:
        while len(read) < len(data):
            read.extend(os.read(reading, 65536))

    reader = threading.Thread(target=drain)
    reader.start()
    await StandardOutput(writing, raw=True).write(data)
    reader.join(timeout=60)
    os.close(reading)
    os.close(writing)
    assert read == data
