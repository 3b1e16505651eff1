"""What an end offers and what it keeps: hellos that repeat each other, key updates, sessions, secrets.

How this works. What a machine still holds is found by `reachable`, which walks from it to every object that it refers
to: a secret that is found there could be found in its memory too.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import pytest

from trio_tls import ServerConfig, Session, SessionCache, TicketKeys
from trio_tls.alerts import Alert
from trio_tls.errors import TLSError
from trio_tls.machine.interface import Machine
from trio_tls.machine.tls13.client import ClientHandshake
from trio_tls.machine.tls13.extensions import KeyShares, PreSharedKeys, PskKeyExchangeModes, RetryGroup, SupportedGroups
from trio_tls.machine.tls13.messages import ClientHello, HelloRetryRequest, KeyUpdate, NewSessionTicket
from trio_tls.machine.tls13.record import RecordKey
from trio_tls.machine.tls13.registry import CipherSuiteNumber, NamedGroup
from trio_tls.machine.tls13.server import ServerHandshake

from .edits import with_fields, without
from .ends import (
    a_client,
    a_server,
    client_config,
    connected,
    pass_on,
    read,
    send,
    server_config,
    server_credential,
)
from .primitives import Clock, primitives
from .scripted_peer import HANDSHAKE, Meeting, ScriptedClient, ScriptedPeer, ScriptedServer, meet
from .test_resumption import resumed, session_of

X25519, P256, HYBRID = NamedGroup.x25519, NamedGroup.secp256r1, NamedGroup.X25519MLKEM768
AES_128, AES_256 = CipherSuiteNumber.TLS_AES_128_GCM_SHA256, CipherSuiteNumber.TLS_AES_256_GCM_SHA384
SECRET = bytes(range(32))


def hellos(peer: ScriptedPeer) -> list[ClientHello]:
    return [each for each in peer.received if isinstance(each, ClientHello)]


# -- hellos ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", [None, SessionCache()], ids=["no cache", "cache"])
def test_a_session_that_is_dropped_after_a_retry_takes_nothing_else_with_it(
    cache: SessionCache | None,
) -> None:
    """psk_key_exchange_modes stays: no other extension may vanish from the second hello (section 4.2.2)."""
    client = client_config(cipher_suites=[AES_128, AES_256], key_shares=[X25519])
    session = session_of(client, server_config(cipher_suites=[AES_128]))
    peer = ScriptedServer(credential=server_credential(), suite=AES_256, group=P256, retry=[RetryGroup(P256)])
    meet(a_client(client.replace(session_cache=cache), session=session), peer).succeeded()
    first, second = hellos(peer)
    assert first.extensions.get(PskKeyExchangeModes) == second.extensions.get(PskKeyExchangeModes) is not None
    assert [each for each in first.extensions.types if each != PreSharedKeys.type] == list(second.extensions.types)


def test_our_own_server_accepts_the_second_hello_of_a_client_that_drops_its_session() -> None:
    client = client_config(session_cache=None)
    session = session_of(client.replace(session_cache=SessionCache()), server_config(cipher_suites=[AES_256]))
    server = server_config(cipher_suites=[AES_128, AES_256], groups=[NamedGroup.secp384r1])
    assert not resumed(client, server, session)


@pytest.mark.parametrize(
    "fields",
    [
        {"groups": [X25519, HYBRID]},
        {"groups": [X25519, P256, HYBRID], "key_shares": [HYBRID, P256, X25519]},
        {"groups": [HYBRID, P256, X25519], "key_shares": [X25519, HYBRID]},
    ],
    ids=["default", "all", "some"],
)
def test_row_49_key_shares_come_in_the_order_of_the_groups(fields: dict[str, Any]) -> None:
    """In the same order as in supported_groups, the RFC says (section 4.3.8); with GREASE and without."""
    for grease in (True, False):
        peer = ScriptedServer()
        meet(a_client(grease=grease, **fields), peer)
        (hello,) = hellos(peer)
        groups = list(hello.extensions.require(SupportedGroups).groups)
        shares = [entry.group for entry in hello.extensions.require(KeyShares).entries]
        assert len(shares) >= 2 + grease
        assert shares == sorted(shares, key=groups.index)


def test_a_psk_may_not_be_added_in_the_second_hello() -> None:
    server = server_config(groups=[P256, X25519])
    session = session_of(client_config(), server)
    peer = ScriptedClient(session=session, suite=session.cipher_suite, edit=without("client_hello", PreSharedKeys))
    meeting = meet(a_server(server), peer)
    assert isinstance(peer.received[0], HelloRetryRequest)
    meeting.refused(Alert.illegal_parameter, "pre_shared_key")


def test_a_psk_may_be_left_out_of_the_second_hello() -> None:
    server = server_config(groups=[P256, X25519])
    session = session_of(client_config(), server)
    peer = ScriptedClient(session=session, edit=without("second_client_hello", PreSharedKeys))
    meeting = meet(a_server(server), peer).succeeded()
    assert meeting.machine.info is not None
    assert not meeting.machine.info.session_reused


# -- key updates -----------------------------------------------------------------------------------------------


def hear(meeting: Meeting) -> None:
    """The machine reads what the peer has sent; what it wants to say stays where it is."""
    meeting.machine.incoming.write(bytes(meeting.peer.wire))
    meeting.peer.wire.clear()
    meeting.step()


def key_updates(meeting: Meeting) -> list[KeyUpdate]:
    return [each for each in meeting.peer.received if isinstance(each, KeyUpdate)]


@pytest.mark.parametrize("server", [False, True], ids=["client", "server"])
def test_a_request_that_comes_after_data_was_written_is_answered_even_if_nothing_has_left(server: bool) -> None:
    """The answer comes before the next application data, not before what is queued already (section 4.7.3)."""
    machine, peer = (
        (a_server(), ScriptedClient()) if server else (a_client(), ScriptedServer(credential=server_credential()))
    )
    meeting = meet(machine, peer).succeeded()
    for number in range(3):
        peer.update_keys(request=True)
        hear(meeting)
        machine.write(memoryview(b"%d" % number))
    meeting.go_on()
    assert key_updates(meeting) == [KeyUpdate(False)] * 3
    assert peer.data == b"012"


def test_requests_between_which_nothing_is_written_get_one_answer() -> None:
    meeting = meet(a_server(tickets=0), ScriptedClient()).succeeded()
    for _ in range(3):
        meeting.peer.update_keys(request=True)
        hear(meeting)
    meeting.machine.write(memoryview(b""))
    meeting.peer.update_keys(request=True)
    hear(meeting)
    meeting.machine.write(memoryview(b"x"))
    meeting.go_on()
    assert key_updates(meeting) == [KeyUpdate(False)]
    assert meeting.peer.data == b"x"


# -- ticket keys -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [bytes, bytearray, lambda secret: memoryview(bytearray(secret))],
    ids=["bytes", "bytearray", "memoryview"],
)
def test_a_ticket_secret_may_be_any_bytes_and_is_copied(kind: Any) -> None:
    secret = kind(SECRET)
    server = server_config(ticket_keys=secret)
    if not isinstance(secret, bytes):
        secret[:] = bytes(32)  # whoever gave it may wipe it
    client = client_config()
    session = session_of(client, server)
    assert resumed(client, server_config(ticket_keys=SECRET), session)
    assert resumed(client, server, session)
    assert isinstance(server.ticket_keys, TicketKeys)
    for shown in (SECRET, bytes(32)):
        assert repr(shown)[2:-1] not in repr(server)


@pytest.mark.parametrize(
    "keys", ["s" * 32, 17, list(SECRET), True, TicketKeys], ids=["str", "int", "list", "bool", "class"]
)
def test_ticket_keys_of_another_type_are_refused_when_the_config_is_made(keys: Any) -> None:
    with pytest.raises(TypeError, match="ticket_keys"):
        server_config(ticket_keys=keys)
    with pytest.raises(TypeError, match="ticket_keys"):
        server_config().replace(ticket_keys=keys)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_short_or_empty_ticket_secret_is_refused_whatever_its_type(kind: Any) -> None:
    for secret in (b"", b"s" * 31, bytes(32)):
        with pytest.raises(ValueError, match="secret"):
            server_config(ticket_keys=kind(secret))


# -- what is kept ----------------------------------------------------------------------------------------------

#: Where a walk ends: these lead to everything that there is.
ELSEWHERE = (type, ModuleType, FunctionType, BuiltinFunctionType, ServerConfig)


def reachable(start: object) -> Iterator[object]:
    """Every object that ``start`` refers to, however far."""
    found: dict[int, object] = {}
    waiting = [start]
    while waiting:
        each = waiting.pop()
        if id(each) in found or isinstance(each, ELSEWHERE):
            continue
        found[id(each)] = each
        waiting.extend(gc.get_referents(each))
    return iter(found.values())


def holds(machine: Machine, secret: bytes) -> bool:
    return any(isinstance(each, bytes | bytearray) and secret in each for each in reachable(machine))


def test_a_server_forgets_the_resumption_secret_with_its_last_ticket() -> None:
    for tickets in (2, 0):
        peer = ScriptedClient()
        meeting = meet(a_server(tickets=tickets), peer).succeeded()
        meeting.machine.write(memoryview(b"x"))
        meeting.go_on()
        assert len([each for each in peer.received if isinstance(each, NewSessionTicket)]) == tickets
        assert not holds(meeting.machine, peer.resumption.value)
        assert holds(meeting.machine, peer.secrets.server.value), "but it does what it is still needed for"


def test_a_client_keeps_the_resumption_secret_for_tickets_to_come() -> None:
    peer = ScriptedServer(credential=server_credential())
    meeting = meet(a_client(), peer).succeeded()
    assert holds(meeting.machine, peer.resumption.value)


def test_the_psk_of_the_session_that_was_resumed_is_forgotten() -> None:
    client, server = client_config(), server_config()
    session = session_of(client, server)
    ends = connected(client, server, session=session)
    for end in ends:
        assert end.info is not None
        assert end.info.session_reused
        assert not holds(end, session.psk)


@pytest.mark.parametrize("server", [False, True], ids=["client", "server"])
def test_a_handshake_that_has_failed_is_gone_with_its_secrets(server: bool) -> None:
    edit = with_fields("finished", verify_data=bytes(32))
    machine, peer = (
        (a_server(), ScriptedClient(edit=edit))
        if server
        else (a_client(), ScriptedServer(credential=server_credential(), edit=edit))
    )
    assert any(isinstance(each, ClientHandshake | ServerHandshake) for each in reachable(machine))
    meet(machine, peer).refused(Alert.decrypt_error)
    assert not any(isinstance(each, ClientHandshake | ServerHandshake) for each in reachable(machine))


def test_a_handshake_that_was_interrupted_is_gone_too() -> None:
    def interrupted(need: Any) -> Any:
        raise KeyboardInterrupt

    client, server = a_client(), a_server(credentials=interrupted)
    client.do_handshake()
    pass_on(client, server)
    with pytest.raises(KeyboardInterrupt):
        server.do_handshake()
    assert not any(isinstance(each, ServerHandshake) for each in reachable(server))


def established(*, server: bool) -> tuple[Meeting, bytes, bytes]:
    """A connection, and the secrets of what our end writes and of what it reads."""
    machine, peer = (
        (a_server(), ScriptedClient()) if server else (a_client(), ScriptedServer(credential=server_credential()))
    )
    meeting = meet(machine, peer).succeeded()
    secrets = peer.secrets
    return (
        (meeting, secrets.server.value, secrets.client.value)
        if server
        else (
            meeting,
            secrets.client.value,
            secrets.server.value,
        )
    )


def record_keys(machine: Machine) -> int:
    return sum(isinstance(each, RecordKey) for each in reachable(machine))


@pytest.mark.parametrize("server", [False, True], ids=["client", "server"])
@pytest.mark.parametrize("end", ["our alert", "an alert of the peer", "both have closed"])
def test_row_84_a_connection_that_is_over_keeps_no_keys(end: str, server: bool) -> None:
    """Servers and clients MUST forget the keys of failed connections (section 6)."""
    meeting, writing, reading = established(server=server)
    machine, peer = meeting.machine, meeting.peer
    assert holds(machine, writing)
    assert holds(machine, reading)
    if end == "our alert":
        peer.raw(b"\x17\3\3\0\x20" + bytes(32))
        meeting.go_on()
        meeting.refused(Alert.bad_record_mac)
    elif end == "an alert of the peer":
        peer.alert(Alert.internal_error)
        meeting.go_on()
    else:
        peer.alert(Alert.close_notify, 1)
        meeting.go_on()
        machine.shutdown()
    assert not holds(machine, writing)
    assert not holds(machine, reading)
    assert not record_keys(machine)


@pytest.mark.parametrize("server", [False, True], ids=["client", "server"])
def test_row_84_a_direction_that_is_over_keeps_no_key_and_the_other_goes_on(server: bool) -> None:
    meeting, writing, reading = established(server=server)
    meeting.machine.shutdown()
    assert not holds(meeting.machine, writing)
    meeting.peer.update_keys(request=True)
    meeting.peer.record(0x17, b"still read")
    meeting.go_on()
    assert meeting.failure is None
    assert meeting.data == b"still read"
    meeting, writing, reading = established(server=server)
    meeting.peer.alert(Alert.close_notify, 1)
    meeting.go_on()
    assert not holds(meeting.machine, reading)
    assert meeting.machine.write(memoryview(b"still written")) == 13
    meeting.go_on()
    assert meeting.peer.data == b"still written"


@pytest.mark.parametrize("server", [False, True], ids=["client", "server"])
def test_row_84_a_handshake_that_has_failed_keeps_no_record_keys(server: bool) -> None:
    edit = with_fields("finished", verify_data=bytes(32))
    machine, peer = (
        (a_server(), ScriptedClient(edit=edit))
        if server
        else (a_client(), ScriptedServer(credential=server_credential(), edit=edit))
    )
    meet(machine, peer).refused(Alert.decrypt_error)
    assert not record_keys(machine)


# -- the exporter ----------------------------------------------------------------------------------------------


def export(machine: Machine) -> bytes:
    return machine.export_keying_material(b"EXPORTER-test", b"", 32)


def test_nothing_is_exported_after_close_and_the_secret_is_gone() -> None:
    log: dict[str, bytes] = {}
    client, server = connected(client_config(keylog=lambda label, random, secret: log.__setitem__(label, secret)))
    assert export(client) == export(server)
    assert holds(client, log["EXPORTER_SECRET"])
    for end, peer in ((client, server), (server, client)):
        end.shutdown()
        pass_on(end, peer)
        assert read(peer) == b""
    for end in (client, server):
        with pytest.raises(ValueError, match="over"):
            export(end)
        assert not holds(end, log["EXPORTER_SECRET"])


def test_nothing_is_exported_after_a_failure() -> None:
    client, server = connected()
    client.incoming.write(b"\x17\3\3\0\x20" + bytes(32))
    with pytest.raises(TLSError):
        read(client)
    pass_on(client, server)
    with pytest.raises(TLSError):
        read(server)
    for end in (client, server):
        with pytest.raises(ValueError, match="over"):
            export(end)


@pytest.mark.parametrize("server", [False, True], ids=["client", "server"])
def test_nothing_is_exported_after_a_handshake_that_failed(server: bool) -> None:
    machine = a_server() if server else a_client()
    machine.incoming.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(TLSError):
        for _ in range(2):
            machine.do_handshake()
    with pytest.raises(ValueError, match="over"):
        export(machine)


# -- a client's sessions ---------------------------------------------------------------------------------------


def test_row_58_of_many_tickets_the_newest_are_kept() -> None:
    cache = SessionCache()
    peer = ScriptedServer(credential=server_credential())
    client = client_config(session_cache=cache)
    meeting = meet(a_client(client), peer).succeeded()
    for number in range(10):
        peer.record(HANDSHAKE, peer.ticket(nonce=bytes((number,))))
    meeting.go_on()
    newest = meeting.machine.session
    assert isinstance(newest, Session)
    assert newest.ticket == b"ticket\x09"
    assert newest.psk == peer.psk_of(b"\x09")
    assert [offered_ticket(client) for _ in range(5)] == [*(b"ticket%c" % number for number in (9, 8, 7, 6)), None]


def offered_ticket(client: Any, session: Session | None = None, clock: Clock | None = None) -> bytes | None:
    """What a new connection of this config offers; with a clock, a long time after it was made."""
    machine, peer = a_client(client, session=session), ScriptedServer()
    if clock is not None:
        clock.advance(3601)
    meet(machine, peer)
    psk = hellos(peer)[0].extensions.get(PreSharedKeys)
    return None if psk is None else psk.identities[0].identity


def test_a_ticket_on_an_old_connection_is_as_new_as_any() -> None:
    client, server = connected(client_config(), server_config(tickets=2))
    assert send(server, client, b"x") == b"x"
    kept = client.session
    assert isinstance(kept, Session)
    peer = ScriptedServer(credential=server_credential())
    meeting = meet(a_client(), peer).succeeded()
    for number in range(40):
        peer.record(HANDSHAKE, peer.ticket(nonce=bytes((number,))))
        peer.record(0x17, b"data")
        meeting.go_on()
        session = meeting.machine.session
        assert isinstance(session, Session)
        assert session.ticket == b"ticket%c" % number


def test_a_session_that_expires_before_the_hello_is_sent_is_not_offered() -> None:
    clock = Clock()
    client = client_config(primitives=primitives(now=clock))
    peer = ScriptedServer(credential=server_credential())
    meeting = meet(a_client(client), peer).succeeded()
    peer.record(HANDSHAKE, peer.ticket(lifetime=3600))
    meeting.go_on()
    session = meeting.machine.session
    assert isinstance(session, Session)
    assert offered_ticket(client, session) == b"ticket\0"
    assert offered_ticket(client, session, clock) is None
