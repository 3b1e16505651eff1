"""Every way in which a connection fails: its named exception, its text, its alert, and that everybody is told.

How this works. A `Case` describes two configurations that cannot agree, and what each end is to raise. `told` runs
the connection with several tasks at each end and checks what holds for every failure: each waiter gets the
same facts in an object of its own, and so does every later call. The alert is shown to have been on the wire by
the other end, which names it, or by raw bytes where the other end is not TLS at all.
"""

from __future__ import annotations

import copy
import pickle
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from cryptography import x509
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from trio_tls import (
    Alert,
    AlertReceived,
    CertificateVerificationError,
    CipherSuiteNumber,
    ClientConfig,
    HandshakeClosed,
    NamedGroup,
    NoSharedParameters,
    PeerMisbehaved,
    ServerConfig,
    TLSError,
    TLSStream,
    TransportError,
    UnexpectedEOF,
)

from . import certificates
from .peers import Config, demanding_server, distrustful_client, speaking
from .support import (
    CROSSED,
    HOST,
    MACHINES,
    SSL_MACHINES,
    Machines,
    authority,
    client_certificate,
    client_config,
    client_context,
    machines_named,
    receive_exactly,
    server_config,
    server_context,
    socket_pair,
    tcp_pair,
    tls_pair,
    transport_pair,
)

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
TIERS = ("1-socket", "4-memory")


def facts_of(error: TLSError) -> tuple[object, ...]:
    """What an error tells; the same for every task that is told."""
    chain = getattr(error, "presented_chain", None)
    return type(error), str(error), error.alert, error.sent_by_peer, error.__cause__, chain


def check_well_told(error: TLSError) -> None:
    """What holds for every failure."""
    assert type(error) is not TLSError, "it has a name"
    assert error.message and error.hint and str(error) == f"{error.message}. {error.hint}"
    assert len(str(error)) < 500, "never more than a glimpse of what a peer sent"
    for twin in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert facts_of(twin)[:4] == facts_of(error)[:4]


async def failure_of(operation: Callable[[], Awaitable[object]]) -> TLSError | None:
    """The TLSError that an operation ends with, or None."""
    try:
        await operation()
    except TLSError as error:
        return error
    return None


async def told(end: TLSStream[Any]) -> TLSError | None:
    """Do a handshake in three tasks at once, then receive; the failure that all of them were told."""
    failures: list[TLSError | None] = []

    async def wait(operation: Callable[[], Awaitable[object]]) -> None:
        failures.append(await failure_of(operation))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, end.do_handshake)
        nursery.start_soon(wait, end.do_handshake)
        nursery.start_soon(wait, end.receive_some)
    if failures == [None, None, None] or not any(failures):
        return None
    done = end.info is not None  # then the handshake was good at this end, and only the receive failed
    found = [failure for failure in failures if failure is not None]
    assert len(found) == (1 if done else 3)
    for operation in (end.receive_some, lambda: end.receive_some_into(bytearray(1)), lambda: end.send_all(b"late")):
        again = await failure_of(operation)
        assert again is not None, "a failure is sticky"
        found.append(again)
    if not done:
        again = await failure_of(end.do_handshake)
        assert again is not None
        found.append(again)
    assert len({id(failure) for failure in found}) == len(found), "each is told by an object of its own"
    assert {facts_of(failure) for failure in found} == {facts_of(found[0])}, "and told the same"
    check_well_told(found[0])
    return found[0]


async def fail_together(client: TLSStream[Any], server: TLSStream[Any]) -> dict[str, TLSError | None]:
    """Let both ends find out; what each was told."""
    failures: dict[str, TLSError | None] = {}

    async def run(name: str, end: TLSStream[Any]) -> None:
        failures[name] = await told(end)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, "client", client)
            nursery.start_soon(run, "server", server)
    return failures


# -- two configurations that cannot agree ------------------------------------------------------------------


@dataclass(frozen=True)
class End:
    """How one end is configured, of either kind.

    Attributes:
      ssl: makes its `ssl.SSLContext`, of a version.
      own: makes its config of our own machine, or None where there is no such thing.
    """

    ssl: Callable[[ssl.TLSVersion], ssl.SSLContext]
    own: Callable[[], ClientConfig | ServerConfig] | None


@dataclass(frozen=True)
class Case:
    """One way to fail.

    Attributes:
      client, server: the ends.
      fails: which end finds the fault.
      error: what that end raises; the other raises `AlertReceived`.
      alert: what crosses the wire; where that differs, by what finds it: ``"ssl-1.3"``, ``"ssl-1.2"``, ``"own"``.
      says: what the text of the one who finds it has; likewise.
      machines: where it applies.
      host: the name that the client asks for.
    """

    client: End
    server: End
    fails: str
    error: type[TLSError]
    alert: Alert | dict[str, Alert]
    says: str | dict[str, str]
    machines: tuple[str, ...] = (*MACHINES, *CROSSED)
    host: str = HOST

    def configs(self, machines: Machines) -> tuple[Config, Config]:
        """Of the client and the server, as ``machines`` has them."""
        version = TLS12 if machines.version == "TLSv1.2" else TLS13
        made: list[Config] = []
        for role, end in (("client", self.client), ("server", self.server)):
            if machines.is_own(role):
                assert end.own is not None
                made.append(end.own())
            else:
                made.append(end.ssl(version))
        return made[0], made[1]

    def finder(self, machines: Machines) -> str:
        """What finds the fault."""
        if machines.is_own(self.fails):
            return "own"
        return "ssl-1.2" if machines.version == "TLSv1.2" else "ssl-1.3"


def presenting(certificate: Callable[[], Any]) -> End:
    """A server with this certificate."""
    return End(
        lambda version: certificates.presenting(certificate(), version),
        lambda: server_config().replace(credentials=certificates.credential(certificate())),
    )


def certified(certificate: Callable[[], Any]) -> End:
    """A client that presents this certificate."""

    def make(version: ssl.TLSVersion) -> ssl.SSLContext:
        context = client_context(version)
        certificates.present(context, certificate())
        return context

    return End(make, lambda: client_config().replace(credentials=certificates.credential(certificate())))


def other_version(version: ssl.TLSVersion) -> ssl.SSLContext:
    return server_context(TLS12 if version is TLS13 else TLS13)


def with_ciphers(
    context: Callable[[ssl.TLSVersion], ssl.SSLContext], ciphers: str
) -> Callable[[ssl.TLSVersion], ssl.SSLContext]:
    def make(version: ssl.TLSVersion) -> ssl.SSLContext:
        made = context(version)
        made.set_ciphers(ciphers)
        return made

    return make


def with_group(
    context: Callable[[ssl.TLSVersion], ssl.SSLContext],
    config: Callable[[], ClientConfig | ServerConfig],
    group: str,
    number: NamedGroup,
) -> End:
    def make(version: ssl.TLSVersion) -> ssl.SSLContext:
        made = context(version)
        made.set_ecdh_curve(group)
        return made

    return End(make, lambda: config().replace(groups=[number]))


def with_alpn(
    context: Callable[[ssl.TLSVersion], ssl.SSLContext], protocol: str
) -> Callable[[ssl.TLSVersion], ssl.SSLContext]:
    def make(version: ssl.TLSVersion) -> ssl.SSLContext:
        made = context(version)
        made.set_alpn_protocols([protocol])
        return made

    return make


def without_certificate(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    return context


def demanding_context(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = server_context(version)
    authority().configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


CLIENT, SERVER = End(client_context, client_config), End(server_context, server_config)

#: A server that requires a client certificate of the test CA.
DEMANDING = End(demanding_context, lambda: demanding_server(machines_named("own-server")))  # type: ignore[arg-type, return-value]

DISTRUSTING = End(certificates.distrusting, lambda: distrustful_client(machines_named("own-client")))  # type: ignore[arg-type, return-value]

CVE = CertificateVerificationError
CASES: dict[str, Case] = {
    "untrusted CA": Case(
        DISTRUSTING,
        SERVER,
        "client",
        CVE,
        Alert.unknown_ca,
        {"ssl-1.3": "load_verify_locations", "ssl-1.2": "load_verify_locations", "own": "TrustAnchors"},
    ),
    "wrong host": Case(CLIENT, SERVER, "client", CVE, Alert.bad_certificate, "server_hostname", host="a.example.org"),
    "expired": Case(CLIENT, presenting(certificates.expired), "client", CVE, Alert.certificate_expired, "clock"),
    "not yet valid": Case(
        CLIENT,
        presenting(certificates.not_yet_valid),
        "client",
        CVE,
        {"ssl-1.3": Alert.bad_certificate, "ssl-1.2": Alert.bad_certificate, "own": Alert.certificate_expired},
        "clock",
    ),
    "wrong purpose": Case(
        CLIENT,
        presenting(certificates.for_clients_only),
        "client",
        CVE,
        Alert.unsupported_certificate,
        "extended key usage",
    ),
    "no common version": Case(
        CLIENT,
        End(other_version, None),
        "server",
        NoSharedParameters,
        Alert.protocol_version,
        "no common TLS version",
        machines=(*SSL_MACHINES, "own-client"),
    ),
    "an older client": Case(
        End(lambda _version: client_context(TLS12), None),
        SERVER,
        "server",
        NoSharedParameters,
        Alert.protocol_version,
        "an ssl.SSLContext can serve it",
        machines=("own-server",),
    ),
    "no common cipher suite in TLS 1.2": Case(
        End(with_ciphers(client_context, "ECDHE-ECDSA-AES128-GCM-SHA256"), None),
        End(with_ciphers(server_context, "ECDHE-ECDSA-AES256-GCM-SHA384"), None),
        "server",
        NoSharedParameters,
        Alert.handshake_failure,
        "no common cipher suite",
        machines=("ssl-1.2",),
    ),
    "no common cipher suite": Case(
        End(client_context, lambda: client_config().replace(cipher_suites=[CipherSuiteNumber.TLS_AES_128_GCM_SHA256])),
        End(server_context, lambda: server_config().replace(cipher_suites=[CipherSuiteNumber.TLS_AES_256_GCM_SHA384])),
        "server",
        NoSharedParameters,
        Alert.handshake_failure,
        "none of our cipher suites",
        machines=("own",),
    ),
    "no common group": Case(
        with_group(client_context, client_config, "prime256v1", NamedGroup.secp256r1),
        with_group(server_context, server_config, "secp384r1", NamedGroup.secp384r1),
        "server",
        NoSharedParameters,
        Alert.handshake_failure,
        {"ssl-1.3": "no common", "ssl-1.2": "no common", "own": "none of our key exchange groups"},
    ),
    "no common ALPN protocol": Case(
        End(with_alpn(client_context, "h2"), lambda: client_config().replace(alpn_protocols=["h2"])),
        End(server_context, lambda: server_config().replace(alpn_protocols=["http/1.1"])),
        "server",
        NoSharedParameters,
        Alert.no_application_protocol,
        "none of our ALPN protocols",
        machines=("own", "own-server"),  # a server on an SSLContext goes on without one: see below
    ),
    "a server without a certificate": Case(
        CLIENT,
        End(without_certificate, None),
        "server",
        NoSharedParameters,
        # OpenSSL then takes itself for TLS 1.2
        {"ssl-1.2": Alert.handshake_failure, "ssl-1.3": Alert.protocol_version},
        "certificate",
        machines=(*SSL_MACHINES, "own-client"),
    ),
    "no client certificate": Case(
        CLIENT,
        DEMANDING,
        "server",
        CVE,
        {
            "ssl-1.2": Alert.handshake_failure,
            "ssl-1.3": Alert.certificate_required,
            "own": Alert.certificate_required,
        },
        {"ssl-1.2": "load_cert_chain", "ssl-1.3": "load_cert_chain", "own": "Give the client a certificate"},
    ),
    "untrusted client certificate": Case(
        certified(certificates.of_strange_authority), DEMANDING, "server", CVE, Alert.unknown_ca, "client's certificate"
    ),
    "expired client certificate": Case(
        certified(certificates.expired), DEMANDING, "server", CVE, Alert.certificate_expired, "client's certificate"
    ),
}

#: Where a client is done before the server looks at its certificate.
TLS13_MACHINES = ("ssl-1.3", "own", *CROSSED)


@asynccontextmanager
async def disagreeing(
    case: Case, machines: Machines, tier: str
) -> AsyncIterator[tuple[TLSStream[Any], TLSStream[Any]]]:
    of_client, of_server = case.configs(machines)
    async with transport_pair(tier, machines) as (to_server, to_client):
        server = TLSStream(to_client, of_server, server_side=True)
        # The client is closed first: a server that has sent an alert lingers until then.
        async with server, TLSStream(to_server, of_client, server_hostname=case.host) as client:
            yield client, server


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name, case in CASES.items() for kind in case.machines],
)
async def test_configurations_that_cannot_agree_fail_by_name_at_both_ends(name: str, kind: str, tier: str) -> None:
    case, machines = CASES[name], machines_named(kind)
    finder = case.finder(machines)
    alert = case.alert[finder] if isinstance(case.alert, dict) else case.alert
    async with disagreeing(case, machines, tier) as (client, server):
        failures = await fail_together(client, server)
    found, received = failures[case.fails], failures["client" if case.fails == "server" else "server"]
    assert type(found) is case.error
    assert (found.alert, found.sent_by_peer) == (alert, False)
    assert (case.says[finder] if isinstance(case.says, dict) else case.says) in str(found)
    assert isinstance(found.__cause__, ssl.SSLError)
    assert type(received) is AlertReceived
    assert (received.alert, received.sent_by_peer) == (alert, True), "it was on the wire, and is named"
    assert alert.name in str(received)
    assert isinstance(received.__cause__, ssl.SSLError)


@pytest.mark.across
@pytest.mark.parametrize("name", ["untrusted CA", "expired", "wrong host"])
async def test_the_presented_chain_is_kept_when_verification_fails(machines: Machines, name: str) -> None:
    async with disagreeing(CASES[name], machines, "1-socket") as (client, server):
        error = (await fail_together(client, server))["client"]
    assert isinstance(error, CertificateVerificationError)
    assert isinstance(error.__cause__, ssl.CertificateError)
    (leaf, *_issuers) = [x509.load_der_x509_certificate(der) for der in error.presented_chain]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert HOST in names.get_values_for_type(x509.DNSName)
    twin: CertificateVerificationError = pickle.loads(pickle.dumps(error))
    assert twin.presented_chain == error.presented_chain and twin.verify_code == error.verify_code
    assert (error.verify_code > 0) != machines.is_own("client"), "the number is OpenSSL's"


@pytest.mark.parametrize("kind", TLS13_MACHINES)
async def test_a_chain_is_kept_whole_and_in_the_order_it_was_presented(kind: str) -> None:
    case = Case(CLIENT, presenting(certificates.below_too_many), "client", CVE, Alert.unknown_ca, "")
    async with disagreeing(case, machines_named(kind), "1-socket") as (client, server):
        error = (await fail_together(client, server))["client"]
    assert isinstance(error, CertificateVerificationError)
    issued = certificates.below_too_many()
    assert [x509.load_der_x509_certificate(der) for der in error.presented_chain] == [issued.certificate, *issued.above]


@pytest.mark.parametrize("kind", TLS13_MACHINES)
async def test_a_client_that_presented_nothing_has_no_chain(kind: str) -> None:
    async with disagreeing(CASES["no client certificate"], machines_named(kind), "1-socket") as (client, server):
        error = (await fail_together(client, server))["server"]
    assert isinstance(error, CertificateVerificationError) and error.presented_chain == ()


@pytest.mark.parametrize("kind", [*SSL_MACHINES, "own-client"])
async def test_without_a_common_alpn_protocol_a_server_on_a_context_goes_on_without_one(kind: str) -> None:
    machines = speaking(machines_named(kind), client=["h2"], server=["http/1.1"])
    async with tls_pair(machines) as (client_end, server_end):
        for end in (client_end, server_end):
            assert end.info is not None and end.info.alpn_protocol is None
            assert end.selected_alpn_protocol() is None


@pytest.mark.across
async def test_a_common_alpn_protocol_is_told_at_both_ends(machines: Machines) -> None:
    spoken = speaking(machines, client=["h2", "http/1.1"], server=["http/1.1"])
    async with tls_pair(spoken) as (client_end, server_end):
        for end in (client_end, server_end):
            assert end.info is not None and end.info.alpn_protocol == "http/1.1"
            assert end.selected_alpn_protocol() == "http/1.1"


def test_a_client_that_checks_names_must_be_given_one() -> None:
    near, _far = memory_stream_pair()
    with pytest.raises(ValueError, match="needs server_hostname"):
        TLSStream(near, client_context())
    with pytest.raises(ValueError, match="server_hostname is needed"):
        TLSStream(near, client_config())


# -- a rejection that comes after the client's handshake ---------------------------------------------------


@pytest.mark.parametrize("name", ["no client certificate", "untrusted client certificate"])
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kind", TLS13_MACHINES)
async def test_in_tls_1_3_a_client_learns_of_its_rejection_at_its_first_receive(
    name: str, tier: str, kind: str
) -> None:
    async with disagreeing(CASES[name], machines_named(kind), tier) as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(failure_of, server.do_handshake)
            await client.do_handshake()
        first = await failure_of(client.receive_some)
        assert isinstance(first, AlertReceived) and first.alert in (Alert.certificate_required, Alert.unknown_ca)
        second = await failure_of(lambda: client.send_all(b"x"))
        assert second is not None and facts_of(second) == facts_of(first)


@asynccontextmanager
async def rejected_and_closed(case: Case, kind: str, transport: str) -> AsyncIterator[TLSStream[Any]]:
    """A TLS 1.3 client that believes in its handshake, and whose server has rejected it and gone."""
    of_client, of_server = case.configs(machines_named(kind))
    if transport == "tcp":
        to_server, to_client = await tcp_pair()
        ends: tuple[trio.abc.Stream, trio.abc.Stream] = (to_server, to_client)
    else:
        ends = socket_pair() if transport == "unix" else memory_stream_pair()
    client = TLSStream(ends[0], of_client, server_hostname=HOST)
    server = TLSStream(ends[1], of_server, server_side=True)
    async with client, server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(failure_of, server.do_handshake)
            await client.do_handshake()
        await trio.aclose_forcefully(ends[1])
        yield client


async def failure_of_sending(client: TLSStream[Any]) -> TLSError:
    """Send until that fails."""
    with trio.fail_after(20):
        while True:
            failure = await failure_of(lambda: client.send_all(b"x" * 10_000))
            if failure is not None:
                check_well_told(failure)
                return failure


@pytest.mark.parametrize("name", ["no client certificate", "untrusted client certificate"])
@pytest.mark.parametrize("transport", ["tcp", "unix"])
@pytest.mark.parametrize("kind", TLS13_MACHINES)
async def test_in_tls_1_3_a_client_that_only_sends_learns_of_its_rejection_from_the_send_that_fails(
    name: str, transport: str, kind: str
) -> None:
    async with rejected_and_closed(CASES[name], kind, transport) as client:
        failure = await failure_of_sending(client)
        assert isinstance(failure, AlertReceived), "not: broken pipe"
        assert failure.alert in (Alert.certificate_required, Alert.unknown_ca) and failure.sent_by_peer
        again = await failure_of(client.receive_some)
        assert again is not None and facts_of(again) == facts_of(failure)


@pytest.mark.parametrize("kind", TLS13_MACHINES)
async def test_a_transport_that_can_only_be_awaited_keeps_the_rejection_for_the_next_receive(kind: str) -> None:
    async with rejected_and_closed(CASES["untrusted client certificate"], kind, "memory") as client:
        assert isinstance(await failure_of_sending(client), TransportError)
        failure = await failure_of(client.receive_some)
        assert isinstance(failure, AlertReceived) and failure.alert is Alert.unknown_ca


@pytest.mark.parametrize("kind", TLS13_MACHINES)
async def test_after_a_fatal_alert_a_server_lingers_so_that_no_reset_eats_it(kind: str) -> None:
    to_server, to_client = await tcp_pair()
    of_client, of_server = CASES["untrusted client certificate"].configs(machines_named(kind))
    client = TLSStream(to_server, of_client, server_hostname=HOST)
    server = TLSStream(to_client, of_server, server_side=True)
    closed = trio.Event()

    async def serve() -> None:
        async with server:
            # What the client sends behind its certificate arrives, and is never read by this handshake.
            await server_may_go_on.wait()
            assert isinstance(await failure_of(server.do_handshake), CertificateVerificationError)
        closed.set()

    server_may_go_on = trio.Event()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            server_may_go_on.set()
            nursery.start_soon(serve)
            await client.do_handshake()
            try:
                await client.send_all(b"unread" * 20_000)
            except AlertReceived:
                pass
            await wait_all_tasks_blocked()
            assert not closed.is_set(), "the server waits until we have read what it had to say"
            failure = await failure_of(client.receive_some)
            assert isinstance(failure, AlertReceived) and failure.alert is Alert.unknown_ca
            await client.aclose()
    assert closed.is_set()


@pytest.mark.parametrize("kind", TLS13_MACHINES)
async def test_a_server_lingers_for_its_grace_period_at_the_most(autojump_clock: MockClock, kind: str) -> None:
    to_server, to_client = socket_pair()
    of_client, of_server = CASES["untrusted client certificate"].configs(machines_named(kind))
    client = TLSStream(to_server, of_client, server_hostname=HOST)
    server = TLSStream(to_client, of_server, server_side=True, grace=3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(failure_of, server.do_handshake)
        await client.do_handshake()
    before = trio.current_time()
    await server.aclose()
    assert trio.current_time() - before == pytest.approx(3)
    await trio.aclose_forcefully(client)


# -- peers that do not speak TLS ---------------------------------------------------------------------------


@asynccontextmanager
async def against_raw_peer(
    kind: str, *, server_side: bool, machines: Machines
) -> AsyncIterator[tuple[TLSStream[Any], trio.abc.Stream]]:
    """A TLSStream, and the bare transport of its peer."""
    ours, theirs = socket_pair() if kind == "1-socket" else memory_stream_pair()
    if server_side:
        end = TLSStream(ours, machines.server, server_side=True)
    else:
        end = TLSStream(ours, machines.client, server_hostname=HOST)
    async with end, theirs:
        yield end, theirs


async def answer(peer: trio.abc.Stream, data: bytes, *, after_hello: bool, then_eof: bool = False) -> None:
    """What a raw peer does: wait for a ClientHello if there is one, and say something."""
    if after_hello:
        header = await receive_exactly(peer, 5)
        await receive_exactly(peer, int.from_bytes(header[3:], "big"))
    if data:
        await peer.send_all(data)
    if then_eof:
        await peer.send_eof()  # type: ignore[attr-defined]  # both kinds of transport here have it


async def failure_against(
    kind: str, machines: Machines, data: bytes, *, server_side: bool, then_eof: bool = False
) -> tuple[TLSError, bytes]:
    """What we raise against a peer that says ``data``; and the bytes that it gets for it."""
    async with against_raw_peer(kind, server_side=server_side, machines=machines) as (end, peer):
        failures: list[TLSError | None] = []

        async def run() -> None:
            failures.append(await told(end))

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run)
                await answer(peer, data, after_hello=not server_side, then_eof=then_eof)
            assert failures[0] is not None
            await end.aclose()
            reply = b""
            try:
                while part := await peer.receive_some(1000):
                    reply += part
            except trio.BrokenResourceError:
                pass
        return failures[0], reply


def is_alert(reply: bytes, alert: Alert | None) -> bool:
    """Whether ``reply`` is one plaintext record with this fatal alert, and nothing else."""
    return alert is not None and reply[:1] == b"\x15" and reply[3:] == bytes((0, 2, 2, alert))


@pytest.mark.parametrize("kind", TIERS)
async def test_http_to_a_tls_port_is_told_as_http(machines: Machines, kind: str) -> None:
    request = b"GET /secret?password=hunter2 HTTP/1.1\r\nHost: example.org\r\n\r\n"
    error, reply = await failure_against(kind, machines, request, server_side=True)
    assert isinstance(error, PeerMisbehaved)
    assert "HTTP" in error.message and "http://" in error.hint
    assert "hunter2" not in str(error), "sixteen bytes of what came are shown, and no more"
    assert isinstance(error.__cause__, ssl.SSLError)
    assert not error.sent_by_peer and is_alert(reply, error.alert)


@pytest.mark.parametrize("kind", TIERS)
@pytest.mark.parametrize(
    "banner",
    [b"220 mail.example.org ESMTP ready\r\n", b"SSH-2.0-OpenSSH_9.2p1\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"],
)
async def test_tls_to_a_plaintext_port_shows_what_answered(machines: Machines, kind: str, banner: bytes) -> None:
    error, reply = await failure_against(kind, machines, banner, server_side=False)
    assert isinstance(error, PeerMisbehaved)
    assert repr(banner[:16]) in error.message and "STARTTLS" in error.hint
    assert isinstance(error.__cause__, ssl.SSLError)
    assert not error.sent_by_peer and is_alert(reply, error.alert)


@pytest.mark.parametrize("kind", TIERS)
@pytest.mark.parametrize("server_side", [True, False])
@pytest.mark.parametrize("garbage", [b"\x00" * 100, b"\xff" * 100, bytes(range(100)), b"\x16\x03\x01\x00\x05hello" * 9])
async def test_garbage_is_refused_by_name_and_by_alert(
    machines: Machines, kind: str, server_side: bool, garbage: bytes
) -> None:
    error, reply = await failure_against(kind, machines, garbage, server_side=server_side)
    assert isinstance(error, PeerMisbehaved)
    assert isinstance(error.__cause__, ssl.SSLError)
    assert not error.sent_by_peer and is_alert(reply, error.alert)


@pytest.mark.parametrize("kind", TIERS)
@pytest.mark.parametrize("server_side", [True, False])
async def test_a_record_that_is_too_long_is_refused_by_its_rule(
    machines: Machines, kind: str, server_side: bool
) -> None:
    record = struct.pack("!BHH", 22, 0x0303, 0x4801) + bytes(100)
    error, reply = await failure_against(kind, machines, record, server_side=server_side)
    assert isinstance(error, PeerMisbehaved)
    own = machines.is_own("server" if server_side else "client")
    said = "a record of 18433 bytes" if own else "longer than allowed"
    assert f"{said} (RFC 9846 section 5" in error.message
    assert error.alert is Alert.record_overflow and is_alert(reply, Alert.record_overflow)


@pytest.mark.parametrize("kind", TIERS)
@pytest.mark.parametrize("server_side", [True, False])
async def test_an_unsolicited_handshake_message_is_refused(machines: Machines, kind: str, server_side: bool) -> None:
    finished = struct.pack("!BHHB", 22, 0x0303, 36, 20) + bytes((0, 0, 32)) + bytes(32)
    error, reply = await failure_against(kind, machines, finished, server_side=server_side)
    assert isinstance(error, PeerMisbehaved)
    own = machines.is_own("server" if server_side else "client")
    assert ("finished where" if own else "out of order") in error.message
    assert error.alert is Alert.unexpected_message and is_alert(reply, Alert.unexpected_message)


@pytest.mark.parametrize("kind", TIERS)
@pytest.mark.parametrize("server_side", [True, False])
@pytest.mark.parametrize(("data", "says"), [(b"", "without answering"), (b"\x16\x03", "in the middle of")])
async def test_an_end_in_the_handshake_is_unexpected_eof(
    machines: Machines, kind: str, server_side: bool, data: bytes, says: str
) -> None:
    error, reply = await failure_against(kind, machines, data, server_side=server_side, then_eof=True)
    assert isinstance(error, UnexpectedEOF) and says in error.message
    assert isinstance(error.__cause__, ssl.SSLEOFError)
    assert (error.alert, error.sent_by_peer, reply) == (None, False, b"")


@pytest.mark.parametrize("kind", TIERS)
async def test_close_notify_in_the_handshake_is_a_controlled_end(machines: Machines, kind: str) -> None:
    close_notify = bytes((21, 3, 3, 0, 2, 1, 0))
    error, _reply = await failure_against(kind, machines, close_notify, server_side=False)
    assert isinstance(error, HandshakeClosed)
    assert (error.alert, error.sent_by_peer) == (Alert.close_notify, True)


@pytest.mark.parametrize("kind", TIERS)
@pytest.mark.parametrize("alert", [Alert.handshake_failure, Alert.no_application_protocol, Alert(200)])
async def test_a_fatal_alert_in_the_handshake_is_named_and_not_answered(
    machines: Machines, kind: str, alert: Alert
) -> None:
    error, reply = await failure_against(kind, machines, bytes((21, 3, 3, 0, 2, 2, alert)), server_side=False)
    assert isinstance(error, AlertReceived)
    assert error.alert == alert and error.sent_by_peer and alert.name in error.message
    assert reply == b""


async def test_a_peer_that_says_nothing_only_makes_us_wait(machines: Machines, autojump_clock: MockClock) -> None:
    for server_side in (True, False):
        async with against_raw_peer("memory", server_side=server_side, machines=machines) as (end, _peer):
            with trio.move_on_after(1000) as scope:
                await end.do_handshake()
            assert scope.cancelled_caught
        assert trio.current_time() % 1000 < 10, "and closing does not wait for it"


# -- after the handshake -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("who", ["client", "server"])
async def test_an_end_without_close_notify_is_told_after_the_data(machines: Machines, tier: str, who: str) -> None:
    async with tls_pair(machines, tier) as (client, server):
        end, peer = (client, server) if who == "client" else (server, client)
        await peer.send_all(b"all there is")
        transport = peer.transport_stream
        assert transport is not None
        await transport.aclose()
        assert await end.receive_some() == b"all there is"
        errors = [await failure_of(end.receive_some) for _ in range(3)]
        for error in errors:
            assert isinstance(error, UnexpectedEOF) and isinstance(error.__cause__, ssl.SSLEOFError)
            check_well_told(error)
        assert len({id(error) for error in errors}) == 3


@pytest.mark.parametrize("tier", TIERS)
async def test_an_end_without_close_notify_is_an_ordinary_one_where_the_user_says_so(
    machines: Machines, tier: str
) -> None:
    async with tls_pair(machines, tier, client_options={"require_close_notify": False}) as (client, server):
        await server.send_all(b"all there is")
        assert server.transport_stream is not None
        await server.transport_stream.aclose()
        assert [await client.receive_some() for _ in range(3)] == [b"all there is", b"", b""]


@pytest.mark.parametrize("phase", ["before the handshake", "after it"])
async def test_a_reset_is_a_transport_error_with_its_cause_for_every_task(machines: Machines, phase: str) -> None:
    to_server, to_client = await tcp_pair()
    client = TLSStream(to_server, machines.client, server_hostname=HOST)
    server = TLSStream(to_client, machines.server, server_side=True)
    async with client, server:
        if phase == "after it":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.do_handshake)
                nursery.start_soon(server.do_handshake)
            await server.flush()
            assert not client.is_readable(), "the tickets are dealt with"
        failures: list[TLSError | None] = []

        async def receive() -> None:
            failures.append(await failure_of(client.receive_some))

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await wait_all_tasks_blocked()
                to_client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await to_client.aclose()  # a reset, by SO_LINGER
            for operation in (client.receive_some, client.receive_some):
                failures.append(await failure_of(operation))
            failures.append(await failure_of(lambda: client.send_all(b"x" * 1000)))
        for failure in failures:
            assert isinstance(failure, TransportError)
            assert isinstance(failure.__cause__, OSError)
            assert failure.alert is None
            check_well_told(failure)


@pytest.mark.parametrize("tier", TIERS)
async def test_an_altered_record_is_told_to_both_ends_by_name(machines: Machines, tier: str) -> None:
    async with tls_pair(machines, tier) as (client, server):
        await server.flush()
        assert client.transport_stream is not None
        record = b"\x17\x03\x03\x00\x20" + bytes(32)
        await client.transport_stream.send_all(record)
        found = await failure_of(server.receive_some)
        assert isinstance(found, PeerMisbehaved)
        assert ("does not authenticate" if machines.is_own("server") else "failed authentication") in found.message
        check_well_told(found)
        received = await failure_of(client.receive_some)
        assert isinstance(received, AlertReceived) and received.alert is Alert.bad_record_mac
        for end, first in ((server, found), (client, received)):
            for operation in (end.receive_some, lambda end=end: end.send_all(b"x")):
                again = await failure_of(operation)
                assert again is not None and again is not first and facts_of(again) == facts_of(first)


@pytest.mark.across
async def test_a_client_certificate_that_is_trusted_is_accepted(machines: Machines) -> None:
    case = Case(certified(client_certificate), DEMANDING, "", TLSError, Alert.close_notify, "")
    async with disagreeing(case, machines, "1-socket") as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.do_handshake)
            nursery.start_soon(server.do_handshake)
        await server.send_all(b"welcome")
        assert await client.receive_some() == b"welcome"
        assert server.info is not None
        presented = x509.load_pem_x509_certificate(client_certificate().cert_chain_pems[0].bytes())
        assert x509.load_der_x509_certificate(server.info.peer_chain[0]) == presented
        assert server.getpeercert(binary_form=True) == server.info.peer_chain[0]
        if machines.is_own("client"):
            assert client.info is not None and client.info.local_chain[0] == server.info.peer_chain[0]
