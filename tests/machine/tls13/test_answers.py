"""Answers of the application that are no use: of the wrong kind, about another connection, too early, or cut short.

How this works. What the application does wrong is told as such: a `TLSError` with the alert internal_error that names
the need, never as a defect of this library and never as something that the peer has done. Which functions are asked in
which configs, and what the right answers are, `test_needs` says.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
import trio
import trio.testing

from trio_tls import MemorySessionStore, ServerConfig, SessionCache, TicketKeys, TLSStream
from trio_tls.alerts import Alert
from trio_tls.errors import (
    AlertReceived,
    CertificateVerificationError,
    HandshakeClosed,
    PeerMisbehaved,
    TLSError,
    TransportError,
    UnexpectedEOF,
    alert_received,
)
from trio_tls.machine.interface import Machine, Want
from trio_tls.machine.tls13.connection import TLS13Machine
from trio_tls.machine.tls13.messages import ServerHello

from ...support import HOST, verifier
from ..drive import go_on
from .ends import (
    a_client,
    a_server,
    client_config,
    client_credential,
    connected,
    fail,
    pass_on,
    send,
    server_config,
    server_credential,
    shake_hands,
)
from .primitives import Clock, primitives
from .scripted_peer import ScriptedClient, meet
from .test_config import Watching
from .test_needs import NEEDS, asynchronous, ends_of, heard, run, synchronous
from .test_resumption import resumed, session_of

INTERNAL = Alert.internal_error
MODES = pytest.mark.parametrize("mode", [synchronous, asynchronous], ids=["sync", "async"])


def refused(name: str, mode: Callable[[Any], Any], function: Callable[[Any], Any]) -> TLSError:
    """The failure of the end whose application answers a need so; its peer has to hear of it."""
    kind = NEEDS[name]
    client, server = ends_of(kind, mode(function))
    with pytest.raises(TLSError) as caught:
        run(client, server)
    ours, theirs = (server, client) if kind.server else (client, server)
    failure = caught.value
    assert not failure.sent_by_peer
    assert ours.sent_fatal_alert
    assert not ours.handshake_done
    assert heard(ours, theirs) is failure.alert
    with pytest.raises(type(failure)) as again:
        ours.do_handshake()
    assert str(again.value) == str(failure)
    return failure


# -- errors of another connection ------------------------------------------------------------------------------


def of_another_connection() -> list[TLSError]:
    """What a function may meet that uses TLS itself, such as to look up a revocation."""
    return [
        alert_received(Alert.unknown_ca),
        UnexpectedEOF("the other connection was cut", alert=Alert.decode_error),
        HandshakeClosed("the other peer closed", alert=Alert.close_notify, sent_by_peer=True),
        TransportError("the other transport failed", alert=Alert.internal_error),
        PeerMisbehaved("another peer said so", alert=Alert.decode_error, sent_by_peer=True),
        TLSError("something about another connection"),
    ]


@pytest.mark.parametrize("name", NEEDS)
@MODES
def test_an_error_of_another_connection_is_a_failed_answer_here(name: str, mode: Callable[[Any], Any]) -> None:
    for error in of_another_connection():

        def nested(need: Any, error: TLSError = error) -> Any:
            raise error

        failure = refused(name, mode, nested)
        assert type(failure) is TLSError
        assert failure.alert is INTERNAL
        assert f"failed to answer {NEEDS[name].need.__name__}" in str(failure)
        assert error.message in str(failure)
        assert failure.__cause__ is error


@pytest.mark.parametrize("alert", [None, Alert.bad_certificate])
@MODES
def test_a_function_that_refuses_a_peer_may_leave_the_alert_to_us(mode: Callable[[Any], Any], alert: Any) -> None:
    def refusing(need: Any) -> Any:
        raise CertificateVerificationError("not the one that is pinned", alert=alert, sent_by_peer=True)

    for name in ("server-verification", "client-verification"):
        failure = refused(name, mode, refusing)
        assert type(failure) is CertificateVerificationError
        assert failure.alert is (alert or Alert.certificate_unknown)


async def test_an_eof_of_another_connection_is_no_end_of_this_ones_data() -> None:
    async def cut(need: Any) -> Any:
        await trio.lowlevel.checkpoint()
        raise UnexpectedEOF("the other connection was cut")

    transports = trio.testing.memory_stream_pair()
    client = TLSStream(transports[0], client_config(verify=cut), server_hostname=HOST, https_compatible=True)
    server = TLSStream(transports[1], server_config(), server_side=True)

    async def serve() -> None:
        with pytest.raises(TLSError):
            await server.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with pytest.raises(TLSError, match="failed to answer NeedVerification"):
            await client.receive_some()


# -- answers of the wrong kind ---------------------------------------------------------------------------------

WRONG: dict[str, list[Any]] = {
    "server-config": [None, "config", 17, client_config(), ServerConfig],
    "server-credential": ["credential", 17, True, [server_credential()]],
    "client-credential": ["credential", 17, False, [client_credential()]],
    "server-signature": [None, "signature", 17, bytes(70_000), b""],
    "client-signature": [None, "signature", 17, bytes(70_000), b""],
    "session": ["session", 17, True, [b"session"]],
    "server-verification": [True, False, "yes", 17],
    "client-verification": [True, False, "yes", 17],
}


@pytest.mark.parametrize("name", WRONG)
@MODES
def test_an_answer_of_the_wrong_kind_is_the_applications_and_names_the_need(
    name: str, mode: Callable[[Any], Any]
) -> None:
    for answer in WRONG[name]:

        def wrong(need: Any, answer: Any = answer) -> Any:
            return answer

        failure = refused(name, mode, wrong)
        assert type(failure) is TLSError
        assert failure.alert is INTERNAL
        text = str(failure)
        assert f"the application failed to answer {NEEDS[name].need.__name__}" in text
        assert "of its own" not in text.partition(".")[0], "it is no defect of this library"
        assert repr(answer) in text or type(answer).__name__ in text


@MODES
def test_false_is_not_how_to_refuse_a_peer_and_the_error_says_so(mode: Callable[[Any], Any]) -> None:
    failure = refused("server-verification", mode, lambda need: False)
    assert "False" in str(failure)
    assert "raise" in str(failure)


def test_a_verifiers_verdict_is_a_good_answer() -> None:
    now = datetime.now(timezone.utc)
    client = client_config(verify=lambda need: verifier().verify_server(need.chain, HOST, now))
    (end, _server) = connected(client)
    assert end.info is not None
    assert len(end.info.verified_chain) == 2


# -- the config that is chosen ---------------------------------------------------------------------------------


def chosen_by(inner: ServerConfig, **outer: Any) -> ServerConfig:
    return server_config(choose=lambda need: inner, **outer)


def test_the_chosen_configs_key_log_is_told_the_secrets_and_no_other() -> None:
    logs: dict[str, list[str]] = {"inner": [], "outer": []}

    def log(name: str) -> Callable[[str, bytes, bytes], None]:
        return lambda label, random, secret: logs[name].append(label)

    connected(client_config(), chosen_by(server_config(keylog=log("inner")), keylog=log("outer")))
    assert len(logs["inner"]) == 5
    assert not logs["outer"]


def test_the_chosen_configs_tracer_sees_all_from_the_choice_on() -> None:
    inner, outer = Watching(), Watching()
    connected(client_config(), chosen_by(server_config(tracer=inner), tracer=outer))
    assert [each[1] for each in outer.told] == ["client_hello"]
    assert [each[1] for each in inner.told][:1] == ["server_hello"]
    assert ("received", "finished", "handshake") in inner.told


def test_the_chosen_configs_limit_of_certificates_holds() -> None:
    how: dict[str, Any] = {"client_auth": "required", "verify": verifier()}
    client = client_config(credentials=client_credential())
    connected(client, chosen_by(server_config(**how), most_certificate=10))
    ends = a_client(client), a_server(chosen_by(server_config(most_certificate=10, **how)))
    with pytest.raises(TLSError) as caught:
        shake_hands(*ends)
    assert not caught.value.sent_by_peer
    assert "certificate" in str(caught.value).lower()


def test_the_chosen_configs_randomness_and_clock_are_used() -> None:
    clock = Clock()
    clock.advance(-5)
    inner = server_config(primitives=primitives(lambda size: b"\x77" * size, clock))
    peer = ScriptedClient()
    meet(a_server(chosen_by(inner)), peer).succeeded()
    assert peer.got(ServerHello).random == b"\x77" * 32
    store = Recorded()
    inner = server_config(session_store=store, ticket_lifetime=100, primitives=primitives(now=clock))
    connected(client_config(), chosen_by(inner))
    assert {expires for _identity, _state, expires in store.puts} == {clock.time + 100}


# -- the end of a handshake ------------------------------------------------------------------------------------


def half_done(server: Machine) -> Machine:
    """Bring a server to the client's last flight, and that flight to the server; its client."""
    client = a_client()
    for end, peer in ((client, server), (server, client), (client, server)):
        go_on(end)
        pass_on(end, peer)
    assert client.handshake_done
    return client


class Failing(MemorySessionStore):
    """A session store that does not take anything."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def put(self, identity: bytes, state: bytes, expires: float) -> None:
        raise self.error


def test_a_session_store_that_fails_ends_a_handshake_that_is_not_done() -> None:
    server = a_server(session_store=Failing(LookupError("the database is gone")))
    client = half_done(server)
    for _ in range(2):
        with pytest.raises(TLSError, match="the database is gone") as caught:
            server.do_handshake()
        assert type(caught.value) is TLSError
        assert caught.value.alert is INTERNAL
        assert isinstance(caught.value.__cause__, LookupError)
        assert (server.handshake_done, server.info) == (False, None)
    assert heard(server, client) is INTERNAL


def test_what_interrupts_a_session_store_passes_through_and_ends_the_handshake() -> None:
    server = a_server(session_store=Failing(KeyboardInterrupt()))
    client = half_done(server)
    with pytest.raises(KeyboardInterrupt):
        server.do_handshake()
    assert (server.handshake_done, server.info) == (False, None)
    with pytest.raises(TLSError, match="interrupted"):
        server.do_handshake()
    assert heard(server, client) is INTERNAL


@pytest.mark.parametrize("label", ["CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0", "EXPORTER_SECRET"])
@pytest.mark.parametrize("who", ["client", "server"])
def test_a_key_log_that_fails_at_the_last_secrets_ends_in_an_alert_that_the_peer_can_read(who: str, label: str) -> None:
    """The keys of that end have changed by then, and the peer knows."""

    def full(told: str, random: bytes, secret: bytes) -> None:
        if told == label:
            raise OSError("the disk is full")

    client = a_client(client_config(**({"keylog": full} if who == "client" else {})))
    server = a_server(server_config(**({"keylog": full} if who == "server" else {})))
    failures = fail(client, server)
    assert "the disk is full" in str(failures[who])
    other = failures["server" if who == "client" else "client"]
    assert isinstance(other, AlertReceived)
    assert other.alert is INTERNAL


class FailingKeys(TicketKeys):
    """Keys that seal nothing."""

    __slots__ = ()

    def seal(self, state: bytes, now: float) -> bytes | None:
        raise ArithmeticError("no key")


@pytest.mark.parametrize("step", ["read", "write", "shutdown", "update_keys"])
def test_tickets_that_cannot_be_made_end_the_connection_with_an_alert(step: str) -> None:
    """They are made when there is time to, or something is written."""
    client, server = connected(server=server_config(ticket_keys=FailingKeys(bytes)))
    steps: dict[str, Callable[[], object]] = {
        "read": lambda: server.read_into(memoryview(bytearray(10))),
        "write": lambda: server.write(memoryview(b"x")),
        "shutdown": server.shutdown,
        "update_keys": server.update_keys,
    }
    with pytest.raises(TLSError, match="no key") as caught:
        steps[step]()
    assert caught.value.alert is INTERNAL
    with pytest.raises(TLSError, match="no key"):
        server.write(memoryview(b"x"))
    assert heard(server, client) is INTERNAL


def test_tickets_are_made_while_the_server_waits_and_leave_with_what_it_writes() -> None:
    client, server = connected(client_config(session_cache=SessionCache()), server_config())
    assert server.read_into(memoryview(bytearray(10))) is Want.READ
    assert not server.outgoing.pending
    assert isinstance(server, TLS13Machine)
    assert not server._established.resumption.value, "the secret that they are made of is gone"
    assert client.session is None
    assert send(server, client, b"x") == b"x"
    assert client.session is not None


def test_a_handshake_is_done_only_when_all_that_it_tells_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**facts: Any) -> Any:
        raise ArithmeticError("a defect")

    monkeypatch.setattr("trio_tls.machine.tls13.connection.ConnectionInfo", broken)
    server, client = a_server(), a_client()
    client.do_handshake()
    pass_on(client, server)
    server.do_handshake()
    pass_on(server, client)
    for _ in range(2):
        with pytest.raises(TLSError, match="a defect") as caught:
            go_on(client)
        assert caught.value.alert is INTERNAL
        assert (client.handshake_done, client.info) == (False, None)
    with pytest.raises(TLSError, match="a defect"):
        client.write(memoryview(b"x"))


# -- who is asked before the client has proven anything --------------------------------------------------------


class Recorded(MemorySessionStore):
    """A session store that tells what was given to it and asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.puts: list[tuple[bytes, bytes, float]] = []
        self.taken: list[bytes] = []

    def put(self, identity: bytes, state: bytes, expires: float) -> None:
        self.puts.append((identity, state, expires))
        super().put(identity, state, expires)

    def take(self, identity: bytes) -> Any:
        self.taken.append(identity)
        return super().take(identity)


class Awaited(Recorded):
    """The same, of which `take` is awaited."""

    def take(self, identity: bytes) -> Any:
        return asynchronous(super().take)(identity)


def with_a_wrong_binder(client: Machine) -> bytes:
    """Its hello, as somebody sends it who has seen it and does not have the PSK."""
    client.do_handshake()
    hello = bytearray(client.outgoing.read())
    hello[-1] ^= 1
    return bytes(hello)


def test_row_46_nobody_judges_a_client_that_has_not_proven_to_have_the_session() -> None:
    asked: list[Any] = []
    server = server_config(client_auth="required", verify=asked.append)
    client = client_config(credentials=client_credential())
    session = session_of(client, server)
    assert len(asked) == 1
    machine = a_server(server)
    machine.incoming.write(with_a_wrong_binder(a_client(client, session=session)))
    with pytest.raises(PeerMisbehaved) as caught:
        machine.do_handshake()
    assert caught.value.alert is Alert.decrypt_error
    assert len(asked) == 1
    assert resumed(client, server, session)
    assert len(asked) == 2, "of a session that is proven, it is asked whether it still holds"


@pytest.mark.parametrize("kind", [Recorded, Awaited])
def test_a_hello_that_somebody_repeats_with_a_wrong_binder_costs_no_session(kind: type[Recorded]) -> None:
    store = kind()
    server = server_config(session_store=store, tickets=1)
    client = client_config(session_cache=SessionCache())
    session = session_of(client, server)
    (before,) = store.puts
    machine = a_server(server)
    attacker = a_client(client, session=session)
    machine.incoming.write(with_a_wrong_binder(attacker))
    with pytest.raises(PeerMisbehaved) as caught:
        run(a_client(client), machine)
    assert caught.value.alert is Alert.decrypt_error
    assert store.taken == [session.ticket]
    assert store.puts == [before, before]
    assert len(store) == 1


def test_a_session_that_does_not_fit_this_connection_stays_in_the_store() -> None:
    store = Recorded()
    server = server_config(session_store=store, tickets=1)
    client = client_config()
    session = session_of(client, server)
    (before,) = store.puts
    peer = ScriptedClient(session=session, suite=session.cipher_suite, server_name="other.example.org")
    meeting = meet(a_server(server), peer)
    assert not (meeting.machine.info and meeting.machine.info.session_reused)
    assert store.taken == [session.ticket]
    assert before in store.puts[1:]
    assert resumed(client, server, session)


def test_a_session_that_is_resumed_is_not_put_back() -> None:
    store = Recorded()
    server = server_config(session_store=store, tickets=1)
    client = client_config()
    session = session_of(client, server)
    assert resumed(client, server, session)
    assert [identity for identity, _state, _expires in store.puts].count(session.ticket) == 1
    assert not resumed(client, server, session), "each is used once"


def test_a_store_that_fails_to_take_a_session_back_is_the_applications_error() -> None:
    class Full(MemorySessionStore):
        full = False

        def put(self, identity: bytes, state: bytes, expires: float) -> None:
            if self.full:
                raise OSError("the disk is full")
            super().put(identity, state, expires)

    store = Full()
    server, client = server_config(session_store=store), client_config()
    session = session_of(client, server)
    store.full = True
    machine = a_server(server)
    machine.incoming.write(with_a_wrong_binder(a_client(client, session=session)))
    with pytest.raises(TLSError, match="the disk is full") as caught:
        machine.do_handshake()
    assert caught.value.alert is INTERNAL
    assert isinstance(caught.value.__cause__, OSError)


def test_a_session_cache_that_fails_is_the_applications_error() -> None:
    class Unreachable(SessionCache):
        def put(self, key: bytes, session: Any) -> None:
            raise OSError("the disk is full")

    client, server = connected(client_config(session_cache=Unreachable()))
    server.write(memoryview(b"tickets come with this"))
    pass_on(server, client)
    with pytest.raises(TLSError, match="the application's session cache failed: the disk is full") as caught:
        client.read_into(memoryview(bytearray(100)))
    assert caught.value.alert is INTERNAL
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_key_log_that_fails_is_the_applications_error(role: str) -> None:
    def unwritable(label: str, random: bytes, secret: bytes) -> None:
        raise OSError("the disk is full")

    fields: dict[str, Any] = {"keylog": unwritable}
    ends = {
        "client": a_client(**(fields if role == "client" else {})),
        "server": a_server(**(fields if role == "server" else {})),
    }
    failures = fail(ends["client"], ends["server"])
    assert "the application's key log failed: the disk is full" in str(failures[role])
    assert failures[role].alert is INTERNAL
    assert isinstance(failures[role].__cause__, OSError)
