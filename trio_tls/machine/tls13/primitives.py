"""Primitives: what a machine cannot have of itself: randomness, the time, and fresh keys.

How this works. A machine reads no clock and draws no randomness that it was not given, so that a test can replay a
recorded handshake byte by byte. Outside of tests there is one object for all connections, made by `trio_tls.config`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .groups import Group, KeyShare

__all__ = ["Primitives"]


def _nothing(group: Group) -> None:
    """For who makes nothing ahead."""


@dataclass(frozen=True, slots=True)
class Primitives:
    """Where a machine gets what is different in every connection.

    Attributes:
      random: so many random bytes, fit for secrets.
      now: the time, in seconds since 1970.
      generate: a fresh key share of a group. "Clients and servers MUST NOT reuse a key share" (RFC 9846 section
        4.3.8): what a call returns is for one connection.
      prepare: told of a group when there is nothing to do but wait: a time to make a share that `generate` will return.
    """

    random: Callable[[int], bytes]
    now: Callable[[], float]
    generate: Callable[[Group], KeyShare]
    prepare: Callable[[Group], object] = _nothing
