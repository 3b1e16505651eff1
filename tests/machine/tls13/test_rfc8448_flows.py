"""Our client and our server in the place of those of RFC 8448: what leaves is the RFC's, byte for byte.

How this works. Randomness, time and key shares are injected by the config; signatures, which are random, come from a
key "elsewhere" that knows the RFC's. What is left is choice: which extensions a hello offers and in which order, what
a server adds to EncryptedExtensions. There the RFC's message takes the place of ours as it is emitted
(`speaking_as`), and the test says that ours would have meant the same. Nothing else is replaced: no Finished, no key,
no record.

The RFC's keys are RSA keys of 1024 bits, which no `Credential` takes and no signature is believed of; `small_keys` lets
these tests have them.

Not driven to the end: the resumption with 0-RTT, which this library does not do. There both ends come as far as the
server's Finished, the binder and all secrets included.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from trio_tls import ClientConfig, Credential, ServerConfig, Session, accept_any_peer
from trio_tls import credentials as credentials_module
from trio_tls.errors import PeerMisbehaved
from trio_tls.machine.interface import Machine, Want
from trio_tls.machine.tls13 import groups as groups_module
from trio_tls.machine.tls13 import signatures as signatures_module
from trio_tls.machine.tls13.connection import TLS13Machine
from trio_tls.machine.tls13.extensions import Cookie, SelectedKeyShare, SelectedPsk, SelectedVersion
from trio_tls.machine.tls13.groups import Group, KeyShare, x25519_key_share
from trio_tls.machine.tls13.key_schedule import KeySchedule
from trio_tls.machine.tls13.messages import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    HelloRetryRequest,
    Message,
    NewSessionTicket,
    ServerHello,
    decode_message,
)
from trio_tls.machine.tls13.registry import CipherSuiteNumber, NamedGroup, SignatureScheme
from trio_tls.machine.tls13.server import ServerHandshake
from trio_tls.machine.tls13.sessions import ServerSession
from trio_tls.machine.tls13.signatures import verify
from trio_tls.machine.tls13.suites import SUITES
from trio_tls.machine.tls13.wire import uint16

from ..drive import go_on
from .primitives import primitives
from .traces import TRACES, find, messages

SIMPLE, EARLY, RETRY = "Simple 1-RTT Handshake", "Resumed 0-RTT Handshake", "HelloRetryRequest"
PROVING, COMPATIBLE = "Client Authentication", "Compatibility Mode"

#: Those that we can do to the end.
WHOLE = pytest.mark.parametrize("trace", [SIMPLE, RETRY, PROVING, COMPATIBLE])

LABELS = {
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET": "c hs traffic",
    "SERVER_HANDSHAKE_TRAFFIC_SECRET": "s hs traffic",
    "CLIENT_TRAFFIC_SECRET_0": "c ap traffic",
    "SERVER_TRAFFIC_SECRET_0": "s ap traffic",
    "EXPORTER_SECRET": "exp master",
}


@pytest.fixture(autouse=True)
def small_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials_module, "LEAST_RSA_BITS", 1024)
    monkeypatch.setattr(signatures_module, "LEAST_RSA_BITS", 1024)


# -- what the RFC prints ---------------------------------------------------------------------------------------


def sent(trace: str, side: str) -> list[bytes]:
    """The records of one side, in their order."""
    return [
        step.values["complete record"]
        for step in TRACES[trace]
        if step.side == side and step.title.startswith("send") and step.values
    ]


def payloads(trace: str, side: str, kind: str) -> list[bytes]:
    return [
        step.values["payload"]
        for step in TRACES[trace]
        if step.side == side and step.title.startswith(f"send {kind} record") and step.values
    ]


def of(trace: str, side: str, kind: type[Message]) -> list[bytes]:
    """The messages of this kind that one side sends, as they are."""
    return [raw for who, raw in messages(trace) if who == side and type(decode_message(raw[0], raw[4:])) is kind]


def logged(trace: str) -> dict[str, bytes]:
    """What a key log has to hold."""
    secrets = {}
    for label, name in LABELS.items():
        secrets[label] = find(trace, "server", f'derive secret "tls13 {name}"')["expanded"]
    return secrets


def shares(trace: str, side: str) -> list[KeyShare]:
    """The key shares that one side makes, in their order."""
    made = []
    for step in TRACES[trace]:
        if step.side == side and step.title.startswith("create an ephemeral"):
            private = step.values["private key"]
            if "P-256" in step.title:
                key = ec.derive_private_key(int.from_bytes(private, "big"), ec.SECP256R1())
                made.append(KeyShare(NamedGroup.secp256r1, groups_module._PointHalf(key)))
            else:
                made.append(x25519_key_share(private))
            assert made[-1].public == step.values["public key"]
    return made


class Dealer:
    """Hands out what a machine would make: key shares and random bytes of the trace, in their order."""

    def __init__(self, trace: str, side: str) -> None:
        self.shares = shares(trace, side)
        own = ClientHello if side == "client" else ServerHello
        raw = of(trace, side, own)[-1]
        hello = decode_message(raw[0], raw[4:])
        assert isinstance(hello, (ClientHello, ServerHello))
        self.random = [hello.random, hello.session_id]

    def draw(self, count: int) -> bytes:
        return self.random.pop(0) if count == 32 and self.random else bytes(count)

    def generate(self, group: Group) -> KeyShare:
        share = self.shares.pop(0)
        assert share.group == group.number
        return share


def credential(trace: str, side: str) -> Credential:
    """The certificate of one side, and a key elsewhere that knows the one signature of the RFC."""
    certificate = decode_message(*split(of(trace, side, Certificate)[0]))
    proof = decode_message(*split(of(trace, side, CertificateVerify)[0]))
    assert isinstance(certificate, Certificate)
    assert isinstance(proof, CertificateVerify)
    leaf = x509.load_der_x509_certificate(certificate.entries[0].data)

    def sign(scheme: int, content: bytes) -> bytes:
        verify(leaf, scheme, proof.signature, content)  # it is over the very transcript that we have
        return proof.signature

    return Credential.remote(leaf, sign, schemes=[proof.scheme])


def split(raw: bytes) -> tuple[int, bytes]:
    return raw[0], raw[4:]


def speaking_as(machine: Machine, trace: str, side: str, *kinds: type[Message]) -> list[tuple[Message, Message]]:
    """Emit the RFC's messages of these kinds in the place of ours; both, for the test to compare."""
    assert isinstance(machine, TLS13Machine)
    exchange = machine._exchange
    emit = exchange.emit_encoded
    waiting = {kind: of(trace, side, kind) for kind in kinds}
    pairs: list[tuple[Message, Message]] = []

    def emit_theirs(kind: type[Message], raw: bytes) -> None:
        if kind not in waiting:
            return emit(kind, raw)
        theirs = waiting[kind].pop(0)
        pairs.append((decode_message(*split(raw)), decode_message(*split(theirs))))
        return emit(kind, theirs)

    exchange.emit_encoded = emit_theirs  # type: ignore[method-assign]
    return pairs


def read(machine: Machine) -> bytes | Want:
    buffer = bytearray(2**15)
    count = machine.read_into(memoryview(buffer))
    return count if isinstance(count, Want) else bytes(buffer[:count])


# -- our client ------------------------------------------------------------------------------------------------


def a_client(trace: str, secrets: dict[str, bytes], **fields: Any) -> Machine:
    """Our client, which says the RFC's ClientHello and remembers that as its own."""
    dealer = Dealer(trace, "client")
    config = ClientConfig(
        verify=accept_any_peer,
        groups=[NamedGroup.x25519, NamedGroup.secp256r1],
        key_shares=[NamedGroup.x25519],
        grease=False,
        middlebox_compatibility=trace == COMPATIBLE,
        record_size_limit=2**14 + 1,
        keylog=lambda label, random, secret: secrets.__setitem__(label, secret),
        primitives=primitives(dealer.draw, lambda: 1.7e9, dealer.generate),
        **fields,
    )
    machine = config.create_machine(server_side=False, server_hostname="server", session=None)
    assert isinstance(machine, TLS13Machine)
    client: Any = machine._handshake
    hellos = of(trace, "client", ClientHello)

    def emit_theirs() -> None:
        hello = decode_message(*split(hellos.pop(0)))
        assert isinstance(hello, ClientHello)
        client._offered = {uint16(kind) for kind in hello.extensions.types}
        machine._exchange.emit(hello)

    client._emit_client_hello = emit_theirs
    return machine


@WHOLE
def test_our_client_sends_the_records_of_the_rfc(trace: str) -> None:
    secrets: dict[str, bytes] = {}
    fields = {"credentials": credential(trace, "client")} if trace == PROVING else {}
    machine = a_client(trace, secrets, **fields)
    ours, theirs = sent(trace, "client"), sent(trace, "server")
    after = {SIMPLE: 3, RETRY: 1, PROVING: 1, COMPATIBLE: 1}[trace]  # records of the server behind its Finished
    assert machine.do_handshake() is Want.READ
    assert machine.outgoing.read() == ours.pop(0)
    if trace == RETRY:
        machine.incoming.write(theirs.pop(0))
        assert machine.do_handshake() is Want.READ
        assert machine.outgoing.read() == ours.pop(0)
    machine.incoming.write(b"".join(theirs[:-after]))
    assert go_on(machine) is None
    finished = 2 if trace == COMPATIBLE else 1  # and a change_cipher_spec
    assert machine.outgoing.read() == b"".join(ours[:finished])
    assert secrets == logged(trace)
    del ours[:finished]
    if trace == SIMPLE:
        ticket, answer, _close = theirs[-3:]
        machine.incoming.write(ticket)
        assert read(machine) is Want.READ
        session = machine.session
        assert isinstance(session, Session)
        assert session.psk == find(trace, "server", "generate resumption secret")["expanded"]
        machine.write(memoryview(payloads(trace, "client", "application_data")[0]))
        assert machine.outgoing.read() == ours.pop(0)
        machine.incoming.write(answer)
        assert read(machine) == payloads(trace, "server", "application_data")[0]
    machine.shutdown()
    assert [machine.outgoing.read()] == ours
    machine.incoming.write(theirs[-1])
    assert read(machine) == b""


def test_our_client_follows_the_resumption_of_the_rfc_up_to_the_servers_finished() -> None:
    secrets: dict[str, bytes] = {}
    machine = a_client(EARLY, secrets)
    assert isinstance(machine, TLS13Machine)
    machine.do_handshake()
    assert machine.outgoing.read() == sent(EARLY, "client")[0]
    psk = find(SIMPLE, "server", "generate resumption secret")["expanded"]
    suite = SUITES[CipherSuiteNumber.TLS_AES_128_GCM_SHA256]
    client: Any = machine._handshake
    client._session = Session(
        suite.number, psk, b"ticket", 0, 3600, 1.7e9, 1.7e9, "server", None, b"", (b"certificate",), (), None
    )
    client._schedule_with_psk = KeySchedule(suite, psk)
    hello, flight = sent(EARLY, "server")[:2]
    machine.incoming.write(hello + flight)
    assert go_on(machine) is None, "the server's Finished is right"
    assert secrets == logged(EARLY)


# -- our server ------------------------------------------------------------------------------------------------


def a_server(trace: str, secrets: dict[str, bytes], **fields: Any) -> Machine:
    dealer = Dealer(trace, "server")
    config = ServerConfig(
        **{
            "credentials": lambda need: None,
            "groups": [NamedGroup.secp256r1, NamedGroup.x25519] if trace == RETRY else [NamedGroup.x25519],
            "tickets": 0,
            "record_size_limit": 2**14 + 1,
            "keylog": lambda label, random, secret: secrets.__setitem__(label, secret),
            "primitives": primitives(dealer.draw, lambda: 1.7e9, dealer.generate),
            **fields,
        }
    )
    return config.create_machine(server_side=True, server_hostname=None, session=None)


def same_meaning(ours: Message, theirs: Message) -> None:
    """Whether our message would have said the same in its own order, as far as there is no choice."""
    if isinstance(ours, ServerHello) and isinstance(theirs, ServerHello):
        kinds = (SelectedVersion, SelectedKeyShare, SelectedPsk)
        assert [ours.extensions.get(kind) for kind in kinds] == [theirs.extensions.get(kind) for kind in kinds]
        assert (ours.random, ours.session_id, ours.cipher_suite) == (
            theirs.random,
            theirs.session_id,
            theirs.cipher_suite,
        )
    elif isinstance(ours, HelloRetryRequest) and isinstance(theirs, HelloRetryRequest):
        assert {*ours.extensions} == {each for each in theirs.extensions if not isinstance(each, Cookie)}
    elif isinstance(ours, EncryptedExtensions) and isinstance(theirs, EncryptedExtensions):
        assert {*ours.extensions} <= {*theirs.extensions}


@WHOLE
def test_our_server_sends_the_records_of_the_rfc(trace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets: dict[str, bytes] = {}
    fields: dict[str, Any] = {"credentials": credential(trace, "server")}
    if trace == PROVING:
        fields |= {"client_auth": "required", "verify": accept_any_peer}
    machine = a_server(trace, secrets, **fields)
    assert isinstance(machine, TLS13Machine)
    choices: list[type[Message]] = [ServerHello, HelloRetryRequest, EncryptedExtensions]
    if trace == PROVING:
        choices.append(CertificateRequest)
    pairs = speaking_as(machine, trace, "server", *choices)
    ours, theirs = sent(trace, "server"), sent(trace, "client")
    machine.incoming.write(theirs.pop(0))
    assert machine.do_handshake() is Want.READ
    if trace == RETRY:
        assert machine.outgoing.read() == ours.pop(0)
        # The RFC's server has sent a cookie, which ours never does; so ours would refuse to get one back.
        monkeypatch.setattr(type(machine._handshake), "_compare_hellos", lambda *hellos: None)
        machine.incoming.write(theirs.pop(0))
        assert machine.do_handshake() is Want.READ
    flight = 3 if trace == COMPATIBLE else 2
    assert machine.outgoing.read() == b"".join(ours[:flight])
    del ours[:flight]
    assert pairs
    for pair in pairs:
        same_meaning(*pair)
    finished = 2 if trace == COMPATIBLE else 1
    machine.incoming.write(b"".join(theirs[:finished]))
    assert machine.do_handshake() is None
    assert secrets == logged(trace)
    del theirs[:finished]
    assert machine.info is not None
    assert machine.info.server_name == "server"
    assert bool(machine.info.peer_chain) == (trace == PROVING)
    if trace == SIMPLE:
        (ticket,) = of(trace, "server", NewSessionTicket)
        machine._tickets, machine._unissued = (ticket,), None
        machine.write(memoryview(b""))
        assert machine.outgoing.read() == ours.pop(0)
        machine.incoming.write(theirs.pop(0))
        assert read(machine) == payloads(trace, "client", "application_data")[0]
        machine.write(memoryview(payloads(trace, "server", "application_data")[0]))
        assert machine.outgoing.read() == ours.pop(0)
    machine.incoming.write(theirs.pop(0))
    assert read(machine) == b""
    machine.shutdown()
    assert [machine.outgoing.read()] == ours


def fingerprint_of(machine: Machine) -> bytes:
    assert isinstance(machine, TLS13Machine)
    assert isinstance(machine._handshake, ServerHandshake)
    return machine._handshake.parameters.fingerprint


class OneSession:
    """A store that knows the session of the first trace, whatever it is asked for."""

    def __init__(self, session: ServerSession) -> None:
        self.session = session
        self.put_back = 0

    def put(self, identity: bytes, state: bytes, expires: float) -> None:
        assert ServerSession.from_bytes(state) == self.session, "no ticket is issued here"
        self.put_back += 1

    def take(self, identity: bytes) -> bytes:
        return self.session.to_bytes()


def test_our_server_resumes_the_session_of_the_rfc_and_sends_its_flight() -> None:
    secrets: dict[str, bytes] = {}
    psk = find(SIMPLE, "server", "generate resumption secret")["expanded"]
    session = ServerSession(
        cipher_suite=CipherSuiteNumber.TLS_AES_128_GCM_SHA256,
        psk=psk,
        server_name="server",
        alpn_protocol=None,
        fingerprint=fingerprint_of(a_server(EARLY, {})),
        client_chain=(),
        issued_at=1.7e9,
        authenticated_at=1.7e9,
        lifetime=3600,
        age_add=0,
        not_after=None,
        server_end_point=None,
    )
    machine = a_server(EARLY, secrets, session_store=OneSession(session), tickets=1)
    pairs = speaking_as(machine, EARLY, "server", ServerHello, EncryptedExtensions)
    machine.incoming.write(sent(EARLY, "client")[0])
    assert machine.do_handshake() is Want.READ, "the binder is right"
    assert machine.outgoing.read() == b"".join(sent(EARLY, "server")[:2])
    for pair in pairs:
        same_meaning(*pair)
    assert machine.do_handshake() is Want.READ
    assert secrets == logged(EARLY)
    machine.incoming.write(sent(EARLY, "client")[1])
    assert machine.do_handshake() is Want.READ, "its early data is skipped"


def test_a_binder_of_the_rfc_is_refused_for_another_key() -> None:
    session = ServerSession(0x1301, bytes(32), "server", None, b"", (), 1.7e9, 1.7e9, 3600, 0, None, None)
    session = replace(session, fingerprint=fingerprint_of(a_server(EARLY, {})))
    store = OneSession(session)
    machine = a_server(EARLY, {}, session_store=store, tickets=1)
    machine.incoming.write(sent(EARLY, "client")[0])
    with pytest.raises(PeerMisbehaved, match="does not have the PSK"):
        machine.do_handshake()
    assert store.put_back == 1


# -- the RSA signature -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trace", "scheme"),
    [(SIMPLE, SignatureScheme.rsa_pss_rsae_sha256), (PROVING, SignatureScheme.ecdsa_secp256r1_sha256)],
)
def test_the_info_tells_what_the_server_of_the_rfc_signed_by(trace: str, scheme: SignatureScheme) -> None:
    machine = a_client(trace, {})
    machine.do_handshake()
    machine.incoming.write(b"".join(sent(trace, "server")[:2]))
    assert go_on(machine) is None
    assert machine.info is not None
    assert machine.info.signature_scheme == scheme.name
    assert machine.info.group == "x25519"
