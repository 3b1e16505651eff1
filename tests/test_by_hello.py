"""ConfigByHello and ConfigsByName: the ClientHello decides who serves, over both machines.

That the answer may be cancelled at any step is shown with the other questions, in
`tests.cancellation.test_needs_of_tls13`.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from functools import cache, partial
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing
import trustme
from cryptography import x509

from trio_tls import (
    Alert,
    AlertReceived,
    ConfigByHello,
    ConfigsByName,
    HandshakeInThread,
    NeedServerConfig,
    NoSharedParameters,
    PeerMisbehaved,
    ServerConfig,
    TLSError,
    TLSListener,
    TLSStream,
    UnexpectedEOF,
    serve_tls,
)
from trio_tls.names import names_of

from .peers import Config, speaking, trusting_client
from .support import (
    HOST,
    Machines,
    authority,
    client_config,
    client_context,
    credential_of,
    exchange,
    pattern,
    server_config,
    server_context,
    tls_pair,
)


@cache
def certificate_for(*names: str) -> trustme.LeafCert:
    return authority().issue_cert(*names)


def serving(machines: Machines, *names: str) -> Config:
    """A server's configuration with a certificate of its own."""
    if machines.is_own("server"):
        return ServerConfig(credentials=credential_of(certificate_for(*names)))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate_for(*names).configure_cert(context)
    context.minimum_version = context.maximum_version = machines.server.minimum_version
    return context


async def handshake(client_transport: Any, machines: Machines, config: Any, name: str | None) -> Any:
    """The client's and the server's stream after a handshake, or what it failed with."""
    client_side, server_side = client_transport
    client_configuration = machines.client if name else trusting_client(machines)
    client = TLSStream(client_side, client_configuration, server_hostname=name)
    server = TLSStream(server_side, config, server_side=True)
    outcome: dict[str, TLSStream[Any] | TLSError] = {}

    async def run(who: str, stream: TLSStream[Any]) -> None:
        try:
            await stream.do_handshake()
            outcome[who] = stream
        except TLSError as error:
            outcome[who] = error

    with trio.fail_after(10):
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(run, "client", client)
            nursery.start_soon(run, "server", server)
    return outcome["client"], outcome["server"]


async def shown_to(machines: Machines, config: Any, name: str | None) -> str:
    """The first name of the certificate that a client is shown who asks for ``name``; or the alert."""
    client, server = await handshake(trio.testing.memory_stream_pair(), machines, config, name)
    if isinstance(client, TLSError):
        assert isinstance(server, TLSError) and not server.sent_by_peer and client.sent_by_peer
        assert server.alert == client.alert is not None
        return client.alert.name
    assert server.info is not None
    assert server.info.server_name == name
    der = client.getpeercert(binary_form=True)
    assert der is not None
    return names_of(x509.load_der_x509_certificate(der))[0]


# -- the table ---------------------------------------------------------------------------------------------------


@pytest.mark.across
async def test_a_client_is_served_by_the_very_name_then_by_a_wildcard_then_by_the_default(machines: Machines) -> None:
    config = ConfigsByName(
        {
            "a.example.org": serving(machines, "a.example.org"),
            "*.example.org": serving(machines, "*.example.org"),
            "B\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example": serving(machines, "xn--bcher-kva.example"),
        },
        default=serving(machines, "default.example", HOST, "a.b.example.org"),
    )
    assert await shown_to(machines, config, "a.example.org") == "a.example.org"
    assert await shown_to(machines, config, "b.example.org") == "*.example.org"
    assert await shown_to(machines, config, "xn--bcher-kva.example") == "xn--bcher-kva.example"
    assert await shown_to(machines, config, "a.b.example.org") == "default.example", "a wildcard is for one label"
    assert await shown_to(machines, config, None) == "default.example"


@pytest.mark.across
async def test_without_a_default_strangers_get_unrecognized_name(machines: Machines) -> None:
    config = ConfigsByName({"*.example.com": serving(machines, "*.example.com")})
    assert await shown_to(machines, config, HOST) == "unrecognized_name"
    assert await shown_to(machines, config, None) == "unrecognized_name"


async def test_one_table_serves_with_both_machines_and_in_all_versions() -> None:
    old, new = (
        Machines("", client_context(version), None, "") for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    )
    table = ConfigsByName({"a.example.org": server_config(), HOST: server_context()})
    _, server = await handshake(trio.testing.memory_stream_pair(), old, table, HOST)
    assert server.info.version == "TLSv1.2"
    _, server = await handshake(trio.testing.memory_stream_pair(), new, table, HOST)
    assert (server.info.version, server.info.group) == ("TLSv1.3", None)
    assert server.context is not None and server.cipher() is not None
    table = ConfigsByName({HOST: server_config(), "a.example.org": server_context()})
    client, server = await handshake(trio.testing.memory_stream_pair(), new, table, HOST)
    assert server.info.group is not None
    with pytest.raises(AttributeError, match="does not run on an ssl"):
        _ = server.context
    client, server = await handshake(trio.testing.memory_stream_pair(), old, table, HOST)
    assert server.alert is Alert.protocol_version
    assert client.alert is Alert.protocol_version


def test_a_table_that_cannot_serve_is_refused_at_once() -> None:
    context = server_context()
    with pytest.raises(ValueError, match="no name in the table"):
        ConfigsByName({}, default=context)
    with pytest.raises(ValueError, match=r"'under_score\.example' is no name that a client could ask for"):
        ConfigsByName({"under_score.example": context})
    with pytest.raises(ValueError, match=r"'\*' is no name"):
        ConfigsByName({"*": context})
    with pytest.raises(ValueError, match=r"'' is no name"):
        ConfigsByName({"": context})
    with pytest.raises(ValueError, match="configuration for 'x.example' cannot be used: this SSLContext"):
        ConfigsByName({"x.example": client_context()})
    with pytest.raises(ValueError, match="default configuration cannot be used: a ClientConfig cannot serve"):
        ConfigsByName({"x.example": context}, default=client_config())
    with pytest.raises(TypeError, match=r"'x\.example' cannot be used: the configuration must be an ssl"):
        ConfigsByName({"x.example": "server.pem"})  # type: ignore[dict-item]
    table = ConfigsByName({"x.example": context})
    with pytest.raises(ValueError, match="choose by the ClientHello once more"):
        ConfigsByName({"x.example": table})
    assert repr(table) == "<ConfigsByName for 'x.example', default=None>"


def test_it_is_a_servers_configuration() -> None:
    async def choose(need: NeedServerConfig) -> None:
        return None

    client, server = trio.testing.memory_stream_pair()
    config = ConfigByHello(choose)
    with pytest.raises(ValueError, match="is for servers; pass server_side=True"):
        TLSStream(client, config, server_hostname=HOST)
    with pytest.raises(ValueError, match="server_hostname is for clients"):
        TLSStream(server, config, server_side=True, server_hostname=HOST)
    with pytest.raises(ValueError, match="session is for clients"):
        TLSStream(server, config, server_side=True, session=object())  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="must be a function of a NeedServerConfig, not SSLContext"):
        ConfigByHello(server_context())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_bytes must be at least 5"):
        ConfigByHello(choose, max_bytes=4)


# -- the function ------------------------------------------------------------------------------------------------


@pytest.mark.across
async def test_an_async_function_sees_what_the_client_offers_once_for_each_connection(machines: Machines) -> None:
    both = speaking(machines, client=["x", "h2", "http/1.1"], server=["http/1.1", "h2"])
    needs: list[NeedServerConfig] = []

    async def choose(need: NeedServerConfig) -> Any:
        needs.append(need)
        await trio.lowlevel.checkpoint()
        return both.server

    for _ in range(2):
        async with tls_pair(Machines("", both.client, ConfigByHello(choose), ""), "4-memory") as (client, server):
            there, back = pattern(100_000), pattern(70_000, seed=3)
            assert await exchange(client, server, there, back) == (there, back)
            assert client.selected_alpn_protocol() == "http/1.1", "by the server's preference"
            assert server.info is not None
            assert server.info.server_name == HOST
            await server.wait_send_all_might_not_block()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.send_eof)
                assert await client.receive_some() == b""
            await client.send_eof()
            assert await server.receive_some() == b""
    assert len(needs) == 2
    assert needs[0].hello.server_name == HOST
    assert needs[0].hello.alpn_protocols == (b"x", b"h2", b"http/1.1")


async def test_a_hello_that_comes_byte_by_byte_is_read_whole(machines: Machines) -> None:
    config = ConfigByHello(lambda need: machines.server)
    client_transport, server_transport = trio.testing.memory_stream_pair()
    client = TLSStream(client_transport, machines.client, server_hostname=HOST)

    class Trickle(trio.abc.Stream):
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            return bytes(await server_transport.receive_some(1))

        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            await server_transport.send_all(data)

        async def wait_send_all_might_not_block(self) -> None:
            await server_transport.wait_send_all_might_not_block()

        async def aclose(self) -> None:
            await server_transport.aclose()

    server = TLSStream(Trickle(), config, server_side=True)
    async with client, server:
        assert await exchange(client, server, b"to", b"fro") == (b"to", b"fro")


async def test_initial_data_is_part_of_the_hello(machines: Machines) -> None:
    client_side, server_side = trio.testing.memory_stream_pair()
    client = TLSStream(client_side, machines.client, server_hostname=HOST)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        first = await server_side.receive_some()
        config = ConfigsByName({HOST: machines.server})
        server = TLSStream(server_side, config, server_side=True, initial_data=first)
        nursery.start_soon(server.do_handshake)
    assert server.info is not None and server.info.server_name == HOST
    if machines.is_own("server"):
        await server.update_keys()
        assert len(server.export_keying_material("EXPORTER-x")) == 32
    else:
        with pytest.raises(ValueError, match="ssl cannot update keys"):
            await server.update_keys()
        with pytest.raises(ValueError, match="ssl cannot export"):
            server.export_keying_material("EXPORTER-x")
        assert isinstance(server.session, ssl.SSLSession)
    for end in (client, server):
        await trio.aclose_forcefully(end)


async def test_a_context_that_blocks_and_one_in_a_thread_may_be_chosen() -> None:
    config = ConfigByHello(lambda need: HandshakeInThread(server_context()))
    async with tls_pair(Machines("", client_config(), config, "")) as (client, server):
        assert await exchange(client, server, b"to", b"fro") == (b"to", b"fro")
        assert isinstance(server.context, ssl.SSLContext)


def returning(answer: object) -> Callable[[NeedServerConfig], Any]:
    return lambda need: answer


def failing(error: Exception, *, at_once: bool) -> Callable[[NeedServerConfig], Any]:
    async def choose(need: NeedServerConfig) -> None:
        raise error

    def choose_at_once(need: NeedServerConfig) -> Awaitable[None]:
        raise error

    return choose_at_once if at_once else choose


@pytest.mark.parametrize(
    ("choose", "alert", "text"),
    [
        (returning(None), Alert.unrecognized_name, "a name that nobody serves here"),
        (returning("x.pem"), Alert.internal_error, "cannot be used: the configuration must be an ssl.SSLContext"),
        (returning(client_context()), Alert.internal_error, "cannot be used: this SSLContext"),
        (returning(ConfigByHello(returning(None))), Alert.internal_error, "cannot take over a connection"),
        (failing(LookupError("no such site"), at_once=False), Alert.internal_error, "no such site"),
        (failing(LookupError("no such site"), at_once=True), Alert.internal_error, "no such site"),
        (
            failing(NoSharedParameters("no", alert=Alert.handshake_failure), at_once=False),
            Alert.handshake_failure,
            "no",
        ),
    ],
)
async def test_what_the_function_does_wrong_is_told_both_ends(
    choose: Callable[[NeedServerConfig], Any], alert: Alert, text: str
) -> None:
    streams = trio.testing.memory_stream_pair()
    machines = Machines("", client_context(), None, "")
    client, server = await handshake(streams, machines, ConfigByHello(choose), HOST)
    assert isinstance(client, AlertReceived) and client.alert is alert
    assert isinstance(server, TLSError) and server.alert is alert and not server.sent_by_peer
    assert text in str(server)


async def test_ctrl_c_in_the_function_comes_out_and_ends_the_handshake() -> None:
    def choose(need: NeedServerConfig) -> ssl.SSLContext:
        raise KeyboardInterrupt

    client_side, server_side = trio.testing.memory_stream_pair()
    client = TLSStream(client_side, client_context(), server_hostname=HOST)
    server = TLSStream(server_side, ConfigByHello(choose), server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        with pytest.raises(KeyboardInterrupt):
            await server.do_handshake()
        with pytest.raises(TLSError, match="interrupted"):
            await server.do_handshake()
        nursery.cancel_scope.cancel()


# -- clients that are none ---------------------------------------------------------------------------------------


async def served(data: bytes, *, eof: bool = False, max_bytes: int = 2000) -> tuple[TLSError, bytes]:
    """The error of a server whose client sends this, and what it answers."""
    client, server_side = trio.testing.memory_stream_pair()
    config = ConfigByHello(returning(server_context()), max_bytes=max_bytes)
    server = TLSStream(server_side, config, server_side=True)
    await client.send_all(data)
    if eof:
        await client.send_eof()
    with trio.fail_after(5), pytest.raises(TLSError) as caught:
        await server.do_handshake()
    with pytest.raises(type(caught.value)):
        await server.receive_some()
    with pytest.raises(type(caught.value)):
        await server.send_all(b"x")
    await server.aclose()
    answer = b""
    while part := await client.receive_some():
        answer += part
    return caught.value, answer


def alert(number: Alert) -> bytes:
    return bytes((21, 3, 3, 0, 2, 2, number))


async def test_plain_http_is_told_as_what_it_is() -> None:
    error, answer = await served(b"GET / HTTP/1.1\r\n\r\n")
    assert isinstance(error, PeerMisbehaved)
    assert str(error).startswith("the peer does not speak TLS but HTTP")
    assert answer == alert(Alert.unexpected_message)
    assert isinstance(error.__cause__, ssl.SSLError)


async def test_a_malformed_hello_gets_its_alert() -> None:
    error, answer = await served(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00")
    assert isinstance(error, PeerMisbehaved)
    assert answer == alert(Alert.decode_error)
    error, answer = await served(b"\x16\x03\x01\x7f\xff")
    assert answer == alert(Alert.record_overflow)
    error, answer = await served(b"\x16\x03\x01\x40\x00\x01\x00\x30\x00")
    assert answer == alert(Alert.decode_error)
    assert "longer than 2000 bytes" in str(error)


async def test_an_end_before_the_hello_is_an_unexpected_end() -> None:
    error, answer = await served(b"", eof=True)
    assert isinstance(error, UnexpectedEOF)
    assert answer == b""
    error, answer = await served(b"\x16\x03\x01", eof=True)
    assert isinstance(error, UnexpectedEOF)
    assert "in the middle of its ClientHello" in str(error)
    assert answer == b""


async def test_a_client_that_leaves_behind_its_hello_is_an_unexpected_end(machines: Machines) -> None:
    client_side, server_side = trio.testing.memory_stream_pair()
    client = TLSStream(client_side, machines.client, server_hostname=HOST)
    with trio.move_on_after(0.01):
        await client.do_handshake()
    await client_side.send_eof()
    server = TLSStream(server_side, ConfigsByName({HOST: machines.server}), server_side=True)
    with trio.fail_after(5), pytest.raises(UnexpectedEOF):
        await server.do_handshake()


async def test_closing_before_the_choice_sends_nothing() -> None:
    client, server_side = trio.testing.memory_stream_pair()
    server = TLSStream(server_side, ConfigByHello(returning(None)), server_side=True)
    assert server.info is None and server.session is None and server.pending() == 0
    await server.aclose()
    assert await client.receive_some() == b""


# -- over sockets ------------------------------------------------------------------------------------------------


async def test_a_listener_serves_by_name(machines: Machines) -> None:
    (tcp_listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = tcp_listener.socket.getsockname()[1]
    listener = TLSListener(tcp_listener, ConfigsByName({HOST: machines.server}))
    names: list[str | None] = []
    failures: list[Alert | None] = []

    async def handler(stream: TLSStream[trio.SocketStream]) -> None:
        assert stream.info is not None
        names.append(stream.info.server_name)
        await stream.send_all(b"served")

    def failed(error: Exception, stream: TLSStream[trio.SocketStream]) -> None:
        assert isinstance(error, TLSError)
        failures.append(error.alert)

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_tls, handler, [listener], on_handshake_error=failed))
        for name in (HOST, "other.example.org"):
            tcp = await trio.open_tcp_stream("127.0.0.1", port)
            async with TLSStream(tcp, machines.client, server_hostname=name) as client:
                if name == HOST:
                    assert await client.receive_some() == b"served"
                else:
                    with pytest.raises(AlertReceived, match="unrecognized_name"):
                        await client.receive_some()
        nursery.cancel_scope.cancel()
    assert names == [HOST]
    assert failures == [Alert.unrecognized_name]
