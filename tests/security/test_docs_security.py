"""docs/security.rst: every promise names tests, and these exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "security.rst").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"``(tests/[\w/]+\.py(?:::\w+)?)``", PAGE)))

#: The promises: the first cell of each row of the three tables that have them, and the second.
ROWS = re.findall(
    r"^   \* - (.+?)\n     - (.+?)(?=^   \* - |^\S|\Z)", PAGE.partition("How it is tested")[0], re.MULTILINE | re.DOTALL
)


def test_every_promise_has_its_tests() -> None:
    promises = [(what, shown) for what, shown in ROWS if what != "promise"]
    assert len(promises) > 20
    for what, shown in promises:
        assert re.search(r"``tests/[\w/]+\.py", shown), what


@pytest.mark.parametrize("name", NAMED)
def test_every_test_that_is_named_exists(name: str) -> None:
    path, _, test = name.partition("::")
    assert (ROOT / path).is_file()
    if test:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert test in {
            each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
        }


def test_the_page_says_what_is_not_protected_and_where_to_report() -> None:
    missing = PAGE.partition("What is not protected")[2].partition("How it is tested")[0]
    for what in ("Timing", "Memory", "Audit", "Revocation"):
        assert f"**{what}.**" in missing
    assert "``SECURITY.md``" in PAGE
    assert (ROOT / "SECURITY.md").is_file()


def test_every_session_that_is_named_is_one_of_nox() -> None:
    sessions = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    for name in re.findall(r"``nox -s (\w+)``", PAGE):
        assert f"def {name}(session" in sessions
