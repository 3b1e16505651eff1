"""The recipes of the manual for protocols that change to TLS, against the servers that people run."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from trio_tls import (
    ClientConfig,
    PeerMisbehaved,
    PrivatePolicy,
    ServerConfig,
    TLSError,
    TLSStream,
    TrustAnchors,
    Verifier,
    serve_tls_over_tcp,
)

from .servers import PATIENCE, Place, dovecot, exim, postgres_message, postgresql, redis, some_place
from .support import authority, client_certificate, credential_of
from .test_docs_examples import example

smtp, imap, postgres, redis_recipe = (
    example(name) for name in ("starttls_smtp", "starttls_imap", "starttls_postgres", "redis_tls")
)


@pytest.fixture
def place() -> Iterator[Place]:
    with some_place() as made:
        yield made


def own() -> ClientConfig:
    return ClientConfig(verify=Verifier(TrustAnchors.from_pem(authority().cert_pem.bytes()), PrivatePolicy()))


def openssl() -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context


on_our_own = pytest.mark.parametrize("config", [pytest.param(own, id="own")])
on_both = pytest.mark.parametrize("config", [pytest.param(own, id="own"), pytest.param(openssl, id="ssl-1.3")])


async def tcp(port: int) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", port)


# -- the servers that people run -------------------------------------------------------------------------------


@pytest.mark.row("exim", "SMTP, by STARTTLS")
@pytest.mark.slow
@on_both
async def test_smtp_with_exim(place: Place, config: Callable[[], Any]) -> None:
    async with exim(place):
        await smtp.say_hello("localhost", place.port, config())
        async with await tcp(place.port) as plain, await smtp.start_tls(plain, "localhost", config()) as stream:
            await stream.send_all(b"HELP\r\n")
            assert b"214-Commands supported:" in await smtp.answer(stream, wanted=b"214")


@pytest.mark.row("dovecot", "IMAP, by STARTTLS")
@pytest.mark.slow
@on_both
async def test_imap_with_dovecot(place: Place, config: Callable[[], Any]) -> None:
    async with dovecot(place):
        async with await tcp(place.port) as plain, await imap.start_tls(plain, "localhost", config()) as stream:
            assert b"a3 OK" in await imap.command(stream, b"a3", b"NOOP")
            assert b"* BYE" in await imap.command(stream, b"a4", b"LOGOUT")


async def answers(stream: TLSStream[Any]) -> bytes:
    """Log in to PostgreSQL, leave, and all that it said."""
    await stream.send_all(postgres_message("user", "somebody", "database", "postgres") + b"X\x00\x00\x00\x04")
    said = b""
    async for part in stream:
        said += part
    await stream.aclose()
    return said


@pytest.mark.row("postgresql", "by SSLRequest")
@pytest.mark.slow
@on_both
async def test_postgresql_when_asked(place: Place, config: Callable[[], Any]) -> None:
    async with postgresql(place):
        async with await tcp(place.port) as plain:
            stream = await postgres.start_tls(plain, "localhost", config())
            assert b"server_version\x00" in await answers(stream)


@pytest.mark.row("postgresql", "directly, behind a server of ours")
@pytest.mark.slow
@on_our_own
async def test_postgresql_directly_through_a_server_of_ours_that_speaks_tls_for_it(
    place: Place, config: Callable[[], ClientConfig]
) -> None:
    """PostgreSQL 17 can do it by itself; here any version is behind a TLS server with the same ALPN protocol."""

    async def relay(secure: TLSStream[Any]) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", place.port) as plain:

            async def carry(source: Any, target: Any) -> None:
                async for part in source:
                    await target.send_all(part)
                await target.send_eof()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(carry, secure, plain)
                nursery.start_soon(carry, plain, secure)

    credential = credential_of(authority().issue_cert("localhost"))
    served = ServerConfig(credentials=credential, alpn_protocols=["postgresql"])
    async with postgresql(place), serving(relay, served) as port, await tcp(port) as plain:
        stream = await postgres.tls_at_once(plain, "localhost", config())
        assert b"server_version\x00" in await answers(stream)


@pytest.mark.row("redis", "with client certificates")
@pytest.mark.slow
@on_our_own
async def test_redis_with_client_certificates(place: Place, config: Callable[[], ClientConfig]) -> None:
    own_file = place.directory / "client.pem"
    own_file.write_bytes(client_certificate().private_key_and_cert_chain_pem.bytes())
    known = redis_recipe.config(str(place.ca), str(own_file))
    async with redis(place, client_certificates=True):
        assert await redis_recipe.ping("localhost", place.port, known) == b"+PONG"
        with pytest.raises(TLSError):
            await redis_recipe.ping("localhost", place.port, config())


@pytest.mark.row("redis", "goes on after a receive that is cancelled")
@pytest.mark.slow
@on_both
async def test_redis_keeps_what_it_is_given(place: Place, config: Callable[[], Any]) -> None:
    async with redis(place):
        stream = TLSStream(await trio.open_tcp_stream("localhost", place.port), config(), server_hostname="localhost")
        value = b"x" * 100_000  # more than one record
        assert await redis_recipe.call(stream, b"SET", b"key", value) == b"+OK"
        with trio.move_on_after(0):
            await stream.receive_some()
        assert await redis_recipe.call(stream, b"STRLEN", b"key") == b":100000"
        await stream.aclose()


# -- servers that do something else ----------------------------------------------------------------------------


@asynccontextmanager
async def serving(handler: Callable[[TLSStream[Any]], Awaitable[object]], config: Any) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(serve_tls_over_tcp, handler, 0, config, host="127.0.0.1"))
        yield listener.transport_listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def saying(*words: bytes) -> AsyncIterator[int]:
    """A server that says the next of these whenever it is asked, the first at once; its port."""

    async def serve(stream: trio.SocketStream) -> None:
        for number, word in enumerate(words):
            if number and not await stream.receive_some():
                return
            await stream.send_all(word)
        await stream.send_eof()
        async for _ in stream:
            pass

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
            yield listener.socket.getsockname()[1]
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "words",
    [
        (b"220 hello\r\n", b"250-STARTTLS\r\n250 OK\r\n", b"220 go\r\n250 injected\r\n"),
        (b"220 hello\r\n", b"250 OK\r\n"),
        (b"554 go away\r\n",),
        (b"",),
        (b"220 hello\r\n", b"250-STARTTLS\r\n250 OK\r\n", b"454 not now\r\n"),
        (b"no line end" * 10_000,),
    ],
)
async def test_smtp_that_goes_wrong_ends_before_tls(words: tuple[bytes, ...]) -> None:
    async with saying(*words) as port, await tcp(port) as plain:
        with pytest.raises(OSError, match="the server (said|offers|does not)"):
            await smtp.start_tls(plain, "localhost", own())


@pytest.mark.parametrize(
    "words",
    [
        (b"* OK hello\r\n", b"a1 OK go\r\na2 OK injected"),
        (b"* OK hello\r\n", b"a1 OK go\r\n* CAPABILITY IMAP4rev2\r\na2 OK injected\r\n"),
        (b"* OK hello\r\n", b"a1 NO go\r\n"),
        (b"* BYE\r\n",),
        (b"",),
        (b"no line end" * 10_000,),
    ],
)
async def test_imap_that_goes_wrong_ends_before_tls(words: tuple[bytes, ...]) -> None:
    async with saying(*words) as port, await tcp(port) as plain:
        with pytest.raises(OSError, match="the server (said|does not)"):
            await imap.start_tls(plain, "localhost", own())


async def test_the_answers_of_smtp_may_have_no_words() -> None:
    """RFC 5321 section 4.2: the text behind the code may be missing. What follows is not TLS, which is told as such."""
    async with saying(b"220\r\n", b"250-me\r\n250-STARTTLS\r\n250\r\n", b"220\r\n") as port, await tcp(port) as plain:
        with pytest.raises(TLSError):
            await smtp.start_tls(plain, "localhost", own())


async def test_postgresql_without_tls_is_told() -> None:
    async with saying(b"", b"N") as port, await tcp(port) as plain:
        with pytest.raises(OSError, match="the server has no TLS"):
            await postgres.start_tls(plain, "localhost", own())


@on_both
async def test_plain_text_behind_the_word_of_postgresql_is_no_tls(config: Callable[[], Any]) -> None:
    async with saying(b"", b"S" + b"E\x00\x00\x00\x04 injected") as port, await tcp(port) as plain:
        stream = await postgres.start_tls(plain, "localhost", config())
        with pytest.raises(PeerMisbehaved):
            await stream.do_handshake()


async def test_a_direct_connection_to_another_protocol_is_refused() -> None:
    async def nothing(stream: TLSStream[Any]) -> None:
        pass

    credential = credential_of(authority().issue_cert("localhost"))
    other = ServerConfig(credentials=credential, alpn_protocols=["h2"])
    async with serving(nothing, other) as port, await tcp(port) as plain:
        with pytest.raises(TLSError, match="ALPN"):
            await postgres.tls_at_once(plain, "localhost", own())
    async with serving(nothing, ServerConfig(credentials=credential)) as port, await tcp(port) as plain:
        with pytest.raises(OSError, match="this is no PostgreSQL"):
            await postgres.tls_at_once(plain, "localhost", own())


async def test_redis_that_hangs_up_is_told() -> None:
    async def nothing(stream: TLSStream[Any]) -> None:
        await stream.receive_some()

    async with serving(nothing, ServerConfig(credentials=credential_of(authority().issue_cert("localhost")))) as port:
        with pytest.raises(OSError, match="has closed the connection"):
            await redis_recipe.ping("localhost", port, own())
