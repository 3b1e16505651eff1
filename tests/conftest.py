"""Fixtures; what they are made of is in `tests.support`."""

from __future__ import annotations

import pytest

from .support import MACHINES, Machines, machines_named


@pytest.fixture(params=MACHINES)
def machines(request: pytest.FixtureRequest) -> Machines:
    """Every machine and version that both ends of a connection can be."""
    return machines_named(request.param)
