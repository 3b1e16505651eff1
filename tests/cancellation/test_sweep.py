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

from ..support import TIERS, Machines
from .connections import PIECES, ROLES, Cell
from .operations import OPERATIONS, Operation

CELLS = [
    pytest.param(operation, tier, pieces, id=f"{operation.name}-{tier}-{pieces}")
    for operation in OPERATIONS.values()
    for tier in operation.tiers
    for pieces in operation.pieces
]


def swept(cell: Cell, operation: Operation, mode: CancelMode, steps: Iterable[int] | None = None) -> SweepReport:
    """Sweep ``operation`` on ``cell``."""
    where = operation.steps_on(cell) if steps is None else steps
    report = cell.run(partial(sweep, partial(operation.play, cell), mode, steps=where))
    assert isinstance(report, SweepReport)
    return report


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("operation", "tier", "pieces"), CELLS)
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
    report = swept(cell, OPERATIONS["do_handshake"], mode, itertools.count(1, 61))
    assert report.last_step > 200
    assert report.cancelled > 0


def test_the_sweep_covers_both_kinds_of_pieces_on_every_tier() -> None:
    covered = {
        (tier, pieces) for operation in OPERATIONS.values() for tier in operation.tiers for pieces in operation.pieces
    }
    assert covered == set(itertools.product(TIERS, PIECES))
