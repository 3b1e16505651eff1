"""Who sleeps: connections that wait for long take less memory meanwhile.

How this works. Most connections of a server wait, and most of those wait for long. What a machine can let go of, it can
make again within a few microseconds; but that is too much for each of the short waits of a busy connection. And a timer
for each wait would cost as much. So whoever goes to sleep looks at the two who have slept longest: if that is `LONG`
already, their machines are told to rest (`Machine.rest`). Where nothing happens at all, nobody is told; then nobody
needs the memory either. Each is told once in a sleep: what another task sends meanwhile takes memory again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["LONG", "Sleepers", "sleepers"]

#: Seconds of sleep after which a machine is told to rest.
LONG = 0.1

#: How many at a time: more than one, so that those who sleep for long do not become more and more.
AT_ONCE = 2


class Sleepers(threading.local):
    """Those who sleep, of one thread: the event loop of another is none of our business."""

    def __init__(self) -> None:
        self._since: OrderedDict[object, tuple[float, Callable[[], None]]] = OrderedDict()

    def add(self, who: object, now: float, rest: Callable[[], None]) -> None:
        """``who`` goes to sleep at the time ``now``; call ``rest`` if that takes long."""
        since = self._since
        if since:
            for _ in range(AT_ONCE):
                oldest = next(iter(since), None)
                # One from the future was left behind by a run of Trio with another clock.
                if oldest is None or 0 <= now - since[oldest][0] < LONG:
                    break
                since.pop(oldest)[1]()
        since[who] = now, rest

    def remove(self, who: object) -> None:
        """``who`` is awake again."""
        self._since.pop(who, None)

    def __len__(self) -> int:
        """How many sleep that were not told to rest."""
        return len(self._since)


#: All of this process.
sleepers: Sleepers = Sleepers()
