"""ClientConfig and ServerConfig: what our own TLS 1.3 machine is told, once for any number of connections.

How this works. Both are frozen and checked when they are made, so that a mistake is told at once and not in the middle
of a handshake. A config makes the machines (`create_machine`), and is shared freely between connections and threads.
Its ``fingerprint`` covers everything by which a peer is judged; a session is only resumed under the same one.

What an application can decide for itself is a value or a function. A function may be async: it is awaited by the
stream, under the cancel scope of whoever called it, and asked again after a cancel.
"""

from __future__ import annotations

import enum
import hashlib
import os
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict, cast

from .credentials import Credential, CredentialsByName
from .from_context import Loss, client_arguments
from .key_shares import KEY_SHARES
from .keylog import keylog_from_environment
from .machine.interface import NeedServerConfig, NeedVerification
from .machine.tls13.connection import TLS13Machine
from .machine.tls13.groups import GROUPS, Group, KeyShare
from .machine.tls13.parameters import (
    ChooseConfig,
    ChooseCredential,
    ClientParameters,
    KeyLogger,
    ServerParameters,
    Verify,
)
from .machine.tls13.primitives import Primitives
from .machine.tls13.registry import CipherSuiteNumber, NamedGroup, SignatureScheme
from .machine.tls13.resumption import find_session
from .machine.tls13.session_cache import ClientSessionCache, ServerSessionStore, SessionCache
from .machine.tls13.sessions import MOST_LIFETIME, Session
from .machine.tls13.signatures import DEFAULT_SCHEMES
from .machine.tls13.suites import SUITES
from .machine.tls13.tickets import TicketKeys
from .names import server_subject
from .trust import PrivatePolicy, TrustAnchors, Verifier, WebPolicy

if TYPE_CHECKING:
    import ssl

    from typing_extensions import Self

    from .machine.interface import Machine
    from .machine.tls13.tracer import Tracer
    from .trust import Policy

__all__ = ["ClientConfig", "ServerConfig", "accept_any_peer"]

#: How many bytes of padding a record gets, given the length of its content.
Padding: TypeAlias = Callable[[int], int]

#: The groups that a client sends shares of at once: the best, and what older servers have.
DEFAULT_SHARES: tuple[int, ...] = (NamedGroup.X25519MLKEM768, NamedGroup.x25519)

#: The least and the most that RFC 8449 lets a record_size_limit be, in TLS 1.3.
LEAST_RECORD_SIZE, MOST_RECORD_SIZE = 64, 2**14 + 1

#: Bytes of all ALPN protocols, each with its length: they have to fit into a ClientHello with all else.
MOST_PROTOCOLS = 2**13

#: Session tickets of one handshake; more help nobody.
MOST_TICKETS = 16


def _generate(group: Group) -> KeyShare:
    return KEY_SHARES.generate(group)


def _prepare(group: Group) -> None:
    KEY_SHARES.prepare(group)


#: Of the system. With functions, which a copy of a config shares: a copy of the key shares would be used twice.
PRIMITIVES = Primitives(random=os.urandom, now=time.time, generate=_generate, prepare=_prepare)


def accept_any_peer(need: NeedVerification) -> None:
    """For ``verify=``: accept whatever certificate the peer presents. Anybody can then be the peer!"""


@cache
def _system_verifier() -> Verifier:
    return Verifier(TrustAnchors.system())


@dataclass(frozen=True, kw_only=True)
class _Config:
    """What clients and servers have in common; the fields are described where they are inherited."""

    alpn_protocols: Sequence[bytes | str] = ()
    cipher_suites: Sequence[int] = tuple(SUITES)
    groups: Sequence[int] = tuple(GROUPS)
    signature_schemes: Sequence[int] = DEFAULT_SCHEMES
    keylog: KeyLogger | None = field(default_factory=keylog_from_environment)
    tracer: Tracer | None = None
    record_size_limit: int | None = None
    padding: Padding | None = None
    most_certificate: int = 128 * 1024
    primitives: Primitives = PRIMITIVES

    def __post_init__(self) -> None:
        # Stands for the functions of this config in its fingerprint: what they would say nobody can know, and an id()
        # comes again. So a session that they had a say in is resumed under this very config and no other.
        self._set("_token", os.urandom(32))
        self._set("alpn_protocols", _protocols(self.alpn_protocols))
        self._set("cipher_suites", _known("cipher_suites", self.cipher_suites, SUITES, CipherSuiteNumber))
        self._set("groups", _known("groups", self.groups, GROUPS, NamedGroup))
        self._set(
            "signature_schemes",
            _known("signature_schemes", self.signature_schemes, DEFAULT_SCHEMES, SignatureScheme),
        )
        limit = self.record_size_limit
        if limit is not None and not LEAST_RECORD_SIZE <= limit <= MOST_RECORD_SIZE:
            raise ValueError(f"record_size_limit must be {LEAST_RECORD_SIZE} to {MOST_RECORD_SIZE}, not {limit}")
        if self.most_certificate < 1:
            raise ValueError("most_certificate must be at least 1 byte")

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _common(self) -> _Common:
        """The fields above, as `Parameters` has them: `__post_init__` has seen to their types."""
        return _Common(
            alpn_protocols=_protocols(self.alpn_protocols),
            cipher_suites=tuple(self.cipher_suites),
            groups=tuple(self.groups),
            signature_schemes=tuple(self.signature_schemes),
            keylog=self.keylog,
            tracer=self.tracer,
            record_size_limit=self.record_size_limit,
            padding=self.padding,
            most_certificate=self.most_certificate,
            primitives=self.primitives,
        )

    def _known_by(self, judge: object) -> bytes:
        """What stands for a verifier or a function in the fingerprint."""
        if judge is None:
            return b""
        if type(judge) is Verifier and type(judge.policy) in {WebPolicy, PrivatePolicy}:
            return judge.fingerprint
        token: bytes = self._token  # type: ignore[attr-defined]  # a subclass may judge by anything, as a function may
        return token

    def replace(self, **changes: object) -> Self:
        """A copy with some fields changed, checked anew."""
        return replace(self, **changes)  # type: ignore[arg-type]  # __post_init__ looks at every one


class _Common(TypedDict):
    alpn_protocols: tuple[bytes, ...]
    cipher_suites: tuple[int, ...]
    groups: tuple[int, ...]
    signature_schemes: tuple[int, ...]
    keylog: KeyLogger | None
    tracer: Tracer | None
    record_size_limit: int | None
    padding: Padding | None
    most_certificate: int
    primitives: Primitives


@dataclass(frozen=True, kw_only=True)
class ClientConfig(_Config):
    """How a client connects with our own TLS 1.3 machine. Pass it where an `ssl.SSLContext` could be passed.

    Args:
      verify: who judges the server: a `Verifier`, or a function given a `NeedVerification` that returns or raises.
        Default: the certificate authorities that this system trusts, by the rules of the public web.
      credentials: what to present if the server asks: a `Credential`, or a function given a `NeedCredential`.
        Default: nothing.
      alpn_protocols: the application protocols to offer, the preferred one first; 8 KiB of them at the most.
      cipher_suites: `CipherSuiteNumber` values, the preferred one first.
      groups: `NamedGroup` values for the key exchange, the preferred one first.
      key_shares: the groups to send a share of at once; for others the server has to ask first. Default:
        X25519MLKEM768 and x25519, as far as they are in ``groups``, or else the first of ``groups``.
      signature_schemes: `SignatureScheme` values that the server may sign by, and that we would.
      session_cache: where sessions are kept, to be resumed. Default: a `SessionCache` of this config; None: none. Those
        whose ticket is longer than 16 KiB are not kept.
      keylog: is given each secret (RFC 9850); see `KeyLog`. Default: what ``SSLKEYLOGFILE`` in the environment says.
      tracer: is told what happens, without secrets; see `Tracer`.
      record_size_limit: the most that the server may put into one record (RFC 8449), 64 to 16385 bytes.
      padding: how many zeros to pad a record with, given the length of its content.
      middlebox_compatibility: look like TLS 1.2 to what lies in between (RFC 9846 section E.4). Default True.
      grease: offer values that nobody knows, so that servers keep ignoring them (RFC 8701). Default True.
      most_certificate: the longest Certificate message that is taken, in bytes.
      primitives: randomness, time and key generation; for tests.

    Raises:
      ValueError: something in it cannot work; the text says what.
    """

    verify: Verifier | Verify | None = None
    credentials: Credential | ChooseCredential | None = None
    key_shares: Sequence[int] | None = None
    session_cache: ClientSessionCache | None = field(default_factory=SessionCache)
    middlebox_compatibility: bool = True
    grease: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.key_shares is not None:  # None stays None, so that `replace` can change groups alone
            self._set("key_shares", _known("key_shares", self.key_shares, self.groups, NamedGroup))
        if (
            self.credentials is not None
            and not isinstance(self.credentials, Credential)
            and not callable(self.credentials)
        ):
            raise TypeError("credentials must be a Credential or a function")
        _check_verifier(self.verify)

    @classmethod
    def from_ssl_context(
        cls,
        context: ssl.SSLContext,
        *,
        policy: Policy | None = None,
        anchors: TrustAnchors | None = None,
        without: Collection[Loss] = (),
        **settings: object,
    ) -> Self:
        """A config with what this client's context has: trust, ALPN, versions, cipher suites, groups, key log.

        Where rules differ it is the stricter one, but for the key identifiers of issuers (``VERIFY_X509_STRICT``):
        names count in the subjectAltName alone; trusted certificates that are no CAs, or lie in a directory, are not
        seen. **What cannot be seen at all**: a certificate that the context
        presents (give it as ``credentials=``), and for what OpenSSL trusts a CA of a ``TRUSTED CERTIFICATE`` file: it
        counts as trusted for everything (give ``anchors=``).

        Args:
          context: for clients. It is looked at, and not changed.
          policy: what certificates have to look like. Default: `WebPolicy` if the context's ``verify_flags`` have
            ``VERIFY_X509_STRICT``, else `PrivatePolicy`.
          anchors: what to trust, instead of the CA certificates that the context has loaded so far.
          without: names of what may get lost, out of those that the error lists, such as ``["TLS 1.2"]``.
          settings: other fields of the config, as for the class; they go before what the context has.

        Raises:
          ValueError: the context has what this class cannot have; the text lists all of it, with names.
          TypeError: it is of a class of its own, whose decisions cannot be known (``truststore``).
        """
        carried = client_arguments(
            context, policy=policy, anchors=anchors, without=without, given=settings, anybody=accept_any_peer
        )
        return cls(**(carried | settings))  # type: ignore[arg-type]  # __post_init__ looks at every one

    @cached_property
    def parameters(self) -> ClientParameters:
        """What the machine is told. The system's trust anchors are read here, when they are first needed."""
        verifier = _system_verifier() if self.verify is None else self.verify
        credentials = self.credentials
        common = self._common()
        best = tuple(group for group in DEFAULT_SHARES if group in self.groups)
        return ClientParameters(
            **common,
            verifier=verifier,
            credential_for=credentials,
            # "each KeyShareEntry value MUST ... appear in the same order" as in supported_groups (section 4.3.8)
            key_shares=tuple(sorted(self.key_shares or best or self.groups[:1], key=common["groups"].index)),
            session_cache=self.session_cache,
            middlebox_compatibility=self.middlebox_compatibility,
            grease=self.grease,
            fingerprint=_digest(
                b"client",
                self._known_by(verifier),
                *common["alpn_protocols"],
                repr((common["cipher_suites"], common["groups"], common["signature_schemes"])).encode(),
                *(credentials.der_chain if isinstance(credentials, Credential) else (self._known_by(credentials),)),
            ),
        )

    def create_machine(self, *, server_side: bool, server_hostname: str | None, session: object | None) -> Machine:
        """A machine for one connection; see `MachineFactory`."""
        if server_side:
            raise ValueError("a ClientConfig cannot serve; pass a ServerConfig to the server's TLSStream")
        parameters = self.parameters
        if server_hostname is not None:
            server_subject(server_hostname)  # a name that no certificate can have is told now
        elif isinstance(parameters.verifier, Verifier):
            raise ValueError("this config checks the server's name, so server_hostname is needed")
        if session is not None and not isinstance(session, Session):
            raise TypeError(f"session must be a trio_tls.Session or None, not {type(session).__name__}")
        return TLS13Machine(
            parameters,
            server_hostname=server_hostname,
            session=find_session(parameters, server_hostname, session),
        )


@dataclass(frozen=True, kw_only=True)
class ServerConfig(_Config):
    """How a server serves with our own TLS 1.3 machine. Pass it where an `ssl.SSLContext` could be passed.

    Args:
      credentials: what to present: a `Credential`; several, of which the name that the client asks for selects one
        (`CredentialsByName`; the first serves clients that ask for no name or another one); or a function given a
        `NeedCredential`, sync or async.
      client_auth: whether clients present a certificate: ``"none"``, ``"optional"`` or ``"required"``. One that is
        presented is always fully verified.
      verify: who judges client certificates: a `Verifier`, or a function given a `NeedVerification`.
      choose: a function given a `NeedServerConfig` with the ClientHello, sync or async: the config that shall serve
        this client (this one, or another). ``need.hello`` tells what the client asks for.
      alpn_protocols: the application protocols, the preferred one first. A client that offers none of them is refused;
        one that does not use ALPN is served.
      cipher_suites: `CipherSuiteNumber` values, the preferred one first.
      groups: `NamedGroup` values; the first that the client supports is used, whatever shares it has sent.
      signature_schemes: `SignatureScheme` values that we sign by, and that clients may.
      tickets: how many session tickets a client gets after a full handshake; one that resumes gets one. 0: none, and
        nothing is resumed.
      ticket_keys: what tickets are sealed with: `TicketKeys`, or a secret of at least 32 random bytes, from which all
        processes and hosts that have it make the same keys. Default: random keys of this config, which rotate.
      session_store: keep sessions here instead of in the tickets; see `ServerSessionStore`.
      ticket_lifetime: seconds that a session of ``session_store`` can be resumed, at the most 7 days.
      keylog: as for `ClientConfig`.
      tracer: as for `ClientConfig`.
      record_size_limit: as for `ClientConfig`, for what clients send.
      padding: as for `ClientConfig`.
      most_certificate: as for `ClientConfig`.
      primitives: as for `ClientConfig`.

    Raises:
      ValueError: something in it cannot work; the text says what.
    """

    credentials: Credential | Sequence[Credential] | ChooseCredential
    client_auth: Literal["none", "optional", "required"] = "none"
    verify: Verifier | Verify | None = None
    choose: Callable[[NeedServerConfig], ServerConfig | Awaitable[ServerConfig]] | None = None
    tickets: int = 2
    ticket_keys: TicketKeys | bytes | bytearray | memoryview | None = None
    session_store: ServerSessionStore | None = None
    ticket_lifetime: int = 24 * 3600

    def __post_init__(self) -> None:
        super().__post_init__()
        _resolver(self.credentials)  # a mistake is told now
        if self.client_auth not in {"none", "optional", "required"}:
            raise ValueError(f'client_auth must be "none", "optional" or "required", not {self.client_auth!r}')
        if self.client_auth != "none" and self.verify is None:
            raise ValueError(
                "a server that asks for client certificates needs verify=: a Verifier with the CA of its clients"
            )
        _check_verifier(self.verify)
        if not 0 <= self.tickets <= MOST_TICKETS:
            raise ValueError(f"tickets must be 0 to {MOST_TICKETS}, not {self.tickets}")
        if not 0 < self.ticket_lifetime <= MOST_LIFETIME:
            raise ValueError(f"ticket_lifetime must be 1 to {MOST_LIFETIME} seconds (7 days)")
        if isinstance(self.ticket_keys, (bytes, bytearray, memoryview)):
            self._set("ticket_keys", TicketKeys.from_secret(bytes(self.ticket_keys), self.primitives.random))
        elif self.ticket_keys is not None and not isinstance(self.ticket_keys, TicketKeys):
            raise TypeError(f"ticket_keys must be TicketKeys or bytes, not {type(self.ticket_keys).__name__}")
        elif self.ticket_keys is None and self.session_store is None and self.tickets:
            self._set("ticket_keys", TicketKeys(self.primitives.random))

    @cached_property
    def parameters(self) -> ServerParameters:
        """What the machine is told."""
        common = self._common()
        return ServerParameters(
            **common,
            credential_for=_resolver(self.credentials),
            client_auth=self.client_auth,
            verifier=self.verify,
            choose=cast("ChooseConfig | None", self.choose),
            tickets=self.tickets,
            ticket_keys=self.ticket_keys if isinstance(self.ticket_keys, TicketKeys) else None,
            session_store=self.session_store,
            ticket_lifetime=self.ticket_lifetime,
            fingerprint=_digest(
                b"server",
                self.client_auth.encode(),
                self._known_by(self.verify),
            ),
        )

    def create_machine(self, *, server_side: bool, server_hostname: str | None, session: object | None) -> Machine:
        """A machine for one connection; see `MachineFactory`. A ServerConfig serves, with or without server_side."""
        if server_hostname is not None:
            raise ValueError("server_hostname is for clients; a ServerConfig serves whoever asks")
        if session is not None:
            raise ValueError("session is for clients; a server finds its sessions by itself")
        return TLS13Machine(self.parameters)


def _protocols(protocols: Sequence[bytes | str]) -> tuple[bytes, ...]:
    if isinstance(protocols, (bytes, str)):
        raise TypeError(f"alpn_protocols must be a list of protocols, not the one {protocols!r}")
    encoded = tuple(each.encode() if isinstance(each, str) else bytes(each) for each in protocols)
    for each in encoded:
        if not 1 <= len(each) <= 255:
            raise ValueError(f"an ALPN protocol has 1 to 255 bytes: {each!r}")
    if len(set(encoded)) != len(encoded):
        raise ValueError("an ALPN protocol is listed twice")
    if sum(1 + len(each) for each in encoded) > MOST_PROTOCOLS:
        raise ValueError(f"all ALPN protocols together have at most {MOST_PROTOCOLS} bytes: leave some out")
    return encoded


def _known(name: str, values: Iterable[int], known: Iterable[int], registry: type[enum.IntEnum]) -> tuple[int, ...]:
    """``values``, if each is one that we have, and none comes twice."""
    numbers = tuple(int(value) for value in values)
    if not numbers or len(set(numbers)) != len(numbers) or not set(numbers) <= set(known):
        choice = ", ".join(registry(number).name for number in known)
        raise ValueError(f"{name} must be some of {choice}, each once")
    return numbers


def _resolver(
    credentials: Credential | Sequence[Credential] | ChooseCredential,
) -> Credential | ChooseCredential:
    if isinstance(credentials, Credential) or callable(credentials):
        return credentials
    several = tuple(credentials)
    if not several:
        raise ValueError("a server needs a credential")
    if len(several) == 1:
        return several[0]
    return CredentialsByName(several, default=several[0])


def _check_verifier(verify: object) -> None:
    if verify is not None and not callable(verify) and not isinstance(verify, Verifier):
        raise TypeError(f"verify must be a Verifier or a function, not {type(verify).__name__}")


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()
