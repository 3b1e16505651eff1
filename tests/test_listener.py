"""TLSListener: connections become TLSStreams, and a mistake shows before the first client."""

from __future__ import annotations

import ssl
from typing import TypeAlias

import pytest
import trio
import trio.testing

from trio_tls import TLSListener, TLSStream

from .peers import speaking
from .support import HOST, Machines, client_config, client_context, server_context

MemoryStream: TypeAlias = "trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]"


class OneConnection(trio.abc.Listener["MemoryStream"]):
    """Accepts one connection in memory, whose other end is ``client``."""

    def __init__(self) -> None:
        self.client, self.server = trio.testing.memory_stream_pair()
        self.closed = False

    async def accept(self) -> MemoryStream:
        await trio.lowlevel.checkpoint()
        return self.server

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


async def test_accepted_connections_are_servers_of_the_listeners_configuration(machines: Machines) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with TLSListener(listeners[0], machines.server) as listener:
        transport = await trio.testing.open_stream_to_socket_listener(listeners[0])
        accepted = await listener.accept()
        client = TLSStream(transport, machines.client, server_hostname=HOST)
        async with accepted, client:
            assert accepted.server_side
            async with trio.open_nursery() as nursery:
                nursery.start_soon(accepted.do_handshake)
                nursery.start_soon(client.do_handshake)
            assert accepted.version() == client.version() == machines.version


async def test_accept_waits_for_no_handshake() -> None:
    listener = TLSListener(OneConnection(), server_context())
    with trio.fail_after(5):
        stream = await listener.accept()
    assert stream.info is None
    await trio.aclose_forcefully(stream)


async def test_https_compatibility_is_passed_on(machines: Machines) -> None:
    transport_listener = OneConnection()
    listener = TLSListener(transport_listener, machines.server, https_compatible=True)
    client = TLSStream(transport_listener.client, machines.client, server_hostname=HOST, https_compatible=True)
    server = await listener.accept()
    async with server, client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.do_handshake)
            nursery.start_soon(client.do_handshake)
        await transport_listener.client.aclose()
        assert await server.receive_some() == b""


async def test_a_new_configuration_is_for_the_connections_to_come(machines: Machines) -> None:
    new = speaking(machines, client=["new"], server=["new"])
    (tcp_listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    agreed: list[str | None] = []
    async with TLSListener(tcp_listener, machines.server) as listener:
        for _ in range(2):
            transport = await trio.testing.open_stream_to_socket_listener(tcp_listener)
            server = await listener.accept()
            listener.config = new.server  # the connection above keeps the old one
            client = TLSStream(transport, new.client, server_hostname=HOST)
            async with server, client:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(server.do_handshake)
                    nursery.start_soon(client.do_handshake)
                agreed.append(client.selected_alpn_protocol())
    assert agreed == [None, "new"]


async def test_a_clients_context_is_refused_before_the_first_connection() -> None:
    with pytest.raises(ValueError, match="server_side=True"):
        TLSListener(OneConnection(), client_context())
    with pytest.raises(ValueError, match="a ClientConfig cannot serve"):
        TLSListener(OneConnection(), client_config())


async def test_a_refused_new_configuration_leaves_the_old_one() -> None:
    context = server_context()
    listener = TLSListener(OneConnection(), context)
    with pytest.raises(ValueError, match="server_side=True"):
        listener.config = client_context()
    assert listener.config is context


async def test_exactly_one_configuration_is_needed() -> None:
    context = server_context()
    with pytest.raises(TypeError, match="one configuration"):
        TLSListener(OneConnection())
    with pytest.raises(TypeError, match="one configuration"):
        TLSListener(OneConnection(), context, ssl_context=context)
    assert TLSListener(OneConnection(), ssl_context=context).config is context


async def test_a_connection_that_cannot_be_wrapped_is_closed() -> None:
    transport_listener = OneConnection()
    context = server_context()
    listener = TLSListener(transport_listener, context)

    class Broken:
        def create_machine(self, *, server_side: bool, server_hostname: str | None, session: object) -> None:
            if broken:
                raise ValueError("no machine today")

    broken = False
    listener.config = Broken()  # type: ignore[assignment]
    broken = True
    with pytest.raises(ValueError, match="no machine today"):
        await listener.accept()
    assert await transport_listener.client.receive_some() == b""


async def test_closing_closes_the_wrapped_listener() -> None:
    transport_listener = OneConnection()
    await TLSListener(transport_listener, server_context()).aclose()
    assert transport_listener.closed


async def test_an_ssl_context_is_a_configuration_and_a_string_is_none() -> None:
    assert isinstance(TLSListener(OneConnection(), server_context()).config, ssl.SSLContext)
    with pytest.raises(TypeError, match=r"must be an ssl\.SSLContext"):
        TLSListener(OneConnection(), "server.pem")  # type: ignore[arg-type]
