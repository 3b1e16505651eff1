"""Fixtures; what they are made of is in `tests.support`."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import hypothesis
import pytest

from .ecosystem.matrix import cell_of
from .leaks import nothing_left
from .support import CROSSED, MACHINES, SSL_MACHINES, Machines, machines_named

# On a machine that is busy with other things a test may take any time; what hangs is found by its timeout.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def pytest_configure() -> None:
    # A shell starts its background jobs such that they, and the commands that they start, ignore Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # How long an example takes says more of what else the machine does than of the example.
    if hypothesis.settings().deadline is not None:
        hypothesis.settings.register_profile("untimed", deadline=None)
        hypothesis.settings.load_profile("untimed")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    test = metafunc.definition
    chosen = any("machines" in mark.args[0] for mark in test.iter_markers("parametrize"))
    if "machines" not in metafunc.fixturenames or chosen:
        return
    if test.get_closest_marker("ssl_alone") is not None:
        metafunc.parametrize("machines", SSL_MACHINES, indirect=True)
        return
    quick = test.get_closest_marker("across") is not None
    crossed = [pytest.param(name, marks=() if quick else pytest.mark.slow) for name in CROSSED]
    metafunc.parametrize("machines", [*MACHINES, *crossed], indirect=True)


@pytest.fixture
def machines(request: pytest.FixtureRequest) -> Machines:
    """Every machine and version that the two ends of a connection can be; see `tests.support`."""
    return machines_named(request.param)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """No descriptor, thread or process outlives the tests; see `tests.leaks`."""
    with nothing_left():
        yield


@pytest.fixture(autouse=True)
def _in_the_matrix(request: pytest.FixtureRequest) -> None:
    """Tell the cell of a test that is marked as one of the ecosystem's matrix; see `tests.ecosystem.matrix`."""
    if (cell := cell_of(request.node)) is not None:
        request.node.user_properties.append(cell)
