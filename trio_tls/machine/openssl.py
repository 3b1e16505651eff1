"""The machine behind an ``ssl.SSLContext``: TLS 1.2 and 1.3 as the interpreter's OpenSSL has them.

How this works. ``SSLContext.wrap_bio`` takes only `ssl.MemoryBIO`, so bytes cross once between its two BIOs
and ours. Ciphertext goes over in pieces (`_feed`), and what OpenSSL has to send is fetched after each call
(`_collect`). Three things need more than that:

* *Tickets.* A TLS 1.3 server queues its session tickets with the last step of the handshake. Sending them
  there can deadlock with a peer that only writes, so they are held back until the first write, flush or close.
* *Closing.* ``SSLObject.unwrap()`` with application data left inside destroys the session. `shutdown` takes
  that data out first, calls ``unwrap()`` once (it queues close_notify), and from then on only reads.
* *EOF.* OpenSSL fails both directions when it is shown an EOF, so it is not shown one: this machine knows
  that the bytes ended without close_notify and says so itself.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, NoReturn, cast

from ..alerts import Alert
from ..errors import HandshakeClosed, PeerMisbehaved, TLSError, UnexpectedEOF
from .bio import MemoryBIO
from .interface import Want
from .openssl_errors import Failure, error_for
from .openssl_facts import SSLIntrospection, chain, facts_of

if TYPE_CHECKING:
    from .interface import ConnectionInfo, Introspection, Need

__all__ = ["OpenSSLMachine"]

#: Application data that may be queued as ciphertext before `write` says Want.WRITE.
OUTGOING_LIMIT = 256 * 1024

#: Plaintext given to OpenSSL at once. Its BIO keeps the memory of the largest piece, for ever.
WRITE_PIECE = 128 * 1024

#: Ciphertext given to OpenSSL at once, for the same reason.
FEED_PIECE = 128 * 1024

#: Type, version, length (RFC 9846 section 5.1).
RECORD_HEADER = 5

#: At most so much ciphertext is a short message, such as those of a ping-pong: one record of any size, or several.
SHORT = RECORD_HEADER + 2**14 + 2048
SHORT_RECORDS = 4096

#: Replies (KeyUpdate) that may be queued, beyond the limit, for a peer that does not read them.
REPLY_HEADROOM = 64 * 1024

#: Records in a row that bring no data; a peer that sends more wants to keep us busy. OpenSSL itself takes any number of
#: KeyUpdates, for 15 us each, or 30 with an answer.
MOST_USELESS_RECORDS = 32

#: Ciphertext given to OpenSSL at once in the handshake, so that little else comes with its last message. To a server's
#: it is at most so many records, for those of a client are ClientHello, then change_cipher_spec and Finished.
HANDSHAKE_PIECE, HANDSHAKE_RECORDS = 4096, 2

#: The header of a plaintext alert record is 15 03 xx 00 02, then level and description (RFC 9846 section 5.1).
ALERT_RECORD_SIZE = 7

IGNORE_UNEXPECTED_EOF = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)


class OpenSSLMachine:
    """One end of one connection, on an ``ssl.SSLObject``. See `trio_tls.machine.interface.Machine`."""

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.incoming: MemoryBIO = MemoryBIO()
        self.outgoing: MemoryBIO = MemoryBIO(limit=OUTGOING_LIMIT)
        self.rest: None = None  # OpenSSL lets go of its buffers by itself (SSL_MODE_RELEASE_BUFFERS)
        self.handshake_done: bool = False
        self.sent_fatal_alert: bool = False
        self._info: ConnectionInfo | None = None  # made when somebody asks
        self._tls13 = False  # agreed on
        self._ssl_in = ssl.MemoryBIO()
        self._ssl_out = ssl.MemoryBIO()
        self.ssl_object: ssl.SSLObject = context.wrap_bio(
            self._ssl_in,
            self._ssl_out,
            server_side=server_side,
            server_hostname=server_hostname,
            session=session,
        )
        self._first_bytes = b""
        self._last_fed = b""  # the end of what OpenSSL was given, while alerts are still plain
        self._tickets = b""
        self._plaintext = bytearray()  # decrypted bytes that shutdown() had to take out of OpenSSL
        self._answer_due = False  # OpenSSL was fed since the last write
        self._record_begun = False  # OpenSSL may hold the rest of a record that filled the reader's buffer
        self._record_partial = False  # OpenSSL may hold the beginning of a record whose end has not come
        self._records = 0  # how many OpenSSL was given since it last had data
        self._record_left = 0  # what is missing of the record that OpenSSL was given last
        self._record_header = b""  # the beginning of its header, if that was cut
        self._reply_end = 0  # how much has to leave before the peer goes on (TLS 1.2 renegotiation)
        self._write_closed = False
        self._close_notify_received = False
        self._failure: TLSError | None = None  # ends both directions
        self._read_failure: TLSError | None = None  # ends reading: EOF without close_notify

    def use_bios(self, incoming: MemoryBIO, outgoing: MemoryBIO) -> None:
        """Before the first step: take over a connection whose BIOs are these."""
        self.incoming, self.outgoing = incoming, outgoing

    # -- what the handshake agreed on ------------------------------------------------------------------

    @property
    def server_side(self) -> bool:
        return self.ssl_object.server_side

    @property
    def server_hostname(self) -> str | None:
        return self.ssl_object.server_hostname

    @property
    def info(self) -> ConnectionInfo | None:
        if self._info is None and self.handshake_done:
            self._info = facts_of(self.ssl_object)
        return self._info

    @property
    def introspection(self) -> Introspection:
        return cast("Introspection", SSLIntrospection(self.ssl_object))

    @property
    def buffered(self) -> int:
        return self.ssl_object.pending() + len(self._plaintext)

    @property
    def session(self) -> ssl.SSLSession | None:
        try:
            return self.ssl_object.session
        except ValueError:  # amid a handshake, OpenSSL's is half made and cannot be copied
            return None

    def update_keys(self, *, request_update: bool = False) -> None:
        raise ValueError("ssl cannot update keys on demand; a ClientConfig or ServerConfig can")

    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        raise ValueError("ssl cannot export keying material; a ClientConfig or ServerConfig can")

    # -- steps -----------------------------------------------------------------------------------------

    def do_handshake(self) -> Want | Need | None:
        if self.handshake_done:
            return None
        self._raise_failure()
        while True:
            try:
                self.ssl_object.do_handshake()
            except ssl.SSLWantReadError:
                if not self._go_on():
                    return Want.READ
            except ssl.SSLError as error:
                self._fail(error)
            else:
                self._finish_handshake()
                return None

    def read_into(self, buffer: memoryview) -> int | Want:
        size = len(buffer)
        total = self._read_plaintext(buffer) if self._plaintext else 0
        if total == size or self._close_notify_received:
            return total
        if not total and (self._failure is not None or self._read_failure is not None):
            self._raise_failure()
        read, ssl_in, incoming, reads = self.ssl_object.read, self._ssl_in, self.incoming, 0
        try:
            while total < size:
                if incoming.pending and not ssl_in.pending:
                    self._feed(useless=self._records - reads)
                elif not ssl_in.pending and not self._record_begun:
                    break
                self._record_begun = False
                try:
                    got = read(size - total, buffer[total:] if total else buffer)
                except ssl.SSLWantReadError:
                    self._record_partial = True
                    if self._records - reads > MOST_USELESS_RECORDS:
                        break
                    continue
                self._record_partial = False
                if not got:
                    self._close_notify_received = True
                    break
                total += got  # type: ignore[operator]  # an int, since a buffer was given
                reads += 1
            if total:
                self._records = 0
                self._record_begun = total == size  # the rest of the record, if there is one, lies in OpenSSL
            else:
                self._refuse_useless()
                self._answer()
        except ssl.SSLZeroReturnError:  # close_notify, when ours has been sent too
            self._close_notify_received = True
        except ssl.SSLError as error:
            if not total:
                self._fail(error)
            self._failed(error)  # what was decrypted before it is good; the next read raises
        if self._ssl_out.pending:
            self._collect_replies()
            if not total:
                self._raise_failure()
        if total or self._close_notify_received:
            return total
        if self.outgoing.total_consumed < self._reply_end and not self._write_closed:
            return Want.WRITE
        if self.incoming.eof:
            return self._read_at_eof()
        return Want.READ

    def read_short(self, max_bytes: int) -> bytes | None:
        incoming = self.incoming
        if (
            not 0 < incoming.pending <= SHORT
            or self._close_notify_received
            or self._plaintext
            or self._record_begun
            or self._record_partial
            or self._failure is not None
            or self._read_failure is not None
            or self._ssl_in.pending > 0
        ):
            return None
        view = incoming.peek()
        size = len(view)
        if incoming.pending == size >= RECORD_HEADER and size == RECORD_HEADER + (view[3] << 8 | view[4]):
            self._records += 1
        elif size > SHORT_RECORDS:
            return None
        else:  # several, perhaps a hundred KeyUpdates: no more than it takes to refuse them
            size = self._count_records(view, size, MOST_USELESS_RECORDS + 1)
        self._ssl_in.write(incoming.take(size))
        self._answer_due = True
        try:
            data: bytes = self.ssl_object.read(min(max_bytes, size))  # the plaintext is shorter
        except ssl.SSLWantReadError:
            self._record_partial = True
            return None
        except ssl.SSLZeroReturnError:
            self._close_notify_received = True
            return None
        except ssl.SSLError as error:
            self._fail(error)
        if not data:
            self._close_notify_received = True
            return None
        self._records = 0
        if self._ssl_out.pending:
            self._collect_replies()
        self._record_begun = len(data) == max_bytes
        return data + self._rest(max_bytes - len(data)) if self._ssl_in.pending > 0 else data

    def _rest(self, max_bytes: int) -> bytes:
        """What more short records hold. Their failure is kept for the next read."""
        room = memoryview(bytearray(min(max_bytes, self._ssl_in.pending)))
        try:
            count = self.read_into(room)
        except TLSError:
            return b""
        return bytes(room[:count]) if isinstance(count, int) else b""

    def write(self, data: memoryview) -> int | Want:
        if self._failure is not None:
            raise self._failure.again()
        if self._write_closed:
            raise ValueError("write() after shutdown()")
        if self._tickets:
            self._release_tickets()
        size = len(data)
        if not size:
            try:
                self._answer()
            except ssl.SSLError as error:
                self._fail(error)
            self._collect()
            return 0
        room = OUTGOING_LIMIT - self.outgoing.pending
        if room <= 0:
            return Want.WRITE
        if size > room or size > WRITE_PIECE:
            data = data[: min(room, WRITE_PIECE)]
        while True:
            try:
                accepted = self.ssl_object.write(data)
            except ssl.SSLWantReadError:  # a TLS 1.2 renegotiation is under way
                if not self._go_on():
                    return Want.READ
            except ssl.SSLError as error:
                self._fail(error)
            else:
                self._answer_due = False
                self.outgoing.write(self._ssl_out.read())
                return accepted

    def shutdown(self) -> None:
        if self._write_closed or not self.handshake_done or self._failure is not None:
            return
        self._release_tickets()
        # Decrypted bytes, and records that OpenSSL has not begun to read, would be fatal to unwrap().
        if waiting := self.ssl_object.pending():
            self._plaintext += self.ssl_object.read(waiting)
        unread = self._ssl_in.read()
        try:
            self.ssl_object.unwrap()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            if not self._close_notify_received:  # in the middle of a renegotiation there is no orderly end
                self._failed(error)
        finally:
            self._ssl_in.write(unread)
        self._collect()
        self._write_closed = True

    def trailing_data(self) -> bytes:
        return self._ssl_in.read() + self.incoming.read()

    # -- bytes between our BIOs and OpenSSL's ------------------------------------------------------------

    def _go_on(self) -> bool:
        """In a handshake that wants to read: whether there is something to read now."""
        self._collect()
        if self._feed():
            return True
        if self.incoming.eof:
            self._fail_at_eof()
        return False

    def _feed(self, *, useless: int = 0) -> bool:
        """Give OpenSSL the next piece of ciphertext; False if there is none.

        After so many ``useless`` records no more than it takes to refuse the peer: OpenSSL may work on each for 30 us.
        """
        if not self.incoming.pending:
            return False
        view = self.incoming.peek()
        size = min(len(view), FEED_PIECE if self.handshake_done else HANDSHAKE_PIECE)
        limit = MOST_USELESS_RECORDS + 1 - max(useless, 0)
        if not self.handshake_done and self.server_side:
            limit = HANDSHAKE_RECORDS
        piece = self.incoming.take(self._count_records(view, size, limit))
        if not self.handshake_done:
            if len(self._first_bytes) < 16:
                self._first_bytes += bytes(piece[: 16 - len(self._first_bytes)])
            self._last_fed = (self._last_fed + bytes(piece[-ALERT_RECORD_SIZE:]))[-ALERT_RECORD_SIZE:]
        self._answer_due = True
        self._ssl_in.write(piece)
        return True

    def _collect(self) -> None:
        """Fetch what OpenSSL has to send."""
        if self._ssl_out.pending:
            ciphertext = self._ssl_out.read()
            if not self._write_closed:  # nothing may follow our close_notify
                self._release_tickets()
                self.outgoing.write(ciphertext)

    def _release_tickets(self) -> None:
        """Let the tickets go first: records are numbered, so nothing encrypted after them may overtake them."""
        if self._tickets:
            self.outgoing.write(self._tickets)
            self._tickets = b""

    def _answer(self) -> None:
        """Let OpenSSL queue what it owes the peer.

        It answers a KeyUpdate with the next write. Where the application writes nothing, a write of nothing does
        it: that sends no record of its own.
        """
        if self._answer_due and self._tls13 and not self._write_closed:
            self._answer_due = False
            self.ssl_object.write(b"")

    def _collect_replies(self) -> None:
        """Fetch what OpenSSL answered while reading: a KeyUpdate, or a flight of a renegotiation."""
        self._collect()
        if not self._tls13:
            self._reply_end = self.outgoing.total_consumed + self.outgoing.pending
        if self.outgoing.pending > OUTGOING_LIMIT + REPLY_HEADROOM and self._failure is None:
            self._failure = PeerMisbehaved(
                "the peer asks for KeyUpdate after KeyUpdate and reads none of the replies (RFC 9846 section 4.7.3)",
                hint="Close the connection; such a peer is broken or hostile",
            )

    def _count_records(self, view: memoryview, size: int, limit: int) -> int:
        """Note which records begin in the next ``size`` bytes for OpenSSL; where the ``limit`` th ends, or ``size``."""
        position, records = self._record_left, 0
        if self._record_header:
            missing = RECORD_HEADER - len(self._record_header)
            self._record_header += view[: min(missing, size)]
            if size < missing:
                return size
            position, records = missing + int.from_bytes(self._record_header[3:], "big"), 1
            self._record_header = b""
        last = size - RECORD_HEADER
        while position <= last and records < limit:
            position += RECORD_HEADER + (view[position + 3] << 8 | view[position + 4])
            records += 1
        if last < position < size and records < limit:
            self._record_header, position = bytes(view[position:size]), size
        self._records += records
        if position < size:
            size = position
        self._record_left = position - size
        return size

    def _refuse_useless(self) -> None:
        """Raise if OpenSSL was given too many records in which there was no data."""
        if self._records > MOST_USELESS_RECORDS and self.handshake_done:
            self._failure = PeerMisbehaved(
                f"the peer sent {self._records} records in a row without data, such as KeyUpdate after KeyUpdate",
                hint="Close the connection; such a peer is broken or hostile",
            )
            raise self._failure.again()

    def _read_plaintext(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._plaintext))
        if count:
            buffer[:count] = self._plaintext[:count]
            del self._plaintext[:count]
        return count

    def _finish_handshake(self) -> None:
        self._tls13 = self.ssl_object.version() == "TLSv1.3"
        if self._tls13 and self.ssl_object.server_side:
            self._tickets = self._ssl_out.read()
        self._collect()
        self._records = 0
        self._first_bytes = self._last_fed = b""  # they tell about failures of a handshake
        self.handshake_done = True

    # -- failures ----------------------------------------------------------------------------------------

    def _raise_failure(self, *, reading: bool = True) -> None:
        if self._failure is not None:
            raise self._failure.again()
        if reading and self._read_failure is not None:
            raise self._read_failure.again()

    def _fail(self, cause: ssl.SSLError) -> NoReturn:
        raise self._failed(cause).again()

    def _failed(self, cause: ssl.SSLError) -> TLSError:
        """Note that OpenSSL failed the connection, and queue the alert that it left."""
        alert = self._ssl_out.read()
        failure = (
            HandshakeClosed(
                "the peer closed the connection (close_notify) before the handshake was done",
                hint="It may have found nothing to serve; see its log",
                alert=Alert.close_notify,
                sent_by_peer=True,
            )
            if isinstance(cause, ssl.SSLZeroReturnError)
            else error_for(
                Failure(
                    reason=cause.reason or "",
                    words=_words(cause),
                    alert_sent=self._plain_alert(alert),
                    alert_seen=self._plain_alert(self._last_fed),
                    first_bytes=self._first_bytes,
                    verify_code=getattr(cause, "verify_code", 0),
                    verify_message=str(getattr(cause, "verify_message", "") or ""),
                    presented_chain=tuple(chain(self.ssl_object, "get_unverified_chain")),
                    server_side=self.ssl_object.server_side,
                    handshake_done=self.handshake_done,
                )
            )
        )
        failure.__cause__ = cause
        if not alert and self._peer_spoke_no_tls(failure):
            # OpenSSL leaves without a word here. RFC 9846 section 5: "If a TLS implementation receives an
            # unexpected record type, it MUST terminate the connection with an "unexpected_message" alert."
            failure.alert = Alert.unexpected_message
            alert = bytes((21, 3, 3, 0, 2, 2, failure.alert))
        if alert and not self._write_closed:
            self._release_tickets()
            self.outgoing.write(alert)
        self.sent_fatal_alert = bool(alert)
        self._failure = failure
        cause.__traceback__ = cause.__context__ = None  # their frames hold the stream, which holds this
        return failure

    def _peer_spoke_no_tls(self, failure: TLSError) -> bool:
        return (
            isinstance(failure, PeerMisbehaved)
            and not self.handshake_done
            and self._first_bytes[:1] not in (b"\x14", b"\x15", b"\x16", b"\x17")
        )

    def _plain_alert(self, data: bytes) -> Alert | None:
        """The alert in the plaintext record at the end of ``data``, if there is one."""
        record = data[-ALERT_RECORD_SIZE:]
        plain = len(record) == ALERT_RECORD_SIZE and record[:2] == b"\x15\x03" and record[3:5] == b"\x00\x02"
        return Alert(record[6]) if plain and not self.handshake_done else None

    def _fail_at_eof(self) -> NoReturn:
        """The bytes ended before the handshake did, or in a renegotiation."""
        self._failure = UnexpectedEOF(
            "the peer closed the connection in the middle of the handshake"
            if self._first_bytes or self.handshake_done
            else "the peer closed the connection without answering the handshake",
            hint="See the peer's log; a plaintext or overloaded server, a firewall or a proxy may do this too",
        )
        self._failure.__cause__ = _eof_error()
        raise self._failure.again()

    def _read_at_eof(self) -> int:
        """The bytes ended without close_notify: an attack, unless the application knows better."""
        if self.ssl_object.context.options & IGNORE_UNEXPECTED_EOF:
            self._close_notify_received = True  # the context was told to take it so
            return 0
        self._read_failure = UnexpectedEOF(
            "the connection ended without close_notify, so the data may have been truncated",
            hint=(
                "If the protocol marks its own end (as HTTP does), pass require_close_notify=False "
                "or https_compatible=True"
            ),
        )
        self._read_failure.__cause__ = _eof_error()
        raise self._read_failure.again()


def create_machine(
    context: object,
    *,
    server_side: bool,
    server_hostname: str | None,
    session: object | None,
) -> OpenSSLMachine:
    """A machine for ``context``; misuse is told as ValueError or TypeError, at once."""
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"the configuration must be an ssl.SSLContext or make its own machines, not {context!r}")
    if session is not None and not isinstance(session, ssl.SSLSession):
        raise TypeError(f"session must be an ssl.SSLSession or None, not {type(session).__name__}")
    if not server_side and context.check_hostname and not server_hostname:
        # Without a name to compare, OpenSSL would accept any certificate of a trusted CA, silently.
        raise ValueError(
            "this SSLContext checks host names, so a client needs server_hostname "
            "(or a context with check_hostname=False)"
        )
    try:
        return OpenSSLMachine(context, server_side=server_side, server_hostname=server_hostname, session=session)
    except ssl.SSLError as error:  # such as: a server's context for a client
        raise ValueError(f"this SSLContext cannot be used with server_side={server_side}: {_words(error)}") from error


def _eof_error() -> ssl.SSLEOFError:
    """What `ssl` itself would have raised; code in the wild looks for it in ``__cause__``."""
    error = ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol")
    error.reason, error.library = "UNEXPECTED_EOF_WHILE_READING", "SSL"
    return error


def _words(error: ssl.SSLError) -> str:
    """OpenSSL's words: ``[SSL: REASON] the words (_ssl.c:1006)`` without the brackets around them."""
    words = str(error.args[1]) if len(error.args) > 1 else str(error)
    if words.startswith("["):
        words = words.partition("] ")[2]
    return words.rpartition(" (_ssl.c")[0] or words
