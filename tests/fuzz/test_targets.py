"""Every target over its corpus and over mutations of it; what an input costs is bounded."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .cost import cost_of
from .mutation import mutations
from .target import CORPUS
from .targets import TARGETS

ALL = pytest.mark.parametrize("name", TARGETS)


@cache
def inputs_of(name: str) -> list[bytes]:
    target = TARGETS[name]
    return [*target.seeds(), *target.corpus()]


@ALL
def test_every_input_of_the_corpus_does_what_it_may_and_costs_what_it_may(name: str) -> None:
    target = TARGETS[name]
    for data in inputs_of(name):
        cost = cost_of(target.run, data)
        allowed = target.base + target.slope * len(data)
        assert cost.lines <= allowed, f"{cost.lines} lines for {len(data)} bytes: {data.hex()}"


@ALL
def test_mutations_do_what_they_may(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(mutations(inputs_of(name)))
    def attack(data: bytes) -> None:
        target.run(data)

    attack()


@ALL
@pytest.mark.slow
def test_many_mutations_do_what_they_may(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=1000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def attack(data: st.DataObject) -> None:
        mutated = data.draw(mutations(inputs_of(name)))
        target.run(mutated)

    attack()


@ALL
def test_the_seeds_get_somewhere(name: str) -> None:
    """A target whose sound inputs are refused at once would test nothing, and nobody would notice."""
    reached = {arc for data in inputs_of(name)[:20] for arc in cost_of(TARGETS[name].run, data).arcs}
    least = {"to-openssl": 60, "tickets": 60, "credentials": 60, "anchors": 20}
    handshake = name.startswith("to-") or name.endswith("by-hand")
    assert len(reached) > least.get(name, 800 if handshake else 100)


def test_the_corpus_is_small_and_every_folder_of_it_is_a_targets() -> None:
    folders = {path.name for path in CORPUS.iterdir()}
    assert folders <= set(TARGETS)
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 400_000
    assert all(re.fullmatch("[0-9a-f]{16}", path.name) for path in files)


def test_the_command_names_its_targets_where_one_is_unknown() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "nothing"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "no such target: nothing; there are messages, " in done.stderr


def test_the_command_runs_what_is_kept_once() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--corpus", "peek"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["peek", str(len(inputs_of("peek")))]
