"""Exchange: one handshake under way; what the client's and the server's flights are made of.

How this works. A handshake is a generator that reads like the RFC's flights. It reads only through `Exchange.expect`,
which names the messages that may come now: so none can be skipped, and none can come out of turn. It writes only
through `emit`. What it yields is what has to happen before it can go on: ``Want.READ``, or an open need. To resume it
too early is free: it looks, and yields the same again. Where a flight has been queued and there is more to compute, it
pauses (`Exchange.let_flight_leave`), and goes on whenever it is resumed.

Messages of one flight are gathered and go out in as few records as they fit in, when the flight ends or the key
changes. Keys are changed by one method for each direction, and directions never move together.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast, overload

from ...alerts import Alert
from ...errors import (
    AlertReceived,
    CertificateVerificationError,
    HandshakeClosed,
    TLSError,
    TransportError,
    UnexpectedEOF,
    alert_received,
    application_failed,
)
from ..interface import Need, Want
from .messages import ClientHello, HelloRetryRequest, Message, decode_message
from .misbehaviour import not_tls, unexpected_message
from .record import HEADER_LENGTH, ReceivedAlert
from .record_reader import RecordReader
from .record_writer import RecordWriter
from .registry import ContentType, HandshakeType, name_of
from .transcript import Transcript

if TYPE_CHECKING:
    from ..bio import MemoryBIO
    from .groups import Group
    from .key_schedule import Secret
    from .parameters import Parameters
    from .primitives import Primitives
    from .record import RecordKey

__all__ = ["Exchange", "Steps", "ask", "nobody"]

T = TypeVar("T")
M = TypeVar("M", bound=Message)
M2 = TypeVar("M2", bound=Message)
N = TypeVar("N", bound=Need)

#: A part of a handshake: yields what it waits for, and returns what it has found.
Steps: TypeAlias = Generator["Want | Need", None, T]

#: The most bytes in the body of a message, by its type. Finished is as long as the hash.
LIMITS: dict[int, int] = {
    HandshakeType.client_hello: 64 * 1024,
    HandshakeType.server_hello: 64 * 1024,
    HandshakeType.encrypted_extensions: 64 * 1024,
    HandshakeType.certificate_request: 64 * 1024,
    HandshakeType.certificate_verify: 16 * 1024,
    HandshakeType.finished: 64,
    HandshakeType.new_session_ticket: 64 * 1024 + 512,
    HandshakeType.key_update: 1,
}

#: What the first byte of a record may be.
RECORD_TYPES = frozenset(int(kind) for kind in ContentType if kind is not ContentType.invalid)

#: user_canceled alerts that are let pass; they mean nothing (RFC 9846 section 6.1).
MOST_USER_CANCELED = 4


class Exchange:
    """What one handshake reads from, writes to and remembers.

    Args:
      incoming: ciphertext from the peer.
      outgoing: ciphertext for the peer.
      parameters: what the handshake has to keep to.
    """

    def __init__(
        self,
        incoming: MemoryBIO,
        outgoing: MemoryBIO,
        parameters: Parameters,
    ) -> None:
        self.incoming = incoming
        self.reader: RecordReader = RecordReader(incoming)
        self.writer: RecordWriter = RecordWriter(outgoing)
        self.writer.padding = parameters.padding
        self.transcript: Transcript = Transcript()
        self.primitives: Primitives = parameters.primitives
        self.tracer = parameters.tracer
        self.client_random = b""
        self.received: bytes = b""
        """The message that `expect` returned last, as it came."""
        self.prepare: Group | None = None
        """The group to make a share of for the next connection, if the peer's answer is not here yet."""
        self._keylog = parameters.keylog
        self._most_certificate = parameters.most_certificate
        self._expected: tuple[type[Message], ...] = ()
        self._flight = bytearray()
        self._change_cipher_spec_sent = False
        self._user_canceled = 0
        self._write_epoch = self._read_epoch = "plaintext"
        self._any_received = False
        self._begun = False

    def adopt(self, parameters: Parameters) -> None:
        """Go on with other parameters: those that the application chose for this client."""
        self.writer.padding = parameters.padding
        self.primitives = parameters.primitives
        self.tracer = parameters.tracer
        self._keylog = parameters.keylog
        self._most_certificate = parameters.most_certificate

    # -- messages ----------------------------------------------------------------------------------------------

    @overload
    def expect(self, kind: type[M], /, *, hashed: bool = True) -> Steps[M]: ...
    @overload
    def expect(self, kind: type[M], other: type[M2], /, *, hashed: bool = True) -> Steps[M | M2]: ...

    def expect(self, *kinds: type[Any], hashed: bool = True) -> Steps[Any]:
        """The peer's next message, which has to be one of ``kinds``.

        Args:
          kinds: the classes of the messages that may come now.
          hashed: whether the message joins the transcript at once. Not so where the hash is not known yet, or a
            part of the message has to be looked at before.
        """
        self._expected = kinds
        if self._flight:
            self.send_flight()
        while True:
            if not self._begun:
                self._look_at_first_bytes(server_side=ClientHello in kinds)
            found = self.reader.read_message(self._limit_of)
            if isinstance(found, ReceivedAlert):
                self._heed(found)
            elif found is not None:
                break
            elif self.incoming.eof_written:
                raise self._ended()
            else:
                if self.prepare is not None:
                    group, self.prepare = self.prepare, None
                    self.primitives.prepare(group)
                if self.tracer is not None:
                    self.tracer.want("read")
                yield Want.READ
        kind, raw = found
        self._any_received = True
        message = decode_message(kind, raw[4:])
        if self.tracer is not None:
            self.tracer.message(sent=False, name=_told(type(message)), size=len(raw), epoch=self._read_epoch)
        if not isinstance(message, kinds):  # a second HelloRetryRequest, which shares its type with ServerHello
            raise unexpected_message(f"the peer sent {type(message).__name__} once too often", "4.2.4")
        self.received = raw
        if hashed:
            self.transcript.add(raw)
        return message

    def _limit_of(self, kind: int) -> int:
        for each in self._expected:
            if each.type == kind:
                return self._most_certificate if kind == HandshakeType.certificate else LIMITS[kind]
        wanted = " or ".join(sorted({each.type.name for each in self._expected}))
        raise unexpected_message(f"the peer sent {name_of(HandshakeType, kind)} where {wanted} has to come", "4")

    def emit(self, message: Message) -> None:
        """Add a message to our flight and to the transcript."""
        self.emit_encoded(type(message), message.encode())

    def emit_encoded(self, kind: type[Message], raw: bytes) -> None:
        """`emit` a message of this class, whose bytes are known already."""
        if self.tracer is not None:
            self.tracer.message(sent=True, name=_told(kind), size=len(raw), epoch=self._write_epoch)
        self.transcript.add(raw)
        self._flight += raw

    def send_flight(self) -> None:
        """Queue the records of all messages that were emitted."""
        if self._flight:
            self.writer.write(ContentType.handshake, bytes(self._flight))
            self._flight.clear()

    def let_flight_leave(self, want: Want) -> Steps[None]:
        """Queue what was emitted, and pause, so that it can leave before we go on: the peer works on it meanwhile."""
        self.send_flight()
        yield want

    def drop_flight(self) -> None:
        """Forget what was emitted and not queued: the handshake has failed."""
        self._flight.clear()

    def send_change_cipher_spec(self) -> None:
        """In middlebox compatibility mode: the record that makes us look like TLS 1.2 (RFC 9846 section E.4), once."""
        if not self._change_cipher_spec_sent:
            self._change_cipher_spec_sent = True
            self.send_flight()
            self.writer.write(ContentType.change_cipher_spec, b"\x01")

    def forget_handshake(self) -> None:
        """Let go of what only the handshake needed."""
        self.transcript = Transcript()
        self.received = b""

    # -- keys --------------------------------------------------------------------------------------------------

    def change_read_key(self, key: RecordKey, epoch: str) -> None:
        """From now on the peer's records are protected with ``key``; refuses if a message spans the change."""
        self.reader.set_key(key)
        self._read_epoch = epoch
        if self.tracer is not None:
            self.tracer.key_change(sent=False, epoch=epoch)

    def change_write_key(self, key: RecordKey, epoch: str) -> None:
        """From now on our records are protected with ``key``; what was emitted before leaves under the old key."""
        if self._flight:
            self.send_flight()
        self.writer.set_key(key)
        self._write_epoch = epoch
        if self.tracer is not None:
            self.tracer.key_change(sent=True, epoch=epoch)

    def log_secret(self, label: str, secret: Secret) -> None:
        """Tell the key log, if there is one."""
        if self._keylog is not None:
            try:
                self._keylog(label, self.client_random, secret.value)
            except Exception as error:
                raise application_failed("key log", error) from error

    # -- what ends a handshake early -----------------------------------------------------------------------------

    def _heed(self, alert: ReceivedAlert) -> None:
        description = alert.description
        if self.tracer is not None:
            self.tracer.alert(sent=False, name=description.name)
        if description == Alert.user_canceled and self._user_canceled < MOST_USER_CANCELED:
            self._user_canceled += 1  # a close_notify follows, or not; it means nothing by itself
        elif description == Alert.close_notify:
            raise HandshakeClosed(
                "the peer closed the connection (close_notify) before the handshake was done",
                hint="It may have found nothing to serve; see its log",
                alert=Alert.close_notify,
                sent_by_peer=True,
            )
        else:
            raise alert_received(description)

    def _look_at_first_bytes(self, *, server_side: bool) -> None:
        """A peer that does not speak TLS at all is told as what it is, not as a record of an unknown type."""
        if self.incoming.pending < HEADER_LENGTH:
            return
        self._begun = True
        if self.incoming.peek()[0] not in RECORD_TYPES:
            raise not_tls(self.incoming.read(16), server_side=server_side)

    def _ended(self) -> UnexpectedEOF:
        return UnexpectedEOF(
            "the peer closed the connection in the middle of the handshake"
            if self._any_received or self.incoming.total_consumed or self.incoming.pending
            else "the peer closed the connection without answering the handshake",
            hint="See the peer's log; a plaintext or overloaded server, a firewall or a proxy may do this too",
        )


def _told(kind: type[Message]) -> str:
    """The name of a message for the tracer; a HelloRetryRequest shares its type with ServerHello."""
    return "hello_retry_request" if kind is HelloRetryRequest else kind.type.name


async def nobody(need: Need) -> object:
    """Who answers a need before `ask` has said who does."""
    raise RuntimeError(f"nobody answers {type(need).__name__}")


@overload
def ask(
    need: N, function: Callable[[N], Coroutine[Any, Any, T]], fits: Callable[[object], bool], wanted: str
) -> Steps[T]: ...
@overload
def ask(
    need: N, function: Callable[[N], T | Awaitable[T]], fits: Callable[[object], bool], wanted: str
) -> Steps[T]: ...


def ask(need: N, function: Callable[[N], Any], fits: Callable[[object], bool], wanted: str) -> Steps[Any]:
    """Ask the application; a synchronous function is answered at once, an async one by the stream.

    Args:
      need: what is asked for; its ``resolve`` is set here.
      function: the application's, sync or async.
      fits: whether an answer is of a kind that can be used.
      wanted: what such an answer is, for the text.

    Raises:
      TLSError: the function failed, or answered what is of no use. If it raised an error that speaks of this
        handshake (see `_failed`), that one; otherwise one with the alert internal_error and its exception as the cause.
    """
    called = _asynchronous(function)
    if called is None:
        try:
            answer = function(need)
        except Exception as error:
            raise _failed(need, error) from error
        if not inspect.isawaitable(answer):
            return _usable(need, answer, fits, wanted)
        called = _answering_first(answer, function)
    need.resolve = cast("Callable[[Need], Awaitable[object]]", called)  # it is given no other need than this one
    while not need.settled:
        yield need
    if need.error is not None:
        raise _failed(need, need.error) from need.error
    return _usable(need, need.value, fits, wanted)


def _usable(need: Need, answer: object, fits: Callable[[object], bool], wanted: str) -> object:
    if fits(answer):
        return answer
    shown = repr(answer) if answer is None or isinstance(answer, bool) else f"a {type(answer).__name__}"
    error = TypeError(f"the answer has to be {wanted}, and is {shown}")
    raise _failed(need, error) from error


def _asynchronous(function: Callable[[N], Any]) -> Callable[[N], Any] | None:
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        return function
    return None


def _answering_first(first: Awaitable[Any], function: Callable[[N], Any]) -> Callable[[N], Awaitable[Any]]:
    """Await what the function returned already; asked again after a cancel, call it again."""
    waiting = [first]

    async def resolve(need: N) -> Any:
        answer = waiting.pop() if waiting else function(need)
        return await answer if inspect.isawaitable(answer) else answer

    return resolve


def _failed(need: Need, error: Exception) -> TLSError:
    if isinstance(error, CertificateVerificationError):
        failure = error.again()
        failure.alert, failure.sent_by_peer = failure.alert or Alert.certificate_unknown, False
        return failure
    # Any other TLSError may come from another connection, which the function has used: what its peer did is no act
    # of this one, and an end of its data no end of ours.
    others = (UnexpectedEOF, HandshakeClosed, AlertReceived, TransportError)
    ours = isinstance(error, TLSError) and not isinstance(error, others) and not error.sent_by_peer
    if isinstance(error, TLSError) and ours and error.alert is not None:
        return error.again()
    return TLSError(
        f"the application failed to answer {type(need).__name__}: {str(error) or repr(error)}",
        hint="The exception below is its own",
        alert=Alert.internal_error,
    )
