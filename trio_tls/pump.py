"""The pump: moves bytes between a TLS machine and a transport.

How this works. Every operation is the same loop: call a step of the machine, and if it has to wait for something,
*await exactly one thing*, then look again. The step is synchronous and free to repeat; the await is the only place
where a cancel can strike; and whatever an await moved was counted before anything else could run. That is
the whole of the promise that a cancelled operation can be called again.

Each direction of the transport has a `Turn`: one task at a time awaits the transport, others park until it
is done and then look again too. Nobody is in charge for longer than one await, so when the task in front
is cancelled, the next one takes over (leader hand-off), and when the machine fails, each finds out by looking.

::

      application                     the pump                              transport
                     plaintext                        ciphertext
      send_all  ───▶ machine.write ──▶ outgoing BIO ──▶ Sender.send     ───▶  peer
      receive   ◀─── machine.read  ◀── incoming BIO ◀── Receiver.receive ◀───  peer
                          │
                          └── Want.READ: await the Receiver    Want.WRITE: await the Sender
                              Need: await the application
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from .errors import TLSError
from .machine.bio import MemoryBIO
from .machine.interface import Machine, Need, Want
from .transport import Receiver, Sender
from .transport.failures import transport_error, without_frames

__all__ = ["Pump", "Turn"]

T = TypeVar("T")

#: Plaintext that may be kept for a later receive, when something had to be read past it.
STASH_LIMIT = 1024 * 1024

#: Ciphertext that is read away, at the most, while lingering after a fatal alert.
LINGER_LIMIT = 1024 * 1024


class Turn:
    """Whose turn it is to await one direction of the transport. Costs nothing while nobody else wants it."""

    __slots__ = ("_lot", "_waiting", "taken")

    def __init__(self) -> None:
        self.taken: bool = False
        self._waiting = 0
        self._lot: trio.lowlevel.ParkingLot | None = None  # made for the first that waits: most connections have none

    async def wait(self) -> None:
        """Park until the holder is done, or everybody is woken."""
        self._waiting += 1
        if self._lot is None:
            self._lot = trio.lowlevel.ParkingLot()
        try:
            await self._lot.park()
        finally:
            self._waiting -= 1

    def wake(self) -> None:
        """Let everybody who waits look again."""
        if self._lot is not None and self._waiting:
            self._lot.unpark_all()

    def release(self) -> None:
        """Give the turn up."""
        self.taken = False
        if self._lot is not None and self._waiting:
            self._lot.unpark_all()


class Pump:
    """Drives one machine over one transport, for any number of tasks."""

    def __init__(self, machine: Machine, sender: Sender, receiver: Receiver, *, grace: float) -> None:
        self.machine = machine
        self.sender = sender
        self.receiver = receiver
        receiver.rest = getattr(machine, "rest", None)
        self.grace = grace
        self.sending: Turn = Turn()
        self.receiving: Turn = Turn()
        self.answering: Turn = Turn()
        self.need: Need | None = None
        self.closing: bool = False
        self.stash: bytearray = bytearray()
        self._answer_scope: trio.CancelScope | None = None
        self.on_handshake_done: Callable[[], None] | None = None
        self.turn: Callable[[], Awaitable[None]] | None = None
        """Awaited before each step of the handshake that has something to work on: how a server paces them."""
        self.plaintext_sent: int = 0
        self._last_flight_end: int | None = None
        self._plaintext_end = 0
        self._alert_deadline: float | None = None
        self._send_failure: TLSError | None = None
        self._receive_failure: TLSError | None = None
        self.reset: TLSError | None = None
        """The reset that a send has met. The kernel tells it once; whoever reads sees an innocent EOF after it."""

    # -- what the stream asks ------------------------------------------------------------------------------

    @property
    def want(self) -> Want | Need | None:
        """What tasks wait for now."""
        if self.need is not None:
            return self.need
        if self.sending.taken:
            return Want.READ | Want.WRITE if self.receiving.taken else Want.WRITE
        return Want.READ if self.receiving.taken else None

    @property
    def last_flight_left(self) -> bool:
        """Whether the handshake is done and its last flight has left this end."""
        if self._last_flight_end is None:
            return False
        if self._last_flight_end and self.machine.outgoing.total_consumed >= self._last_flight_end:
            self._last_flight_end = 0
        return not self._last_flight_end

    async def handshake(self, *, finish: bool) -> None:
        """Go on with the handshake until it is complete.

        Args:
          finish: also wait until our last flight has left. A sender need not: the flight leaves with its data. Nor may
            a receiver that can push beside its reading: the flight may be stuck with data that the peer reads later.
        """
        machine = self.machine
        news = machine.incoming.pending > 0 or machine.incoming.eof_written
        slept = asked = eased = False
        while True:
            if news and self.turn is not None:
                await self.turn()
                slept = True
            news = False
            want = await self._step(machine.do_handshake)
            if want is None:
                if self._last_flight_end is None:
                    self._last_flight_end = machine.outgoing.total_consumed + machine.outgoing.pending
                    if self.on_handshake_done is not None:
                        self.on_handshake_done()
                if not finish or self.last_flight_left:
                    break
                slept = await self._push_flight() or slept
                continue
            if want is Want.WRITE and not eased:
                eased = True  # no await here: a cancel must not keep the machine from being done
                if finish:
                    self.push_nowait()  # a sender's last flight leaves with its data
                continue
            eased = False
            if machine.outgoing.pending:
                news = await self._push_flight()
                slept, asked = news or slept, True
                continue
            if want is Want.WRITE:
                await trio.lowlevel.checkpoint()
                slept = True
                continue
            news = True
            if isinstance(want, Need):
                await self._answer(want)
            elif not asked and self.pull_nowait():  # the answer to a flight takes its time
                continue
            else:
                await self._pull_for_handshake()
                asked = False
            slept = True
        if not slept:
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def push(self) -> None:
        """One await in which ciphertext leaves: sends what can, or waits until something could."""
        self.check_open()
        outgoing = self.machine.outgoing
        if self.sending.taken:
            await self.sending.wait()
            return
        self.check_sendable()
        self.sending.taken = True
        interrupted = True
        try:
            self.sender.send_nowait(outgoing)
            if outgoing.pending:
                flight = outgoing.total_consumed >= self._plaintext_end
                await self.sender.send(outgoing, flight=flight)
            else:
                await trio.lowlevel.checkpoint()
            interrupted = False
        except Exception as error:
            interrupted = False
            raise self._sending_failed(error)
        finally:
            self.sending.release()
            if interrupted:
                self.hand_over()
                if self.sender.broken is not None and self.receiving.taken:
                    self.receiver.interrupt()  # who waits for the answer to a flight that was torn waits in vain

    def push_nowait(self) -> None:
        """Send what can leave without waiting. A failure is kept for whoever sends next."""
        if self.sending.taken or self._send_failure is not None or not self.machine.outgoing.pending:
            return
        try:
            self.sender.send_nowait(self.machine.outgoing)
        except Exception as error:
            self._sending_failed(error)

    def say_last_words(self) -> None:
        """As `push_nowait`, when the transport is about to be closed whatever happens."""
        self.push_nowait()
        if self.machine.outgoing.pending and not self.sending.taken and self._send_failure is None:
            try:
                self.sender.send_last_words(self.machine.outgoing)
            except Exception as error:
                self._sending_failed(error)

    async def pull(self) -> None:
        """One await in which ciphertext or EOF arrives. The caller has looked whether the stream is open."""
        if self.receiving.taken:
            await self.receiving.wait()
            return
        if self._receive_failure is not None:
            raise self._receive_failure.again()
        if self.machine.incoming.eof_written:  # nothing more can come: the machine has to say what that means
            await trio.lowlevel.checkpoint()
            return
        self.receiving.taken = True
        try:
            await self.receiver.receive(self.machine.incoming)
        except Exception as error:
            raise self._receiving_failed(error)
        finally:
            self.receiving.release()

    def pull_nowait(self) -> bool:
        """Take ciphertext that is there; False if there is none, or somebody else is at it."""
        if self.receiving.taken or self.machine.incoming.eof_written:
            return False
        if self._receive_failure is not None:
            raise self._receive_failure.again()
        try:
            return self.receiver.receive_nowait(self.machine.incoming)
        except Exception as error:
            raise self._receiving_failed(error)

    async def pull_for_reader(self) -> None:
        """As `pull`; but what is queued to leave gets its chance beside it, without failing or delaying it."""
        self.push_nowait()
        if (
            self.machine.outgoing.pending
            and self.sender.counts
            and not self.sender.waits_inside
            and not self.sending.taken
            and not self.receiving.taken
            and self._send_failure is None
        ):
            await self.read_while_pushing(self.pull, sending=False)
        else:
            await self.pull()

    async def read_while_pushing(self, read: Callable[[], Awaitable[None]], *, sending: bool) -> None:
        """Await ``read``, with a child task that pushes what is queued meanwhile.

        Args:
          read: what to await. Its failures rise, and end the push.
          sending: whether the caller is there to send, too. Then the push is waited for, and its failure ends the
            reading and rises: a peer that lacks what we have to say may never answer. Otherwise the push is a favour to
            others: it ends with the reading, and a failure of it is kept for whoever sends next.
        """
        outcome: BaseException | None = None
        reading, pushed = trio.CancelScope(), trio.Event()

        async def push() -> None:
            nonlocal outcome
            try:
                while self.machine.outgoing.pending:
                    await self.push()
            except trio.Cancelled:
                pass  # a sender that counts has lost nothing; another one has marked what was torn
            except Exception as error:  # kept in _send_failure
                if sending and outcome is None:
                    outcome = error
                    reading.cancel()
            finally:
                pushed.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(push)
            try:
                with reading:
                    await read()
                    if sending:
                        await pushed.wait()
            except BaseException as error:  # to rise as it is, and not in a group
                outcome = error
            nursery.cancel_scope.cancel()
        if outcome is not None:
            try:
                raise outcome
            finally:
                outcome = None  # or it would hold this frame, which holds it

    async def accept(self, data: memoryview) -> int:
        """Wait until the machine accepts some of ``data``; how many bytes. Cancelled: none of it was."""
        while True:
            accepted = await self._step(lambda: self.machine.write(data))
            if accepted is Want.WRITE:
                await self.push()
            elif accepted is Want.READ:  # a TLS 1.2 renegotiation: the peer has to go on first
                await (self.push() if self.machine.outgoing.pending else self.pull())
            elif isinstance(accepted, int):
                self._note_plaintext(accepted)
                return accepted

    def accept_nowait(self, data: memoryview) -> int:
        """Let the machine accept what it has room for, at once; how many bytes.

        Nothing to accept releases what the machine holds back for the next write.
        """
        if self.closing:
            self.check_open()
        position, size = 0, len(data)
        while True:
            accepted = self.machine.write(data[position:] if position else data)
            if not isinstance(accepted, int):
                break
            position += accepted
            if position == size:
                break
        if position:
            outgoing = self.machine.outgoing  # as `_note_plaintext`
            self.plaintext_sent += position
            self._plaintext_end = outgoing.total_consumed + outgoing.pending
        return position

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until a send might not block: first for what is queued, then for the transport."""
        while self.machine.outgoing.pending or self.sending.taken:
            await self.push()
        self.check_sendable()
        self.sending.taken = True
        try:
            await self.sender.wait_send_all_might_not_block()
        except Exception as error:
            raise self._sending_failed(error)
        finally:
            self.sending.release()
            self.hand_over()  # a reader that came meanwhile could not push
        self.check_open()

    def hand_over(self) -> None:
        """A sender leaves: if a reader sleeps, let it take care of what is still queued."""
        if self.machine.outgoing.pending and self.receiving.taken and self.sender.counts:
            if self.sender.waits_inside:
                self.push_nowait()
            else:
                self.receiver.interrupt()

    def read_now(self, buffer: memoryview) -> int | Want:
        """Plaintext that is there, the stash first. 0: the peer's close_notify."""
        if not self.stash:
            return self.machine.read_into(buffer)
        count = min(len(buffer), len(self.stash))
        buffer[:count] = self.stash[:count]
        del self.stash[:count]
        if count < len(buffer):
            try:
                more = self.machine.read_into(buffer[count:])
            except TLSError:  # what lies before it is good, and the next read raises it again
                more = 0
            if isinstance(more, int):
                count += more
        return count

    async def leave_with_alert(self) -> None:
        """After the machine has failed: let its alert leave, if that takes no longer than the grace period."""
        outgoing = self.machine.outgoing
        if self.closing or self.sending.taken or not outgoing.pending:
            return
        self.push_nowait()
        if not outgoing.pending or self._send_failure is not None:
            return
        if self._alert_deadline is None:  # once for all callers: a grace period for each would add up
            self._alert_deadline = trio.current_time() + self.grace
        with trio.CancelScope(shield=True, deadline=self._alert_deadline):
            try:
                while outgoing.pending:
                    await self.push()
            except Exception:  # the failure that brought us here is the one to tell
                return

    def check_sendable(self) -> None:
        """Raise if nothing can be sent any more."""
        if self._send_failure is not None:
            raise self._send_failure.again()
        if self.sender.broken is not None:
            raise self.sender.broken.again()

    def check_open(self) -> None:
        """Raise if somebody has closed the stream."""
        if self.closing:
            raise trio.ClosedResourceError("this TLSStream was closed by another task")

    # -- closing -------------------------------------------------------------------------------------------

    def wake_for_close(self) -> None:
        """From now on, whoever waits finds the stream closed."""
        self.closing = True
        if self._answer_scope is not None:
            self._answer_scope.cancel()
        if self.receiving.taken:
            self.receiver.interrupt()
        if self.sending.taken:
            self.sender.interrupt()
        for turn in (self.sending, self.receiving, self.answering):
            turn.wake()

    async def drain(self) -> None:
        """Push all that is queued, though the stream is closing. Failures rise."""
        outgoing = self.machine.outgoing
        while outgoing.pending:
            if self.sending.taken:
                await self.sending.wait()
                continue
            self.check_sendable()
            self.sending.taken = True
            try:
                await self.sender.send(outgoing, flight=False)
            except Exception as error:
                raise self._sending_failed(error)
            finally:
                self.sending.release()

    async def linger(self, *, wait: bool) -> None:
        """After a fatal alert: end our side, and read on, so that no reset overtakes the alert.

        Closing a socket with unread data makes the kernel send a reset, and a reset makes the peer's kernel
        forget an alert that was not read yet.

        Args:
          wait: until the peer closes; otherwise only what is here already is read.
        """
        if self._send_failure is not None or not self.sender.finish():
            return
        discarded = 0
        while discarded < LINGER_LIMIT:
            scratch = MemoryBIO()
            if not self.receiver.receive_nowait(scratch):
                if not wait:
                    return
                await self.receiver.receive(scratch)
            if scratch.eof:
                return
            discarded += scratch.pending

    # -- within --------------------------------------------------------------------------------------------

    async def _step(self, step: Callable[[], T]) -> T:
        """Call a step of the machine; when it fails, its alert leaves before the exception rises."""
        self.check_open()
        try:
            return step()
        except TLSError:
            await self.leave_with_alert()
            raise

    async def _push_flight(self) -> bool:
        """`push`, but what leaves at once needs no turn of the event loop; whether it waited."""
        if not self.sending.taken and self._send_failure is None and self.sender.broken is None:
            self.push_nowait()
            if not self.machine.outgoing.pending:
                return False
        await self.push()
        return True

    async def _pull_for_handshake(self) -> None:
        """`pull`, unless a flight of ours was lost: then the peer has nothing to answer."""
        self.check_sendable()
        await self.pull()

    async def _answer(self, need: Need) -> None:
        """One await in which the application answers a need, under the caller's cancel scope."""
        if self.answering.taken:
            await self.answering.wait()
            return
        self.answering.taken, self.need = True, need
        try:
            with trio.CancelScope() as self._answer_scope:
                try:
                    answer = await need.resolve(need)
                except Exception as error:
                    need.refuse(error)
                else:
                    need.answer(answer)
        finally:
            self.need = self._answer_scope = None
            self.answering.release()

    def _note_plaintext(self, count: int) -> None:
        self.plaintext_sent += count
        outgoing = self.machine.outgoing
        self._plaintext_end = outgoing.total_consumed + outgoing.pending

    def _sending_failed(self, error: Exception) -> Exception:
        """Keep the failure for later senders; what the caller that hit it should raise."""
        if self.closing and isinstance(error, trio.ClosedResourceError):
            return error
        self._note_reset(error)
        if self._send_failure is None:
            self._send_failure = without_frames(self._alert_behind(error) or transport_error(error, "sending"))
        return self._for_who_hit_it(error, self._send_failure)

    def _receiving_failed(self, error: Exception) -> Exception:
        """Keep the failure for later receivers; what the caller that hit it should raise."""
        if self.closing and isinstance(error, trio.ClosedResourceError):
            return error
        if self._receive_failure is None:
            self._receive_failure = without_frames(transport_error(error, "receiving"))
        return self._for_who_hit_it(error, self._receive_failure)

    def _note_reset(self, error: BaseException) -> None:
        cause = error if isinstance(error, OSError) else error.__cause__
        if self.reset is None and isinstance(cause, (ConnectionResetError, ConnectionAbortedError)):
            self.reset = without_frames(transport_error(cause, "receiving"))

    @staticmethod
    def _for_who_hit_it(error: Exception, kept: TLSError) -> Exception:
        """An exception that is not about a broken transport rises unchanged, once."""
        return kept.again() if isinstance(error, (OSError, trio.BrokenResourceError)) else error

    def _alert_behind(self, error: Exception) -> TLSError | None:
        """When a send fails, the peer has often said why: read what is there, without waiting."""
        if not isinstance(error, (OSError, trio.BrokenResourceError)):
            return None
        machine = self.machine
        try:
            while machine.incoming.pending < STASH_LIMIT and not machine.incoming.eof_written:
                if not self.receiver.receive_nowait(machine.incoming):
                    break
        except Exception as failure:  # the receiving side is gone too; what it delivered is in the BIO
            self._note_reset(failure)
        try:
            want = machine.do_handshake()
            if want is Want.WRITE:
                want = machine.do_handshake()
            if want is None:
                self._read_ahead()
        except TLSError as failure:
            if failure.sent_by_peer:
                return failure
        finally:
            if self.receiving.taken:
                self.receiver.interrupt()
        return None

    def _read_ahead(self) -> None:
        """Decrypt into the stash all that can be decrypted now."""
        buffer = memoryview(bytearray(16 * 1024))
        while len(self.stash) < STASH_LIMIT:
            count = self.machine.read_into(buffer)
            if not isinstance(count, int) or count == 0:
                return
            self.stash += buffer[:count]
