"""Primitives that are the same every time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from trio_tls.machine.tls13.groups import Group, KeyShare
from trio_tls.machine.tls13.primitives import Primitives


class Clock:
    """A time that stands still unless it is moved. It starts now, since certificates are valid around now."""

    def __init__(self) -> None:
        self.time = time.time()

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


def primitives(
    random_bytes: Callable[[int], bytes] = bytes,
    now: Callable[[], float] = time.time,
    generate: Callable[[Group], KeyShare] = lambda group: group.generate(),
) -> Primitives:
    """Zeros for random bytes, unless told otherwise: GREASE is the first values of the list then."""
    return Primitives(random=random_bytes, now=now, generate=generate)


def seeded(seed: int) -> Callable[[int], bytes]:
    """Random bytes that come again with the seed."""
    return random.Random(seed).randbytes
