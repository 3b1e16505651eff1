"""trio_tls.testing: the chaos transport does what it says and loses nothing; the sweep cancels where it says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from trio_tls import TLSStream
from trio_tls.testing import CancelMode, Chaos, ChaosStream, CountedChaosStream, Interrupter, SweepReport, sweep

from .support import HOST, ForeignStream, Machines, pattern, receive_exactly, socket_pair, tls_pair

KINDS = (ChaosStream, CountedChaosStream)
DATA = pattern(300)


def chaos_pair(
    kind: type[ChaosStream] = ChaosStream, *, send: Chaos | None = None, receive: Chaos | None = None, seed: int = 0
) -> tuple[ChaosStream, trio.StapledStream[Any, Any]]:
    """A stream with chaos, and its peer without."""
    ours, theirs = trio.testing.memory_stream_pair()
    return kind(ours, send=send, receive=receive, seed=seed), theirs


async def pieces_of(stream: trio.abc.ReceiveStream, count: int) -> list[bytes]:
    pieces: list[bytes] = []
    while sum(map(len, pieces)) < count:
        pieces.append(bytes(await stream.receive_some()))
    return pieces


# -- chaos -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_without_chaos_it_is_a_stream_like_any_other(kind: type[ChaosStream]) -> None:
    async def make() -> tuple[ChaosStream, ChaosStream]:
        a, b = trio.testing.memory_stream_pair()
        return kind(a), kind(b)

    await trio.testing.check_two_way_stream(make, None)


async def test_received_bytes_come_in_pieces() -> None:
    stream, peer = chaos_pair(receive=Chaos(split=7))
    await peer.send_all(DATA)
    pieces = await pieces_of(stream, len(DATA))
    assert b"".join(pieces) == DATA
    assert {len(piece) for piece in pieces[:-1]} == {7}


@pytest.mark.parametrize("kind", KINDS)
async def test_sent_bytes_leave_in_pieces(kind: type[ChaosStream]) -> None:
    stream, peer = chaos_pair(kind, send=Chaos(split=1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, DATA[:20])
        pieces = await pieces_of(peer, 20)
    assert b"".join(pieces) == DATA[:20]
    assert len(pieces) > 5


async def test_partial_pieces_are_random_by_the_seed() -> None:
    async def lengths(seed: int) -> list[int]:
        stream, peer = chaos_pair(receive=Chaos(partial=True, split=50), seed=seed)
        await peer.send_all(DATA)
        return [len(piece) for piece in await pieces_of(stream, len(DATA))]

    assert await lengths(1) == await lengths(1)
    assert await lengths(1) != await lengths(2)


async def test_each_piece_is_delayed(autojump_clock: trio.testing.MockClock) -> None:
    stream, peer = chaos_pair(receive=Chaos(delay=2, split=100))
    await peer.send_all(DATA)
    started = trio.current_time()
    await pieces_of(stream, len(DATA))
    assert trio.current_time() - started == pytest.approx(6)


async def test_a_random_delay_stays_between_its_bounds(autojump_clock: trio.testing.MockClock) -> None:
    stream, peer = chaos_pair(CountedChaosStream, send=Chaos(delay=(1, 3), split=30))
    started = trio.current_time()
    await stream.send_all(DATA)
    assert 10 < trio.current_time() - started < 30
    assert await receive_exactly(peer, len(DATA)) == DATA


async def test_what_comes_within_a_time_is_gathered_into_one(autojump_clock: trio.testing.MockClock) -> None:
    stream, peer = chaos_pair(receive=Chaos(coalesce_for=10))

    async def send() -> None:
        for start in range(0, 300, 30):
            await peer.send_all(DATA[start : start + 30])
            await trio.sleep(2.5)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert len(await stream.receive_some()) >= 4 * 30


async def test_bytes_are_gathered_until_there_are_enough_or_the_end_comes() -> None:
    stream, peer = chaos_pair(receive=Chaos(coalesce=200))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.testing.wait_all_tasks_blocked)
        for start in range(0, 300, 30):
            await peer.send_all(DATA[start : start + 30])
        await peer.aclose()
    first = await stream.receive_some(200)
    assert first == DATA[:200]
    assert await stream.receive_some() == DATA[200:]
    assert await stream.receive_some() == b""


@pytest.mark.parametrize("kind", KINDS)
async def test_a_sender_stalls_at_its_byte_until_it_is_released(kind: type[ChaosStream]) -> None:
    stream, peer = chaos_pair(kind, send=Chaos(stall_at=100))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, DATA)
        await stream.sending.stalled.wait()
        assert stream.sending.position == 100
        assert await receive_exactly(peer, 100) == DATA[:100]
        stream.sending.release()
        assert await receive_exactly(peer, 200) == DATA[100:]


async def test_a_receiver_stalls_at_its_byte_until_it_is_released() -> None:
    stream, peer = chaos_pair(receive=Chaos(stall_at=100))
    await peer.send_all(DATA)
    assert await stream.receive_some() == DATA[:100]
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def release() -> None:
            await stream.receiving.stalled.wait()
            stream.receiving.release()

        assert await stream.receive_some() == DATA[100:]


@pytest.mark.parametrize("kind", KINDS)
async def test_closing_wakes_who_stalls(kind: type[ChaosStream]) -> None:
    stream, _ = chaos_pair(kind, send=Chaos(stall_at=0), receive=Chaos(stall_at=0))

    async def fails(operation: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await operation()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails, partial(stream.send_all, DATA))
        nursery.start_soon(fails, stream.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_reset_breaks_each_direction_at_its_byte(kind: type[ChaosStream]) -> None:
    stream, peer = chaos_pair(kind, send=Chaos(reset_at=10), receive=Chaos(reset_at=20))
    await peer.send_all(DATA)
    assert await receive_exactly(stream, 20) == DATA[:20]
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError, match="at byte 20"):
            await stream.receive_some()
        with pytest.raises(trio.BrokenResourceError, match="at byte 10"):
            await stream.send_all(DATA)
    assert await receive_exactly(peer, 10) == DATA[:10]


@pytest.mark.parametrize("offset", [0, 10, 300])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_peer_sees_the_end_at_its_byte_and_the_sender_is_not_told(kind: type[ChaosStream], offset: int) -> None:
    stream, peer = chaos_pair(kind, send=Chaos(eof_at=offset))
    await stream.send_all(DATA)
    await stream.send_all(b"and more")
    assert await receive_exactly(peer, 1000) == DATA[:offset]


async def test_a_receiver_sees_the_end_at_its_byte() -> None:
    stream, peer = chaos_pair(receive=Chaos(eof_at=10))
    await peer.send_all(DATA)
    assert await receive_exactly(stream, 1000) == DATA[:10]
    assert await stream.receive_some() == b""


@pytest.mark.parametrize(("bit", "expected"), [(0, b"\x80\0\0"), (7, b"\x01\0\0"), (9, b"\0\x40\0"), (23, b"\0\0\x01")])
@pytest.mark.parametrize("split", [None, 1])
@pytest.mark.parametrize("kind", KINDS)
async def test_one_bit_is_flipped_in_either_direction(
    kind: type[ChaosStream], split: int | None, bit: int, expected: bytes
) -> None:
    chaos = Chaos(flip_bit=bit, split=split)
    stream, peer = chaos_pair(kind, send=chaos, receive=chaos)
    await stream.send_all(bytes(3))
    assert await receive_exactly(peer, 3) == expected
    await peer.send_all(bytes(3))
    assert await receive_exactly(stream, 3) == expected


async def test_chaos_may_be_exchanged_on_the_way() -> None:
    stream, peer = chaos_pair(receive=Chaos(split=1))
    await peer.send_all(DATA)
    assert await stream.receive_some() == DATA[:1]
    stream.receiving.chaos = Chaos()
    assert await stream.receive_some() == DATA[1:]


@pytest.mark.parametrize(
    "wrong",
    [
        {"delay": -1},
        {"delay": (3, 2)},
        {"split": 0},
        {"coalesce": 0},
        {"coalesce_for": -1.0},
        {"stall_at": -1},
        {"reset_at": -1},
        {"eof_at": -1},
        {"flip_bit": -1},
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Chaos(**wrong)


async def test_what_cannot_work_is_refused_at_once() -> None:
    ours, _ = trio.testing.memory_stream_pair()
    with pytest.raises(ValueError, match="only a receiver can gather"):
        ChaosStream(ours, send=Chaos(coalesce=2))
    with pytest.raises(ValueError, match="send_eof"):
        ChaosStream(ForeignStream(ours), send=Chaos(eof_at=2))
    with pytest.raises(TypeError, match="use ChaosStream"):
        CountedChaosStream(ForeignStream(ours))
    with pytest.raises(ValueError, match="max_bytes"):
        await ChaosStream(ours).receive_some(0)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_second_task_is_told_that_the_stream_is_busy(kind: type[ChaosStream]) -> None:
    stream, _ = chaos_pair(kind, send=Chaos(stall_at=0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, DATA)
        nursery.start_soon(stream.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await stream.send_all(DATA)
        with pytest.raises(trio.BusyResourceError):
            await stream.receive_some()
        nursery.cancel_scope.cancel()


ANY_CHAOS = (
    Chaos(),
    Chaos(split=1),
    Chaos(split=20, delay=0.1),
    Chaos(partial=True),
    Chaos(coalesce=50, coalesce_for=1),
)


@pytest.mark.parametrize("mode", list(CancelMode))
@pytest.mark.parametrize("chaos", ANY_CHAOS)
async def test_a_cancelled_receive_loses_nothing(
    chaos: Chaos, mode: CancelMode, autojump_clock: trio.testing.MockClock
) -> None:
    data = DATA[:60]

    async def scenario(interrupter: Interrupter) -> None:
        stream, peer = chaos_pair(receive=chaos)

        async def send() -> None:
            for start in range(0, len(data), 15):
                await peer.send_all(data[start : start + 15])
                await trio.sleep(0.2)
            await peer.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            received = b""
            while part := await interrupter.call(stream.receive_some):
                received += part
        assert received == data

    assert (await sweep(scenario, mode)).cancelled > 0


async def _memory() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    return trio.testing.memory_stream_pair()


async def _sockets() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    return socket_pair(buffer=1)


@pytest.mark.parametrize("mode", list(CancelMode))
@pytest.mark.parametrize("chaos", [Chaos(), Chaos(split=3_000), Chaos(partial=True)])
@pytest.mark.parametrize("make", [_memory, _sockets])
async def test_a_counted_send_returns_the_count_or_has_sent_nothing(
    make: Callable[[], Awaitable[tuple[trio.abc.Stream, trio.abc.Stream]]], chaos: Chaos, mode: CancelMode
) -> None:
    data = pattern(20_000)

    async def scenario(interrupter: Interrupter) -> None:
        ours, theirs = await make()
        received = b""

        async def receive() -> None:
            nonlocal received
            received = await receive_exactly(theirs, len(data))

        async with CountedChaosStream(ours, send=chaos) as stream, theirs:
            with trio.fail_after(20):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(receive)
                    position = 0
                    while position < len(data):
                        position += await interrupter.call(partial(stream.send_some, data[position:]))
        assert received == data

    assert (await sweep(scenario, mode, steps=(1, 2, 3, 4, 5, 7, 11, 17))).last_step > 0


async def test_a_counted_stream_sends_through_a_tls_stream_and_flushes_what_it_queued(machines: Machines) -> None:
    data = pattern(30_000)
    async with tls_pair(machines, buffer=1) as (client, server):
        stream = CountedChaosStream(client)
        interrupter = Interrupter(CancelMode.BLOCKED, 2)  # the first step comes before anything is accepted
        count = 0

        async def send() -> None:
            nonlocal count
            count = await stream.send_some(data)

        await interrupter.attempt(send)
        assert interrupter.fired
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.flush)
            assert await receive_exactly(server, count) == data[:count]
        assert count


async def test_flush_on_a_stream_that_queues_nothing_is_a_checkpoint() -> None:
    stream, _ = chaos_pair(CountedChaosStream)
    assert isinstance(stream, CountedChaosStream)
    with trio.testing.assert_checkpoints():
        await stream.flush()
    with trio.testing.assert_checkpoints():
        assert await stream.send_some(b"") == 0


async def test_a_reset_socket_breaks_the_counted_stream() -> None:
    ours, theirs = socket_pair()
    async with CountedChaosStream(ours) as stream:
        await theirs.aclose()
        with pytest.raises(trio.BrokenResourceError, match="socket connection broken"):
            await stream.send_all(DATA)


@pytest.mark.parametrize("kind", KINDS)
async def test_tls_gets_through_chaos(
    kind: type[ChaosStream], machines: Machines, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    chaos = Chaos(partial=True, split=400, delay=(0, 1))
    client = TLSStream(kind(ours, send=chaos, receive=chaos), machines.client, server_hostname=HOST)
    server = TLSStream(theirs, machines.server, server_side=True)
    async with client, server, trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, DATA)
        assert await receive_exactly(server, len(DATA)) == DATA


# -- the sweep ---------------------------------------------------------------------------------------------------


def three_steps(log: list[str]) -> Callable[[], Awaitable[str]]:
    """An operation that sleeps three times, and says what becomes of each call."""

    async def operation() -> str:
        try:
            for _ in range(3):
                await trio.sleep(1)
        except trio.Cancelled:
            log.append("cancelled")
            raise
        log.append("completed")
        return "result"

    return operation


@pytest.mark.parametrize("mode", [CancelMode.BLOCKED, CancelMode.WAKING])
async def test_each_step_is_cancelled_once(mode: CancelMode, autojump_clock: trio.testing.MockClock) -> None:
    times: list[float] = []

    async def scenario(interrupter: Interrupter) -> None:
        log: list[str] = []
        started = trio.current_time()
        assert await interrupter.call(three_steps(log)) == "result"
        times.append(trio.current_time() - started)
        assert log[-1] == "completed"

    report = await sweep(scenario, mode)
    # cancelled while blocked, the k-th sleep has only begun; cancelled while waking up, it is over
    assert times == ([0 + 3, 1 + 3, 2 + 3, 3] if mode is CancelMode.BLOCKED else [1 + 3, 2 + 3, 3 + 3, 3])
    assert report == SweepReport(mode, runs=4, last_step=3, calls=7, cancelled=3)


async def test_already_cancelled_is_cancelled_once_for_each_call(autojump_clock: trio.testing.MockClock) -> None:
    log: list[str] = []

    async def scenario(interrupter: Interrupter) -> None:
        await interrupter.call(three_steps(log))
        await interrupter.call(three_steps(log))

    report = await sweep(scenario, CancelMode.ALREADY)
    assert log == ["cancelled", "completed"] * 2
    assert (report.runs, report.calls, report.cancelled) == (1, 4, 2)


async def test_a_storm_cancels_every_call_one_step_later(autojump_clock: trio.testing.MockClock) -> None:
    log: list[str] = []

    async def scenario(interrupter: Interrupter) -> None:
        started = trio.current_time()
        await interrupter.call(three_steps(log))
        assert trio.current_time() - started == 0 + 1 + 2 + 3

    report = await sweep(scenario, CancelMode.STORM)
    assert log == ["cancelled"] * 3 + ["completed"]
    assert (report.runs, report.calls, report.cancelled) == (1, 4, 3)


async def test_the_steps_of_child_tasks_count_and_those_of_strangers_do_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def operation() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
            nursery.start_soon(trio.sleep, 2)

    async def stranger() -> None:
        for _ in range(50):
            await trio.sleep(0.01)

    interrupter = Interrupter(CancelMode.BLOCKED, 1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stranger)
        await interrupter.call(operation)
    # the operation falls asleep in its nursery and is woken once (by the last child); each child sleeps and ends
    assert interrupter.steps == 1 + 2 + 2
    assert not interrupter.fired


async def test_an_operation_that_never_yields_is_never_cancelled() -> None:
    async def operation() -> int:
        return 7

    async def scenario(interrupter: Interrupter) -> None:
        assert await interrupter.call(operation) == 7

    for mode in (CancelMode.BLOCKED, CancelMode.WAKING, CancelMode.STORM):
        report = await sweep(scenario, mode)
        assert (report.runs, report.cancelled, report.last_step) == (1, 0, 0)


async def test_a_step_that_cannot_be_cancelled_does_not_end_the_sweep() -> None:
    async def operation() -> None:
        await trio.lowlevel.cancel_shielded_checkpoint()
        await trio.lowlevel.cancel_shielded_checkpoint()
        await trio.lowlevel.checkpoint()

    report = await sweep(lambda interrupter: interrupter.call(operation), CancelMode.BLOCKED)
    assert report.last_step == 3
    assert report.cancelled == 3


async def test_an_attempt_is_not_repeated(autojump_clock: trio.testing.MockClock) -> None:
    log: list[str] = []
    interrupter = Interrupter(CancelMode.BLOCKED, 2)
    assert not await interrupter.attempt(three_steps(log))
    assert await interrupter.attempt(three_steps(log))
    assert log == ["cancelled", "completed"]


async def test_others_run_before_an_operation_is_called_again() -> None:
    events: list[str] = []

    async def operation() -> None:
        events.append("call")
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()

    async def peer() -> None:
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        events.append("peer")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer)
        await Interrupter(CancelMode.BLOCKED).call(operation)
    assert events == ["call", "peer", "call"]


async def test_exceptions_of_the_operation_and_cancels_from_outside_rise_as_they_are() -> None:
    async def fails() -> None:
        raise KeyError("mine")

    for mode in CancelMode:
        with pytest.raises(KeyError, match="mine"):
            await Interrupter(mode).call(fails)
    with trio.CancelScope() as scope:
        scope.cancel()
        await Interrupter(CancelMode.BLOCKED, 5).call(trio.sleep_forever)
    assert scope.cancelled_caught


async def test_chosen_steps_are_tried_until_one_is_missing(autojump_clock: trio.testing.MockClock) -> None:
    tried: list[int] = []

    async def scenario(interrupter: Interrupter) -> None:
        tried.append(interrupter.step)
        await interrupter.call(three_steps([]))

    report = await sweep(scenario, CancelMode.BLOCKED, steps=(1, 3, 9, 27))
    assert tried == [1, 3, 9]
    assert report.last_step == 3


async def test_a_scenario_that_calls_nothing_proves_nothing() -> None:
    async def scenario(interrupter: Interrupter) -> None:
        pass

    with pytest.raises(ValueError, match="never used"):
        await sweep(scenario, CancelMode.BLOCKED)
    with pytest.raises(ValueError, match="from 1"):
        Interrupter(CancelMode.BLOCKED, 0)
