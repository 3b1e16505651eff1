"""Contexts whose handshake blocks: the loop goes on, and a cancel loses neither the step nor its verdict.

The scripted context stands for what truststore is on macOS and Windows: it lets OpenSSL finish, and then asks somebody
who takes his time. The real truststore is here too; on Linux it loads the trust store for each connection.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import truststore

from trio_tls import (
    CertificateVerificationError,
    HandshakeInThread,
    TLSError,
    TLSListener,
    TLSStream,
    UnexpectedEOF,
    open_tls_over_tcp_stream,
)
from trio_tls.blocking_contexts import off_the_loop
from trio_tls.machine.openssl_blocking import NeedBlockingStep
from trio_tls.testing import CancelMode, Interrupter, sweep

from .peers import RecordingStream
from .support import (
    HOST,
    Machines,
    authority,
    client_certificate,
    client_context,
    exchange,
    machines_named,
    server_context,
    socket_pair,
)

pytestmark = pytest.mark.ssl_alone("about contexts whose handshake blocks; our own machine never does")


class Verdict:
    """Somebody who is asked whether the peer is to be trusted, and takes his time."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        if at_once:
            self.may_answer.set()
        self.refusal: BaseException | None = None
        self.threads: list[int] = []
        self.inside = 0

    def __call__(self) -> None:
        self.threads.append(threading.get_ident())
        self.asked.set()
        assert self.may_answer.wait(60)
        if self.refusal is not None:
            raise self.refusal


def slow(context: ssl.SSLContext, verdict: Verdict) -> ssl.SSLContext:
    """``context``, asking ``verdict`` once OpenSSL is done with the handshake, as truststore does."""

    class SlowSSLObject(ssl.SSLObject):
        def do_handshake(self) -> None:
            assert not verdict.inside, "two threads in one SSL object"
            verdict.inside += 1
            try:
                super().do_handshake()
                verdict()
            finally:
                verdict.inside -= 1

    context.sslobject_class = SlowSSLObject
    return context


@pytest.fixture
def verdict() -> Any:
    verdict = Verdict()
    yield verdict
    verdict.may_answer.set()  # no thread outlives its test


@asynccontextmanager
async def ends(machines: Machines, verdict: Verdict) -> AsyncIterator[tuple[TLSStream[Any], TLSStream[Any]]]:
    """A client that asks ``verdict``, and its server; the server waits for its handshake."""
    a, b = socket_pair()
    client = TLSStream(a, slow(client_context(machines.client.minimum_version), verdict), server_hostname=HOST)
    server = TLSStream(b, machines.server, server_side=True)
    async with client, server:
        yield client, server


async def until_asked(verdict: Verdict) -> None:
    """Until ``verdict`` was asked. The loop has to go on for this to return."""
    assert await trio.to_thread.run_sync(verdict.asked.wait, 60, abandon_on_cancel=True)


async def server_handshake(server: TLSStream[Any]) -> None:
    """The server's end, which learns nothing of what the client's verifier thinks, or only an end."""
    try:
        await server.do_handshake()
    except TLSError:
        pass


async def test_the_loop_goes_on_while_a_context_verifies(machines: Machines, verdict: Verdict) -> None:
    ticks = 0
    with trio.fail_after(30):
        async with ends(machines, verdict) as (client, server), trio.open_nursery() as nursery:
            nursery.start_soon(server.do_handshake)
            nursery.start_soon(client.do_handshake)
            await until_asked(verdict)
            for _ in range(100):
                await trio.lowlevel.checkpoint()
                ticks += 1
            assert client.info is None
            assert isinstance(client.want, NeedBlockingStep)
            verdict.may_answer.set()
        assert ticks == 100
        assert client.version() == machines.version
    assert threading.get_ident() not in verdict.threads


async def test_after_the_handshake_the_stream_is_like_any_other(machines: Machines, verdict: Verdict) -> None:
    verdict.may_answer.set()
    async with ends(machines, verdict) as (client, server):
        there, back = bytes(range(256)) * 2000, b"back" * 50_000
        assert await exchange(client, server, there, back) == (there, back)
        assert client.pending() == 0


async def test_a_cancelled_handshake_waits_for_the_same_step_when_it_is_called_again(
    machines: Machines, verdict: Verdict
) -> None:
    with trio.fail_after(30):
        async with ends(machines, verdict) as (client, server), trio.open_nursery() as nursery:
            nursery.start_soon(server.do_handshake)
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel_once_asked, scope, verdict)
                await client.do_handshake()
            assert scope.cancelled_caught
            with trio.CancelScope() as scope:  # in vain again: it is still at it
                scope.cancel()
                await client.do_handshake()
            assert scope.cancelled_caught
            async with trio.open_nursery() as again:
                again.start_soon(client.do_handshake)
                await trio.testing.wait_all_tasks_blocked()
                verdict.may_answer.set()
            assert client.version() == machines.version
    assert len(verdict.threads) == 1


async def cancel_once_asked(scope: trio.CancelScope, verdict: Verdict) -> None:
    await until_asked(verdict)
    scope.cancel()


async def test_a_second_task_takes_over_from_one_that_is_cancelled(machines: Machines, verdict: Verdict) -> None:
    with trio.fail_after(30):
        async with ends(machines, verdict) as (client, server), trio.open_nursery() as nursery:
            nursery.start_soon(server.do_handshake)
            first = trio.CancelScope()

            async def shake_hands() -> None:
                with first:
                    await client.do_handshake()

            async with trio.open_nursery() as waiting:
                waiting.start_soon(shake_hands)
                await until_asked(verdict)
                waiting.start_soon(client.do_handshake)
                await trio.testing.wait_all_tasks_blocked()
                first.cancel()
                await trio.testing.wait_all_tasks_blocked()
                verdict.may_answer.set()
            assert client.version() == machines.version
    assert len(verdict.threads) == 1


@pytest.mark.parametrize("mode", CancelMode)
async def test_a_handshake_in_threads_can_be_cancelled_at_every_step(mode: CancelMode) -> None:
    machines = machines_named("ssl-1.3")

    async def scenario(interrupter: Interrupter) -> None:
        verdict = Verdict(at_once=True)
        async with ends(machines, verdict) as (client, server), trio.open_nursery() as nursery:
            nursery.start_soon(server.do_handshake)
            await interrupter.call(client.do_handshake)
            assert await exchange(client, server, b"there", b"back") == (b"there", b"back")
        assert len(verdict.threads) == 1

    with trio.fail_after(60):
        report = await sweep(scenario, mode)
    assert report.cancelled > 0


async def test_closing_while_the_thread_runs_waits_for_nothing(machines: Machines, verdict: Verdict) -> None:
    with trio.fail_after(30):
        async with ends(machines, verdict) as (client, server), trio.open_nursery() as nursery:
            nursery.start_soon(server_handshake, server)

            async def shake_hands() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await client.do_handshake()

            nursery.start_soon(shake_hands)
            await until_asked(verdict)
            await client.aclose()
            assert not verdict.may_answer.is_set()
            with pytest.raises(trio.ClosedResourceError):
                await client.do_handshake()


def test_the_end_of_the_run_leaves_the_thread_to_itself(verdict: Verdict) -> None:
    machines = machines_named("ssl-1.3")

    async def main() -> None:
        async with ends(machines, verdict) as (client, server), trio.open_nursery() as nursery:
            nursery.start_soon(server_handshake, server)
            nursery.start_soon(client.do_handshake)
            await until_asked(verdict)
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert not verdict.may_answer.is_set()


@pytest.mark.parametrize("kind", ["socket", "foreign"])
async def test_a_server_that_the_context_refuses_is_no_peer_and_learns_nothing(
    kind: str, machines: Machines, verdict: Verdict
) -> None:
    verdict.refusal = ssl.SSLCertVerificationError("the system does not like it.")
    verdict.may_answer.set()
    a, b = socket_pair()
    recorder = RecordingStream(a)
    transport: trio.abc.Stream = a if kind == "socket" else recorder
    context = slow(client_context(machines.client.minimum_version), verdict)
    client = TLSStream(transport, context, server_hostname=HOST)
    server = TLSStream(b, machines.server, server_side=True)
    fates: list[BaseException | None] = []

    async def serve() -> None:
        try:
            await server.do_handshake()
            await server.receive_some()
        except TLSError as error:
            fates.append(error)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with pytest.raises(CertificateVerificationError) as failure:
                await client.send_all(b"secret")
            sent = len(recorder.sent)
            with pytest.raises(CertificateVerificationError):  # it stays so
                await client.do_handshake()
            with pytest.raises(CertificateVerificationError):
                await client.receive_some()
            await client.aclose()
    assert len(recorder.sent) == sent
    error = failure.value
    assert str(error).startswith("the server's certificate was not accepted: the system does not like it. ")
    assert error.__cause__ is verdict.refusal
    assert error.alert is None and not error.sent_by_peer
    assert len(error.presented_chain) >= 1
    assert client.info is None
    assert isinstance(fates[0], UnexpectedEOF)
    await server.aclose()


async def test_the_verifiers_own_words_and_code_are_kept(verdict: Verdict) -> None:
    refusal = ssl.SSLCertVerificationError("Not trusted")
    refusal.verify_message, refusal.verify_code = "Not trusted, says the system", -67843
    verdict.refusal = refusal
    verdict.may_answer.set()
    async with ends(machines_named("ssl-1.3"), verdict) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(server_handshake, server)
        with pytest.raises(CertificateVerificationError) as failure:
            await client.do_handshake()
        assert (failure.value.verify_message, failure.value.verify_code) == ("Not trusted, says the system", -67843)
        await client.aclose()


@pytest.mark.parametrize("refusal", [OSError("no trust store"), ssl.SSLError("Unknown result"), KeyError()])
async def test_any_other_exception_of_the_context_is_a_tls_error_that_names_it(
    refusal: Exception, verdict: Verdict
) -> None:
    verdict.refusal = refusal
    verdict.may_answer.set()
    async with ends(machines_named("ssl-1.3"), verdict) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(server_handshake, server)
        with pytest.raises(TLSError, match=f"the SSLContext raised {type(refusal).__name__} in the handshake: ") as it:
            await client.do_handshake()
        assert it.value.__cause__ is refusal
        await client.aclose()


async def test_what_openssl_refuses_is_told_with_its_alert_as_ever(machines: Machines, verdict: Verdict) -> None:
    distrustful = ssl.create_default_context()
    distrustful.minimum_version = distrustful.maximum_version = machines.client.minimum_version
    a, b = socket_pair()
    client = TLSStream(a, slow(distrustful, verdict), server_hostname=HOST)
    server = TLSStream(b, machines.server, server_side=True)
    async with client, server, trio.open_nursery() as nursery:

        async def serve() -> None:
            with pytest.raises(TLSError) as told:
                await server.do_handshake()
            assert told.value.sent_by_peer and told.value.alert is not None

        nursery.start_soon(serve)
        with pytest.raises(CertificateVerificationError) as failure:
            await client.do_handshake()
        assert failure.value.alert is not None and failure.value.alert.name == "unknown_ca"
    assert not verdict.threads


async def test_a_server_may_have_a_slow_context_too(machines: Machines, verdict: Verdict) -> None:
    context = server_context(machines.server.minimum_version)
    authority().configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    certified = client_context(machines.client.minimum_version)
    client_certificate().configure_cert(certified)
    a, b = socket_pair()
    client, server = (
        TLSStream(a, certified, server_hostname=HOST),
        TLSStream(b, slow(context, verdict), server_side=True),
    )
    verdict.may_answer.set()
    async with client, server:
        assert await exchange(client, server, b"there", b"back") == (b"there", b"back")
    assert len(verdict.threads) == 1


async def test_a_plain_context_with_slow_callbacks_can_be_put_into_threads_too(verdict: Verdict) -> None:
    context = server_context()
    seen: list[tuple[str | None, int]] = []

    def sni_callback(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        seen.append((name, threading.get_ident()))
        verdict()

    context.sni_callback = sni_callback
    a, b = socket_pair()
    limiter = trio.CapacityLimiter(1)
    client = TLSStream(a, client_context(), server_hostname=HOST)
    server = TLSStream(b, HandshakeInThread(context, limiter=limiter), server_side=True)
    with trio.fail_after(30):
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(client.do_handshake)
            nursery.start_soon(server.do_handshake)
            await until_asked(verdict)
            assert limiter.borrowed_tokens == 1
            verdict.may_answer.set()
    assert seen[0][0] == HOST and seen[0][1] != threading.get_ident()


async def test_a_cancelled_handshake_may_not_have_begun_its_step(verdict: Verdict) -> None:
    limiter = trio.CapacityLimiter(1)
    a, b = socket_pair()
    client = TLSStream(a, HandshakeInThread(client_context(), limiter=limiter), server_hostname=HOST)
    server = TLSStream(b, server_context(), server_side=True)
    with trio.fail_after(30):
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(server.do_handshake)
            async with limiter:  # nobody gets a thread now
                async with trio.open_nursery() as impatient:
                    impatient.start_soon(client.do_handshake)
                    await trio.testing.wait_all_tasks_blocked()
                    impatient.cancel_scope.cancel()
            await client.do_handshake()
            assert client.info is not None


async def test_no_thread_to_be_had_is_a_failed_handshake(monkeypatch: pytest.MonkeyPatch, verdict: Verdict) -> None:
    async def no_thread(*args: object, **options: object) -> None:
        raise RuntimeError("can't start new thread")

    async with ends(machines_named("ssl-1.3"), verdict) as (client, _):
        monkeypatch.setattr(trio.to_thread, "run_sync", no_thread)
        with pytest.raises(TLSError, match="can't start new thread"):
            await client.do_handshake()
        monkeypatch.undo()


# -- the configuration -----------------------------------------------------------------------------------------------


class FussyContext(ssl.SSLContext):
    """Its ``wrap_bio`` is its own."""

    makers: list[int]

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        self.makers.append(threading.get_ident())
        return super().wrap_bio(*args, **options)


def fussy() -> FussyContext:
    context = FussyContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    context.makers = []
    return context


async def test_a_wrap_bio_of_the_contexts_own_runs_in_the_thread_too() -> None:
    context = fussy()
    a, b = socket_pair()
    async with (
        TLSStream(a, context, server_hostname=HOST) as client,
        TLSStream(b, server_context(), server_side=True) as server,
    ):
        assert not context.makers
        assert client.context is context and client.session is None and client.server_hostname == HOST
        assert client.pending() == 0 and not client.server_side
        assert await exchange(client, server, b"there", b"back") == (b"there", b"back")
    assert len(context.makers) == 1 and threading.get_ident() not in context.makers


async def test_a_client_without_the_name_that_the_context_checks_is_told_at_once() -> None:
    a, b = socket_pair()
    with pytest.raises(ValueError, match="server_hostname"):
        TLSStream(a, fussy())
    with pytest.raises(TypeError, match="session must be"):
        TLSStream(a, fussy(), server_hostname=HOST, session="no")  # type: ignore[call-overload]
    for end in (a, b):
        end.socket.close()


async def test_a_context_that_cannot_serve_is_a_mistake_that_the_handshake_tells() -> None:
    a, b = socket_pair()
    async with TLSStream(a, fussy(), server_side=True) as server, b:
        for _ in range(2):
            with pytest.raises(ValueError, match="cannot be used with server_side=True"):
                await server.do_handshake()


async def test_a_session_and_another_context_may_be_set_before_the_handshake() -> None:
    context = fussy()
    server_side = server_context(ssl.TLSVersion.TLSv1_2)
    a, b = socket_pair()
    async with (
        TLSStream(a, context, server_hostname=HOST) as client,
        TLSStream(b, server_side, server_side=True) as server,
    ):
        assert await exchange(client, server, b"there", b"back") == (b"there", b"back")
        session = client.session
        assert isinstance(session, ssl.SSLSession)
    a, b = socket_pair()
    client = TLSStream(a, fussy(), server_hostname=HOST)
    client.context = context
    client.session = session
    async with client, TLSStream(b, server_side, server_side=True) as server:
        assert await exchange(client, server, b"there", b"back") == (b"there", b"back")
        assert client.session_reused


def test_a_plain_context_stays_on_the_loop() -> None:
    for context in (client_context(), server_context()):
        assert off_the_loop(context) is context


# -- truststore ------------------------------------------------------------------------------------------------------


def trusting(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Let the CA of the tests be one that the system trusts."""
    ca = directory / "ca.pem"
    authority().cert_pem.write_to_path(ca)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))


@pytest.mark.parametrize("trusted", [True, False])
async def test_truststore_decides(
    trusted: bool, machines: Machines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if trusted:
        trusting(monkeypatch, tmp_path)
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    a, b = socket_pair()
    client, server = TLSStream(a, context, server_hostname=HOST), TLSStream(b, machines.server, server_side=True)
    with trio.fail_after(30):
        async with client, server:
            if trusted:
                assert await exchange(client, server, b"there", b"back") == (b"there", b"back")
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server_handshake, server)
                with pytest.raises(CertificateVerificationError, match="the server's certificate was not accepted"):
                    await client.do_handshake()


async def test_truststore_works_through_the_helper_and_for_many_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trusting(monkeypatch, tmp_path)
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    (tcp_listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    listener = TLSListener(tcp_listener, server_context())
    port = tcp_listener.socket.getsockname()[1]
    greeted: list[bytes] = []

    async def handle(stream: TLSStream[trio.SocketStream]) -> None:
        async with stream:
            await stream.send_all(b"hello")

    async def greet() -> None:
        async with await open_tls_over_tcp_stream("127.0.0.1", port, context) as stream:
            greeted.append(await stream.receive_some())

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, handle, [listener])
            async with trio.open_nursery() as clients:
                for _ in range(5):
                    clients.start_soon(greet)
            nursery.cancel_scope.cancel()
    assert greeted == [b"hello"] * 5


async def test_a_truststore_that_took_the_place_of_sslcontext_is_still_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trusting(monkeypatch, tmp_path)
    monkeypatch.setattr(ssl, "SSLContext", ssl.SSLContext)  # to be put back
    server_side = server_context()
    truststore.inject_into_ssl()
    context = ssl.create_default_context()
    a, b = socket_pair()
    client = TLSStream(a, context, server_hostname=HOST)
    truststore.extract_from_ssl()
    limiter = trio.to_thread.current_default_thread_limiter()
    monkeypatch.setattr(limiter, "total_tokens", 1)
    async with client, TLSStream(b, server_side, server_side=True) as server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.do_handshake)
            async with limiter:  # no thread for others
                nursery.start_soon(client.do_handshake)
                await trio.testing.wait_all_tasks_blocked()
                assert isinstance(client.want, NeedBlockingStep)
        assert client.info is not None
