"""What a machine asks the application may be cancelled too: the need stays open, and whoever calls next asks again.

The ``ssl`` machine has no needs, so a scripted one raises them here. Our own machine's: `test_needs_of_tls13`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from trio_tls import Alert, TLSError, TLSStream
from trio_tls.machine.interface import (
    Need,
    NeedCredential,
    NeedServerConfig,
    NeedSession,
    NeedSignature,
    NeedVerification,
)
from trio_tls.testing import CancelMode, Interrupter, sweep

from ..support import pattern
from .connections import ROLES, expect
from .scripted import ScriptedConfig

Resolve = Callable[[Need], Awaitable[object]]

KINDS: dict[str, Callable[[Resolve], Need]] = {
    "Need": Need,
    "NeedServerConfig": lambda resolve: NeedServerConfig(resolve, client_hello=b"ClientHello"),
    "NeedCredential": lambda resolve: NeedCredential(resolve, server_name="a.example", signature_schemes=(0x0403,)),
    "NeedSignature": lambda resolve: NeedSignature(resolve, scheme=0x0403, message=b"sign this"),
    "NeedVerification": lambda resolve: NeedVerification(resolve, chain=(), server_name="a.example", staple=None),
    "NeedSession": lambda resolve: NeedSession(resolve, ticket=b"ticket"),
}


class Application:
    """Answers needs after a while, with numbers. It has one thing at a time on its mind, and says if it gets two."""

    def __init__(self) -> None:
        self.asked = 0
        self._thinking = False

    async def resolve(self, need: Need) -> object:
        assert not self._thinking, "two tasks answer at once"
        assert not need.settled
        self.asked += 1
        self._thinking = True
        try:
            for _ in range(3):
                await trio.sleep(1)
        finally:
            self._thinking = False
        return type(need).__name__


@asynccontextmanager
async def scripted_pair(
    role: str, *needs: Need
) -> AsyncIterator[tuple[TLSStream[Any], TLSStream[Any], ScriptedConfig]]:
    """The end that has the needs, its peer, and the config that tells what came of them."""
    config = ScriptedConfig(needs)
    ours, theirs = trio.testing.memory_stream_pair()
    subject = TLSStream(ours, config, server_side=role == "server")
    peer = TLSStream(theirs, ScriptedConfig(), server_side=role == "client")
    with trio.fail_after(600):
        async with subject, peer:
            yield subject, peer, config


async def converse(subject: TLSStream[Any], peer: TLSStream[Any]) -> None:
    there, back = pattern(6_000), pattern(5_000, seed=4_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subject.send_all, there)
        nursery.start_soon(peer.send_all, back)
        nursery.start_soon(expect, peer, there)
        nursery.start_soon(expect, subject, back)


@pytest.mark.parametrize("mode", list(CancelMode))
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_handshake_completes_wherever_the_answer_to_a_need_is_cancelled(
    kind: str, role: str, mode: CancelMode, autojump_clock: trio.testing.MockClock
) -> None:
    async def scenario(interrupter: Interrupter) -> None:
        application = Application()
        needs = (KINDS[kind](application.resolve), KINDS[kind](application.resolve))
        async with scripted_pair(role, *needs) as (subject, peer, config):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(peer.do_handshake)
                await interrupter.call(subject.do_handshake)
            assert config.answers == [kind, kind]
            await converse(subject, peer)

    report = await sweep(scenario, mode)
    assert report.cancelled > 0
    assert report.last_step > 6  # three for each answer, and the flights


async def test_a_cancelled_answer_leaves_the_need_open_and_it_is_asked_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    application = Application()
    need = Need(application.resolve)
    async with scripted_pair("client", need) as (subject, peer, config), trio.open_nursery() as nursery:
        nursery.start_soon(peer.do_handshake)
        with trio.move_on_after(1.5) as scope:
            await subject.do_handshake()
        assert scope.cancelled_caught
        assert not need.settled
        assert subject.want is None
        await subject.do_handshake()
        assert application.asked == 2
        assert config.answers == ["Need"]


async def test_the_open_need_is_what_the_stream_wants(autojump_clock: trio.testing.MockClock) -> None:
    need = Need(Application().resolve)
    async with scripted_pair("server", need) as (subject, peer, _), trio.open_nursery() as nursery:
        nursery.start_soon(peer.do_handshake)
        nursery.start_soon(subject.do_handshake)
        await trio.sleep(1.5)
        assert subject.want is need


@pytest.mark.parametrize("mode", [CancelMode.BLOCKED, CancelMode.WAKING])
@pytest.mark.parametrize("role", ROLES)
async def test_another_waiter_takes_over_the_answer_when_the_first_is_cancelled(
    role: str, mode: CancelMode, autojump_clock: trio.testing.MockClock
) -> None:
    async def scenario(interrupter: Interrupter) -> None:
        application = Application()
        async with scripted_pair(role, Need(application.resolve)) as (subject, peer, config):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(interrupter.attempt, subject.do_handshake)
                await trio.lowlevel.checkpoint()
                nursery.start_soon(subject.do_handshake)
                nursery.start_soon(peer.do_handshake)
            assert config.answers == ["Need"]
            await converse(subject, peer)

    report = await sweep(scenario, mode)
    assert report.last_step > 3


@pytest.mark.parametrize("role", ROLES)
async def test_an_exception_in_the_answer_fails_the_handshake_for_every_waiter(
    role: str, autojump_clock: trio.testing.MockClock
) -> None:
    failure = LookupError("no such certificate")

    async def resolve(need: Need) -> object:
        await trio.sleep(1)
        raise failure

    need = Need(resolve)
    errors: list[TLSError] = []
    async with scripted_pair(role, need) as (subject, peer, _):

        async def wait(stream: TLSStream[Any]) -> None:
            with pytest.raises(TLSError) as caught:
                await stream.do_handshake()
            errors.append(caught.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, peer)  # the alert reaches it
            for _ in range(2):
                nursery.start_soon(wait, subject)
        await wait(subject)  # sticky
    assert need.error is failure
    ours = [error for error in errors if error.alert is Alert.internal_error]
    assert [error.__cause__ for error in ours] == [failure] * 3
    assert len(errors) == 4


async def test_closing_the_stream_ends_the_answer(autojump_clock: trio.testing.MockClock) -> None:
    need = Need(Application().resolve)
    async with scripted_pair("server", need) as (subject, peer, _), trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await subject.do_handshake()

        async def peer_wait() -> None:
            with pytest.raises(TLSError):
                await peer.do_handshake()

        nursery.start_soon(peer_wait)
        nursery.start_soon(wait)
        await trio.sleep(1.5)
        await subject.aclose()
    assert not need.settled
