"""The seam between the pump and a TLS machine.

How this works. A machine has two memory BIOs. The pump fills ``incoming`` with ciphertext from the peer and
drains ``outgoing`` to it; between those it calls a *step* (`Machine.do_handshake`, `Machine.read_into`,
`Machine.write`). A step makes progress or says what it wants, as ``SSL_connect(3)`` does with
``SSL_ERROR_WANT_READ``. Repeating a step that wants something is free and safe, and that is all that a
cancellation ever makes the pump do.

Nothing above ``machine/`` asks which machine it drives.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from cryptography import x509

from .client_hello import ClientHelloInfo

if TYPE_CHECKING:
    from .bio import MemoryBIO

__all__ = [
    "ConnectionInfo",
    "Introspection",
    "Machine",
    "MachineFactory",
    "Need",
    "NeedCredential",
    "NeedServerConfig",
    "NeedSession",
    "NeedSignature",
    "NeedVerification",
    "Want",
]


class Want(enum.Flag):
    """What has to happen before the same step can go on; ``SSL_want(3)``.

    ``TLSStream.want`` may be both at once, when one task waits to receive while another waits to send.
    """

    READ = 1
    """More ciphertext from the peer has to reach ``incoming``."""

    WRITE = 2
    """Ciphertext has to leave ``outgoing``; after `Machine.do_handshake`, it should."""


@dataclass(eq=False, slots=True)
class Need:
    """Something that the machine asks the application for, and that may take time.

    A machine returns the same open need from each ``do_handshake()`` until it is settled by `answer` or
    `refuse`; the next ``do_handshake()`` then goes on. So the task that awaits the application's answer may
    be cancelled: the need stays open, and whoever calls next asks again.

    Args:
      resolve: the application's async function; it is given this need and returns the answer.
    """

    resolve: Callable[[Need], Awaitable[object]]
    settled: bool = field(default=False, init=False)
    value: object = field(default=None, init=False)
    error: Exception | None = field(default=None, init=False)

    def answer(self, value: object) -> None:
        """Settle the need with the application's answer."""
        self.value, self.settled = value, True

    def refuse(self, error: Exception) -> None:
        """Settle the need with the application's failure: the handshake fails, with ``error`` as its cause."""
        self.error, self.settled = error, True


@dataclass(eq=False, slots=True)
class NeedServerConfig(Need):
    """Which configuration shall serve this client?

    Attributes:
      client_hello: the ClientHello message, as it came, with its header.
    """

    client_hello: bytes

    @property
    def hello(self) -> ClientHelloInfo:
        """What it says: the name that is asked for, the protocols, suites and groups that are offered."""
        return ClientHelloInfo.from_message(self.client_hello)


@dataclass(eq=False, slots=True)
class NeedCredential(Need):
    """Which certificate chain and key shall we present?

    Attributes:
      server_name: the name that the client asked for; None on a client, or if it named none.
      signature_schemes: the SignatureScheme numbers that the peer accepts, in its order.
    """

    server_name: str | None
    signature_schemes: tuple[int, ...]


@dataclass(eq=False, slots=True)
class NeedSignature(Need):
    """Sign this, with a key that is elsewhere. The answer is the signature.

    Attributes:
      scheme: the SignatureScheme number.
      message: what to sign.
    """

    scheme: int
    message: bytes


@dataclass(eq=False, slots=True)
class NeedVerification(Need):
    """Is this the peer that we want?

    Attributes:
      chain: the certificates that the peer presented, DER, leaf first.
      server_name: the name that it has to be valid for; None on a server.
      staple: the stapled OCSP response, or None.
    """

    chain: tuple[bytes, ...]
    server_name: str | None
    staple: bytes | None


@dataclass(eq=False, slots=True)
class NeedSession(Need):
    """Which session does this ticket resume? The answer is the session's bytes, or None.

    Attributes:
      ticket: the identity that the client offers.
    """

    ticket: bytes


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """What the handshake agreed on. None where the TLS library does not tell.

    Attributes:
      version: ``"TLSv1.3"`` or ``"TLSv1.2"``.
      cipher_suite: the suite's name, as OpenSSL writes it.
      group: the key exchange group; not told by `ssl` before Python 3.15.
      signature_scheme: what the peer signed with; not told by `ssl` before Python 3.15.
      alpn_protocol: the agreed ALPN protocol.
      server_name: on a client the name it asked for; on a server behind `ssl` None.
      session_reused: whether the handshake resumed an earlier session.
      peer_chain: the certificates the peer presented, DER, leaf first.
      verified_chain: the peer's chain as it was verified, with the trust anchor, DER, leaf first; empty where it was
        not verified, or the TLS library does not tell.
      local_chain: what this end presented, DER, leaf first; empty if nothing, or where the TLS library does not tell.
    """

    version: str
    cipher_suite: str
    group: str | None
    signature_scheme: str | None
    alpn_protocol: str | None
    server_name: str | None
    session_reused: bool
    peer_chain: tuple[bytes, ...]
    verified_chain: tuple[bytes, ...] = ()
    local_chain: tuple[bytes, ...] = ()

    @property
    def peer_certificates(self) -> tuple[x509.Certificate, ...]:
        """`peer_chain`, parsed. ValueError if the peer presented what cannot be parsed (and it was not verified)."""
        try:
            return tuple(x509.load_der_x509_certificate(der) for der in self.peer_chain)
        except x509.InvalidVersion as exc:
            raise ValueError(f"a certificate of the peer cannot be parsed: {exc}") from exc

    @property
    def verified_certificates(self) -> tuple[x509.Certificate, ...]:
        """`verified_chain`, parsed."""
        return tuple(x509.load_der_x509_certificate(der) for der in self.verified_chain)

    @property
    def local_certificates(self) -> tuple[x509.Certificate, ...]:
        """`local_chain`, parsed."""
        return tuple(x509.load_der_x509_certificate(der) for der in self.local_chain)


class Machine(Protocol):
    """One end of one TLS connection, without I/O.

    Synchronous; never blocks, never reads a clock or randomness that it was not given. An error is raised
    as a ``TLSError``, again by every later step of the same direction (a fatal alert ends both), and leaves
    its alert in ``outgoing``.

    Reading never needs the outgoing side: KeyUpdate replies and session tickets are queued, and leave with
    the next write, flush or close. TLS 1.2 renegotiation is the one exception (`read_into`).
    """

    incoming: MemoryBIO
    outgoing: MemoryBIO

    @property
    def server_side(self) -> bool:
        """Whether this is the server's end."""
        ...

    @property
    def server_hostname(self) -> str | None:
        """The server's name as it is sent; None on a server."""
        ...

    @property
    def info(self) -> ConnectionInfo | None:
        """Frozen facts, once the handshake is done."""
        ...

    @property
    def handshake_done(self) -> bool:
        """Whether `do_handshake` has returned None."""
        ...

    @property
    def buffered(self) -> int:
        """Plaintext bytes that are decrypted and wait for a read (``SSL_pending(3)``)."""
        ...

    @property
    def sent_fatal_alert(self) -> bool:
        """Whether this end has failed the connection, so that the peer should get to read an alert."""
        ...

    @property
    def session(self) -> object | None:
        """On a client the session to resume later, if there is one yet."""
        ...

    def update_keys(self, *, request_update: bool = False) -> None:
        """Queue a KeyUpdate; with ``request_update``, ask the peer to change its key too.

        Raises:
          ValueError: this machine cannot.
        """
        ...

    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        """TLS-Exporter (RFC 9846 section 7.5), once the handshake is done.

        Raises:
          ValueError: this machine cannot, or an argument is out of range.
        """
        ...

    @property
    def introspection(self) -> Introspection:
        """The accessors that ``trio.SSLStream`` forwards."""
        ...

    def do_handshake(self) -> Want | Need | None:
        """Go on with the handshake. None: it is complete (and stays so).

        A step may pause where it has queued a flight: with ``Want.READ`` if nothing else is left to do than to read,
        with ``Want.WRITE`` if the next step may complete the handshake. What is queued should leave first, since the
        peer has to work on it; but the next step goes on in any case.
        """
        ...

    def read_into(self, buffer: memoryview) -> int | Want:
        """Fill ``buffer`` with the plaintext of every whole record there is; 0 means close_notify.

        ``Want.WRITE`` only in a TLS 1.2 renegotiation: what is queued has to leave before the peer goes on.
        """
        ...

    def read_short(self, max_bytes: int) -> bytes | None:
        """The quick way for a short message: the plaintext of a record that has just come, as bytes.

        None: there is no quick way now, and `read_into` tells. More records may be waiting after it.
        """
        ...

    @property
    def rest(self) -> Callable[[], None] | None:
        """Called in a wait that has become long, to let go of memory that can be had again quickly; it raises nothing.

        None, or a machine without this attribute: there is no such memory.
        """
        ...

    def write(self, data: memoryview) -> int | Want:
        """Encrypt a prefix of ``data``, at most what ``outgoing`` has room for; how many bytes were accepted.

        ``write(b"")`` accepts nothing, and releases what was held back for the next write (tickets).
        """
        ...

    def shutdown(self) -> None:
        """Queue close_notify, once. Reading goes on; writing is over."""

    def trailing_data(self) -> bytes:
        """Take the bytes that came after the peer's close_notify: they are not TLS."""
        ...


class Introspection(Protocol):
    """What a finished handshake can be asked for; the names and shapes are those of `ssl.SSLObject`."""

    @property
    def session_reused(self) -> bool | None: ...
    def getpeercert(self, binary_form: bool = False) -> dict[str, Any] | bytes | None: ...
    def selected_alpn_protocol(self) -> str | None: ...
    def selected_npn_protocol(self) -> str | None: ...
    def cipher(self) -> tuple[str, str, int] | None: ...
    def shared_ciphers(self) -> list[tuple[str, str, int]] | None: ...
    def compression(self) -> str | None: ...
    def version(self) -> str | None: ...
    def get_channel_binding(self, cb_type: str = "tls-unique") -> bytes | None: ...
    def get_verified_chain(self) -> list[bytes]: ...
    def get_unverified_chain(self) -> list[bytes]: ...
    def verify_client_post_handshake(self) -> None: ...


@runtime_checkable
class MachineFactory(Protocol):
    """A configuration that makes its own machines; ``ssl.SSLContext`` is the one that does not."""

    def create_machine(
        self,
        *,
        server_side: bool,
        server_hostname: str | None,
        session: object | None,
    ) -> Machine:
        """A new machine for one connection."""
        ...
