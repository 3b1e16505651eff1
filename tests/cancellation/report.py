"""``python -m tests.cancellation.report``: TLSStream and trio.SSLStream, cancelled everywhere, side by side.

Both play the same scenarios on the same transports, with the same peer; TLSStream on an `ssl.SSLContext` (1.3 and 1.2)
as trio.SSLStream, and on our own machine, against itself and against `ssl`. A case is one run in which a cancel came;
it is survived if the operation, called again, completed, every byte was right at both ends, and the connection went on
in both directions. Exits with 1 if a TLSStream did not survive a case.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from trio_tls.testing import CancelMode

from ..support import CROSSED, SSL_MACHINES, machines_named
from .connections import ROLES, Cell, MakeEnd, tls_end, upstream_end
from .judging import Verdict, judge
from .operations import OPERATIONS, Operation

TIERS_SHOWN = ("1-socket", "2-nested", "3-stapled", "4-memory", "4-lockstep", "4-foreign", "5-memory")


def cells(tier: str, *, own: bool) -> Iterator[Cell]:
    """Every machine and role in which the end under test is our own machine, or is `ssl`'s with a peer of `ssl`."""
    for name in ("own", *CROSSED) if own else SSL_MACHINES:
        machines = machines_named(name)
        for role in ROLES:
            if machines.is_own(role) == own:
                yield Cell(machines, tier, role)


def judged(operation: Operation, tier: str, make: MakeEnd, *, own: bool) -> Verdict:
    """All cases of one operation on one tier: every machine, role and mode."""
    verdict = Verdict()
    for cell in cells(tier, own=own):
        for mode in CancelMode:
            verdict += judge(operation, cell, mode, make=make)
    return verdict


def row(operation: Operation, name: str, make: MakeEnd, *, own: bool = False) -> Verdict:
    """Judge and print one line of the table; the sum of it."""
    total = Verdict()
    columns = ""
    for tier in TIERS_SHOWN:
        if tier in operation.tiers:
            verdict = judged(operation, tier, make, own=own)
            total += verdict
            columns += f"{verdict.survived:>6} of {verdict.cases:<4}"
        else:
            columns += f"{'-':>10}    "
    losses = ", ".join(
        f"{count} {what}"
        for count, what in ((total.broken, "broken"), (total.lost, "lost bytes"), (total.hung, "hung"))
        if count
    )
    print(f"  {name:16}{columns}  {losses or 'nothing lost'}", flush=True)
    return total


def main() -> int:
    started = time.monotonic()
    print("Cancelled at every step, then called again: how many cases each stream survived.")
    print(f"\n  {'':16}" + "".join(f"{tier:>11}   " for tier in TIERS_SHOWN))
    ours, own, upstream = Verdict(), Verdict(), Verdict()
    for operation in OPERATIONS.values():
        print(operation.name)
        ours += row(operation, "TLSStream, ssl", tls_end)
        own += row(operation, "TLSStream, own", tls_end, own=True)
        if operation.upstream:
            upstream += row(operation, "trio.SSLStream", upstream_end)
        else:
            print(f"  {'trio.SSLStream':16}has no such operation, or none that this scenario can be played with")
    print(
        f"\nTLSStream survived {ours.survived:,} of {ours.cases:,} cases on an ssl.SSLContext "
        f"and {own.survived:,} of {own.cases:,} on our own machine, "
        f"trio.SSLStream {upstream.survived:,} of {upstream.cases:,} "
        f"({upstream.broken:,} broken, {upstream.lost:,} lost bytes, {upstream.hung:,} hung). "
        f"{time.monotonic() - started:.0f} seconds."
    )
    return 1 if ours.failed or own.failed else 0


if __name__ == "__main__":
    sys.exit(main())
