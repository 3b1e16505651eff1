"""Needs: what the machine asks the application for, answered at once or later, not at all, or asked again.

How this works. `NEEDS` has one entry for each kind of need: which configs ask for it, given the application's function,
and what the right answer is. `MODES` are the ways to write that function. The stream's side of it (who awaits, what a
cancel scope does) is tested with the stream.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from trio_tls import ClientConfig, Credential, CredentialsByName, MemorySessionStore, ServerConfig, Session
from trio_tls.alerts import Alert
from trio_tls.errors import AlertReceived, NoSharedParameters, TLSError
from trio_tls.machine.client_hello import ClientHelloInfo
from trio_tls.machine.interface import (
    Machine,
    Need,
    NeedCredential,
    NeedServerConfig,
    NeedSession,
    NeedSignature,
    NeedVerification,
    Want,
)
from trio_tls.machine.tls13.messages import ClientHello, decode_message
from trio_tls.machine.tls13.registry import SignatureScheme

from ...support import HOST, authority, credential_of, verifier
from .edits import with_fields
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
)
from .scripted_peer import ScriptedClient, meet

Answer = Callable[[Any], Any]
Configs = tuple[ClientConfig, ServerConfig]


class Store:
    """A session store that asks the application."""

    def __init__(self, take: Answer) -> None:
        self.kept = MemorySessionStore()
        self._take = take

    def put(self, identity: bytes, state: bytes, expires: float) -> None:
        self.kept.put(identity, state, expires)

    def take(self, identity: bytes) -> Any:
        return self._take(identity)


def signing(function: Answer) -> Callable[[int, bytes], Any]:
    """A signer takes two arguments; the functions here take one."""
    return lambda scheme, message: function((scheme, message))


def remote(function: Answer, credential: Credential) -> Credential:
    return Credential.remote(credential.chain, signing(function))


@dataclass(frozen=True)
class Kind:
    """One kind of need.

    Attributes:
      need: its class.
      server: whether the server asks.
      configs: given the application's function, the configs in which it is asked.
      right: the right answer.
    """

    need: type[Need]
    server: bool
    configs: Callable[[Answer], Configs]
    right: Callable[[Any], Any]


def stored(function: Answer) -> Configs:
    """A client that has a session of this very server, which has to ask for it."""
    store = Store(lambda identity: None)
    client, server = client_config(), server_config(session_store=store)
    ends = connected(client, server)
    send(ends[1], ends[0], b"x")
    stored.session, stored.store = ends[0].session, store.kept  # type: ignore[attr-defined]
    store._take = function
    return client, server


def from_the_store(identity: bytes) -> bytes | None:
    return stored.store.take(identity)  # type: ignore[attr-defined, no-any-return]


def by_key(credential: Callable[[], Credential]) -> Callable[[tuple[int, bytes]], Any]:
    return lambda asked: credential().sign(*asked)


NEEDS: dict[str, Kind] = {
    "server-config": Kind(
        NeedServerConfig,
        True,
        lambda function: (client_config(), server_config(choose=function)),
        lambda need: server_config(),
    ),
    "server-credential": Kind(
        NeedCredential,
        True,
        lambda function: (client_config(), server_config(credentials=function)),
        lambda need: server_credential(),
    ),
    "server-signature": Kind(
        NeedSignature,
        True,
        lambda function: (client_config(), server_config(credentials=remote(function, server_credential()))),
        by_key(server_credential),
    ),
    "session": Kind(NeedSession, True, stored, from_the_store),
    "client-verification": Kind(
        NeedVerification,
        True,
        lambda function: (
            client_config(credentials=client_credential()),
            server_config(client_auth="required", verify=function),
        ),
        lambda need: None,
    ),
    "server-verification": Kind(
        NeedVerification, False, lambda function: (client_config(verify=function), server_config()), lambda need: None
    ),
    "client-credential": Kind(
        NeedCredential,
        False,
        lambda function: (
            client_config(credentials=function),
            server_config(client_auth="required", verify=verifier()),
        ),
        lambda need: client_credential(),
    ),
    "client-signature": Kind(
        NeedSignature,
        False,
        lambda function: (
            client_config(credentials=remote(function, client_credential())),
            server_config(client_auth="required", verify=verifier()),
        ),
        by_key(client_credential),
    ),
}

ALL_NEEDS = pytest.mark.parametrize("name", NEEDS)


class _Later:
    """Is awaited once: the application's task sleeps, and goes on."""

    def __await__(self) -> Any:
        yield "sleeping"


def synchronous(function: Answer) -> Answer:
    return function


def asynchronous(function: Answer) -> Answer:
    async def answer(need: Any) -> Any:
        await _Later()
        return function(need)

    return answer


def awaitable(function: Answer) -> Answer:
    """A function that is not async, and returns an awaitable."""
    coroutine_function = asynchronous(function)

    def answer(need: Any) -> Any:
        return coroutine_function(need)

    return answer


def partial(function: Answer) -> Answer:
    async def answer(extra: str, need: Any) -> Any:
        await _Later()
        return function(need)

    return functools.partial(answer, "extra")


def an_object(function: Answer) -> Answer:
    class Answering:
        async def __call__(self, need: Any) -> Any:
            await _Later()
            return function(need)

    return Answering()


LATER = {"async": asynchronous, "awaitable": awaitable, "partial": partial, "object": an_object}
MODES = {"sync": synchronous, **LATER}


def start(need: Need) -> Coroutine[Any, Any, object]:
    """Begin to await the answer, as far as its first sleep."""
    resolving: Awaitable[object] = need.resolve(need)
    assert hasattr(resolving, "send")
    coroutine: Coroutine[Any, Any, object] = resolving  # type: ignore[assignment]
    assert coroutine.send(None) == "sleeping"
    return coroutine


def settle(need: Need) -> None:
    """Await the answer, as the stream does."""
    coroutine = start(need)
    try:
        coroutine.send(None)
    except StopIteration as done:
        need.answer(done.value)
    except Exception as error:
        need.refuse(error)


def run(client: Machine, server: Machine, asked: Callable[[Need], None] = settle) -> list[Need]:
    """The whole handshake; each need is handed to ``asked``, which settles it or not."""
    needs: list[Need] = []
    for _ in range(100):
        for end, peer in ((client, server), (server, client)):
            found = end.do_handshake()
            if isinstance(found, Need):
                needs.append(found)
                asked(found)
            pass_on(end, peer)
        if client.handshake_done and server.handshake_done:
            return needs
    raise AssertionError("the handshake has stopped")


def ends_of(kind: Kind, function: Answer) -> tuple[Machine, Machine]:
    client, server = kind.configs(function)
    session = stored.session if kind.need is NeedSession else None  # type: ignore[attr-defined]
    return a_client(client, session=session), a_server(server)


@ALL_NEEDS
@pytest.mark.parametrize("mode", MODES)
def test_a_need_is_answered(name: str, mode: str) -> None:
    kind = NEEDS[name]
    calls: list[Any] = []

    def right(need: Any) -> Any:
        calls.append(need)
        return kind.right(need)

    client, server = ends_of(kind, MODES[mode](right))
    needs = run(client, server)
    assert [type(need) for need in needs] == ([] if mode == "sync" else [kind.need])
    assert len(calls) == 1
    assert client.info is not None
    assert client.info.session_reused == (kind.need is NeedSession)
    assert send(client, server, b"there") == b"there"
    assert send(server, client, b"back") == b"back"


@ALL_NEEDS
@pytest.mark.parametrize("mode", LATER)
def test_a_cancelled_answer_leaves_the_need_open_and_is_asked_for_again(name: str, mode: str) -> None:
    kind = NEEDS[name]
    cancelled: list[Need] = []

    def cancel_twice_then_settle(need: Need) -> None:
        if len(cancelled) < 2:
            start(need).close()
            cancelled.append(need)
        else:
            assert all(each is need for each in cancelled), "it is the same need"
            settle(need)

    client, server = ends_of(kind, LATER[mode](kind.right))
    run(client, server, cancel_twice_then_settle)
    assert len(cancelled) == 2


@ALL_NEEDS
def test_an_open_need_is_returned_by_every_step_and_nothing_goes_on(name: str) -> None:
    kind = NEEDS[name]
    client, server = ends_of(kind, asynchronous(kind.right))
    for _ in range(10):
        for end, peer in ((client, server), (server, client)):
            found = end.do_handshake()
            flight = end.outgoing.read()
            if isinstance(found, Need):
                for _ in range(3):
                    assert end.do_handshake() is found
                assert not end.outgoing.pending
                peer.incoming.write(flight)
                settle(found)
                run(client, server)
                return
            peer.incoming.write(flight)
    raise AssertionError("nobody has asked")


@ALL_NEEDS
@pytest.mark.parametrize("mode", MODES)
def test_a_function_that_fails_is_the_cause_of_an_internal_error(name: str, mode: str) -> None:
    kind = NEEDS[name]

    def failing(need: Any) -> Any:
        raise LookupError("the database is gone")

    client, server = ends_of(kind, MODES[mode](failing))
    with pytest.raises(TLSError, match="the database is gone") as caught:
        run(client, server)
    assert type(caught.value) is TLSError
    assert (caught.value.alert, caught.value.sent_by_peer) == (Alert.internal_error, False)
    assert isinstance(caught.value.__cause__, LookupError)
    assert kind.need.__name__ in str(caught.value)
    ours, theirs = (server, client) if kind.server else (client, server)
    assert ours.sent_fatal_alert
    with pytest.raises(TLSError, match="the database is gone"):
        ours.do_handshake()
    assert heard(ours, theirs) is Alert.internal_error


@ALL_NEEDS
@pytest.mark.parametrize("mode", MODES)
def test_a_function_that_raises_a_tls_error_chooses_the_alert(name: str, mode: str) -> None:
    kind = NEEDS[name]

    def refusing(need: Any) -> Any:
        raise NoSharedParameters("not today", hint="Come back tomorrow", alert=Alert.access_denied)

    client, server = ends_of(kind, MODES[mode](refusing))
    with pytest.raises(NoSharedParameters, match=r"not today\. Come back") as caught:
        run(client, server)
    assert caught.value.alert is Alert.access_denied
    ours, theirs = (server, client) if kind.server else (client, server)
    assert heard(ours, theirs) is Alert.access_denied


def heard(ours: Machine, theirs: Machine) -> Alert | None:
    """The alert that the other end gets to read."""
    pass_on(ours, theirs)
    with pytest.raises(AlertReceived) as caught:
        if theirs.do_handshake() is None:
            read(theirs)
    return caught.value.alert


@pytest.mark.parametrize("name", [name for name in NEEDS if name != "session"])
def test_what_interrupts_a_function_passes_through_and_ends_the_handshake(name: str) -> None:
    def interrupted(need: Any) -> Any:
        raise KeyboardInterrupt

    client, server = ends_of(NEEDS[name], interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(client, server)
    ours, theirs = (server, client) if NEEDS[name].server else (client, server)
    with pytest.raises(TLSError, match="interrupted"):
        ours.do_handshake()
    assert heard(ours, theirs) is Alert.internal_error


# -- what each is asked ----------------------------------------------------------------------------------------


def test_a_config_is_chosen_by_the_client_hello() -> None:
    other = credential_of(authority().issue_cert("other.example.org"))
    configs = {HOST: server_config(), "other.example.org": server_config(credentials=other, alpn_protocols=["special"])}
    seen: list[ClientHelloInfo] = []

    def choose(need: NeedServerConfig) -> ServerConfig:
        message = decode_message(need.client_hello[0], need.client_hello[4:])
        assert isinstance(message, ClientHello)
        assert ClientHelloInfo.of(message) == need.hello
        seen.append(need.hello)
        assert need.hello.server_name is not None
        return configs[need.hello.server_name]

    entrance = server_config(credentials=lambda need: None, choose=choose)
    client = client_config(alpn_protocols=["special"])
    for name, credential, protocol in ((HOST, server_credential(), None), ("other.example.org", other, "special")):
        ends = connected(client, entrance, name=name)
        assert ends[0].info is not None
        assert (ends[0].info.peer_chain, ends[0].info.alpn_protocol) == (credential.der_chain, protocol)
    assert len(seen) == 2


def test_the_config_that_was_chosen_issues_the_tickets() -> None:
    chosen = server_config()
    entrance = server_config(choose=lambda need: chosen, tickets=0)
    client = client_config()
    ends = connected(client, entrance)
    send(ends[1], ends[0], b"x")
    session = ends[0].session
    assert isinstance(session, Session)
    for server in (entrance, chosen):
        again = connected(client, server, session=session)
        assert again[0].info is not None
        assert again[0].info.session_reused


def test_credentials_are_chosen_by_name() -> None:
    names = ("a.example.org", "*.wild.example.org")
    credentials = [credential_of(authority().issue_cert(name)) for name in names]
    server = server_config(credentials=[server_credential(), *credentials])
    for name, expected in (
        ("a.example.org", credentials[0]),
        ("A.EXAMPLE.ORG", credentials[0]),
        ("x.wild.example.org", credentials[1]),
        (HOST, server_credential()),
        ("127.0.0.1", server_credential()),
    ):
        client, _server = connected(client_config(), server, name=name)
        assert client.info is not None
        assert client.info.peer_chain == expected.der_chain


def test_a_name_without_a_credential_is_an_unrecognized_name_at_both_ends() -> None:
    server = server_config(credentials=CredentialsByName([server_credential()], default=None))
    failures = fail(a_client(name="nobody.example.org"), a_server(server))
    assert type(failures["server"]) is NoSharedParameters
    assert failures["server"].alert is failures["client"].alert is Alert.unrecognized_name


def test_a_credential_is_asked_for_by_name_and_schemes() -> None:
    asked: list[NeedCredential] = []

    def credentials(need: NeedCredential) -> Credential:
        asked.append(need)
        return server_credential()

    connected(
        client_config(signature_schemes=[SignatureScheme.ecdsa_secp256r1_sha256]),
        server_config(credentials=credentials),
    )
    (need,) = asked
    assert (need.server_name, need.signature_schemes) == (HOST, (SignatureScheme.ecdsa_secp256r1_sha256,))


def test_what_a_key_elsewhere_signs_is_the_content_of_certificate_verify() -> None:
    asked: list[tuple[int, bytes]] = []

    def sign(scheme: int, message: bytes) -> Any:
        asked.append((scheme, message))
        return server_credential().sign(scheme, message)

    connected(client_config(), server_config(credentials=Credential.remote(server_credential().chain, sign)))
    ((scheme, message),) = asked
    assert scheme == SignatureScheme.ecdsa_secp256r1_sha256
    assert message.startswith(b" " * 64 + b"TLS 1.3, server CertificateVerify\0")
    assert len(message) == 64 + 34 + 32


def test_a_wrong_signature_from_elsewhere_is_found_by_the_client() -> None:
    wrong = Credential.remote(server_credential().chain, lambda scheme, message: b"wrong")
    failures = fail(a_client(), a_server(credentials=wrong))
    assert failures["client"].alert is failures["server"].alert is Alert.decrypt_error


def test_a_session_of_another_version_or_none_at_all_leads_to_a_full_handshake() -> None:
    for state in (None, b"TLSs\x09 of another version", b""):
        client, server = stored(functools.partial(lambda state, identity: state, state))
        ends = connected(client, server, session=stored.session)  # type: ignore[attr-defined]
        assert ends[0].info is not None
        assert not ends[0].info.session_reused


@pytest.mark.parametrize("answer", [None, "config", 17])
def test_an_answer_of_the_wrong_kind_is_the_applications_error(answer: Any) -> None:
    for fields in ({"choose": lambda need: answer}, {"credentials": lambda need: answer or "none"}):
        failures = fail(a_client(), a_server(**fields))
        assert failures["server"].alert is Alert.internal_error
        assert failures["client"].alert is Alert.internal_error
        assert failures["server"].__cause__ is not None


def test_a_need_is_no_reason_to_lose_what_the_client_sends_meanwhile() -> None:
    """The stream may read on while the application thinks."""
    client, server = a_client(), a_server(credentials=asynchronous(lambda need: server_credential()))
    client.do_handshake()
    pass_on(client, server)
    need = server.do_handshake()
    assert isinstance(need, NeedCredential)
    server.incoming.write(b"\x14\3\3\0\1\1")
    settle(need)
    assert server.do_handshake() is Want.READ
    run(client, server)


def test_nobody_is_asked_about_a_hello_that_is_wrong() -> None:
    asked: list[object] = []
    meeting = meet(
        a_server(choose=asked.append), ScriptedClient(edit=with_fields("client_hello", compression_methods=b"\1"))
    )
    meeting.refused(Alert.illegal_parameter)
    assert not asked
