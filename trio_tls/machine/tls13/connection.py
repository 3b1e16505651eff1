"""TLS13Machine: one end of one connection, from the first message to close_notify (RFC 9846).

How this works. While the handshake lasts, `do_handshake` resumes its generator (`client`, `server`). From then on data
goes straight between the caller and the record layer; what is no data is looked at between two reads: tickets, key
updates, alerts. What a read has to answer (a KeyUpdate) is queued, and never waited for.

Every error passes through `_fail`: there its alert is queued, once, and there it becomes sticky.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from ...alerts import Alert
from ...errors import CertificateVerificationError, TLSError, UnexpectedEOF, alert_received, as_ssl_says
from ..bio import MemoryBIO
from ..interface import ConnectionInfo, Need, Want
from .channel_binding import channel_binding, server_end_point
from .client import ClientHandshake
from .established import Established, PeerIdentity
from .exchange import Exchange, Steps
from .introspection import TLS13Introspection
from .key_schedule import Secret, export_keying_material, next_traffic_secret
from .messages import KeyUpdate, NewSessionTicket, decode_message
from .misbehaviour import unexpected_message
from .parameters import ClientParameters, ServerParameters
from .record import ReceivedAlert, RecordKey
from .registry import ContentType, HandshakeType, NamedGroup, name_of
from .resumption import issue_tickets, keep_session, session_from
from .server import ServerHandshake
from .sessions import ServerSession
from .signatures import scheme_name
from .suites import SUITES

if TYPE_CHECKING:
    from ..interface import Introspection
    from .sessions import Session

__all__ = ["TLS13Machine"]

#: Application data that may be queued as ciphertext before `write` says Want.WRITE.
OUTGOING_LIMIT = 256 * 1024

#: Messages in a row that bring no data (tickets, key updates); a peer that sends more wants to keep us busy.
MOST_USELESS_MESSAGES = 32

FATAL, WARNING = 2, 1


class TLS13Machine:
    """One end of one connection. See `trio_tls.machine.interface.Machine`."""

    def __init__(
        self,
        parameters: ClientParameters | ServerParameters,
        *,
        server_hostname: str | None = None,
        session: Session | None = None,
    ) -> None:
        self.incoming: MemoryBIO = MemoryBIO()
        self.outgoing: MemoryBIO = MemoryBIO(limit=OUTGOING_LIMIT)
        self.server_hostname = server_hostname
        self.handshake_done: bool = False
        self.sent_fatal_alert: bool = False
        self.info: ConnectionInfo | None = None
        self.session: Session | None = None
        self._exchange = Exchange(self.incoming, self.outgoing, parameters)
        self._reader, self._writer = self._exchange.reader, self._exchange.writer
        self._client = parameters if isinstance(parameters, ClientParameters) else None
        self._handshake: ClientHandshake | ServerHandshake | None
        if isinstance(parameters, ClientParameters):
            self._handshake = ClientHandshake(self._exchange, parameters, server_hostname, session)
        else:
            self._handshake = ServerHandshake(self._exchange, parameters)
        self._steps: Steps[Established] | None = self._handshake.run()
        self._established: Established
        self._authenticated_at: float | None = None  # of the session that was resumed
        self._end_point: bytes | None = None  # tls-server-end-point, where only the session knows it
        self._shared_suites: tuple[int, ...] = ()
        self._read_secret: Secret
        self._write_secret: Secret
        self._tickets: tuple[bytes, ...] = ()
        self._unissued: Callable[[], tuple[bytes, ...]] | None = None  # makes them, once there is time to
        self._useless_messages = 0
        self._reply_end = 0  # how much has to leave before another KeyUpdate is answered
        self._requested_update = False
        self._write_closed = False
        self._close_notify_received = False
        self._failure: TLSError | None = None  # ends both directions
        self._read_failure: TLSError | None = None  # ends reading: EOF without close_notify

    def use_bios(self, incoming: MemoryBIO, outgoing: MemoryBIO) -> None:
        """Of a server, before the first step: take over a connection whose BIOs are these."""
        handshake = self._handshake
        assert isinstance(handshake, ServerHandshake)  # a client is never chosen by a ClientHello
        self.incoming, self.outgoing = incoming, outgoing
        self._exchange = Exchange(incoming, outgoing, handshake.parameters)
        self._reader, self._writer = self._exchange.reader, self._exchange.writer
        self._handshake = ServerHandshake(self._exchange, handshake.parameters)
        self._steps = self._handshake.run()

    @property
    def server_side(self) -> bool:
        return self._client is None

    @property
    def buffered(self) -> int:
        return self._reader.buffered

    @property
    def introspection(self) -> Introspection:
        established = self._established
        peer = established.peer if isinstance(established.peer, PeerIdentity) else None
        return TLS13Introspection(
            server_side=self.server_side,
            suite=established.suite,
            alpn_protocol=established.alpn_protocol,
            peer_chain=peer.presented if peer else (),
            verified_chain=(peer.chain or None) if peer else None,
            session_reused=established.resumed,
            shared_suites=tuple(SUITES[number] for number in self._shared_suites),
            channel_binding=self._channel_binding,
        )

    # -- the handshake -------------------------------------------------------------------------------------------

    def do_handshake(self) -> Want | Need | None:
        if self.handshake_done:
            return None
        if self._failure is not None:
            raise self._failure.again()
        try:
            want = self._step()
        except TLSError as error:
            self._fail(error)
        except Exception as error:
            self._fail(_defect(error), error)
        except BaseException as interruption:
            traceback.clear_frames(interruption.__traceback__)
            # Ctrl-C in a function of the application, as a rule: it has ended the generator, so nothing can go on.
            try:
                self._fail(TLSError("the handshake was interrupted", alert=Alert.internal_error))
            except TLSError:
                pass
            raise
        if self._exchange.tracer is not None and isinstance(want, Need):
            self._exchange.tracer.want(type(want).__name__)
        return want

    def _step(self) -> Want | Need | None:
        assert self._steps is not None  # as long as the handshake has neither failed nor ended
        try:
            return next(self._steps)
        except StopIteration as done:
            self._finish_handshake(done.value)
            return None

    def _finish_handshake(self, established: Established) -> None:
        handshake, self._handshake, self._steps = self._handshake, None, None  # its secrets go with it
        assert handshake is not None  # it has just come to its end
        self._established = established
        session = handshake.session
        if session is not None:
            self._authenticated_at = session.authenticated_at
        if isinstance(session, ServerSession):
            self._end_point = session.server_end_point
        if isinstance(handshake, ServerHandshake):
            reading, writing = handshake.secrets.client, handshake.secrets.server
            self._shared_suites = handshake.shared_suites
            if handshake.tickets_wanted:
                parameters, primitives = handshake.parameters, self._exchange.primitives
                origin = None if handshake.session is None else handshake.session.origin
                issue = partial(issue_tickets, parameters, established, primitives, resumed=origin)
                if parameters.session_store is None:
                    self._unissued = issue
                else:
                    self._tickets = issue()  # now: if the store fails, so does the handshake
            if self._unissued is None:
                established.resumption.erase()  # only a client has use for it from now on
        else:
            reading, writing = handshake.secrets.server, handshake.secrets.client
        self._read_secret, self._write_secret = Secret(reading.value), Secret(writing.value)  # without keyed HMACs
        self._exchange.forget_handshake()
        peer = established.peer if isinstance(established.peer, PeerIdentity) else None
        alpn = established.alpn_protocol
        scheme = peer.signature.scheme if peer and peer.signature else None
        self.info = ConnectionInfo(
            version="TLSv1.3",
            cipher_suite=established.suite.name,
            group=name_of(NamedGroup, established.group),
            signature_scheme=None if scheme is None else scheme_name(scheme),
            alpn_protocol=None if alpn is None else alpn.decode("utf-8", "backslashreplace"),
            server_name=established.server_name,
            session_reused=established.resumed,
            peer_chain=peer.presented if peer else (),
            verified_chain=peer.chain if peer else (),
            local_chain=established.local_chain,
        )
        self._reader.application_data_allowed = True
        self.handshake_done = True

    # -- reading -------------------------------------------------------------------------------------------------

    def read_into(self, buffer: memoryview) -> int | Want:
        if self._failure is not None and not self._close_notify_received:
            raise self._failure.again()
        if self._read_failure is not None:
            raise self._read_failure.again()
        reader = self._reader
        try:
            while not self._close_notify_received:
                count = reader.read_into(buffer)
                if count:
                    self._useless_messages = 0
                    return count
                if not reader.other_pending or not self._read_message():
                    break
            else:
                return 0
        except TLSError as error:
            self._fail(error)
        except Exception as error:
            self._fail(_defect(error), error)
        if self.incoming.eof_written:
            self._read_at_eof()
        if self._unissued is not None:
            self._issue_tickets()
        return Want.READ

    def read_short(self, max_bytes: int) -> bytes | None:
        if self._close_notify_received or self._failure is not None or self._read_failure is not None:
            return None
        try:
            data = self._reader.read_short(max_bytes)
        except TLSError as error:
            self._fail(error)
        if data:
            self._useless_messages = 0
        return data

    def trailing_data(self) -> bytes:
        return self.incoming.read()

    def _read_message(self) -> bool:
        """Deal with one message that is no application data; False if it is not all here."""
        found = self._reader.read_message(self._limit_of)
        if found is None:
            return False
        if isinstance(found, ReceivedAlert):
            self._heed(found)
            return True
        kind, raw = found
        if self._exchange.tracer is not None:
            self._exchange.tracer.message(
                sent=False, name=name_of(HandshakeType, kind), size=len(raw), epoch="application"
            )
        self._useless_messages += 1
        if self._useless_messages > MOST_USELESS_MESSAGES:
            raise unexpected_message(f"the peer sent {self._useless_messages} messages in a row without data", "4.7")
        message = decode_message(kind, raw[4:])
        if isinstance(message, KeyUpdate):
            self._update_read_key(message)
        elif isinstance(message, NewSessionTicket):
            self._keep_session(message)
        return True

    def _limit_of(self, kind: int) -> int:
        if kind == HandshakeType.key_update:
            return 1
        if kind == HandshakeType.new_session_ticket and not self.server_side:
            return 64 * 1024 + 512
        raise unexpected_message(f"the peer sent {name_of(HandshakeType, kind)} after the handshake", "4.7")

    def _heed(self, alert: ReceivedAlert) -> None:
        description = alert.description
        if self._exchange.tracer is not None:
            self._exchange.tracer.alert(sent=False, name=description.name)
        if description == Alert.close_notify:
            self._close_notify_received = True
            self._forget_secrets()
        elif description == Alert.user_canceled:
            self._useless_messages += 1
            if self._useless_messages > MOST_USELESS_MESSAGES:
                raise unexpected_message("the peer sent nothing but user_canceled", "6.1")
        else:
            # "all the error alerts ... MUST be sent with AlertLevel=fatal and MUST be treated as error alerts when
            # received regardless of the AlertLevel in the message. Unknown Alert types MUST be treated as error
            # alerts." (section 6)
            raise alert_received(description)

    def _read_at_eof(self) -> NoReturn:
        self._read_failure = UnexpectedEOF(
            "the connection ended without close_notify, so the data may have been truncated",
            hint=(
                "If the protocol marks its own end (as HTTP does), pass require_close_notify=False "
                "or https_compatible=True"
            ),
        )
        _cause_as_from_ssl(self._read_failure)
        raise self._read_failure.again()

    def rest(self) -> None:
        if self.handshake_done:
            self._reader.rest()
            self._writer.rest()

    # -- writing -------------------------------------------------------------------------------------------------

    def write(self, data: memoryview) -> int | Want:
        if self._failure is not None:
            raise self._failure.again()
        if self._write_closed:
            raise ValueError("write() after shutdown()")
        if self._tickets or self._unissued is not None:
            self._release_tickets()
        if not len(data):
            return 0
        writer = self._writer
        if writer.records_left <= 1:
            # "Implementations SHOULD do a key update ... prior to reaching these limits." (section 5.5)
            self._send_key_update(request_update=False)
        accepted = writer.write_application(data)
        if accepted:
            self._reply_end = 0  # a KeyUpdate that comes now has to be answered before more data (section 4.7.3)
        return accepted or Want.WRITE

    def shutdown(self) -> None:
        if self._write_closed or not self.handshake_done or self._failure is not None:
            return
        self._release_tickets()
        self._send_alert(WARNING, Alert.close_notify)
        self._write_closed = True
        self._forget_secrets()

    @property
    def _over(self) -> bool:
        return self._failure is not None or (self._write_closed and self._close_notify_received)

    def _forget_secrets(self) -> None:
        """Drop the keys of a direction that is over, and of a connection that is over all that there is.

        "Servers and clients MUST forget the secret values and keys established in failed connections" (section 6).
        """
        failed = self._failure is not None
        written, read = failed or self._write_closed, failed or self._close_notify_received
        if written:
            self._writer.forget_key()
        if read:
            self._reader.forget_key()
        if not self.handshake_done:
            return
        if written:
            self._write_secret.erase()
        if read:
            self._read_secret.erase()
        if written and read:
            self._established.exporter.erase()
            self._established.resumption.erase()

    def update_keys(self, *, request_update: bool = False) -> None:
        """Change our write key; with ``request_update``, ask the peer to change its own too.

        At most one request is outstanding: "until the peer's KeyUpdate has been received, [an endpoint] MUST NOT send
        another with request_update" (RFC 9846 section 4.7.3); a second one changes our key alone.
        """
        if self._failure is not None:
            raise self._failure.again()
        if self._write_closed:
            raise ValueError("update_keys() after shutdown()")
        if not self.handshake_done:
            raise ValueError("update_keys() before the handshake is done")
        self._release_tickets()
        self._send_key_update(request_update=request_update and not self._requested_update)
        self._requested_update = self._requested_update or request_update

    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        """TLS-Exporter (RFC 9846 section 7.5), once the handshake is done."""
        if self._over:
            raise ValueError("this connection is over, and its secrets are gone")
        if not self.handshake_done:
            raise ValueError("there is nothing to export before the handshake is done")
        established = self._established
        return export_keying_material(established.suite, established.exporter, label, context, length)

    def _issue_tickets(self) -> None:
        """Make the tickets, which leave with the next write: before it, or while there is nothing to do but wait."""
        issue, self._unissued = self._unissued, None
        if issue is None:
            return
        try:
            self._tickets = issue()
        except Exception as error:
            self._fail(_defect(error), error)
        self._established.resumption.erase()

    def _release_tickets(self) -> None:
        self._issue_tickets()
        if self._tickets:
            tickets, self._tickets = self._tickets, ()
            self._writer.write(ContentType.handshake, b"".join(tickets))
            if self._exchange.tracer is not None:
                name = HandshakeType.new_session_ticket.name
                for ticket in tickets:
                    self._exchange.tracer.message(sent=True, name=name, size=len(ticket), epoch="application")

    def _send_alert(self, level: int, alert: Alert) -> None:
        self._writer.write(ContentType.alert, bytes((level, alert)))
        if self._exchange.tracer is not None:
            self._exchange.tracer.alert(sent=True, name=alert.name)

    # -- key updates ---------------------------------------------------------------------------------------------

    def _update_read_key(self, message: KeyUpdate) -> None:
        self._requested_update = False
        suite = self._established.suite
        self._read_secret = next_traffic_secret(suite, self._read_secret)
        self._exchange.change_read_key(RecordKey(suite, self._read_secret), "application")
        # One reply waits at the most: "If implementations independently send their own KeyUpdates with request_update
        # set ... and they cross in flight", or the peer asks on and on, one answer serves them all.
        if message.request_update and not self._write_closed and self.outgoing.total_consumed >= self._reply_end:
            self._release_tickets()
            self._send_key_update(request_update=False)
            self._reply_end = self.outgoing.total_consumed + self.outgoing.pending

    def _send_key_update(self, *, request_update: bool) -> None:
        raw = KeyUpdate(request_update).encode()
        self._writer.write(ContentType.handshake, raw)
        if self._exchange.tracer is not None:
            self._exchange.tracer.message(
                sent=True, name=HandshakeType.key_update.name, size=len(raw), epoch="application"
            )
        suite = self._established.suite
        self._write_secret = next_traffic_secret(suite, self._write_secret)
        self._exchange.change_write_key(RecordKey(suite, self._write_secret), "application")

    # -- sessions ------------------------------------------------------------------------------------------------

    def _keep_session(self, ticket: NewSessionTicket) -> None:
        client = self._client
        if client is None:
            return
        session = session_from(ticket, client, self._authenticated_at, self._established)
        if session is not None:
            self.session = session
            keep_session(client, self.server_hostname, session)

    def _channel_binding(self, kind: str) -> bytes | None:
        established = self._established
        end_point: bytes | None = None
        if not self.server_side:
            peer = established.peer
            if isinstance(peer, PeerIdentity) and peer.presented:
                end_point = server_end_point(peer.presented[0])
        elif established.local_chain:
            end_point = server_end_point(established.local_chain[0])
        else:
            end_point = self._end_point
        return channel_binding(kind, server_end_point=end_point, export=self.export_keying_material)

    # -- failures ------------------------------------------------------------------------------------------------

    def _fail(self, error: TLSError, cause: Exception | None = None) -> NoReturn:
        """Keep the error, let its alert leave, and raise it."""
        if cause is not None:
            traceback.clear_frames(cause.__traceback__)  # of their secrets; the lines stay
            error.__cause__ = cause
        else:
            _cause_as_from_ssl(error)
        error.__traceback__ = error.__context__ = None  # their frames hold secrets
        self._failure = error
        self._handshake = self._steps = self._unissued = None
        self._exchange.drop_flight()
        if error.alert is not None and not error.sent_by_peer and not self._write_closed:
            self._write_closed = True
            self._writer.padding = None  # the application's function has had its say, and may be what failed
            self.sent_fatal_alert = True
            self._send_alert(FATAL, error.alert)
        self._forget_secrets()
        raise error.again()


def _cause_as_from_ssl(error: TLSError) -> None:
    """Let code written for ``trio.SSLStream`` find what it looks for; the application's own error stays."""
    if error.__cause__ is None or isinstance(error, CertificateVerificationError):
        error.__cause__ = as_ssl_says(error)


def _defect(error: Exception) -> TLSError:
    """What must not happen: an exception that is not about the peer. The connection ends, and says so."""
    return TLSError(
        f"trio_tls has met an error of its own: {type(error).__name__}: {error}",
        hint="Please report it, with the traceback of its cause",
        alert=Alert.internal_error,
    )
