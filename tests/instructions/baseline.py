"""The committed counts, and what is said and done when new ones differ.

How this works. ``baseline.json`` has the counts, and the environment they are from. In the same environment the spread
from run to run is below half a percent, so a count may not rise by more than `TOLERANCE`. In another one, Python itself
was compiled differently. Then trio.SSLStream, counted in the same run, tells how much: each count is compared as a
multiple of what trio.SSLStream needs for the same workload, and may rise by `TOLERANCE_ELSEWHERE`. Between minor
versions of Python even that says nothing, so there the counts are only shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from .counting import Counts
from .workloads import REFERENCE

__all__ = ["PATH", "TOLERANCE", "TOLERANCE_ELSEWHERE", "Baseline", "Change", "Comparison"]

PATH = Path(__file__).with_name("baseline.json")

#: The share by which a count may rise in the environment that the baseline is from.
TOLERANCE = 0.03

#: The same in another environment, where counts are divided by those of trio.SSLStream.
TOLERANCE_ELSEWHERE = 0.15


class Comparison(Enum):
    """How two environments can be compared."""

    DIRECT = "the environment of the baseline: counts are compared directly"
    BY_REFERENCE = "not the environment of the baseline: counts are compared as multiples of trio.SSLStream's"
    NONE = "not the Python version of the baseline: counts are shown, and not compared"

    @property
    def tolerance(self) -> float:
        """The share by which a count may rise."""
        return TOLERANCE if self is Comparison.DIRECT else TOLERANCE_ELSEWHERE


@dataclass(frozen=True)
class Change:
    """One count, then and now.

    Attributes:
      name: the stack, the workload, and whose instructions.
      before: the committed count; None if there is none.
      after: the new one.
      rise: the share by which it rose, with what the environment does taken out; 0.0 if that cannot be told.
      tolerance: the most that it may rise.
    """

    name: str
    before: int | None
    after: int
    rise: float
    tolerance: float

    @property
    def too_much(self) -> bool:
        """Whether the count rose by more than is allowed, or is not in the baseline."""
        return self.before is None or self.rise > self.tolerance

    @property
    def outdated(self) -> bool:
        """Whether the count fell by so much that the baseline should follow, or would hide the next rise."""
        return self.rise < -self.tolerance


@dataclass(frozen=True)
class Baseline:
    """Counts, and the environment they are from."""

    environment: Mapping[str, str]
    counts: Mapping[str, Counts]

    @classmethod
    def load(cls, path: Path = PATH) -> Baseline:
        """The committed one."""
        data = json.loads(path.read_text(encoding="utf-8"))
        return cls(data["environment"], {name: Counts(**counts) for name, counts in data["counts"].items()})

    def save(self, path: Path = PATH) -> None:
        """Make this the committed one."""
        data = {
            "environment": dict(self.environment),
            "counts": {name: asdict(counts) for name, counts in self.counts.items()},
        }
        path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")

    def comparison(self, new: Baseline) -> Comparison:
        """How ``new`` can be compared with this one."""
        if dict(self.environment) == dict(new.environment):
            return Comparison.DIRECT
        if _minor(self.environment["python"]) == _minor(new.environment["python"]):
            return Comparison.BY_REFERENCE
        return Comparison.NONE

    def changes(self, new: Baseline) -> Iterator[Change]:
        """What is different in ``new``: every count of our own stacks."""
        how = self.comparison(new)
        for name, counts in new.counts.items():
            stack, _, workload = name.partition(": ")
            if stack == REFERENCE:
                continue
            reference = f"{REFERENCE}: {workload}"
            for part, after in asdict(counts).items():
                before = asdict(self.counts[name])[part] if name in self.counts else None
                rise = 0.0
                if before is not None and how is not Comparison.NONE:
                    scale = 1.0
                    if how is Comparison.BY_REFERENCE:
                        scale = asdict(self.counts[reference])[part] / asdict(new.counts[reference])[part]
                    rise = after * scale / before - 1
                yield Change(f"{name}, {part}", before, after, rise, how.tolerance)


def _minor(python: str) -> list[str]:
    """Of ``"CPython 3.11.7 (GCC 12.2.0)"``: the implementation, and the version without its last part."""
    implementation, version, *_ = python.split()
    return [implementation, *version.split(".")[:2]]
