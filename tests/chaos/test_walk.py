"""Random walks keep to the model; and a stream with a defect does not.

How this works. These walks are the same each time, so that a failure is something which a change has brought about;
``nox -s chaos`` walks where nobody has been. A failure prints its seed, and ``CHAOS_SEED`` leads there again.
The planted defects are such as this library might have had: the walk must find each of them, or it proves nothing.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import trio

from trio_tls import PeerMisbehaved, TLSStream
from trio_tls.pump import Pump, Turn

from ..support import CROSSED, MACHINES
from .model import Violation
from .operations import OPERATIONS, QUESTIONS
from .running import Interruption, Setting
from .walk import ALL_TIERS, Walk, walk
from .world import World

#: Walks until a planted defect is found, at the most; each takes some dozens.
EXAMPLES = 2000


@pytest.mark.parametrize("tier", ALL_TIERS)
def test_any_operations_in_any_order_cancelled_anywhere_keep_to_the_model(tier: str) -> None:
    tally = walk(10, tiers=(tier,))
    assert tally["walks"] >= 10


@pytest.mark.slow
@pytest.mark.parametrize("machines", [*MACHINES, *CROSSED])
def test_many_walks_on_each_pairing_of_machines_keep_to_the_model(machines: str) -> None:
    tally: Counter[str] = Counter()
    for tier in ALL_TIERS:
        tally += walk(10, steps=50, tiers=(tier,), machines=(machines,))
    assert tally["connected"] > tally["walks"] / 3
    assert tally["cancelled"] > tally["walks"]
    print(machines, dict(tally))


def test_every_public_name_of_a_stream_is_among_what_is_walked() -> None:
    walked = {*OPERATIONS, *QUESTIONS, "sender", "transport_stream"}  # `resumable_send` uses a sender
    assert {name for name in dir(TLSStream) if not name.startswith("_")} - walked == set()
    rules = inspect.getsource(Walk)
    assert [name for name in OPERATIONS if f'"{name}"' not in rules] == []


# -- planted defects -----------------------------------------------------------------------------------------------


def count_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Pump.accept_nowait

    def accept_nowait(self: Pump, data: memoryview) -> int:
        count = real(self, data)
        self.plaintext_sent += count > 1
        return count

    monkeypatch.setattr(Pump, "accept_nowait", accept_nowait)


def take_before_the_last_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    real = TLSStream.receive_some

    async def receive_some(self: TLSStream[Any], max_bytes: int | None = None) -> bytes:
        data = await real(self, max_bytes)
        await trio.lowlevel.checkpoint()
        return data

    monkeypatch.setattr(TLSStream, "receive_some", receive_some)


def send_again_after_a_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    real = TLSStream.send_all

    async def send_all(self: TLSStream[Any], data: Any) -> None:
        try:
            await real(self, data)
        except trio.Cancelled:
            self._machine.write(memoryview(data)[:1])
            raise

    monkeypatch.setattr(TLSStream, "send_all", send_all)


def forget_to_wake(monkeypatch: pytest.MonkeyPatch) -> None:
    def release(self: Turn) -> None:
        self.taken = False

    monkeypatch.setattr(Turn, "release", release)


def forget_what_is_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    async def pull_for_reader(self: Pump) -> None:
        await self.pull()

    monkeypatch.setattr(Pump, "pull_for_reader", pull_for_reader)
    monkeypatch.setattr(Pump, "hand_over", lambda self: None)


def raise_what_nobody_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    real = TLSStream.flush

    async def flush(self: TLSStream[Any]) -> None:
        await real(self)
        raise PeerMisbehaved("it did nothing wrong", hint="Nothing to do")

    monkeypatch.setattr(TLSStream, "flush", flush)


def end_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    real = TLSStream.send_eof

    async def send_eof(self: TLSStream[Any]) -> None:
        self._machine.shutdown()
        self._machine.outgoing.read()
        await real(self)

    monkeypatch.setattr(TLSStream, "send_eof", send_eof)


@pytest.mark.parametrize(
    "plant",
    [
        count_too_much,
        pytest.param(take_before_the_last_cancel, marks=pytest.mark.slow),
        send_again_after_a_cancel,
        forget_to_wake,
        pytest.param(forget_what_is_queued, marks=pytest.mark.slow),
        raise_what_nobody_promised,
        end_too_early,
    ],
)
def test_a_planted_defect_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises(Violation):
        walk(EXAMPLES, number=1, tiers=("1-socket",), machines=("own",), shrink=False)


# -- the world itself ----------------------------------------------------------------------------------------------


def test_a_failure_tells_how_to_walk_there_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raise_what_nobody_promised(monkeypatch)
    monkeypatch.setenv("CHAOS_SEED", "4711")
    told = []
    for _ in range(2):
        with pytest.raises(Violation) as caught:
            walk(40, shrink=False)
        told.append(str(caught.value))
        assert "CHAOS_SEED=4711" in capsys.readouterr().out
    assert told[0] == told[1]


def test_two_ends_that_send_and_never_receive_are_no_violation_until_one_receives() -> None:
    world = World(Setting("own", "1-socket", buffer=1))
    try:
        for name in ("client", "server"):
            world.start(name, "do_handshake")
        world.settle()
        for name in ("client", "server"):
            world.start(name, "send_all", 200_000)
        world.settle()
        assert [str(each) for each in world.running] == ["client.send_all", "server.send_all"]
        world.start("client", "receive_on", 1000, Interruption(timeout=5))
        world.settle()
        assert len(world.parties["client"].model.received) == 200_000
    finally:
        world.finish()


def test_a_second_close_is_no_violation_while_the_first_one_uses_its_grace_period() -> None:
    world = World(Setting("own", "1-socket", buffer=1))
    try:
        for name in ("client", "server"):
            world.start(name, "do_handshake")
        world.settle()
        world.start("server", "send_all", 5000)
        world.settle()
        for _ in range(2):
            world.start("server", "aclose")
        world.start("client", "send_all", 5000)
        world.settle()
        assert [str(each) for each in world.running] == ["server.aclose", "client.send_all"]
        world.pass_time(60)
        assert not world.running
    finally:
        world.finish()
