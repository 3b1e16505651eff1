"""RecordReader: records in the incoming BIO become messages and application data (RFC 9846 section 5).

How this works. There are two ways through. Application data is the one that has to be fast: `_decrypt_run` walks over
the records that lie whole in the first chunk of the BIO, and decrypts each from there straight into the caller's
buffer, at a running offset. The byte after a content (its type) is overwritten by the record that follows.

Whatever that loop has no case for is left to `_read_record`, which takes one record of any kind: one that lies in
two chunks, that is not protected, or that does not fit into the buffer. It takes the header first, judges it, and
does not look again before all of the body is here: so no byte is looked at twice, however slowly the bytes come, and
a record that must not be is refused before it is waited for.

Early data is never accepted here, but a client that knows us from elsewhere may send some. A server that saw it offered
is given a budget for it (`RecordReader.skip_early_data`): until the client's own flight goes on, `_read_record` drops
protected records that are not under the expected key.

Content that is no application data is put aside by `_sort`: handshake bytes until `read_message` finds a whole message
in them, an alert until `read_message` returns it. Nothing is decrypted past it: it may change the key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag

from ...alerts import Alert
from ...errors import PeerMisbehaved, TLSError
from .misbehaviour import bad_record_mac, decode_error, excerpt, record_overflow, unexpected_message
from .record import (
    HEADER_LENGTH,
    MOST_CIPHERTEXT,
    MOST_INNER,
    MOST_PLAINTEXT,
    NONCE_LENGTH,
    OVERHEAD,
    SEQUENCE_END,
    TAG_LENGTH,
    ReceivedAlert,
    RecordKey,
)
from .registry import ContentType, HandshakeType, name_of

if TYPE_CHECKING:
    from ..bio import MemoryBIO

__all__ = ["RecordReader"]

CHANGE_CIPHER_SPEC = int(ContentType.change_cipher_spec)
ALERT = int(ContentType.alert)
HANDSHAKE = int(ContentType.handshake)
APPLICATION_DATA = int(ContentType.application_data)

#: Consecutive application data records without content that are let pass. They are legal, but do nothing.
MOST_EMPTY_RECORDS = 32

#: change_cipher_spec records that are let pass in one handshake; one or two is what peers send.
MOST_CHANGE_CIPHER_SPECS = 32

#: Bytes of skipped early data, as they come: as much as a client may commonly send (a max_early_data_size of 2^14), and
#: what protection adds to 64 records. Longer records and fewer, or more and shorter ones, are the client's to choose.
MOST_EARLY_DATA = MOST_PLAINTEXT + 64 * OVERHEAD

#: The bytes of a handshake message before its body: type and length.
MESSAGE_HEADER_LENGTH = 4

NOTHING = memoryview(bytearray())


class RecordReader:
    """The receiving side of the record layer.

    The reader never looks at the end of the stream: that is the caller's, when no more can be read.

    Args:
      incoming: where the records come from.

    Attributes:
      ccs_allowed: whether change_cipher_spec is dropped or refused: it is allowed from the first ClientHello to the
        peer's Finished.
      application_data_allowed: whether application data may come: from the peer's Finished on.
      record_size_limit: the most that a protected record may hold: content, type and padding (RFC 8449 section 4);
        what we have advertised.
    """

    __slots__ = (
        "_alert",
        "_change_cipher_specs",
        "_decrypted",
        "_early_data_left",
        "_empty_records",
        "_failure",
        "_handshake",
        "_header",
        "_incoming",
        "_key",
        "_leftover",
        "_message_end",
        "_needed",
        "application_data_allowed",
        "ccs_allowed",
        "record_size_limit",
    )

    def __init__(self, incoming: MemoryBIO) -> None:
        self.ccs_allowed: bool = False
        self.application_data_allowed: bool = False
        self.record_size_limit: int = MOST_INNER
        self._incoming = incoming
        self._key: RecordKey | None = None
        self._header = b""  # of the record whose body is being waited for
        self._needed = HEADER_LENGTH  # bytes that have to be here before it is worth looking again
        self._handshake = bytearray()  # what `read_message` has not returned yet
        self._message_end = 0  # where the first message in it ends, once that is known
        self._alert: ReceivedAlert | None = None
        self._leftover = NOTHING  # the rest of a record that did not fit into the caller's buffer
        self._failure: TLSError | None = None  # for the call after the one that returned what came before it
        self._decrypted = False  # whether any record has authenticated yet
        self._early_data_left = -1  # bytes of it that are still skipped; negative: there is none to skip
        self._empty_records = 0
        self._change_cipher_specs = 0

    @property
    def buffered(self) -> int:
        """Bytes of application data that are decrypted and wait for `read_into`."""
        return len(self._leftover)

    @property
    def other_pending(self) -> bool:
        """Whether something that is no application data was read: for `read_message`, before more can be read.

        It may be a part of a handshake message: then `read_message` returns None until the rest is here.
        """
        return bool(self._handshake) or self._alert is not None

    def set_key(self, key: RecordKey) -> None:
        """Expect all further records to be protected with ``key``, which is this reader's from now on.

        Raises:
          PeerMisbehaved: unexpected_message: the message before the change did not end its record.
        """
        self.must_be_aligned()
        self._key = key
        if self._header:
            self._judge(self._header)  # again, by the rules for protected records

    def must_be_aligned(self) -> None:
        """The peer changes its key here, so nothing may be left of the record before.

        Raises:
          PeerMisbehaved: unexpected_message: something is.
        """
        if self._handshake:
            # "Implementations MUST verify that all messages immediately preceding a key change align with a record
            # boundary; if not, then they MUST terminate the connection with an "unexpected_message" alert."
            raise unexpected_message(
                f"{len(self._handshake)} bytes of the peer's messages span a change of keys", "5.1"
            )

    def rest(self) -> None:
        """Take less memory until the next record."""
        if self._key is not None:
            self._key.rest()

    def forget_key(self) -> None:
        """Let go of the key: the peer has ended what it writes, or the connection has failed."""
        self._key = None

    def skip_early_data(self) -> None:
        """Drop the early data of a client that has offered some; it is not accepted (RFC 9846 section 4.3.10).

        It ends at the next plain handshake record (the second ClientHello, after a HelloRetryRequest), or at the first
        record that authenticates under the expected key. A record that does not is one of it, and takes no number of
        that key. If there is more than a client may reasonably send, that is an unexpected_message.
        """
        self._early_data_left = MOST_EARLY_DATA

    # -- messages ----------------------------------------------------------------------------------------------

    def read_message(self, limit_of: Callable[[int], int]) -> tuple[int, bytes] | ReceivedAlert | None:
        """The next handshake message, whole: (its type, the message with its header). Or an alert.

        None: more bytes have to come first. Or application data came, where that is allowed: it waits for `read_into`.

        Args:
          limit_of: given the type of a message, how long its body may be. It is asked before the body is waited for,
            and raises what is due if no message of this type may come now.

        Raises:
          PeerMisbehaved: the peer broke a rule of the record layer; the connection is dead.
        """
        if self._failure is not None:
            raise self._failure.again()
        while True:
            if self._alert is not None:
                alert, self._alert = self._alert, None
                return alert
            if self._handshake:
                message = self._take_message(limit_of)
                if message is not None:
                    return message[0], message
            elif self._leftover:
                return None
            if self._read_record(NOTHING) is None:
                return None

    def _take_message(self, limit_of: Callable[[int], int]) -> bytes | None:
        """The first message of the handshake bytes, if all of it is here."""
        pending = self._handshake
        end = self._message_end
        if not end:
            if len(pending) < MESSAGE_HEADER_LENGTH:
                return None
            length = int.from_bytes(pending[1:MESSAGE_HEADER_LENGTH], "big")
            if length > limit_of(pending[0]):
                kind = name_of(HandshakeType, pending[0])
                raise decode_error(f"the peer's {kind} message of {length} bytes is too long", "4")
            self._message_end = end = MESSAGE_HEADER_LENGTH + length
        if len(pending) < end:
            return None
        self._message_end = 0
        if len(pending) == end:  # as a rule
            message = bytes(pending)
            pending.clear()
        else:
            message = bytes(pending[:end])
            del pending[:end]
        return message

    # -- application data ----------------------------------------------------------------------------------------

    def read_into(self, buffer: memoryview) -> int:
        """Fill ``buffer`` with the application data of every whole record that is here; how many bytes that were.

        0: more bytes have to come first, or something else is next (`other_pending`). What lies in ``buffer``
        behind the data may have been overwritten.

        Raises:
          PeerMisbehaved: the peer broke a rule of the record layer; the connection is dead. Data that came before
            is returned first: then the next call raises.
        """
        total = self._deliver(self._leftover, buffer) if self._leftover else 0
        size = len(buffer)
        incoming = self._incoming
        while (
            total < size
            and incoming.pending >= self._needed
            and not self._handshake
            and self._alert is None
            and self._failure is None
        ):
            pending = incoming.pending
            total += self._decrypt_run(buffer[total:] if total else buffer)
            if incoming.pending == pending and self._failure is None:
                try:
                    count = self._read_record(buffer[total:] if total else buffer)
                except TLSError as error:
                    self._failure = error.again()  # without the frames, which hold this reader
                    break
                if count is None:
                    break
                total += count
        if not total and self._failure is not None:
            raise self._failure.again()
        return total

    def _decrypt_run(self, buffer: memoryview) -> int:
        """Decrypt application data into ``buffer``, as long as it fits and lies in the first chunk of the BIO.

        How many bytes that were. A failure is kept, not raised: what came before it is good.
        """
        key = self._key
        incoming = self._incoming
        if (
            key is None
            or self._header
            or not self.application_data_allowed
            or key.sequence + incoming.pending >= SEQUENCE_END
        ):
            return 0
        view = incoming.peek()
        end, size = len(view), len(buffer)
        start = total = 0
        odd = False
        target = NOTHING
        most = self.record_size_limit + TAG_LENGTH
        decrypt_into, iv, sequence = key.aead.decrypt_into, key.iv, key.sequence
        try:
            while end - start > OVERHEAD:
                body = start + HEADER_LENGTH
                length = view[start + 3] << 8 | view[start + 4]
                stop = body + length
                inner = length - TAG_LENGTH
                if stop > end or inner > size - total or inner < 2 or length > most or view[start] != APPLICATION_DATA:
                    break
                target = buffer[total : total + inner]
                nonce = (iv ^ sequence).to_bytes(NONCE_LENGTH, "big")
                decrypt_into(nonce, view[body:stop], view[start:body], target)
                sequence += 1
                start = stop
                if target[-1] != APPLICATION_DATA:
                    odd = True
                    break
                total += inner - 1
        except InvalidTag:
            self._failure = _not_authentic(target)
        if start:
            self._decrypted = True
            key.sequence = sequence
            incoming.consume(start)
            if total:
                self._empty_records = 0
            if odd:
                try:
                    total += self._sort_out(target)
                except TLSError as error:
                    self._failure = error.again()
        return total

    def read_short(self, most: int) -> bytes | None:
        """The application data of the one record that is here, if it is whole and has at most ``most`` bytes.

        Quicker than `read_into` for one message that goes back and forth. None: `read_into` has to look.

        Raises:
          PeerMisbehaved: as `read_into`.
        """
        incoming = self._incoming
        key = self._key
        view = incoming.peek()
        size = len(view)
        if (
            size <= OVERHEAD
            or size != incoming.pending
            or size - OVERHEAD > most
            or view[0] != APPLICATION_DATA
            or (view[3] << 8 | view[4]) != size - HEADER_LENGTH
            or size > self.record_size_limit + HEADER_LENGTH + TAG_LENGTH
            or key is None
            or key.sequence >= SEQUENCE_END
            or not self.application_data_allowed
            or self._header
            or self._leftover
            or self._handshake
            or self._alert is not None
            or self._failure is not None
        ):
            return None
        nonce = (key.iv ^ key.sequence).to_bytes(NONCE_LENGTH, "big")
        try:
            plain = key.aead.decrypt(nonce, view[HEADER_LENGTH:], view[:HEADER_LENGTH])
        except InvalidTag:
            raise _not_authentic() from None
        self._decrypted = True
        key.sequence += 1
        incoming.consume(size)
        if plain[-1] == APPLICATION_DATA:
            self._empty_records = 0
            return plain[:-1]
        return bytes(self._sort(*_content_of(memoryview(plain)))) or None

    def _sort_out(self, target: memoryview) -> int:
        """``target`` holds an inner plaintext: sort it; how much application data it begins with.

        Nothing else stays there: it is the caller's.
        """
        content = self._sort(*_content_of(target))
        if not content:
            target[:] = bytes(len(target))
        return len(content)

    def _deliver(self, content: memoryview, buffer: memoryview) -> int:
        """Give out as much of ``content`` as there is room for, and keep the rest."""
        count = min(len(content), len(buffer))
        buffer[:count] = content[:count]
        self._leftover = content[count:] if count < len(content) else NOTHING
        return count

    # -- one record of any kind ----------------------------------------------------------------------------------

    def _read_record(self, room: memoryview) -> int | None:
        """Take the next record; how much of ``room`` was filled with its application data. None: it is not all here.

        What does not fit into ``room`` is left over.
        """
        incoming = self._incoming
        if incoming.pending < self._needed:
            return None
        header = self._header
        view = incoming.peek()
        if not header and len(view) >= HEADER_LENGTH and len(view) >= _end_of(view):  # nearly always
            end = _end_of(view)
            header = bytes(view[:HEADER_LENGTH])
            self._judge(header)
            body = view[HEADER_LENGTH:end]
            incoming.consume(end)
        else:
            if not header:
                header = incoming.read(HEADER_LENGTH)
                self._judge(header)
                self._header = header
                self._needed = int.from_bytes(header[3:], "big")
                if incoming.pending < self._needed:
                    return None
            body = self._take_body(self._needed)
            self._header = b""
            self._needed = HEADER_LENGTH
        kind = header[0]
        if kind == APPLICATION_DATA:
            if self._early_data_left >= 0 and self._is_early_data(header, body):
                return 0
            inner = len(body) - TAG_LENGTH
            if inner <= len(room):
                target = room[: max(inner, 0)]
                self._decrypt(header, body, target)
                return self._sort_out(target)
            return self._deliver(self._sort(*_content_of(self._decrypted_apart(header, body))), room)
        if kind == CHANGE_CIPHER_SPEC:
            self._drop_change_cipher_spec(body)
        elif kind == ALERT and self._key is not None and body[1] in {Alert.close_notify, Alert.user_canceled}:
            raise unexpected_message("the peer's end of the connection is not authenticated", "5.2")
        else:
            if kind == HANDSHAKE:
                self._early_data_left = -1
            self._sort(kind, body)
        return 0

    def _is_early_data(self, header: bytes, body: memoryview) -> bool:
        """Whether to skip this record. If it is the first of what follows, it is judged as any other from here on."""
        self._refuse_within_message(APPLICATION_DATA)
        key = self._key
        if key is not None and len(body) >= TAG_LENGTH:
            nonce = (key.iv ^ key.sequence).to_bytes(NONCE_LENGTH, "big")  # its number is not taken yet
            try:
                key.aead.decrypt(nonce, body, header)
            except InvalidTag:
                pass
            else:
                # "Once a record is deprotected successfully, it is treated as the start of the client's second flight"
                self._early_data_left = -1
                self._judge(header)
                return False
        self._early_data_left -= HEADER_LENGTH + len(body)
        if self._early_data_left < 0:
            raise unexpected_message("the client sent more early data than is skipped", "4.3.10")
        return True

    def _take_body(self, length: int) -> memoryview:
        """The next ``length`` bytes, which are here. They are copied only if they lie in several chunks."""
        take = self._incoming.take
        body = take(length)
        if len(body) == length:
            return body
        parts = [body]
        missing = length - len(body)
        while missing:
            parts.append(take(missing))
            missing -= len(parts[-1])
        return memoryview(b"".join(parts))

    def _judge(self, header: bytes) -> None:
        """Refuse a record that may not come now, by its header alone."""
        kind = header[0]
        length = int.from_bytes(header[3:], "big")
        protected = self._key is not None
        if kind == APPLICATION_DATA:
            skipping = self._early_data_left >= 0
            if not protected and not skipping:
                raise unexpected_message("the peer sent a protected record before there are keys", "5.1")
            if length > MOST_CIPHERTEXT:
                raise record_overflow(f"the peer sent a record of {length} bytes", "5.2")
            if length > self.record_size_limit + TAG_LENGTH and not skipping:
                # "the full encoded TLSInnerPlaintext MUST NOT exceed 2^14 + 1 octets", or what we have advertised.
                raise record_overflow(f"the peer sent a record that holds {length - TAG_LENGTH} bytes", "5.4")
        elif kind == CHANGE_CIPHER_SPEC:
            if not self.ccs_allowed or self._handshake or length != 1:
                raise unexpected_message("the peer sent a change_cipher_spec that must not be here", "5")
        elif kind in {ALERT, HANDSHAKE}:
            # An alert may be plain where the peer could not follow our change of keys. Not once it has.
            if protected and (kind == HANDSHAKE or length != 2 or self._decrypted):
                raise unexpected_message("the peer sent an unprotected record after the change of keys", "5.2")
            if length > MOST_PLAINTEXT:
                raise record_overflow(f"the peer sent a record of {length} bytes", "5.1")
            if not length:
                raise _empty(kind)
        else:
            raise unexpected_message(f"the peer sent {excerpt(header)}, which begins no TLS record", "5")

    def _decrypt(self, header: bytes, body: memoryview, target: memoryview) -> None:
        """Decrypt one record into ``target``, which has the length of its inner plaintext."""
        key = self._key_in_order()
        if len(body) < TAG_LENGTH:
            raise _not_authentic(target)
        try:
            key.aead.decrypt_into(key.next_nonce(), body, header, target)
        except InvalidTag:
            raise _not_authentic(target) from None
        self._decrypted = True

    def _decrypted_apart(self, header: bytes, body: memoryview) -> memoryview:
        """The inner plaintext of one record that has no place in the caller's buffer."""
        key = self._key_in_order()
        try:
            inner = key.aead.decrypt(key.next_nonce(), body, header)
        except InvalidTag:
            raise _not_authentic() from None
        self._decrypted = True
        return memoryview(inner)

    def _key_in_order(self) -> RecordKey:
        """The key, which can still number a record."""
        key = self._key
        if key is None or key.sequence >= SEQUENCE_END:
            # "If a TLS implementation would need to wrap a sequence number, it MUST ... terminate the connection."
            raise unexpected_message("the peer sent more records than one key can number", "5.3")
        return key

    def _sort(self, kind: int, content: memoryview) -> memoryview:
        """Put a content where it belongs. Application data is returned, and nothing in any other case."""
        if kind == APPLICATION_DATA:
            self._refuse_within_message(kind)
            if not self.application_data_allowed:
                raise unexpected_message("the peer sent application data before the handshake was done", "4.5.3")
            if content:
                self._empty_records = 0
                return content
            self._empty_records += 1
            if self._empty_records > MOST_EMPTY_RECORDS:
                raise unexpected_message(f"the peer sent {self._empty_records} empty records in a row", "5.1")
            return NOTHING
        if kind not in {HANDSHAKE, ALERT}:
            # "An implementation ... which receives a protected change_cipher_spec record MUST abort the handshake"
            raise unexpected_message(f"the peer sent a protected record of the type {kind}", "5")
        if not content:
            raise _empty(kind)
        if kind == HANDSHAKE:
            self._empty_records = 0
            self._handshake += content
            return NOTHING
        self._refuse_within_message(kind)
        if len(content) != 2:
            # "a record with an Alert type MUST contain exactly one message"
            raise decode_error(f"the peer sent an alert of {len(content)} bytes", "5.1")
        self._alert = ReceivedAlert(content[0], Alert(content[1]))
        return NOTHING

    def _refuse_within_message(self, kind: int) -> None:
        if self._handshake:
            # "if a handshake message is split over two or more records, there MUST NOT be any other records between"
            what = name_of(ContentType, kind)
            raise unexpected_message(f"the peer sent {what} in the middle of a handshake message", "5.1")

    def _drop_change_cipher_spec(self, body: memoryview) -> None:
        self._change_cipher_specs += 1
        if body[0] != 1 or self._change_cipher_specs > MOST_CHANGE_CIPHER_SPECS:
            raise unexpected_message("the peer sent a change_cipher_spec that must not be here", "5")


def _end_of(view: memoryview) -> int:
    """Where the record ends that begins here."""
    return HEADER_LENGTH + (view[3] << 8 | view[4])


def _content_of(inner: memoryview) -> tuple[int, memoryview]:
    """The type and content of a TLSInnerPlaintext.

    "the receiving implementation scans the field from the end toward the beginning until it finds a non-zero octet.
    This non-zero octet is the content type of the message." (section 5.4)
    """
    end = len(inner) if inner and inner[-1] else len(inner.tobytes().rstrip(b"\0"))
    if not end:
        raise unexpected_message("the peer sent a protected record without a type", "5.4")
    return inner[end - 1], inner[: end - 1]


def _empty(kind: int) -> PeerMisbehaved:
    return unexpected_message(f"the peer sent an empty fragment of the type {name_of(ContentType, kind)}", "5.4")


def _not_authentic(target: memoryview = NOTHING) -> PeerMisbehaved:
    """A record whose tag is wrong. The library has written what it decrypted all the same: nobody may see that."""
    if target:
        target[:] = bytes(len(target))
    return bad_record_mac("a record from the peer does not authenticate", "5.2")
