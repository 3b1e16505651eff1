"""What a run of the tests leaves behind: no socket, epoll, temporary file, thread or process.

How this works. When the session ends, the descriptors, threads and children of this process are held against those
from its beginning. Sockets that nobody closed have had their ResourceWarning before, which is an error here; this
finds what was lost without one, and what a process outside has left running.

What it does not see: pipes and files elsewhere, for the test runner opens such ones too, and the worker threads of
Trio, which it keeps for the next that needs one.
"""

from __future__ import annotations

import gc
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trio_tls import keylog

DESCRIPTORS = Path("/proc/self/fd")

#: What a test opens. Pipes, databases and logs are the test runner's own.
OPENED = ("socket:", f"{tempfile.gettempdir()}/", "anon_inode:[eventpoll]")


def descriptors() -> dict[int, str]:
    """What is open: what each descriptor is of. Nothing, where there is no /proc."""
    found = {}
    for path in DESCRIPTORS.iterdir() if DESCRIPTORS.exists() else ():
        try:
            found[int(path.name)] = str(path.readlink())
        except OSError:
            continue  # the one that lists them
    return found


def children() -> list[str]:
    """Processes that were started here and run still, or were not waited for."""
    ours = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")  # asked each time: a fork has its own
    return ours.read_text().split() if ours.exists() else []


#: Trio names its worker threads so, the idle ones and those that run a function for a task.
TRIOS_OWN = re.compile(r"Trio thread \d+|.+ from .+")


def threads() -> set[threading.Thread]:
    """Threads that run, daemons or not, but for Trio's."""
    return {each for each in threading.enumerate() if not (each.daemon and TRIOS_OWN.fullmatch(each.name))}


@contextmanager
def nothing_left() -> Iterator[None]:
    """Fail if the block leaves a descriptor, a thread or a process."""
    before, running, at_work = descriptors(), set(children()), threads()
    yield
    keylog._keylog_at.cache_clear()  # these are open to the end of a process, and closed when they are dropped
    gc.collect()
    left = {
        number: what
        for number, what in descriptors().items()
        if before.get(number) != what and what.startswith(OPENED) and not what.endswith("(deleted)")
    }
    assert not left, f"descriptors that nobody closed: {left}"
    assert not set(children()) - running, f"processes that run still: {set(children()) - running}"
    assert not threads() - at_work, f"threads that run still: {[each.name for each in threads() - at_work]}"
