"""Every operation survives a cancel at every step: in either role, on every machine and tier, whole or byte by byte.

What "survives" means is in `operations`: called again, the operation completes; every byte is where it belongs; and
the connection goes on in both directions. The counts of each cell are printed after the run.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from functools import partial

import pytest

from trio_tls.testing import CancelMode, SweepReport, sweep

from ..support import CROSSED, MACHINES, TIERS, Machines
from .connections import PIECES, ROLES, Cell
from .operations import OPERATIONS, Operation

#: Where the quick suite also sweeps our own machine against an `ssl.SSLContext`. The slow one does it everywhere.
ACROSS = {("1-socket", "flights"), ("4-memory", "flights")}

CELLS = [
    pytest.param(
        operation,
        tier,
        pieces,
        machines,
        id=f"{operation.name}-{tier}-{pieces}-{machines}",
        marks=pytest.mark.slow if machines in CROSSED and (tier, pieces) not in ACROSS else (),
    )
    for operation in OPERATIONS.values()
    for tier in operation.tiers
    for pieces in operation.pieces
    for machines in (*MACHINES, *CROSSED)
]


def swept(cell: Cell, operation: Operation, mode: CancelMode, steps: Iterable[int] | None = None) -> SweepReport:
    """Sweep ``operation`` on ``cell``."""
    where = operation.steps_on(cell) if steps is None else steps
    report = cell.run(partial(sweep, partial(operation.play, cell), mode, steps=where))
    assert isinstance(report, SweepReport)
    return report


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("operation", "tier", "pieces", "machines"), CELLS, indirect=["machines"])
def test_nothing_is_lost_wherever_a_cancel_strikes(
    operation: Operation,
    tier: str,
    pieces: str,
    role: str,
    machines: Machines,
    record_property: Callable[[str, object], None],
) -> None:
    cell = Cell(machines, tier, role, pieces)
    reports = {mode: swept(cell, operation, mode) for mode in CancelMode}
    for mode, report in reports.items():
        assert report.last_step > 0, f"no cancel was ever asked for {mode.value}"
    assert reports[CancelMode.ALREADY].cancelled > 0
    if not operation.absorbs:
        assert reports[CancelMode.BLOCKED].cancelled > 0
        assert reports[CancelMode.STORM].cancelled > 0
    record_property("operation", operation.name)
    record_property("tier", tier)
    record_property("cancelled", sum(report.cancelled for report in reports.values()))


@pytest.mark.slow
@pytest.mark.parametrize("mode", [CancelMode.BLOCKED, CancelMode.WAKING])
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("tier", TIERS)
def test_a_handshake_in_single_bytes_survives_cancels_all_along(
    machines: Machines, tier: str, role: str, mode: CancelMode
) -> None:
    cell = Cell(machines, tier, role, "bytes")
    # The flights of our own machine hold a share of ML-KEM: there are many more bytes to go through each time,
    # so only the beginning is gone through as closely as with ssl.
    own = machines.is_own("client") or machines.is_own("server")
    steps = itertools.chain(range(1, 428, 61), itertools.count(428, 997)) if own else itertools.count(1, 61)
    report = swept(cell, OPERATIONS["do_handshake"], mode, steps)
    assert report.last_step > 200
    assert report.cancelled > 0


def test_the_sweep_covers_both_kinds_of_pieces_on_every_tier() -> None:
    covered = {
        (tier, pieces) for operation in OPERATIONS.values() for tier in operation.tiers for pieces in operation.pieces
    }
    assert covered == set(itertools.product(TIERS, PIECES))
