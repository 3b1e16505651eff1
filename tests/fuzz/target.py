"""What is fuzzed: a function of bytes, and what of it would be a defect.

How this works. A target is given any bytes at all. It returns, or raises: whatever it raises is a defect, since it has
caught by itself what is allowed (`TLSError` from a peer, `ValueError` from a file). Targets know nothing of how the
bytes are made: atheris makes them where it is installed, hypothesis in the quick suite, and the corpus always.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trio_tls import TLSError
from trio_tls.alerts import Alert

CORPUS = Path(__file__).parent / "corpus"


class Defect(AssertionError):
    """A target did what it must not do."""


@dataclass(frozen=True)
class Target:
    """One thing to fuzz.

    Attributes:
      name: of the target, and of its folder in the corpus.
      run: is given the bytes.
      seeds: sound inputs, made anew each time: where mutation starts from.
      slope: how many lines of Python one byte of input may cost.
      base: how many lines any input may cost.
    """

    name: str
    run: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]
    slope: int
    base: int

    def corpus(self) -> list[bytes]:
        """What past runs have found worth keeping; in an order that does not change."""
        return [path.read_bytes() for path in sorted((CORPUS / self.name).glob("*"))]


def foreseen(error: TLSError) -> None:
    """Whether a failure is one that the peer has caused; nothing else may come of a peer's bytes."""
    if error.alert is Alert.internal_error:
        raise Defect(f"the machine has met an exception of its own: {error}") from error
    if len(str(error)) > 2000:
        raise Defect(f"an error of {len(str(error))} characters: the peer has a say in its length")


class Source:
    """Takes numbers and pieces off the front of a fuzzed input; zeros when there is no more."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def number(self, size: int = 1) -> int:
        """A number of ``size`` bytes."""
        return int.from_bytes(self.piece(size), "big")

    def piece(self, size: int) -> bytes:
        """At most ``size`` bytes."""
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def rest(self) -> bytes:
        """All that is left."""
        return self.piece(len(self._data))
