"""Parameters: what a machine is told, checked and complete.

How this works. The public `trio_tls.ClientConfig` and `trio_tls.ServerConfig` take what is convenient to write; what
they come to is one of these, made once for any number of connections. The machine looks at nothing else. Of verifiers,
credentials and stores it knows what it asks of them, and no more: they are made in the layers above.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from ...credentials import Credential
    from ...trust import VerifiedPeer, Verifier
    from ..interface import NeedCredential, NeedServerConfig, NeedVerification
    from .primitives import Primitives
    from .session_cache import ClientSessionCache, ServerSessionStore
    from .tickets import TicketKeys
    from .tracer import Tracer

__all__ = [
    "ChooseConfig",
    "ChooseCredential",
    "ClientParameters",
    "KeyLogger",
    "Parameters",
    "ServerParameters",
    "Verify",
]

#: Is given a label, the client's random and a secret (RFC 9850).
KeyLogger: TypeAlias = Callable[[str, bytes, bytes], None]

#: Decides about a peer; sync or async: returns None, or the `VerifiedPeer` of a `Verifier`, or raises.
Verify: TypeAlias = "Callable[[NeedVerification], VerifiedPeer | Awaitable[VerifiedPeer | None] | None]"

#: Chooses what to present; sync or async.
ChooseCredential: TypeAlias = "Callable[[NeedCredential], Credential | Awaitable[Credential | None] | None]"


class _HasParameters(Protocol):
    @property
    def parameters(self) -> ServerParameters: ...


#: Chooses the config that shall serve a client; sync or async.
ChooseConfig: TypeAlias = "Callable[[NeedServerConfig], _HasParameters | Awaitable[_HasParameters]]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """What clients and servers have in common.

    Attributes:
      alpn_protocols: the preferred one first.
      cipher_suites: their numbers, the preferred one first.
      groups: their numbers, the preferred one first.
      signature_schemes: their numbers; those that we sign by, and that the peer may.
      keylog: is told the secrets; None: nobody is.
      tracer: is told what happens; None: nobody is.
      record_size_limit: what we ask the peer to keep to (RFC 8449); None: nothing.
      padding: how many zeros a record gets, given the length of its content; None: none.
      most_certificate: the most bytes in a Certificate message.
      primitives: randomness, time and keys.
      fingerprint: what a session is bound to: everything by which the peer is judged.
    """

    alpn_protocols: tuple[bytes, ...]
    cipher_suites: tuple[int, ...]
    groups: tuple[int, ...]
    signature_schemes: tuple[int, ...]
    keylog: KeyLogger | None
    tracer: Tracer | None
    record_size_limit: int | None
    padding: Callable[[int], int] | None
    most_certificate: int
    primitives: Primitives
    fingerprint: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientParameters(Parameters):
    """What a client is told.

    Attributes:
      verifier: who judges the server.
      credential_for: what to present if the server asks, or who chooses it; None: nothing.
      key_shares: the groups to send a share of at once.
      session_cache: where sessions are kept; None: nowhere.
      middlebox_compatibility: whether to look like TLS 1.2 (RFC 9846 section E.4).
      grease: whether to offer values that nobody knows (RFC 8701).
    """

    verifier: Verifier | Verify
    credential_for: Credential | ChooseCredential | None
    key_shares: tuple[int, ...]
    session_cache: ClientSessionCache | None
    middlebox_compatibility: bool
    grease: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerParameters(Parameters):
    """What a server is told.

    Attributes:
      credential_for: what to present, or who chooses it.
      client_auth: whether the client presents a certificate.
      verifier: who judges clients; None only if they are not asked.
      choose: finds the config for a client by its ClientHello; None: it is this one.
      tickets: how many a client gets.
      ticket_keys: what sessions are sealed into their tickets with; None: they are stored, or there are none.
      session_store: where sessions are stored; None: in the tickets.
      ticket_lifetime: seconds that a stored session is good for.
    """

    credential_for: Credential | ChooseCredential
    client_auth: Literal["none", "optional", "required"]
    verifier: Verifier | Verify | None
    choose: ChooseConfig | None
    tickets: int
    ticket_keys: TicketKeys | None
    session_store: ServerSessionStore | None
    ticket_lifetime: int
