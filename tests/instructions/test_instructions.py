"""The counts of instructions can be trusted: what callgrind writes is read right, and a rise is noticed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ..interop.processes import absent
from . import __main__ as command
from . import counting, profile, workloads
from .baseline import TOLERANCE, TOLERANCE_ELSEWHERE, Baseline, Comparison
from .counting import CannotCount, Counts, count, environment, read_part
from .workloads import REFERENCE, STACKS, WORKLOADS

#: What callgrind writes: compressed names, costs of functions, and after ``calls=`` the cost of what was called.
PART = """\
# callgrind format
version: 1
events: Ir
summary: 1234

ob=(1) /usr/lib/libpython3.11.so.1.0
fl=(1) ceval.c
fn=(1) eval
0 100
+3 20
cob=(2) /usr/lib/libcrypto.so.3
cfn=(2) encrypt
calls=7 0
0 5000
* 3
ob=(2)
fn=(2)
0 4000
-2 1000
ob=(1)
fn=(3) free
16 1

totals: 5124
"""

HERE = {"python": "CPython 3.11.7 (GCC 12)", "openssl": "OpenSSL 3.0.19"}
OTHER_BUILD = {"python": "CPython 3.11.9 (Clang 18)", "openssl": "OpenSSL 3.0.19"}
OTHER_PYTHON = {"python": "CPython 3.13.0 (GCC 12)", "openssl": "OpenSSL 3.0.19"}


def counts(own: int, reference: int = 1000) -> dict[str, Counts]:
    return {f"{REFERENCE}: work": Counts(reference, 10), "own: work": Counts(own, 10)}


def rise(old: Baseline, new: Baseline) -> float:
    return next(each.rise for each in old.changes(new) if each.name == "own: work, interpreter")


def test_what_a_function_calls_is_counted_where_it_is() -> None:
    assert read_part(PART.splitlines(keepends=True)) == {"libpython3.11.so.1.0": 124, "libcrypto.so.3": 5000}


def test_a_count_may_rise_by_the_tolerance_and_not_by_more() -> None:
    old = Baseline(HERE, counts(1000))
    assert old.comparison(Baseline(HERE, {})) is Comparison.DIRECT
    within = Baseline(HERE, counts(round(1000 * (1 + TOLERANCE)) - 1))
    above = Baseline(HERE, counts(round(1000 * (1 + TOLERANCE)) + 1))
    assert not any(each.too_much for each in old.changes(within))
    assert [each.name for each in old.changes(above) if each.too_much] == ["own: work, interpreter"]


def test_in_another_build_what_the_reference_rises_by_is_taken_out() -> None:
    old = Baseline(HERE, counts(1000))
    slower_python = Baseline(OTHER_BUILD, counts(1500, reference=1500))
    assert old.comparison(slower_python) is Comparison.BY_REFERENCE
    assert rise(old, slower_python) == pytest.approx(0)
    slower_library = Baseline(OTHER_BUILD, counts(round(1500 * (1.01 + TOLERANCE_ELSEWHERE)), reference=1500))
    assert any(each.too_much for each in old.changes(slower_library))


def test_another_minor_version_of_python_is_not_compared() -> None:
    old = Baseline(HERE, counts(1000))
    new = Baseline(OTHER_PYTHON, counts(9000))
    assert old.comparison(new) is Comparison.NONE
    assert not any(each.too_much for each in old.changes(new))


def test_a_workload_that_the_baseline_does_not_have_is_noticed() -> None:
    old = Baseline(HERE, {})
    changes = list(old.changes(Baseline(HERE, {"own: new work": Counts(1, 1)})))
    assert all(each.too_much and each.before is None for each in changes)


def test_what_was_gained_is_told() -> None:
    old = Baseline(HERE, counts(1000))
    assert [each.name for each in old.changes(Baseline(HERE, counts(900))) if each.outdated] == [
        "own: work, interpreter"
    ]


def test_a_baseline_is_read_as_it_was_written(tmp_path: Path) -> None:
    baseline = Baseline(HERE, counts(1000))
    baseline.save(tmp_path / "baseline.json")
    assert Baseline.load(tmp_path / "baseline.json") == baseline


def test_the_committed_baseline_has_every_workload_of_every_stack() -> None:
    assert set(Baseline.load().counts) == {f"{stack}: {work}" for stack in STACKS for work in WORKLOADS}


@pytest.mark.parametrize(
    ("new", "status", "told"),
    [
        (Baseline(HERE, counts(1001)), 0, "the environment of the baseline"),
        (Baseline(HERE, counts(2000)), 1, "MORE"),
        (Baseline(HERE, counts(500)), 0, "keeps what was gained"),
        (
            Baseline(OTHER_BUILD, counts(1000)),
            0,
            "python: CPython 3.11.9 (Clang 18); baseline: CPython 3.11.7 (GCC 12)",
        ),
        (Baseline(OTHER_PYTHON, counts(9000)), 0, "shown, and not compared"),
        (Baseline(HERE, {}), 2, "no workload"),
    ],
)
def test_the_exit_status_tells_whether_a_count_rose(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    new: Baseline,
    status: int,
    told: str,
) -> None:
    path = tmp_path / "baseline.json"
    Baseline(HERE, counts(1000)).save(path)
    arranged(monkeypatch, path, new)
    assert command.main([]) == status
    assert told in "".join(capsys.readouterr())
    assert Baseline.load(path) == Baseline(HERE, counts(1000))


def test_an_update_replaces_the_baseline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    Baseline(HERE, counts(1000)).save(path)
    arranged(monkeypatch, path, Baseline(OTHER_PYTHON, counts(9000)))
    assert command.main(["--update"]) == 0
    assert Baseline.load(path) == Baseline(OTHER_PYTHON, counts(9000))


def test_an_update_counts_everything(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--update", "--only", "bulk"])
    assert "without --only" in capsys.readouterr().err


def test_without_valgrind_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert command.main([]) == 2
    assert "install valgrind" in capsys.readouterr().err


def arranged(monkeypatch: pytest.MonkeyPatch, path: Path, new: Baseline) -> None:
    """Let the command find these counts, and the baseline in this file."""
    monkeypatch.setattr(command, "PATH", path)
    monkeypatch.setattr(command, "environment", lambda: new.environment)
    monkeypatch.setattr(command, "count", lambda only: new.counts)


# -- the program that is counted -----------------------------------------------------------------------------


@pytest.mark.parametrize("stack", STACKS)
def test_every_workload_runs_and_marks_where_it_begins_and_ends(
    stack: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    counting.make_certificates(tmp_path)
    few = {name: workloads.Workload(2, workload.run) for name, workload in WORKLOADS.items()}
    monkeypatch.setattr(workloads, "WORKLOADS", few)
    monkeypatch.setattr(workloads, "PARTS", [])
    workloads.main(tmp_path, f"{stack}: ")
    stacks = dict.fromkeys((REFERENCE, stack))  # what the others are measured by is always counted
    expected = [part for each in stacks for name in WORKLOADS for part in ("", f"{each}: {name}")]
    assert json.loads(capsys.readouterr().out) == expected


@pytest.mark.slow
def test_two_runs_count_the_same() -> None:
    if shutil.which("valgrind") is None:
        absent("there is no valgrind command on the PATH: install valgrind to count instructions")
    first, second = (count("own: ping-pong")["own: ping-pong of 1 KiB"] for _ in range(2))
    assert second.interpreter == pytest.approx(first.interpreter, rel=TOLERANCE / 3)
    assert second.crypto == pytest.approx(first.crypto, rel=TOLERANCE / 3)
    assert environment()["valgrind"].startswith("valgrind-")


def test_a_program_that_fails_is_told_with_what_it_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "valgrind"
    tool.write_text("#!/bin/sh\necho this processor is strange >&2\nexit 3\n")
    tool.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(tool))
    with pytest.raises(CannotCount, match="this processor is strange"):
        count()


# -- where the time goes -------------------------------------------------------------------------------------


def test_files_stand_for_modules_of_ours_and_packages_of_others() -> None:
    assert profile.module_of(str(profile.OURS / "machine" / "tls13" / "record_reader.py")) == (
        "machine/tls13/record_reader"
    )
    assert profile.module_of(str(profile.SITE_PACKAGES / "trio" / "_core" / "_run.py")) == "trio/_core"
    assert profile.module_of(str(profile.SITE_PACKAGES / "outcome" / "_impl.py")) == "outcome"
    assert profile.module_of("<attrs generated methods outcome._impl.Value>") == "outcome"
    assert profile.module_of("<string>") == "dataclasses"
    assert profile.module_of(workloads.__file__) == "the workload"
    assert profile.module_of(json.__file__.replace("__init__", "decoder")) == "decoder"


def test_a_point_goes_to_the_innermost_module_and_only_while_tasks_run() -> None:
    stacks = (
        "<module> (/p/run.py:1);unrolled_run (/p/trio/_run.py:7);send (/p/x.py:2) 3",
        "<module> (/p/run.py:1);unrolled_run (/p/trio/_run.py:7);send (/p/x.py:2);read (/p/y.py:9) 1",
        "<module> (/p/run.py:1);unrolled_run (/p/trio/_run.py:7);a strange frame 5",
        "<module> (/p/run.py:1);import_it (/p/z.py:2) 90",
    )
    assert profile.shares(stacks) == {"x": 0.75, "y": 0.25}


def test_a_profile_has_our_modules_in_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(profile, "LONG_ENOUGH", 0.5)
    monkeypatch.setattr(profile, "PROFILED", [("own", "bulk, writes of 256 KiB")])
    try:
        profile.main([str(tmp_path / "profile.json")])
    except RuntimeError as reason:
        absent(f"no profile can be taken here: {reason}")
    (taken,) = json.loads((tmp_path / "profile.json").read_text()).values()
    assert sum(taken.values()) == pytest.approx(1, abs=0.01)
    assert any(name.startswith("machine/tls13/record") for name in taken)
    assert "own: bulk" in capsys.readouterr().out


def test_the_program_that_is_profiled_ends(tmp_path: Path) -> None:
    counting.make_certificates(tmp_path)
    profile.main(["--run", "own", "ping-pong of 1 KiB", str(tmp_path), "0.01"])
