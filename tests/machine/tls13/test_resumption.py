"""Resumption in both roles (RFC 9846 sections 2.2, 4.3.11 and 4.7.1): what a session is good for."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from trio_tls import ClientConfig, MemorySessionStore, ServerConfig, Session, SessionCache, TicketKeys
from trio_tls.alerts import Alert
from trio_tls.errors import PeerMisbehaved
from trio_tls.machine.interface import Machine
from trio_tls.machine.tls13.extensions import (
    EarlyDataLimit,
    Extension,
    Extensions,
    PreSharedKeys,
    PskIdentity,
    PskKeyExchangeModes,
    RetryGroup,
    SelectedKeyShare,
    SelectedPsk,
    SignatureAlgorithms,
)
from trio_tls.machine.tls13.messages import (
    Certificate,
    CertificateRequest,
    ClientHello,
    HelloRetryRequest,
    NewSessionTicket,
)
from trio_tls.machine.tls13.registry import CipherSuiteNumber, NamedGroup

from ...support import HOST, verifier
from .edits import adding, extended, on, putting, with_fields, without
from .ends import (
    a_client,
    a_server,
    client_config,
    client_credential,
    connected,
    fail,
    pass_on,
    read,
    send,
    server_config,
    server_credential,
    shake_hands,
)
from .primitives import Clock, primitives, seeded
from .scripted_peer import HANDSHAKE, Edit, Meeting, ScriptedClient, ScriptedServer, as_it_is, meet

DAY = 24 * 3600
ILLEGAL = Alert.illegal_parameter
AES_128, AES_256, CHACHA = sorted(CipherSuiteNumber)[:3]


def session_of(client: ClientConfig, server: ServerConfig, **how: Any) -> Session:
    """The session of a full handshake."""
    ends = connected(client, server, **how)
    return deliver(*ends)


def deliver(client: Machine, server: Machine) -> Session:
    """Let the tickets come; the last session."""
    assert send(server, client, b"tickets come with the first data") != b""
    assert isinstance(client.session, Session)
    return client.session


def resumed(client: ClientConfig, server: ServerConfig, session: Session | None, **how: Any) -> bool:
    """Whether a handshake that offers ``session`` resumes it; both ends have to agree."""
    ends = a_client(client, session=session, **how), a_server(server)
    shake_hands(*ends)
    infos = [end.info for end in ends]
    assert infos[0] is not None
    assert infos[1] is not None
    assert infos[0].session_reused == infos[1].session_reused == ends[0].introspection.session_reused
    assert send(ends[0], ends[1], b"a") == b"a"
    return infos[0].session_reused


# -- both ends are ours ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", [AES_128, AES_256, CHACHA])
def test_a_session_is_resumed_with_each_suite_and_its_facts_stay(suite: CipherSuiteNumber) -> None:
    client = client_config(cipher_suites=[suite], alpn_protocols=["h2"])
    server = server_config(alpn_protocols=["h2"])
    first, first_server = connected(client, server)
    session = deliver(first, first_server)
    again, again_server = connected(client, server, session=session)
    assert first.info is not None
    assert again.info is not None
    assert again_server.info is not None
    assert again.info.session_reused
    assert again.info.peer_chain == first.info.peer_chain
    assert again.info.verified_chain == first.info.verified_chain
    assert (again.info.signature_scheme, again.info.local_chain) == (None, ())
    assert again.info.alpn_protocol == "h2"
    assert again.info.server_name == again_server.info.server_name == HOST
    for kind in ("tls-server-end-point", "tls-exporter"):
        bindings = [end.introspection.get_channel_binding(kind) for end in (again, again_server)]
        assert bindings[0] == bindings[1] is not None
    end_point = first.introspection.get_channel_binding("tls-server-end-point")
    assert again.introspection.get_channel_binding("tls-server-end-point") == end_point


def test_each_session_has_another_key_and_leads_to_the_next() -> None:
    client, server = client_config(), server_config()
    sessions = [session_of(client, server)]
    for _ in range(3):
        sessions.append(session_of(client, server, session=sessions[-1]))
    assert len({each.psk for each in sessions}) == len({each.ticket for each in sessions}) == 4


def test_row_57_a_cache_gives_each_session_once() -> None:
    cache = SessionCache()
    client, server = client_config(session_cache=cache), server_config(tickets=2)
    deliver(*connected(client, server))
    assert len(cache) == 2
    assert [resumed(client, server, None) for _ in range(3)] == [True, True, False]
    assert len(cache) == 0


def test_row_57_the_age_of_every_ticket_is_obscured_by_another_number() -> None:
    peer = ScriptedClient()
    meeting = meet(a_server(tickets=8), peer).succeeded()
    meeting.machine.write(memoryview(b"x"))
    meeting.go_on()
    tickets = [each for each in peer.received if isinstance(each, NewSessionTicket)]
    assert len({each.age_add for each in tickets}) == len({each.nonce for each in tickets}) == 8
    assert {each.lifetime for each in tickets} == {DAY}


def test_row_58_a_client_keeps_few_sessions_however_many_come() -> None:
    cache = SessionCache()
    client, server = connected(client_config(session_cache=cache), server_config(tickets=16))
    deliver(client, server)
    assert len(cache) == 4
    small = SessionCache(maxsize=2)
    for number in range(5):
        name = f"host{number}.example.org"
        connection = connected(client_config(session_cache=small, verify=lambda need: None), server_config(), name=name)
        deliver(*connection)
    assert len(small) <= 2 * small.per_server


def test_row_45_a_session_is_resumed_after_a_retry() -> None:
    server = server_config(groups=[NamedGroup.secp256r1, NamedGroup.x25519])
    for suite in (AES_128, AES_256):
        client = client_config(cipher_suites=[suite], key_shares=[NamedGroup.x25519])
        session = session_of(client, server)
        assert resumed(client, server, session)
        peer = ScriptedClient(session=session, suite=suite, server_name=HOST)
        meeting = meet(a_server(server), peer).succeeded()
        assert isinstance(peer.received[0], HelloRetryRequest)
        assert meeting.machine.info is not None
        assert meeting.machine.info.session_reused


def test_row_45_a_session_of_another_hash_than_the_retrys_is_not_offered_again() -> None:
    client = client_config(cipher_suites=[AES_128, AES_256], key_shares=[NamedGroup.x25519])
    session = session_of(client, server_config())
    server = ScriptedServer(
        credential=server_credential(),
        suite=AES_256,
        group=NamedGroup.secp256r1,
        retry=[RetryGroup(NamedGroup.secp256r1)],
    )
    meet(a_client(client, session=session), server).succeeded()
    first, second = (each for each in server.received if isinstance(each, ClientHello))
    assert first.extensions.get(PreSharedKeys) is not None
    assert second.extensions.get(PreSharedKeys) is None


def test_a_session_goes_with_any_suite_of_its_hash() -> None:
    client = client_config(cipher_suites=[AES_128, CHACHA])
    session = session_of(client, server_config(cipher_suites=[AES_128]))
    keys = TicketKeys.from_secret(b"k" * 32, secrets.token_bytes)
    session = session_of(client, server_config(cipher_suites=[AES_128], ticket_keys=keys))
    assert session.cipher_suite == AES_128
    assert resumed(client, server_config(cipher_suites=[CHACHA], ticket_keys=keys), session)


def test_a_session_of_another_hash_leads_to_a_full_handshake() -> None:
    keys = TicketKeys.from_secret(b"k" * 32, secrets.token_bytes)
    client = client_config(cipher_suites=[AES_128, AES_256])
    session = session_of(client, server_config(cipher_suites=[AES_128], ticket_keys=keys))
    assert not resumed(client, server_config(cipher_suites=[AES_256], ticket_keys=keys), session)


# -- row 55: what a session is bound to ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"verify": lambda need: None},
        {"alpn_protocols": ["h2"]},
        {"credentials": client_credential()},
        {"cipher_suites": [AES_256]},
        {"signature_schemes": [0x0403]},
    ],
    ids=["verifier", "alpn", "credential", "suite", "schemes"],
)
def test_row_55_a_session_is_not_offered_under_another_config(change: dict[str, Any]) -> None:
    client, server = client_config(), server_config()
    session = session_of(client, server)
    peer = ScriptedServer(credential=server_credential(), suite=AES_256)
    meet(a_client(client.replace(**change), session=session), peer)
    assert peer.got(ClientHello).extensions.get(PreSharedKeys) is None


def test_row_55_a_session_is_not_offered_to_another_server() -> None:
    client, server = client_config(), server_config()
    session = session_of(client, server)
    assert not resumed(client, server, session, name="localhost")
    assert resumed(client, server, session, name=HOST + ".")
    peer = ScriptedServer(session=session)
    meet(a_client(client, session=session, name=HOST.upper()), peer).succeeded()


SHARED = TicketKeys.from_secret(b"shared by all hosts, 32 bytes ok", secrets.token_bytes)


@pytest.mark.parametrize(
    "change",
    [
        {"client_auth": "optional", "verify": verifier()},
        {"client_auth": "required", "verify": verifier()},
        {"alpn_protocols": ["http/1.1"]},
    ],
    ids=["optional", "required", "alpn"],
)
def test_row_55_a_server_resumes_nothing_that_was_made_under_another_policy(change: dict[str, Any]) -> None:
    client = client_config(alpn_protocols=["h2", "http/1.1"], credentials=client_credential())
    server = server_config(alpn_protocols=["h2"], ticket_keys=SHARED)
    session = session_of(client, server)
    assert resumed(client, server, session)
    assert not resumed(client, server.replace(**change), session)


def test_row_55_a_session_got_without_a_certificate_opens_no_server_that_requires_one() -> None:
    client = client_config()
    session = session_of(client, server_config(ticket_keys=SHARED))
    required = server_config(ticket_keys=SHARED, client_auth="required", verify=verifier())
    failures = fail(a_client(client, session=session), a_server(required))
    assert failures["server"].alert is Alert.certificate_required


def test_row_55_a_server_resumes_for_the_same_name_alone() -> None:
    server = server_config(ticket_keys=SHARED)
    session = session_of(client_config(), server)
    for name, expected in ((HOST, True), ("localhost", False), (None, False)):
        meeting = meet(a_server(server), ScriptedClient(session=session, server_name=name)).succeeded()
        assert meeting.machine.info is not None
        assert meeting.machine.info.session_reused == expected


def test_row_55_a_clients_certificate_is_kept_and_judged_again() -> None:
    clock = Clock()
    judged: list[int] = []

    def verify(need: Any) -> Any:
        judged.append(1)
        return verifier().verify_client(need.chain, datetime.datetime.now(datetime.timezone.utc))

    fields = {"primitives": primitives(secrets.token_bytes, clock)}
    client = client_config(credentials=client_credential(), **fields)
    server = server_config(client_auth="required", verify=verify, **fields)
    session = session_of(client, server)
    _client, again = connected(client, server, session=session)
    assert again.info is not None
    assert again.info.session_reused
    assert again.info.peer_chain == client_credential().der_chain
    assert len(judged) == 2


def test_row_55_a_certificate_that_has_expired_ends_the_session() -> None:
    clock = Clock()
    leaf = client_credential().chain[0]
    until_expiry = leaf.not_valid_after_utc.timestamp() - clock.time
    clock.advance(until_expiry - 3600)
    fields = {"primitives": primitives(secrets.token_bytes, clock)}
    client = client_config(verify=lambda need: None, credentials=client_credential(), **fields)
    server = server_config(client_auth="optional", verify=verifier(), **fields)
    session = session_of(client, server)
    assert resumed(client, server, session)
    clock.advance(3601)
    failures = fail(a_client(client, session=session), a_server(server))
    assert failures["server"].alert is Alert.certificate_expired


def test_row_55_a_servers_certificate_that_has_expired_ends_the_session() -> None:
    clock = Clock()
    clock.advance(server_credential().chain[0].not_valid_after_utc.timestamp() - clock.time - 60)
    client = client_config(primitives=primitives(secrets.token_bytes, clock))
    session = session_of(client, server_config())
    clock.advance(61)
    peer = ScriptedServer(credential=server_credential())
    meeting = meet(a_client(client, session=session), peer)
    assert peer.got(ClientHello).extensions.get(PreSharedKeys) is None
    assert meeting.failure is not None
    assert meeting.failure.alert is Alert.certificate_expired


@pytest.mark.parametrize("age", [DAY - 1, DAY + 1])
def test_row_57_a_ticket_is_good_for_its_lifetime(age: float) -> None:
    clock = Clock()
    fields = {"primitives": primitives(secrets.token_bytes, clock)}
    client, server = client_config(**fields), server_config(**fields)
    session = session_of(client, server)
    clock.advance(age)
    assert resumed(client, server, session) == (age < DAY)
    if age > DAY:
        old = replace(session, lifetime=7 * DAY)
        assert not resumed(client, server, old), "the server knows how old it is, whatever the client says"


def test_row_57_no_session_goes_back_more_than_seven_days_however_often_it_was_resumed() -> None:
    clock = Clock()
    fields = {"primitives": primitives(secrets.token_bytes, clock)}
    client, server = client_config(**fields), server_config(**fields)
    session = session_of(client, server)
    results = []
    for _ in range(8):
        clock.advance(DAY - 60)
        ends = connected(client, server, session=session)
        session = deliver(*ends)
        assert ends[0].info is not None
        results.append(ends[0].info.session_reused)
    assert results == [True] * 7 + [False]


# -- row 56: tickets -------------------------------------------------------------------------------------------


def test_row_56_tickets_of_another_server_mean_nothing() -> None:
    client = client_config()
    session = session_of(client, server_config())
    assert not resumed(client, server_config(), session)


def test_row_56_hosts_that_share_a_secret_take_each_others_tickets() -> None:
    client = client_config()
    hosts = [server_config(ticket_keys=TicketKeys.from_secret(b"s" * 32, secrets.token_bytes)) for _ in range(2)]
    assert resumed(client, hosts[1], session_of(client, hosts[0]))


@pytest.mark.parametrize("ticket", [b"x", bytes(60), b"\xff" * 500])
def test_a_ticket_of_anything_at_all_leads_to_a_full_handshake(ticket: bytes) -> None:
    client, server = client_config(), server_config()
    session = replace(session_of(client, server), ticket=ticket)
    assert not resumed(client, server, session)


def test_a_ticket_that_was_altered_leads_to_a_full_handshake() -> None:
    client, server = client_config(), server_config()
    session = session_of(client, server)
    for position in range(0, len(session.ticket), 17):
        altered = bytearray(session.ticket)
        altered[position] ^= 1
        assert not resumed(client, server, replace(session, ticket=bytes(altered)))


def test_a_server_without_tickets_resumes_nothing() -> None:
    client = client_config()
    ends = connected(client, server_config(tickets=0))
    send(ends[1], ends[0], b"x")
    assert ends[0].session is None
    session = session_of(client, server_config(ticket_keys=SHARED))
    assert not resumed(client, server_config(tickets=0), session)
    assert not resumed(client, server_config(tickets=0, ticket_keys=SHARED), session), "even where it could"


def test_a_store_keeps_sessions_and_gives_each_once() -> None:
    store = MemorySessionStore()
    client, server = client_config(), server_config(session_store=store, tickets=1)
    session = session_of(client, server)
    assert (len(store), len(session.ticket)) == (1, 32)
    assert resumed(client, server, session)
    assert not resumed(client, server, session)


# -- our server and a client by hand ---------------------------------------------------------------------------


def offer(edit: Edit | None = None, *, server: dict[str, Any] | None = None, **how: Any) -> Meeting:
    """Our server, and a client that offers a session that it has."""
    config = server_config(ticket_keys=SHARED, **(server or {}))
    session = session_of(client_config(), config)
    return meet(a_server(config), ScriptedClient(session=session, edit=edit or as_it_is, **how))


def test_row_53_the_right_binder_resumes() -> None:
    meeting = offer().succeeded()
    assert meeting.machine.info is not None
    assert meeting.machine.info.session_reused
    assert not [each for each in meeting.peer.received if isinstance(each, Certificate)]


@pytest.mark.parametrize(
    "binder",
    [lambda binder: bytes(32), lambda binder: binder[::-1], lambda binder: binder + b"\0", lambda binder: bytes(48)],
)
def test_row_53_a_wrong_binder_is_a_decrypt_error(binder: Callable[[bytes], bytes]) -> None:
    offer(binder=binder).refused(Alert.decrypt_error, "does not have the PSK")


def test_row_53_the_binder_is_over_the_hello_as_it_came() -> None:
    offer(with_fields("client_hello", random=bytes(32))).refused(Alert.decrypt_error)


def test_row_53_only_the_binder_of_the_session_that_is_chosen_matters() -> None:
    """The binder of a ticket that nobody knows cannot be checked; so the whole hello is made by hand."""
    strange = PskIdentity(b"nobody knows this one", 0)

    def with_another_first(raw: bytes) -> bytes:
        return extended("client_hello", change)("client_hello", raw)  # type: ignore[return-value]

    def change(found: list[Extension]) -> list[Extension]:
        return [
            PreSharedKeys((strange, *each.identities), (bytes(32), *each.binders))
            if isinstance(each, PreSharedKeys)
            else each
            for each in found
        ]

    # The real session's binder is not over this hello: it is looked at, and found wrong. The stranger's is not.
    offer(on("client_hello", with_another_first)).refused(Alert.decrypt_error)
    many = tuple(PskIdentity(b"nobody %d" % number, 0) for number in range(200))
    unknown = PreSharedKeys(many, (bytes(32),) * 200)
    meeting = meet(a_server(), ScriptedClient(edit=adding("client_hello", unknown))).succeeded()
    assert meeting.machine.info is not None
    assert not meeting.machine.info.session_reused


@pytest.mark.parametrize("modes", [(0,), (0x0B, 0), (2,)])
def test_row_52_a_psk_without_a_key_exchange_is_not_used(modes: tuple[int, ...]) -> None:
    peer_modes = PskKeyExchangeModes(modes)
    meeting = offer(
        hello=lambda found: [peer_modes if isinstance(each, PskKeyExchangeModes) else each for each in found]
    )
    info = meeting.succeeded().machine.info
    assert info is not None
    assert not info.session_reused
    meeting.machine.write(memoryview(b"x"))
    meeting.go_on()
    assert not [each for each in meeting.peer.received if isinstance(each, NewSessionTicket)], "it could not use them"


def test_row_26_a_hello_with_an_unknown_psk_and_no_schemes_is_refused() -> None:
    unknown = PreSharedKeys((PskIdentity(b"unknown", 0),), (bytes(32),))
    edit: Edit = lambda name, raw: (  # noqa: E731
        adding(name, unknown)(name, without(name, SignatureAlgorithms)(name, raw)) if name == "client_hello" else raw  # type: ignore[arg-type]
    )
    meet(a_server(), ScriptedClient(edit=edit)).refused(Alert.missing_extension, "signature_algorithms")


def test_row_26_a_hello_that_only_resumes_needs_no_schemes() -> None:
    meeting = offer(hello=lambda found: [each for each in found if not isinstance(each, SignatureAlgorithms)])
    info = meeting.succeeded().machine.info
    assert info is not None
    assert info.session_reused


# -- our client and a server by hand ---------------------------------------------------------------------------


def answer(edit: Edit | None = None, *, client: dict[str, Any] | None = None, **how: Any) -> Meeting:
    """Our client, which offers a session, and a server that knows it."""
    config = client_config(**(client or {}))
    session = session_of(config, server_config())
    server = ScriptedServer(credential=server_credential(), session=session, edit=edit or as_it_is, **how)
    return meet(a_client(config, session=session), server)


def test_a_server_by_hand_resumes() -> None:
    info = answer().succeeded().machine.info
    assert info is not None
    assert info.session_reused


def request() -> bytes:
    return CertificateRequest(b"", Extensions([SignatureAlgorithms((0x0403,))])).encode()


@pytest.mark.parametrize(
    ("edit", "alert", "text"),
    [
        pytest.param(putting("server_hello", SelectedPsk(1)), ILLEGAL, "PSK 1", id="row-54-range"),
        pytest.param(putting("server_hello", SelectedPsk(65535)), ILLEGAL, "PSK 65535", id="row-54-far"),
        pytest.param(without("server_hello", SelectedKeyShare), ILLEGAL, "no key_share", id="row-54-psk-ke"),
        pytest.param(with_fields("server_hello", cipher_suite=0x1302), ILLEGAL, "another hash", id="row-54-hash"),
        pytest.param(
            on("encrypted_extensions", lambda raw: [raw, request()]),
            Alert.unexpected_message,
            "certificate_request",
            id="row-65",
        ),
        pytest.param(
            on("encrypted_extensions", lambda raw: [raw, Certificate(b"", ()).encode()]),
            Alert.unexpected_message,
            "certificate",
            id="row-65-certificate",
        ),
        pytest.param(with_fields("finished", verify_data=bytes(32)), Alert.decrypt_error, "Finished", id="row-70"),
    ],
)
def test_a_server_that_resumes_wrongly_is_refused(edit: Edit, alert: Alert, text: str) -> None:
    answer(edit).refused(alert, text)


def test_row_54_a_server_that_does_not_have_the_psk_cannot_resume() -> None:
    config = client_config()
    session = session_of(config, server_config())
    server = ScriptedServer(session=replace(session, psk=bytes(32)))
    machine = a_client(config, session=session)
    with pytest.raises(PeerMisbehaved):
        meet(machine, server)  # it cannot read the client's alert either
    with pytest.raises(PeerMisbehaved) as caught:
        machine.do_handshake()
    assert caught.value.alert is Alert.bad_record_mac


def test_a_server_that_does_not_want_the_session_gets_a_full_handshake() -> None:
    config = client_config()
    session = session_of(config, server_config())
    meeting = meet(a_client(config, session=session), ScriptedServer(credential=server_credential())).succeeded()
    assert meeting.machine.info is not None
    assert not meeting.machine.info.session_reused


def test_the_obfuscated_age_is_the_time_since_the_ticket_came() -> None:
    clock = Clock()
    config = client_config(primitives=primitives(seeded(1), clock))
    session = session_of(config, server_config())
    clock.advance(12.5)
    peer = ScriptedServer(credential=server_credential())
    meet(a_client(config, session=session), peer)
    (identity,) = peer.got(ClientHello).extensions.require(PreSharedKeys).identities
    assert identity == PskIdentity(session.ticket, (session.age_add + 12500) % 2**32)


def with_ticket(raw: Callable[[ScriptedServer], bytes], **client: Any) -> Meeting:
    """A handshake, and a ticket after it."""
    server = ScriptedServer(credential=server_credential())
    meeting = meet(a_client(**client), server).succeeded()
    server.record(HANDSHAKE, raw(server))
    meeting.go_on()
    return meeting


def test_row_77_a_ticket_for_more_than_seven_days_is_refused() -> None:
    with_ticket(lambda server: server.ticket(lifetime=7 * DAY)).succeeded()
    with_ticket(lambda server: server.ticket(lifetime=7 * DAY + 1)).refused(ILLEGAL, "604801")


def test_a_ticket_for_no_time_is_dropped() -> None:
    assert with_ticket(lambda server: server.ticket(lifetime=0)).succeeded().machine.session is None


def test_row_60_a_ticket_that_allows_early_data_is_a_ticket_like_any_other() -> None:
    meeting = with_ticket(lambda server: server.ticket(extensions=[EarlyDataLimit(2**32 - 1)])).succeeded()
    assert isinstance(meeting.machine.session, Session)


def test_a_ticket_is_ignored_where_nothing_is_kept() -> None:
    meeting = with_ticket(lambda server: server.ticket(), session_cache=None).succeeded()
    hello = meeting.peer.got(ClientHello)
    assert hello.extensions.get(PskKeyExchangeModes) is None, "it says so"


def test_a_session_can_be_kept_as_bytes() -> None:
    client, server = client_config(), server_config()
    session = Session.from_bytes(session_of(client, server).to_bytes())
    assert resumed(client, server, session)


def test_tickets_are_released_by_the_first_write() -> None:
    client, server = connected()
    assert not server.outgoing.pending
    server.write(memoryview(b""))
    assert server.outgoing.pending
    pass_on(server, client)
    read(client)
    assert isinstance(client.session, Session)
