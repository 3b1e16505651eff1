"""What the tests of the matrix share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .identities import Files
from .matrix import PROPERTY, Cell


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Where the peers find their files."""
    return Files(tmp_path_factory.mktemp("interop"))


@pytest.fixture(autouse=True)
def _told(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """Say in the test's report which entry of the matrix it is."""
    if "cell" in request.fixturenames:
        cell: Cell = request.getfixturevalue("cell")
        record_property(PROPERTY, f"{cell.feature}|{cell.peer.name}|{cell.role}")
