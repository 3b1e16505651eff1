"""Where the time goes: ``python -m tests.instructions.profile FILE``.

How this works. py-spy looks at a process that runs one workload of `workloads` over and over, and writes down its
stack several hundred times a second, without disturbing it. Each sample is a point for the module whose function is
innermost. What that calls in C belongs to it: the encryption to the module that calls for it, the system calls to the
one that sends and receives. The shares of all modules are written as JSON, from which the manual makes its tables.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import trio

import trio_tls

from .counting import make_certificates
from .workloads import STACKS, WORKLOADS

__all__ = ["PROFILED", "main", "module_of", "shares"]

#: The stacks and workloads whose profile is taken.
PROFILED = [
    (stack, workload)
    for workload in ("bulk, writes of 256 KiB", "ping-pong of 1 KiB", "full handshake", "resumed handshake")
    for stack in ("ssl", "own")
]

#: Samples a second, and for how many seconds.
RATE = 500
LONG_ENOUGH = 8.0

OURS = Path(trio_tls.__file__).parent
SITE_PACKAGES = Path(trio.__file__).parent.parent

#: One frame of a stack as py-spy writes it: ``encrypt (/path/record_writer.py:120)``.
FRAME = re.compile(r".*? \((.*):\d+\)")

#: The function of Trio that runs the tasks: a sample without it is of the program's start.
SCHEDULER = "unrolled_run "


def module_of(filename: str) -> str:
    """What a file stands for in the profile.

    One of ours stands for its module (``"machine/tls13/record_reader"``), one of another package for that package and
    of Trio also for the first part below (``"trio/_core"``), any other one for its name (``"ssl"``).
    """
    path = Path(filename)
    if path.is_relative_to(OURS):
        return path.relative_to(OURS).with_suffix("").as_posix()
    if path.is_relative_to(SITE_PACKAGES):
        package, first, *_ = *path.relative_to(SITE_PACKAGES).with_suffix("").parts, ""
        return f"{package}/{first}" if package == "trio" else package
    if path.parent == Path(__file__).parent:
        return "the workload"
    if filename.startswith("<"):
        generated = (
            filename.strip("<>").split()[-1].partition(".")[0]
        )  # "<attrs generated methods outcome._impl.Value>"
        return "dataclasses" if generated == "string" else generated
    return path.stem


def shares(lines: Iterable[str]) -> dict[str, float]:
    """The shares of all modules, the greatest first, of what py-spy has written: a stack and its number a line."""
    points: Counter[str] = Counter()
    for line in lines:
        stack, _, number = line.rpartition(" ")
        frame = FRAME.fullmatch(stack.rpartition(";")[2])
        if SCHEDULER in stack and frame is not None:
            points[module_of(frame[1])] += int(number)
    total = sum(points.values())
    return {name: round(count / total, 4) for name, count in points.most_common()}


def profile(stack: str, workload: str, directory: Path, seconds: float) -> dict[str, float]:
    """Run a workload for so many seconds, and look at it.

    Raises:
      RuntimeError: there is no py-spy, or it cannot look at another process here.
    """
    tool = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if tool is None:
        raise RuntimeError("there is no py-spy: pip install py-spy")
    written = directory / "stacks.txt"
    look = [tool, "record", "--rate", str(RATE), "--format", "raw", "--full-filenames", "--output", str(written), "--"]
    program = [sys.executable, "-m", __spec__.name, "--run", stack, workload, str(directory), str(seconds)]
    root = Path(__file__).parent.parent.parent
    done = subprocess.run([*look, *program], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode or not written.exists():
        raise RuntimeError(f"py-spy failed: {done.stderr.strip()[-500:]}")
    return shares(written.read_text(encoding="utf-8").splitlines())


def run(stack: str, workload: str, directory: str, seconds: str) -> None:
    """Be the program that is looked at."""
    made, work = STACKS[stack](Path(directory)), WORKLOADS[workload]
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        trio.run(work.run, made, 10 * work.times, lambda: None)


def main(argv: Sequence[str]) -> None:
    """Take all profiles, and write them."""
    if argv[0] == "--run":
        run(*argv[1:])
        return
    profiles: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="profile-") as name:
        make_certificates(Path(name))
        for stack, workload in PROFILED:
            profiles[f"{stack}: {workload}"] = profile(stack, workload, Path(name), LONG_ENOUGH)
            print(f"{stack}: {workload}", flush=True)
    Path(argv[0]).write_text(json.dumps(profiles, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
