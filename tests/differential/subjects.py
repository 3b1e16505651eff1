"""The machines that are compared, and the peer by hand that both of them meet.

How this works. A `Kind` is a kind of handshake: it makes our machine and OpenSSL's, configured alike, and the
`tests.machine.tls13.scripted_peer` that talks to either. `judge` lets one of them meet a peer with mutations, and says
whether it has *accepted*: whether its handshake is complete in the end, and it has not failed since.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from OpenSSL import SSL
from OpenSSL.crypto import X509

from trio_tls.machine.interface import Machine
from trio_tls.machine.openssl import OpenSSLMachine
from trio_tls.machine.tls13.extensions import Extensions, RetryGroup, SignatureAlgorithms
from trio_tls.machine.tls13.messages import CertificateRequest
from trio_tls.machine.tls13.registry import NamedGroup
from trio_tls.machine.tls13.signatures import DEFAULT_SCHEMES

from ..machine.tls13.ends import (
    a_client,
    a_server,
    client_config,
    client_credential,
    server_config,
    server_credential,
)
from ..machine.tls13.scripted_peer import ScriptedClient, ScriptedPeer, ScriptedServer, meet
from ..support import HOST, authority, client_certificate, client_context, server_certificate, server_context, verifier
from .mutations import Mutation
from .newest import NewestOpenSSL

__all__ = ["KINDS", "Kind", "Outcome", "judge", "messages_of"]

ALPN = ["h2", "http/1.1"]
REQUEST = CertificateRequest(b"", Extensions([SignatureAlgorithms(DEFAULT_SCHEMES)]))


@dataclass(frozen=True)
class Kind:
    """A kind of handshake.

    Attributes:
      name: starts with the role of the machines that are compared.
      ours: our machine.
      theirs: OpenSSL's, the one of the interpreter.
      newest: OpenSSL's, the one that comes with the cryptography package.
      peer: the peer by hand; it takes ``edit=``.
    """

    name: str
    ours: Callable[[], Machine]
    theirs: Callable[[], Machine]
    newest: Callable[[], NewestOpenSSL]
    peer: Callable[..., ScriptedPeer]

    @property
    def role(self) -> str:
        return self.name.split("-", maxsplit=1)[0]


@dataclass(frozen=True)
class Outcome:
    """What a machine made of its peer.

    Attributes:
      accepted: it completed the handshake and has not failed since.
      error: what it raised, or why it did not go on.
    """

    accepted: bool
    error: str


def messages_of(kind: Kind) -> dict[str, bytes]:
    """What the peer of this kind sends when nothing is wrong; both machines accept it."""
    sent: dict[str, bytes] = {}

    def keep(name: str, raw: bytes) -> bytes:
        sent[name] = raw
        return raw

    for machine in (kind.ours(), kind.theirs(), kind.newest()):
        outcome = _outcome(machine, kind.peer(edit=keep))
        if not outcome.accepted:
            raise AssertionError(f"{kind.name}: {machine!r} refuses a sound peer: {outcome.error}")
    return sent


def judge(kind: Kind, mutations: Sequence[Mutation], *, newest: bool = False) -> tuple[Outcome, Outcome]:
    """What our machine and OpenSSL's make of a peer with these mutations."""
    theirs: Any = kind.newest if newest else kind.theirs

    def edit(name: str, raw: bytes) -> Sequence[bytes]:
        sent: Sequence[bytes] = [raw]
        for mutation in mutations:
            if mutation.message == name and len(sent) == 1:
                try:
                    sent = mutation.edit(sent[0])
                except (AssertionError, IndexError):
                    break  # an earlier mutation has left nothing of this field
        return sent

    return _outcome(kind.ours(), kind.peer(edit=edit)), _outcome(theirs(), kind.peer(edit=edit))


def _outcome(machine: Any, peer: ScriptedPeer) -> Outcome:
    talk = peer.run
    lost: list[Exception] = []

    def run() -> Iterator[None]:
        try:
            yield from talk()
        except Exception as error:  # what it has met is not in its script
            lost.append(error)

    peer.run = run  # type: ignore[method-assign,assignment]
    peer.listen = lambda: None  # type: ignore[method-assign]
    meeting = meet(machine, peer)
    failure = meeting.failure
    if failure is not None:
        return Outcome(False, f"{failure.alert}: {failure.message}" if failure.alert is not None else failure.message)
    return Outcome(machine.handshake_done, "" if machine.handshake_done else f"waits; the peer: {lost}")


# -- the machines ------------------------------------------------------------------------------------------------------


@cache
def _client_context(proving: bool = False) -> ssl.SSLContext:
    context = client_context(ssl.TLSVersion.TLSv1_3)
    context.set_alpn_protocols(ALPN)
    if proving:
        client_certificate().configure_cert(context)
    return context


@cache
def _server_context(curve: str = "", asking: bool = False) -> ssl.SSLContext:
    context = server_context(ssl.TLSVersion.TLSv1_3)
    context.set_alpn_protocols(ALPN)
    if curve:
        context.set_ecdh_curve(curve)
    if asking:
        authority().configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _their_client(**how: bool) -> Machine:
    return OpenSSLMachine(_client_context(**how), server_side=False, server_hostname=HOST)


def _their_server(**how: Any) -> Machine:
    return OpenSSLMachine(_server_context(**how), server_side=True, server_hostname=None)


@cache
def _newest_context(*, server: bool, certified: bool = False, asking: bool = False, curve: bool = False) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    store = context.get_cert_store()
    assert store is not None, "a context has one"
    store.add_cert(X509.from_cryptography(load_pem_x509_certificate(authority().cert_pem.bytes())))
    if server:
        context.set_alpn_select_callback(lambda _connection, offered: _first_of(offered))
    else:
        context.set_alpn_protos([name.encode() for name in ALPN])
    if not server or asking:
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, None)
    if server or certified:
        certificate = server_certificate() if server else client_certificate()
        key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey), "trustme makes such keys"
        context.use_privatekey(key)
        context.use_certificate(load_pem_x509_certificate(certificate.cert_chain_pems[0].bytes()))
    if curve:
        context.set_tmp_ecdh(ec.SECP256R1())
    return context


def _first_of(offered: list[bytes]) -> Any:
    return next((name for name in offered if name.decode(errors="replace") in ALPN), SSL.NO_OVERLAPPING_PROTOCOLS)


def _newest_client(**how: bool) -> NewestOpenSSL:
    return NewestOpenSSL(_newest_context(server=False, **how), server_side=False)


def _newest_server(**how: bool) -> NewestOpenSSL:
    return NewestOpenSSL(_newest_context(server=True, **how), server_side=True)


OUR_CLIENT = client_config(key_shares=[NamedGroup.x25519], alpn_protocols=ALPN)
OUR_PROVING_CLIENT = OUR_CLIENT.replace(credentials=client_credential())
OUR_SERVER = server_config(groups=[NamedGroup.x25519, NamedGroup.secp256r1], alpn_protocols=ALPN)
OUR_RETRYING_SERVER = OUR_SERVER.replace(groups=[NamedGroup.secp256r1])
OUR_ASKING_SERVER = OUR_SERVER.replace(client_auth="required", verify=verifier())


def _server_by_hand(**how: Any) -> ScriptedPeer:
    return ScriptedServer(credential=server_credential(), alpn=b"h2", **how)


def _client_by_hand(**how: Any) -> ScriptedPeer:
    return ScriptedClient(alpn=(b"h2",), **how)


KINDS = (
    Kind("server", lambda: a_server(OUR_SERVER), _their_server, _newest_server, _client_by_hand),
    Kind(
        "server-retrying",
        lambda: a_server(OUR_RETRYING_SERVER),
        lambda: _their_server(curve="prime256v1"),
        lambda: _newest_server(curve=True),
        _client_by_hand,
    ),
    Kind(
        "server-asking",
        lambda: a_server(OUR_ASKING_SERVER),
        lambda: _their_server(asking=True),
        lambda: _newest_server(asking=True),
        lambda **how: _client_by_hand(credential=client_credential(), **how),
    ),
    Kind("client", lambda: a_client(OUR_CLIENT), _their_client, _newest_client, _server_by_hand),
    Kind(
        "client-retried",
        lambda: a_client(OUR_CLIENT),
        _their_client,
        _newest_client,
        lambda **how: _server_by_hand(group=NamedGroup.secp256r1, retry=[RetryGroup(NamedGroup.secp256r1)], **how),
    ),
    Kind(
        "client-proving",
        lambda: a_client(OUR_PROVING_CLIENT),
        lambda: _their_client(proving=True),
        lambda: _newest_client(certified=True),
        lambda **how: _server_by_hand(request=REQUEST, **how),
    ),
)
