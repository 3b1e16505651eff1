"""Key shares made ahead: while a handshake waits for its peer, it makes the key of the next one.

How this works. A fresh key pair is what a handshake computes before it can say anything, and the peer waits for it.
Yet each end has time later on, when its flight has left. `KeySharesAhead.prepare` makes one share of a group there, if
there is none, and `KeySharesAhead.generate` hands it out to the next handshake, or makes one at once. So as many shares
are made as handshakes need, and at the most one that nobody uses.

"Clients and Servers MUST NOT reuse a key share for multiple connections" (RFC 9846 section 4.3.8): a share is removed
by who takes it. A fork gets a copy of everything, so the child forgets what the parent may use. And a key should not
lie about for long before it is needed: one that is older than `MOST_AGE` is not used any more, and gone with the next
handshake.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .machine.tls13.groups import Group, KeyShare

__all__ = ["KEY_SHARES", "MOST_AGE", "KeySharesAhead"]

#: Seconds for which a share that was made ahead can be used.
MOST_AGE = 10.0


class KeySharesAhead:
    """Makes key shares, and keeps at most one of each group for the next that asks.

    Every method can be called from any thread: what is taken out of a dict, nobody else gets. Call `forget` in the
    child of a fork.

    Args:
      clock: tells seconds that never go back.
    """

    __slots__ = ("_ahead", "_clock")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ahead: dict[int, tuple[float, KeyShare]] = {}

    def generate(self, group: Group) -> KeyShare:
        """A share for one connection: the one that was made ahead, or a new one."""
        made, share = self._ahead.pop(group.number, (0.0, None))
        if share is None or self._clock() - made > MOST_AGE:
            return group.generate()
        return share

    def prepare(self, group: Group) -> None:
        """Make a share ahead, unless there is one that can be used for some time yet."""
        now = self._clock()
        present = self._ahead.get(group.number)
        if present is None or now - present[0] > MOST_AGE / 2:
            self._ahead[group.number] = (now, group.generate())

    def forget(self) -> None:
        """Drop what was made ahead."""
        self._ahead.clear()

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a KeySharesAhead holds private keys, and is not pickled or copied")


#: Of all connections of this process. A fork forgets them.
KEY_SHARES: KeySharesAhead = KeySharesAhead()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=KEY_SHARES.forget)
