"""A world of its own for each example: one connection, in a trio that stands still between the steps.

How this works. Hypothesis is synchronous and decides the next step only when it has seen the last one. So trio runs
in a thread of its own, and its main task, the director, takes commands from a queue *without* awaiting: while it
waits for one, no task runs and no time passes. A command starts an operation in a task of its own, cancels one, lets
the others go on until nothing moves (`World.settle`), or lets time pass; the clock is a `trio.testing.MockClock` that
jumps, so no test waits, and who hangs is found at once.

After each command both ends are compared with the model (`tests.chaos.model`); when nothing moves any more, so is
what the operations wait for: who waits for something that is there hangs.
"""

from __future__ import annotations

import queue
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import trio
import trio.testing

from trio_tls import TLSStream
from trio_tls.testing import Chaos, ChaosStream

from ..support import HOST, machines_named, transport_pair
from .model import End, Link, Traits, Violation
from .operations import OPERATIONS, QUESTIONS, Party
from .running import UNDISTURBED, Interruption, Running, Setting

__all__ = ["World"]

T = TypeVar("T")

#: Real seconds after which a world counts as stuck in a loop that never yields.
PATIENCE = 60

#: Virtual seconds in which anything that still can has come to its end; every grace period is shorter.
LONG = 1000


class World:
    """One connection, its operations, and what is wrong with them.

    Args:
      setting: what it is made of.
      tally: counts what happens, by name; worlds may share one.
    """

    def __init__(self, setting: Setting, tally: Counter[str] | None = None) -> None:
        self.setting = setting
        self.tally: Counter[str] = Counter() if tally is None else tally
        self.parties: dict[str, Party] = {}
        self.running: list[Running] = []
        self.findings: list[Exception] = []
        self.link = Link(setting.tier, setting.lenient)
        self._commands: queue.SimpleQueue[Callable[[], Awaitable[Any]] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="chaos", daemon=True)
        self._thread.start()
        try:
            self._answer()
        except BaseException:  # there is no world to be abandoned
            self._thread.join(PATIENCE)
            raise

    # -- what a test does with it ----------------------------------------------------------------------------------

    def start(self, name: str, operation: str, size: int = 0, interruption: Interruption = UNDISTURBED) -> None:
        """Begin an operation at one end."""
        self._command(lambda: self._start(name, operation, size, interruption))

    def ask(self, name: str, question: str) -> None:
        """Ask one end what can be asked at any time."""
        self._command(lambda: self._ask(self.parties[name], question))

    def cancel(self, index: int) -> None:
        """Cancel one of the operations that run."""
        self._command(lambda: self._cancel(index))

    def let_run(self, steps: int) -> None:
        """Let every task that can go on do so, so many times."""
        self._command(lambda: self._let_run(steps))

    def pass_time(self, seconds: float) -> None:
        """Let virtual time pass."""

        async def sleep() -> None:
            await trio.sleep(seconds)

        self._command(sleep)

    def settle(self) -> None:
        """Let everything go on until nothing moves, and look who waits in vain."""
        self._command(self._settle)

    def finish(self) -> None:
        """Cancel what runs, and see that what is left can be completed with every byte in its place; then close."""
        try:
            self._command(self._finish)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """End the world, as it is.

        Raises:
          Violation: it does not come to an end, or not in peace.
        """
        if self._thread.is_alive():
            self._commands.put(None)
            self._thread.join(PATIENCE)
            if self._thread.is_alive():
                raise Violation("the streams cannot be left")
        if not self._answers.empty():
            _, error = self._answers.get()
            raise Violation(f"leaving the streams has raised {error!r}") from error

    # -- the thread ------------------------------------------------------------------------------------------------

    def _command(self, act: Callable[[], Awaitable[T]]) -> T:
        if not self._thread.is_alive():
            raise Violation("the world has ended")
        self._commands.put(act)
        answer: T = self._answer()
        return answer

    def _answer(self) -> Any:
        try:
            value, error = self._answers.get(timeout=PATIENCE)
        except queue.Empty:
            raise Violation(f"nothing has yielded for {PATIENCE} real seconds; running: {self._names()}") from None
        if error is not None:
            raise error
        return value

    def _run(self) -> None:
        try:
            trio.run(self._live, clock=trio.testing.MockClock(autojump_threshold=0))
        except BaseException as error:
            self._answers.put((None, error))

    async def _live(self) -> None:
        """Make the connection, then do what the commands say."""
        setting, machines = self.setting, machines_named(self.setting.machines)
        options: Any = {"https_compatible": True} if setting.lenient else {}
        async with (
            transport_pair(setting.tier, machines, buffer=setting.buffer) as transports,
            AsyncExitStack() as stack,
        ):
            below = [_in_pieces(each, setting.pieces) for each in transports]
            ends = (
                TLSStream(below[0], machines.client, server_hostname=HOST, **options),
                TLSStream(below[1], machines.server, server_side=True, **options),
            )
            for name, stream, transport in zip(("client", "server"), ends, below, strict=True):
                stack.push_async_callback(trio.aclose_forcefully, transport)
                if setting.tier.startswith("4"):
                    await stack.enter_async_context(stream)
                else:
                    stack.push_async_callback(trio.aclose_forcefully, stream)
                self.parties[name] = Party(stream, End(name, self.link), machines.is_own(name))
            client, server = self.parties.values()
            client.other, server.other = server, client
            client.model.peer, server.model.peer = server.model, client.model
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._answers.put((None, None))
                await self._obey()
                nursery.cancel_scope.cancel()

    async def _obey(self) -> None:
        """Do what the commands say, until there are no more; between them nothing runs."""
        while (act := self._commands.get()) is not None:
            try:
                value = await act()
                self._compare()
                if self.findings:
                    raise self.findings[0]
            except Exception as error:
                self._answers.put((None, error))
            else:
                self._answers.put((value, None))

    # -- commands --------------------------------------------------------------------------------------------------

    async def _start(self, name: str, operation: str, size: int, interruption: Interruption) -> None:
        party, traits = self.parties[name], OPERATIONS[operation].traits
        model = party.model
        if interruption.instead:
            for other in self.running:
                if other.party is party and _share_a_side(traits, other.operation.traits):
                    other.scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
        running = Running(OPERATIONS[operation], party, size, interruption, connecting=not model.connected)
        for other in self.running:
            if other.party is party and _share_a_side(traits, other.operation.traits):
                running.rivals = True
                other.rivals |= other.operation.traits.repeats or not other.started  # trio starts them in any order
        if traits.ends:
            model.ending = True
        if traits.ends == "whole":
            model.closing = True
            self.link.doomed = self.link.doomed or str(running)
        self.running.append(running)
        self.tally["operations"] += 1
        self._nursery.start_soon(self._watch, running)

    async def _watch(self, running: Running) -> None:
        try:
            await running.run()
        except Violation as violation:
            self.findings.append(violation)
        except Exception as error:
            self.tally[type(error).__name__] += 1
            self._judge(running, error)
        else:
            self._conclude(running)
        finally:
            self.running.remove(running)
            if running.operation.traits.ends == "whole":  # a second close returns while the first may still say goodbye
                running.party.model.closed |= not self._at(running.party, "ends", "whole")

    def _judge(self, running: Running, error: Exception) -> None:
        model, traits = running.party.model, running.operation.traits
        running.party.other.sync()
        if not model.may_raise(error, traits, rivals=running.rivals):
            finding = Violation(f"{running} has raised {error!r}, which nothing that happened explains")
            finding.__cause__ = error
            self.findings.append(finding)

    def _conclude(self, running: Running) -> None:
        model, traits = running.party.model, running.operation.traits
        self.tally["completed" if running.completed else "cancelled"] += 1
        if running.completed and traits.shakes_hands and not (traits.receives and self.link.lenient):
            model.connected = True  # a lenient receive has also completed when the transport ended instead
        if (traits.sends or running.connecting) and not (running.completed and running.undisturbed):
            self.link.cancelled(str(running))  # even if it completed: send_some() tells its count instead

    async def _ask(self, party: Party, question: str) -> None:
        traits = Traits(nowait=True, raises=self._refusals(party).get(question, ()))
        try:
            QUESTIONS[question](party.stream)
        except Exception as error:
            if not party.model.may_raise(error, traits, rivals=False):
                raise Violation(f"{party.model.name}.{question} has raised {error!r}") from error

    def _refusals(self, party: Party) -> dict[str, tuple[type[Exception], ...]]:
        """What cannot be asked here, and how that is told."""
        over = party.model.ending or party.model.closing or bool(self.link.doomed)  # and then the secrets are gone
        return {
            "get_channel_binding": (ValueError,),
            "export_keying_material": (ValueError,) if over or not party.own else (),
            "context": (AttributeError,) if party.own else (),
            "selected_npn_protocol": () if party.own else (DeprecationWarning,),  # the words of `ssl`
            "verify_client_post_handshake": (ValueError,) if party.own else (ssl.SSLError,),
        }

    async def _cancel(self, index: int) -> None:
        if self.running:
            self.running[index % len(self.running)].scope.cancel()

    async def _let_run(self, steps: int) -> None:
        for _ in range(steps):
            await trio.lowlevel.checkpoint()

    async def _settle(self) -> None:
        await trio.testing.wait_all_tasks_blocked()
        self._compare()
        if waiting := self._in_vain() if not self.link.doomed else self._after_the_end():
            raise Violation(f"{waiting}; running: {self._names()}")

    async def _finish(self) -> None:
        self.tally["connected"] += all(party.stream.info for party in self.parties.values())
        self.tally["doomed"] += bool(self.link.doomed)
        for running in self.running:
            running.scope.cancel()
        await trio.sleep(LONG)  # on tier 5 a flight, on any an alert, may take its grace
        if self.running:
            raise Violation(f"cancelled, and still running: {self._names()}")
        if not self.link.doomed:
            with trio.move_on_after(LONG) as patience:
                await self._complete_both()
            self.tally["bytes"] += sum(len(party.model.received) for party in self.parties.values())
            if patience.cancelled_caught and not self.findings:
                lacking = {party.model.name: party.model.missing for party in self.parties.values()}
                raise Violation(f"the connection cannot be completed; bytes that do not come: {lacking}")

    async def _complete_both(self) -> None:
        """Let everything leave that was accepted, and arrive, while both ends read."""
        async with trio.open_nursery() as readers:
            async with trio.open_nursery() as writers:
                for party in self.parties.values():
                    readers.start_soon(self._has_to_work, self._take_the_rest, party)
                    writers.start_soon(self._has_to_work, self._complete, party)
            while not self.findings and self._lacking():  # noqa: ASYNC110  # the clock jumps
                await trio.sleep(1)
            readers.cancel_scope.cancel()

    async def _has_to_work(self, act: Callable[[Party], Awaitable[None]], party: Party) -> None:
        try:
            await act(party)
        except Violation as violation:
            self.findings.append(violation)
        except Exception as error:
            finding = Violation(f"the {party.model.name} has nothing to fear, and raises {error!r}")
            finding.__cause__ = error
            self.findings.append(finding)

    def _lacking(self) -> list[str]:
        """Who has not received everything yet, the end included."""
        models = [party.model for party in self.parties.values()]
        return [
            model.name
            for model in models
            if model.missing > 0 or (model.peer.ended and not (model.unwrapped or model.end_seen))
        ]

    async def _complete(self, party: Party) -> None:
        if party.model.unwrapped:
            return
        await party.stream.do_handshake()
        if party.model.ending:
            await party.stream.send_eof()
            party.model.ended = True
        else:
            await party.stream.flush()

    async def _take_the_rest(self, party: Party) -> None:
        while party.model.missing or not party.model.unwrapped:
            data = await party.stream.receive_some()
            party.took(data)
            if not data:
                return

    # -- the comparison --------------------------------------------------------------------------------------------

    def _compare(self) -> None:
        for party in self.parties.values():
            party.sync()
            if party.model.missing < 0:
                raise Violation(f"the {party.model.name} was given more than was sent")

    def _in_vain(self) -> str:
        """Who waits for something that is there."""
        driven = {name: self._at(party, "shakes_hands") for name, party in self.parties.items()}
        if all(driven.values()) and not all(party.stream.info for party in self.parties.values()):
            return "both ends shake hands, and do not come to an end"
        for party in self.parties.values():
            model, other = party.model, party.other
            if not (party.stream.info and other.stream.info and self._at(party, "receives")):
                continue
            if self._at(other, "sends"):
                return f"the {model.name} waits to receive, and the {other.model.name} to send"
            if self._at(other, "receives") and not self.link.uncounted and model.missing > party.stream.pending():
                return f"the {model.name} waits for {model.missing} bytes that the {other.model.name} has accepted"
        return ""

    def _after_the_end(self) -> str:
        """Who still waits for somebody that has closed. A close of its own may wait for a grace period."""
        closed = [party.model.name for party in self.parties.values() if party.model.closed]
        left = [each for each in self.running if each.operation.traits.ends != "whole"]
        return f"the {closed[0]} has closed, and {left[0]} waits" if closed and left else ""

    def _at(self, party: Party, trait: str, value: object = True) -> bool:
        return any(each.party is party and getattr(each.operation.traits, trait) == value for each in self.running)

    def _names(self) -> str:
        return ", ".join(map(str, self.running)) or "nothing"


def _share_a_side(one: Traits, other: Traits) -> bool:
    return (one.sends and other.sends) or (one.receives and other.receives)


def _in_pieces(transport: trio.abc.Stream, most: int | None) -> trio.abc.Stream:
    return transport if most is None else ChaosStream(transport, send=Chaos(split=most), receive=Chaos(split=most))
