"""``python -m tests.cancellation.report``: TLSStream and trio.SSLStream, cancelled everywhere, side by side.

Both play the same scenarios on the same transports, with the same peer. A case is one run in which a cancel
came; it is survived if the operation, called again, completed, every byte was right at both ends, and the connection
went on in both directions. Exits with 1 if a TLSStream did not survive a case.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from trio_tls.testing import CancelMode

from ..support import MACHINES, machines_named
from .connections import ROLES, Cell, MakeEnd, tls_end, upstream_end
from .judging import Verdict, judge
from .operations import OPERATIONS, Operation

TIERS_SHOWN = ("1-socket", "2-nested", "3-stapled", "4-memory", "4-lockstep", "4-foreign", "5-memory")


def cells(tier: str) -> Iterator[Cell]:
    for machines in MACHINES:
        for role in ROLES:
            yield Cell(machines_named(machines), tier, role)


def judged(operation: Operation, tier: str, make: MakeEnd) -> Verdict:
    """All cases of one operation on one tier: every machine, role and mode."""
    verdict = Verdict()
    for cell in cells(tier):
        for mode in CancelMode:
            verdict += judge(operation, cell, mode, make=make)
    return verdict


def row(operation: Operation, name: str, make: MakeEnd) -> Verdict:
    """Judge and print one line of the table; the sum of it."""
    total = Verdict()
    columns = ""
    for tier in TIERS_SHOWN:
        if tier in operation.tiers:
            verdict = judged(operation, tier, make)
            total += verdict
            columns += f"{verdict.survived:>6} of {verdict.cases:<4}"
        else:
            columns += f"{'-':>10}    "
    losses = ", ".join(
        f"{count} {what}"
        for count, what in ((total.broken, "broken"), (total.lost, "lost bytes"), (total.hung, "hung"))
        if count
    )
    print(f"  {name:12}{columns}  {losses or 'nothing lost'}", flush=True)
    return total


def main() -> int:
    started = time.monotonic()
    print("Cancelled at every step, then called again: how many cases each stream survived.")
    print(f"\n  {'':12}" + "".join(f"{tier:>11}   " for tier in TIERS_SHOWN))
    ours, upstream = Verdict(), Verdict()
    for operation in OPERATIONS.values():
        print(operation.name)
        ours += row(operation, "TLSStream", tls_end)
        if operation.upstream:
            upstream += row(operation, "SSLStream", upstream_end)
        else:
            print(f"  {'SSLStream':12}has no such operation, or none that this scenario can be played with")
    print(
        f"\nTLSStream survived {ours.survived:,} of {ours.cases:,} cases, "
        f"trio.SSLStream {upstream.survived:,} of {upstream.cases:,} "
        f"({upstream.broken:,} broken, {upstream.lost:,} lost bytes, {upstream.hung:,} hung). "
        f"{time.monotonic() - started:.0f} seconds."
    )
    return 1 if ours.failed else 0


if __name__ == "__main__":
    sys.exit(main())
