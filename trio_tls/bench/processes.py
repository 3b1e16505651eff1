"""What a process takes: processor time and memory, its own and that of the process at the other end.

How this works. Linux tells both of any process: processor time by a clock that is named after the process
(``clock_getcpuclockid(3)``), memory in ``/proc``. Where it does not, nothing is told of them (None).
"""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["PeakMemory", "processor_time", "resident_memory"]


def processor_time(pid: int) -> float | None:
    """Seconds of processor time that a process has taken, in user mode and in the kernel; None if that is not told."""
    try:
        # What clock_getcpuclockid(3) makes of the number of a process: 2 is for the time that it was running.
        return time.clock_gettime(~pid << 3 | 2)
    except (OSError, AttributeError):
        return None


def resident_memory(pid: int | str, field: str = "VmRSS") -> int | None:
    """Bytes of memory that a process has now (or, by another ``field``, had); None if that is not told."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


class PeakMemory:
    """The peak of this process's resident memory, from now on."""

    def __init__(self) -> None:
        self._start: int | None = None
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins anew
        except OSError:
            return
        self._start = resident_memory("self")

    def extra(self) -> int | None:
        """Bytes above the start at the peak; None if that is not told."""
        peak = resident_memory("self", "VmHWM")
        return None if self._start is None or peak is None else max(0, peak - self._start)
