"""Everything that our own machine asks the application may be cancelled, and asked again: see `test_needs`.

How this works. A `Question` is one thing that the configurations let the application decide: it makes both
configurations around an async function. The application thinks for three seconds of virtual time, then answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from trio.testing import MockClock

from trio_tls import (
    Alert,
    CertificateVerificationError,
    ClientConfig,
    ConfigByHello,
    Credential,
    ServerConfig,
    Session,
    SignatureScheme,
    TLSError,
    TLSStream,
)
from trio_tls.machine.interface import NeedVerification
from trio_tls.testing import CancelMode, Interrupter, sweep

from ..support import (
    HOST,
    client_certificate,
    client_config,
    credential_of,
    pattern,
    server_certificate,
    server_config,
    server_context,
    verifier,
)
from .connections import expect


class Application:
    """Thinks before it answers. It has one thing at a time on its mind, and says if it gets two."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.asked = self.answered = 0
        self._failure = failure
        self._thinking = False

    async def think(self) -> None:
        assert not self._thinking, "two tasks answer at once"
        self.asked += 1
        self._thinking = True
        try:
            for _ in range(3):
                await trio.sleep(1)
            if self._failure is not None:
                raise self._failure
        finally:
            self._thinking = False
        self.answered += 1


class SlowStore:
    """Keeps sessions for a server, and takes its time to look them up; they may be taken more than once."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._states: dict[bytes, bytes] = {}

    def put(self, identity: bytes, state: bytes, expires: float) -> None:
        self._states[identity] = state

    async def take(self, identity: bytes) -> bytes | None:
        await self._application.think()
        return self._states.get(identity)


Configs: TypeAlias = "tuple[ClientConfig, ServerConfig | ConfigByHello]"


def remote(application: Application, pem: bytes) -> Credential:
    """A credential whose key is somewhere else."""
    key = load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)

    async def sign(scheme: int, message: bytes) -> bytes:
        assert scheme == SignatureScheme.ecdsa_secp256r1_sha256
        await application.think()
        return key.sign(message, ec.ECDSA(SHA256()))

    return Credential.remote(x509.load_pem_x509_certificates(pem), sign)


def answered_by(application: Application, answer: Callable[[], Any]) -> Callable[[object], Awaitable[Any]]:
    async def choose(need: object) -> Any:
        await application.think()
        return answer()

    return choose


def server_config_by_client_hello(application: Application) -> Configs:
    return client_config(), server_config().replace(choose=answered_by(application, server_config))


def any_config_by_client_hello(application: Application) -> Configs:
    return client_config(), ConfigByHello(answered_by(application, server_config))


def context_by_client_hello(application: Application) -> Configs:
    return client_config(), ConfigByHello(answered_by(application, server_context))


def server_credential(application: Application) -> Configs:
    credential = credential_of(server_certificate())
    return client_config(), server_config().replace(credentials=answered_by(application, lambda: credential))


def server_signature(application: Application) -> Configs:
    pem = server_certificate().private_key_and_cert_chain_pem.bytes()
    return client_config(), server_config().replace(credentials=remote(application, pem))


def verification_of_server(application: Application) -> Configs:
    async def verify(need: NeedVerification) -> None:
        assert need.server_name == HOST
        await application.think()

    return client_config().replace(verify=verify), server_config()


def lookup_of_session(application: Application) -> Configs:
    return client_config(), server_config().replace(session_store=SlowStore(application), ticket_keys=None)


def client_credential(application: Application) -> Configs:
    credential = credential_of(client_certificate())
    client = client_config().replace(credentials=answered_by(application, lambda: credential))
    return client, server_config().replace(client_auth="required", verify=verifier())


def client_signature(application: Application) -> Configs:
    pem = client_certificate().private_key_and_cert_chain_pem.bytes()
    client = client_config().replace(credentials=remote(application, pem))
    return client, server_config().replace(client_auth="required", verify=verifier())


def verification_of_client(application: Application) -> Configs:
    async def verify(need: NeedVerification) -> None:
        assert need.server_name is None
        await application.think()

    client = client_config().replace(credentials=credential_of(client_certificate()))
    return client, server_config().replace(client_auth="required", verify=verify)


#: What is asked: (who asks, how it is configured).
QUESTIONS: dict[str, tuple[str, Callable[[Application], Configs]]] = {
    "server config": ("server", server_config_by_client_hello),
    "any config": ("server", any_config_by_client_hello),
    "context": ("server", context_by_client_hello),
    "server credential": ("server", server_credential),
    "server signature": ("server", server_signature),
    "session": ("server", lookup_of_session),
    "verification of the client": ("server", verification_of_client),
    "verification of the server": ("client", verification_of_server),
    "client credential": ("client", client_credential),
    "client signature": ("client", client_signature),
}


async def session_of(configs: Configs) -> Session | None:
    """What an earlier connection has left with the client."""
    near, far = trio.testing.memory_stream_pair()
    client = TLSStream(near, configs[0], server_hostname=HOST)
    async with client, TLSStream(far, configs[1], server_side=True) as server, trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, b"and tickets")
        await client.receive_some()
        assert isinstance(client.session, Session)
        return client.session


@asynccontextmanager
async def asking(question: str, application: Application) -> AsyncIterator[tuple[TLSStream[Any], TLSStream[Any], str]]:
    """The end that asks, its peer, and its role."""
    role, configure = QUESTIONS[question]
    configs = configure(application)
    session = await session_of(configs) if question == "session" else None
    near, far = trio.testing.memory_stream_pair()
    client = TLSStream(near, configs[0], server_hostname=HOST, session=session)
    server = TLSStream(far, configs[1], server_side=True)
    with trio.fail_after(600):
        async with client, server:
            yield (client, server, role) if role == "client" else (server, client, role)


async def converse(subject: TLSStream[Any], peer: TLSStream[Any]) -> None:
    there, back = pattern(6_000), pattern(5_000, seed=4_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subject.send_all, there)
        nursery.start_soon(peer.send_all, back)
        nursery.start_soon(expect, peer, there)
        nursery.start_soon(expect, subject, back)


@pytest.mark.parametrize("mode", list(CancelMode))
@pytest.mark.parametrize("operation", ["do_handshake", "receive_some", "sender"])
@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_handshake_completes_wherever_the_answer_is_cancelled(
    question: str, operation: str, mode: CancelMode, autojump_clock: MockClock
) -> None:
    async def scenario(interrupter: Interrupter) -> None:
        application = Application()
        async with asking(question, application) as (subject, peer, _):
            async with trio.open_nursery() as nursery:
                if operation == "receive_some":
                    nursery.start_soon(peer.send_all, b"?")
                    assert await interrupter.call(subject.receive_some) == b"?"
                elif operation == "sender":
                    nursery.start_soon(expect, peer, b"!")
                    await interrupter.call(subject.sender(b"!").send)
                else:
                    nursery.start_soon(peer.do_handshake)
                    await interrupter.call(subject.do_handshake)
            assert subject.info is not None and subject.info.session_reused == (question == "session")
            await converse(subject, peer)
            assert application.answered == 1, "once answered, it is not asked again"

    report = await sweep(scenario, mode)
    assert report.cancelled > 0
    assert report.last_step > 3, "three for the answer, and the flights"


@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_cancelled_answer_leaves_the_need_open_and_it_is_asked_again(
    question: str, autojump_clock: MockClock
) -> None:
    application = Application()
    async with asking(question, application) as (subject, peer, _), trio.open_nursery() as nursery:
        nursery.start_soon(peer.do_handshake)
        asked_before = application.asked
        for _ in range(3):
            with trio.move_on_after(1.5) as scope:
                await subject.do_handshake()
            assert scope.cancelled_caught
        await subject.do_handshake()
        assert application.asked == asked_before + 4
        assert application.answered == 1
    assert subject.info is not None


@pytest.mark.parametrize("mode", [CancelMode.BLOCKED, CancelMode.WAKING])
@pytest.mark.parametrize("question", QUESTIONS)
async def test_another_waiter_takes_over_the_answer_when_the_first_is_cancelled(
    question: str, mode: CancelMode, autojump_clock: MockClock
) -> None:
    async def scenario(interrupter: Interrupter) -> None:
        application = Application()
        async with asking(question, application) as (subject, peer, _):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(interrupter.attempt, subject.do_handshake)
                await trio.lowlevel.checkpoint()
                nursery.start_soon(subject.do_handshake)
                nursery.start_soon(subject.send_all, b"!")
                nursery.start_soon(expect, peer, b"!")
            await converse(subject, peer)
            assert application.answered == 1

    report = await sweep(scenario, mode)
    assert report.last_step > 3


@pytest.mark.parametrize("question", QUESTIONS)
async def test_closing_the_stream_ends_the_answer(question: str, autojump_clock: MockClock) -> None:
    application = Application()
    async with asking(question, application) as (subject, peer, _), trio.open_nursery() as nursery:

        async def wait(stream: TLSStream[Any], kind: type[Exception]) -> None:
            with pytest.raises(kind):
                await stream.receive_some()

        nursery.start_soon(wait, peer, TLSError)
        nursery.start_soon(wait, subject, trio.ClosedResourceError)
        await trio.sleep(1.5)
        asked, started = application.asked, trio.current_time()
        assert asked == 1
        await subject.aclose()
        assert trio.current_time() == started
    assert (application.asked, application.answered) == (asked, 0)


@pytest.mark.parametrize("question", QUESTIONS)
async def test_an_exception_in_the_answer_fails_the_handshake_for_every_waiter(
    question: str, autojump_clock: MockClock
) -> None:
    failure = LookupError("out of ideas")
    errors: dict[TLSStream[Any], list[TLSError]] = {}
    async with asking(question, Application(failure)) as (subject, peer, _):

        async def wait(stream: TLSStream[Any]) -> None:
            with pytest.raises(TLSError) as caught:
                await stream.receive_some()
            errors.setdefault(stream, []).append(caught.value)

        async def handshake() -> None:
            with pytest.raises(TLSError) as caught:
                await subject.do_handshake()
            errors.setdefault(subject, []).append(caught.value)

        async with trio.open_nursery() as nursery:
            for task in (partial(wait, peer), partial(wait, subject), handshake):
                nursery.start_soon(task)
        await wait(subject)  # sticky
    assert [error.alert for error in errors[subject]] == [Alert.internal_error] * 3
    assert all(error.__cause__ is failure and not error.sent_by_peer for error in errors[subject])
    assert [(error.alert, error.sent_by_peer) for error in errors[peer]] == [(Alert.internal_error, True)]


@pytest.mark.parametrize("question", ["verification of the server", "verification of the client"])
async def test_a_rejection_by_the_application_is_the_alert_that_it_names(
    question: str, autojump_clock: MockClock
) -> None:
    rejection = CertificateVerificationError("this one is on our list", alert=Alert.certificate_revoked)
    async with asking(question, Application(rejection)) as (subject, peer, _), trio.open_nursery() as nursery:

        async def told() -> None:
            with pytest.raises(TLSError) as caught:
                await peer.receive_some()
            assert (caught.value.alert, caught.value.sent_by_peer) == (Alert.certificate_revoked, True)

        nursery.start_soon(told)
        with pytest.raises(CertificateVerificationError, match="on our list") as caught:
            await subject.do_handshake()
        assert caught.value.alert is Alert.certificate_revoked
