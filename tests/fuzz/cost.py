"""What an input costs, in lines of Python: the same number on every machine, however busy it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import trio_tls

PACKAGE = str(Path(trio_tls.__file__).parent)


@dataclass
class Cost:
    """What ran of the library.

    Attributes:
      lines: how many lines, each as often as it ran.
      arcs: which line came after which.
    """

    lines: int = 0
    arcs: set[tuple[str, int, int]] = field(default_factory=set)


@contextmanager
def counted() -> Iterator[Cost]:
    """Count the lines of the library that run in the block, in this thread."""
    cost = Cost()

    def called(frame: FrameType, event: str, _argument: Any) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        path, last = frame.f_code.co_filename, -1

        def ran(frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal last
            if event == "line":
                cost.lines += 1
                cost.arcs.add((path, last, frame.f_lineno))
                last = frame.f_lineno
            return ran

        return ran

    before = sys.gettrace()
    sys.settrace(called)
    try:
        yield cost
    finally:
        sys.settrace(before)


def cost_of(run: Callable[[bytes], object], data: bytes) -> Cost:
    """What one input costs."""
    with counted() as cost:
        run(data)
    return cost
