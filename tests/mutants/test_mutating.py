"""The mutants are what they are said to be, and a surviving one is noticed."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

from .equivalent import EQUIVALENT
from .groups import GROUPS
from .mutating import Mutant, mutants_of

SOURCE = """
class Judge:
    @property
    def verdict(self):
        return self.one > 0 and self.other

    def judge(self, size, reader):
        if size < 4 or size > 9:
            raise ValueError("size")
        reader.finish()
        return reader.vector(2, low=1, high=8)

    async def look(self, rules):
        await self.check_open()
        return rules.permit_all().require_present(self)
"""

CHECKED = """
def check(size):
    if size < 4 or size > 9:
        raise ValueError("size")
    return size
"""


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Mutant]:
    (tmp_path / "judge_of_sizes.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "judge_of_sizes", raising=False)
    return mutants_of("judge_of_sizes")


def test_each_check_has_its_mutant(judge: list[Mutant]) -> None:
    assert sorted(mutant.name.partition(": ")[2] for mutant in judge) == sorted(
        [
            "no (self.one > 0) in self.one > 0 and self.other",
            "no (self.other) in self.one > 0 and self.other",
            "boundary 0 of self.one > 0",
            "no (size < 4) in size < 4 or size > 9",
            "no (size > 9) in size < 4 or size > 9",
            "boundary 0 of size < 4",
            "boundary 0 of size > 9",
            "without raise ValueError('size')",
            "without reader.finish()",
            "no low in reader.vector(2, low=1, high=8)",
            "no high in reader.vector(2, low=1, high=8)",
            "without await self.check_open()",
            "no .require_present() in rules.permit_all().require_present(self)",
        ]
    )


def test_a_mutant_takes_the_place_of_a_method_that_others_have_imported(judge: list[Mutant]) -> None:
    module: types.ModuleType = sys.modules["judge_of_sizes"]
    method = module.Judge.judge

    class Reader:
        def finish(self) -> None: ...
        def vector(self, *_: object, **bounds: int) -> int:
            return len(bounds)

    with pytest.raises(ValueError, match="size"):
        method(None, 10, Reader())
    next(mutant for mutant in judge if "without raise" in mutant.name).apply()
    assert method(None, 10, Reader()) == 2


def test_a_mutant_of_a_function_with_a_cache_returns_nothing_from_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cached_sizes.py").write_text(f"import functools\n@functools.cache{CHECKED}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cached_sizes", raising=False)
    (stricter,) = (each for each in mutants_of("cached_sizes") if "boundary 0 of size < 4" in each.name)
    check = sys.modules["cached_sizes"].check
    assert check(4) == 4
    stricter.apply()
    with pytest.raises(ValueError, match="size"):
        check(4)


def test_every_module_of_a_group_has_mutants_and_no_two_of_a_name() -> None:
    names = [mutant.name for group in GROUPS.values() for module in group.modules for mutant in mutants_of(module)]
    assert len(names) > 300
    assert len(set(names)) == len(names)


def test_every_mutant_that_is_listed_as_equivalent_is_one() -> None:
    names = {mutant.name for group in GROUPS.values() for module in group.modules for mutant in mutants_of(module)}
    assert not set(EQUIVALENT) - names, (
        "the code has changed: look whether the reason still holds, and rename or remove"
    )


RUN = """
import pytest, sys
from tests.mutants.mutating import mutants_of
from tests.mutants.running import MutantsPlugin
plugin = MutantsPlugin(mutants_of("checked_sizes"), jobs=2, limit=10)
quiet = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", "nothing.ini", "--rootdir", "."]
pytest.main([*quiet, "-W", "ignore", "test_sizes.py"], plugins=[plugin])
print(sorted(plugin.outcome.killed), sorted(plugin.outcome.survived), plugin.outcome.failed)
"""

TESTS = """
import checked_sizes
import pytest

def test_a_small_one_is_refused():
    with pytest.raises(ValueError):
        checked_sizes.check(3)

def test_others_are_not():
    assert checked_sizes.check(4) == 4
"""


@pytest.mark.slow
def test_a_check_that_no_test_misses_survives(tmp_path: Path) -> None:
    (tmp_path / "checked_sizes.py").write_text(CHECKED)
    (tmp_path / "test_sizes.py").write_text(TESTS)
    (tmp_path / "nothing.ini").write_text("[pytest]\n")
    root = str(Path(__file__).parent.parent.parent)
    code = f"import sys; sys.path[:0] = [{root!r}, {str(tmp_path)!r}]\n{RUN}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert "without raise" in done.stdout, done.stderr
    killed, survived = (part.count("checked_sizes") for part in done.stdout.splitlines()[-1].split("] [")[:2])
    assert (killed, survived) == (3, 2), done.stdout  # what is about 9 has no test
