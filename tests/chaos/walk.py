"""The random walk: a hypothesis state machine that does anything, in any order, and cancels it anywhere."""

from __future__ import annotations

import os
from collections import Counter
from typing import ClassVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from trio_tls.testing import CancelMode

from ..support import CROSSED, MACHINES, TIERS
from .operations import QUESTIONS
from .running import Interruption, Setting
from .world import World

__all__ = ["ALL_TIERS", "Walk", "given_seed", "walk"]

#: Every tier, and what is entered there also without being entered.
ALL_TIERS = tuple(dict.fromkeys([*TIERS, *(tier.replace("4", "5") for tier in TIERS)]))

ENDS = st.sampled_from(("client", "server"))

#: Around what matters: nothing, one byte, a record and its neighbours, more than a socket takes.
SIZES = st.sampled_from((0, 1, 2, 100, 5000, 16383, 16384, 16385, 40_000, 200_000))

#: Most operations have few steps; a handshake, or a send to a slow reader, has more.
STEPS = st.sampled_from((1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 8, 12))

INTERRUPTIONS = st.one_of(
    st.builds(Interruption, instead=st.booleans()),
    st.builds(
        Interruption,
        instead=st.booleans(),
        step=STEPS,
        mode=st.sampled_from((CancelMode.BLOCKED, CancelMode.WAKING, CancelMode.ALREADY)),
    ),
    st.builds(Interruption, instead=st.booleans(), timeout=st.sampled_from((0, 0.1, 3))),
)


class Walk(RuleBasedStateMachine):
    """One connection, and what befalls it. Subclasses narrow what it is made of."""

    tiers: ClassVar[tuple[str, ...]] = ALL_TIERS
    machines: ClassVar[tuple[str, ...]] = (*MACHINES, *CROSSED)
    tally: ClassVar[Counter[str]] = Counter()
    world: World | None = None

    @initialize(data=st.data())
    def connect(self, data: st.DataObject) -> None:
        tier = data.draw(st.sampled_from(self.tiers), "tier")
        self.world = World(
            Setting(
                machines=data.draw(st.sampled_from(self.machines), "machines"),
                tier=tier,
                pieces=data.draw(st.sampled_from((None, None, 300, 7000)), "pieces") if tier[0] in "45" else None,
                buffer=data.draw(st.sampled_from((None, 1)), "buffer"),
                lenient=data.draw(st.sampled_from((False, False, True)), "lenient"),
            ),
            self.tally,
        )
        self.tally["walks"] += 1
        if data.draw(st.sampled_from((True, True, False)), "connected"):
            self.shake_both_hands()
            self.settle()

    @property
    def _world(self) -> World:
        assert self.world is not None, "a rule runs after connect()"
        return self.world

    def _start(self, end: str, operation: str, when: Interruption, size: int = 0) -> None:
        self._world.start(end, operation, size, when)

    # -- rules: one for each operation, so that hypothesis also tries to do without some of them -----------------------

    @rule(end=ENDS, when=INTERRUPTIONS)
    def shake_hands(self, end: str, when: Interruption) -> None:
        self._start(end, "do_handshake", when)

    @rule()
    def shake_both_hands(self) -> None:
        for end in ("client", "server"):
            self._start(end, "do_handshake", Interruption())

    @rule(end=ENDS, size=SIZES, when=INTERRUPTIONS, how=st.sampled_from(("send_all", "send_some", "resumable_send")))
    def send(self, end: str, size: int, when: Interruption, how: str) -> None:
        self._start(end, how, when, size)

    @rule(end=ENDS, size=SIZES)
    def send_now(self, end: str, size: int) -> None:
        self._start(end, "send_nowait", Interruption(), size)

    @rule(end=ENDS, when=INTERRUPTIONS, how=st.sampled_from(("flush", "wait_send_all_might_not_block")))
    def let_out(self, end: str, when: Interruption, how: str) -> None:
        self._start(end, how, when)

    @rule(end=ENDS, when=INTERRUPTIONS, request=st.integers(0, 1))
    def update_keys(self, end: str, when: Interruption, request: int) -> None:
        self._start(end, "update_keys", when, request)

    @rule(end=ENDS, size=SIZES, when=INTERRUPTIONS, how=st.sampled_from(("receive_some", "receive_some_into")))
    def receive(self, end: str, size: int, when: Interruption, how: str) -> None:
        self._start(end, how, when, size)

    @rule(end=ENDS, size=SIZES)
    def receive_now(self, end: str, size: int) -> None:
        self._start(end, "receive_nowait", Interruption(), size)

    @rule(end=ENDS, size=SIZES, when=INTERRUPTIONS)
    def receive_on(self, end: str, size: int, when: Interruption) -> None:
        self._start(end, "receive_on", when, size)

    @rule()
    def both_receive_on(self) -> None:
        """What was accepted has to arrive now, whatever became of who sent it."""
        for end in ("client", "server"):
            self._start(end, "receive_on", Interruption())
        self.settle()

    @rule(end=ENDS, question=st.sampled_from(sorted(QUESTIONS)))
    def ask(self, end: str, question: str) -> None:
        self._world.ask(end, question)

    @rule(end=ENDS, when=INTERRUPTIONS, sure=st.integers(0, 3))
    def half_close(self, end: str, when: Interruption, sure: int) -> None:
        if not sure:
            self._start(end, "send_eof", when)

    @rule(end=ENDS, when=INTERRUPTIONS, sure=st.integers(0, 3))
    def unwrap(self, end: str, when: Interruption, sure: int) -> None:
        if not sure:
            self._start(end, "unwrap", when)

    @rule(end=ENDS, when=INTERRUPTIONS, sure=st.integers(0, 7), how=st.sampled_from(("aclose", "aclose_forcefully")))
    def close(self, end: str, when: Interruption, sure: int, how: str) -> None:
        if not sure:
            self._start(end, how, when)

    @precondition(lambda self: self.world is not None and self.world.running)
    @rule(index=st.integers(0, 9))
    def cancel(self, index: int) -> None:
        self._world.cancel(index)

    @rule(steps=st.integers(1, 5))
    def let_run(self, steps: int) -> None:
        self._world.let_run(steps)

    @rule(seconds=st.sampled_from((0.05, 1, 5)))
    def pass_time(self, seconds: float) -> None:
        self._world.pass_time(seconds)

    @rule()
    def settle(self) -> None:
        self._world.settle()

    def teardown(self) -> None:
        if self.world is not None:
            self.world.finish()


def given_seed() -> int | None:
    """``CHAOS_SEED`` of the environment, to walk there again."""
    given = os.environ.get("CHAOS_SEED")
    return None if given is None else int(given)


def walk(
    examples: int,
    *,
    steps: int = 30,
    number: int | None = None,
    tiers: tuple[str, ...] = ALL_TIERS,
    machines: tuple[str, ...] = (*MACHINES, *CROSSED),
    shrink: bool = True,
) -> Counter[str]:
    """Walk so many times; how often what happened.

    Args:
      steps: of each walk, at most.
      number: the seed; None: `given_seed`, or else always the same. A failure tells it, and it leads there again.
      shrink: a failure, to the shortest walk that has it.
    """
    if number is None:
        number = given_seed() or 0
    tally: Counter[str] = Counter()
    narrowed = seed(number)(type("Walk", (Walk,), {"tiers": tiers, "machines": machines, "tally": tally}))
    try:
        run_state_machine_as_test(
            narrowed,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                print_blob=True,
                report_multiple_bugs=False,
                phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
                suppress_health_check=list(HealthCheck),
            ),
        )
    except BaseException:
        print(f"to walk there again: CHAOS_SEED={number} (examples={examples}, steps={steps}, {tiers=}, {machines=})")
        raise
    return tally
