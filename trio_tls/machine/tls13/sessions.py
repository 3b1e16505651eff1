"""Sessions: what each end keeps so that a later handshake needs no certificates (RFC 9846 sections 2.2 and 4.7.1).

How this works. A server's ticket and the PSK that goes with it come from one connection, and stand for what that
connection has proven. So the facts are kept beside the PSK: who the peer was and under which configuration it was
accepted. A session is of use only where all of them hold still (`Session.fits`, `Session.expired`); in doubt the
handshake is a full one, which costs some milliseconds and nothing else.

`Session` is the client's, `ServerSession` the server's. Both have a form in bytes, which begins with its kind and
version. Those bytes hold the PSK, in the clear: who reads them can take over where the session left off.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeVar

from ...errors import PeerMisbehaved
from .registry import CipherSuiteNumber, name_of
from .suites import SUITES
from .value import value
from .wire import Reader, uint8, uint16, uint32, vector

__all__ = ["MOST_LIFETIME", "Origin", "ServerSession", "Session"]

T = TypeVar("T")

#: Seconds. "Clients MUST NOT use tickets for longer than 7 days after issuance, regardless of the ticket_lifetime"
#: (section 4.7.1).
MOST_LIFETIME = 7 * 24 * 3600

#: Seconds by which the clocks of hosts that take each other's tickets may differ.
MOST_SKEW = 60

#: Seconds from 1970: no clock tells a time that is farther away, some 35,000 years.
FARTHEST = 2**40

#: What the bytes of a session begin with: the kind, and the version of its form.
CLIENT_FORM = b"TLSc\x01"
SERVER_FORM = b"TLSs\x01"

#: What lies side by side in a server's session: issued_at, authenticated_at, lifetime, age_add.
TIMES = struct.Struct(">ddII")


@value
class Session:
    """What a client needs to resume a session. For one connection: take it out of where it is kept.

    Attributes:
      cipher_suite: the number of the suite of the connection that it comes from; its hash goes with the PSK.
      psk: the pre-shared key.
      ticket: what the server recognises it by.
      age_add: what the age is obscured with.
      lifetime: for how many seconds the ticket is good.
      received_at: when the ticket came, seconds since 1970.
      authenticated_at: when the full handshake was that all of this goes back to. It is kept when a resumed
        connection yields a new session.
      server_name: the name that the server was accepted for; None if it was asked for none.
      alpn_protocol: the agreed ALPN protocol, or None.
      fingerprint: of the configuration that accepted the server.
      peer_chain: the certificates that the server presented, DER, leaf first.
      verified_chain: leaf to trust anchor, DER; empty if the application decided by itself.
      not_after: when the first certificate of the chain expires, seconds since 1970; None: none has a say.
    """

    cipher_suite: int
    psk: bytes
    ticket: bytes
    age_add: int
    lifetime: int
    received_at: float
    authenticated_at: float
    server_name: str | None
    alpn_protocol: bytes | None
    fingerprint: bytes
    peer_chain: tuple[bytes, ...]
    verified_chain: tuple[bytes, ...]
    not_after: float | None

    def obfuscated_age(self, now: float) -> int:
        """The obfuscated_ticket_age: milliseconds since the ticket came, plus `age_add` (section 4.3.11.1)."""
        return (int(max(0.0, now - self.received_at) * 1000) + self.age_add) % 2**32

    def expired(self, now: float) -> bool:
        """Whether the session must not be used any more; also if the clock went back, so that its age is unknown.

        Args:
          now: seconds since 1970.
        """
        # "Clients MUST NOT attempt to use tickets which have ages greater than the "ticket_lifetime" value"
        # (section 4.3.11.1)
        return (
            not 0 <= now - self.received_at < min(self.lifetime, MOST_LIFETIME)
            or now - self.authenticated_at >= MOST_LIFETIME
            or (self.not_after is not None and now > self.not_after)
        )

    def fits(self, *, fingerprint: bytes, server_name: str | None) -> bool:
        """Whether it was made under this configuration, with a server of this name.

        The fingerprint covers what a server is accepted by. So a session that was made without verification, or with
        other trust anchors, does not get around those of this connection.
        """
        return self.fingerprint == fingerprint and self.server_name == server_name

    def to_bytes(self) -> bytes:
        """The session as bytes, to be stored. They are a secret."""
        return b"".join(
            (
                CLIENT_FORM,
                uint16(self.cipher_suite),
                vector(1, self.psk),
                vector(2, self.ticket),
                uint32(self.age_add),
                uint32(self.lifetime),
                _time(self.received_at),
                _time(self.authenticated_at),
                _optional(None if self.server_name is None else self.server_name.encode()),
                _optional(self.alpn_protocol),
                vector(2, self.fingerprint),
                _chain(self.peer_chain),
                _chain(self.verified_chain),
                _optional_time(self.not_after),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Session:
        """The session that `to_bytes` wrote.

        Raises:
          ValueError: the bytes are no session, or one of another version of this library.
        """
        return _parsed(data, CLIENT_FORM, "a client's session", cls._read)

    @classmethod
    def _read(cls, reader: Reader) -> Session:
        cipher_suite = _read_suite(reader)
        return cls(
            cipher_suite=cipher_suite,
            psk=_read_psk(reader, cipher_suite),
            ticket=reader.vector(2, low=1),
            age_add=reader.uint32(),
            lifetime=reader.uint32(),
            received_at=_read_time(reader),
            authenticated_at=_read_time(reader),
            server_name=_read_name(reader),
            alpn_protocol=_read_optional(reader),
            fingerprint=reader.vector(2),
            peer_chain=_read_chain(reader),
            verified_chain=_read_chain(reader),
            not_after=_read_optional_time(reader),
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (Session.from_bytes, (self.to_bytes(),))

    def __repr__(self) -> str:
        return f"<Session with {self.server_name!r}, {name_of(CipherSuiteNumber, self.cipher_suite)}>"


@value
class Origin:
    """The full handshake that a server's session goes back to.

    Attributes:
      authenticated_at: when it was, seconds since 1970.
      server_end_point: its tls-server-end-point channel binding, or None.
    """

    authenticated_at: float
    server_end_point: bytes | None


@value
class ServerSession:
    """What a server needs to resume a session: it is in the ticket, sealed, or in a store.

    Attributes:
      cipher_suite: the number of the suite of the connection that it comes from; its hash goes with the PSK.
      psk: the pre-shared key.
      server_name: the name that the client asked for, or None.
      alpn_protocol: the agreed ALPN protocol, or None.
      fingerprint: of the configuration that served the client.
      client_chain: the certificates that the client presented, DER, leaf first; empty if none.
      issued_at: when the ticket was issued, seconds since 1970.
      authenticated_at: when the full handshake was that all of this goes back to. It is kept when a resumed
        connection yields a new session.
      lifetime: for how many seconds the ticket is good.
      age_add: what the client obscures the age with.
      not_after: when the first certificate of the client's chain expires, seconds since 1970; None: none has a say.
      server_end_point: the tls-server-end-point channel binding of the full handshake: a resumed one has no
        certificate to make it of. None if there was none.
    """

    cipher_suite: int
    psk: bytes
    server_name: str | None
    alpn_protocol: bytes | None
    fingerprint: bytes
    client_chain: tuple[bytes, ...]
    issued_at: float
    authenticated_at: float
    lifetime: int
    age_add: int
    not_after: float | None
    server_end_point: bytes | None

    @property
    def origin(self) -> Origin:
        """What a session that follows this one has to be told."""
        return Origin(self.authenticated_at, self.server_end_point)

    def expired(self, now: float) -> bool:
        """Whether the session must not be resumed any more.

        Args:
          now: seconds since 1970. It may be somewhat before the ticket was issued, as another host's clock tells.
        """
        # "It is RECOMMENDED that implementations place limits on the total lifetime of such keying material", which
        # new tickets would extend for ever otherwise (section 4.7.1).
        return (
            not -MOST_SKEW <= now - self.issued_at < min(self.lifetime, MOST_LIFETIME)
            or now - self.authenticated_at >= MOST_LIFETIME
            or (self.not_after is not None and now > self.not_after)
        )

    def fits(self, *, fingerprint: bytes, server_name: str | None, alpn_protocol: bytes | None) -> bool:
        """Whether it was made under this configuration, with a client that asked for the same.

        The fingerprint covers what clients are accepted by. So a ticket that was got without a client certificate,
        or at another virtual host, does not open a server that demands one.
        """
        return (
            self.fingerprint == fingerprint and self.server_name == server_name and self.alpn_protocol == alpn_protocol
        )

    def to_bytes(self) -> bytes:
        """The session as bytes. They are a secret: `TicketKeys.seal` makes a ticket of them."""
        return b"".join(
            (
                SERVER_FORM,
                uint16(self.cipher_suite),
                vector(1, self.psk),
                _optional(None if self.server_name is None else self.server_name.encode()),
                _optional(self.alpn_protocol),
                vector(2, self.fingerprint),
                _chain(self.client_chain),
                TIMES.pack(self.issued_at, self.authenticated_at, self.lifetime, self.age_add),
                _optional_time(self.not_after),
                _optional(self.server_end_point),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> ServerSession:
        """The session that `to_bytes` wrote.

        Raises:
          ValueError: the bytes are no session, or one of another version of this library. Tickets of hosts that run
            another version may hold such: their clients get a full handshake.
        """
        return _parsed(data, SERVER_FORM, "a server's session", cls._read)

    @classmethod
    def _read(cls, reader: Reader) -> ServerSession:
        cipher_suite = _read_suite(reader)
        psk = _read_psk(reader, cipher_suite)
        server_name, alpn_protocol = _read_name(reader), _read_optional(reader)
        fingerprint, client_chain = reader.vector(2), _read_chain(reader)
        issued_at, authenticated_at, lifetime, age_add = TIMES.unpack(reader.take(TIMES.size))
        return cls(
            cipher_suite=cipher_suite,
            psk=psk,
            server_name=server_name,
            alpn_protocol=alpn_protocol,
            fingerprint=fingerprint,
            client_chain=client_chain,
            issued_at=_finite(issued_at),
            authenticated_at=_finite(authenticated_at),
            lifetime=lifetime,
            age_add=age_add,
            not_after=_read_optional_time(reader),
            server_end_point=_read_optional(reader),
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (ServerSession.from_bytes, (self.to_bytes(),))

    def __repr__(self) -> str:
        return f"<ServerSession of {self.server_name!r}, {name_of(CipherSuiteNumber, self.cipher_suite)}>"


# -- the form in bytes: fields as in a handshake message, times as IEEE 754 doubles -----------------------------------


def _parsed(data: bytes, form: bytes, what: str, read: Callable[[Reader], T]) -> T:
    if data[: len(form) - 1] != form[:-1]:
        raise ValueError(f"these bytes are not {what}: give what its to_bytes() returned")
    if data[: len(form)] != form:
        raise ValueError(f"these bytes are {what} of another version of trio_tls: drop it, a new one comes by itself")
    reader = Reader(data, what)
    reader.take(len(form))
    try:
        found = read(reader)
        reader.finish()
    except (PeerMisbehaved, ValueError) as exc:
        # No peer is at fault here, though it is the codec of its messages that has noticed.
        what_happened = exc.message if isinstance(exc, PeerMisbehaved) else exc
        raise ValueError(f"these bytes are {what}, but damaged: {what_happened}") from exc
    return found


def _optional(data: bytes | None) -> bytes:
    return uint8(0) if data is None else uint8(1) + vector(2, data)


def _read_optional(reader: Reader) -> bytes | None:
    return reader.vector(2) if _is_present(reader) else None


def _is_present(reader: Reader) -> bool:
    present = reader.uint8()
    if present > 1:
        raise ValueError(f"a field is neither absent nor present, but {present}")
    return bool(present)


def _time(seconds: float) -> bytes:
    return struct.pack(">d", seconds)


def _optional_time(seconds: float | None) -> bytes:
    return uint8(0) if seconds is None else uint8(1) + _time(seconds)


def _read_optional_time(reader: Reader) -> float | None:
    return _read_time(reader) if _is_present(reader) else None


def _read_time(reader: Reader) -> float:
    (seconds,) = struct.unpack(">d", reader.take(8))
    return _finite(seconds)


def _finite(seconds: float) -> float:
    # What is no number would compare as never too late; and what no clock tells is too much to calculate with.
    if not abs(seconds) <= FARTHEST:
        raise ValueError("a time that no clock tells")
    return seconds


def _chain(certificates: tuple[bytes, ...]) -> bytes:
    return vector(3, b"".join([vector(3, certificate) for certificate in certificates]))


def _read_chain(reader: Reader) -> tuple[bytes, ...]:
    inner = reader.sub(3)
    certificates = []
    while inner.remaining:
        certificates.append(inner.vector(3, low=1))
    return tuple(certificates)


def _read_name(reader: Reader) -> str | None:
    name = _read_optional(reader)
    return None if name is None else name.decode()


def _read_suite(reader: Reader) -> int:
    number = reader.uint16()
    if number not in SUITES:
        raise ValueError(f"it goes with the cipher suite {name_of(CipherSuiteNumber, number)}, which is not known here")
    return number


def _read_psk(reader: Reader, cipher_suite: int) -> bytes:
    psk = reader.vector(1)
    if len(psk) != SUITES[cipher_suite].hash_length:
        raise ValueError(f"a pre-shared key of {len(psk)} bytes does not go with the hash of its cipher suite")
    return psk
