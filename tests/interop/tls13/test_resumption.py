"""Sessions: ours resumed at their servers, and theirs at ours."""

from __future__ import annotations

import trio

from trio_tls import CipherSuiteNumber, ClientConfig, NamedGroup, ServerConfig, TLSStream, TransportError

from ...support import HOST
from .identities import Files
from .matrix import Cell, cells
from .peer import Peer, Setup, Trace, client_config, server_config


@cells("resumption")
async def test_a_session_is_resumed(cell: Cell, files: Files) -> None:
    cell.peer.require()
    if cell.role == "server":
        assert await resumed_by_us(cell.peer, Setup(files), client_config()) == [False, True]
    else:
        assert await resumed_by(cell.peer, Setup(files), server_config()) == [False, True]


@cells("resumption after a hello retry request")
async def test_a_session_is_resumed_by_a_second_client_hello(cell: Cell, files: Files) -> None:
    cell.peer.require()
    trace, wanted = Trace(), NamedGroup.secp384r1
    if cell.role == "server":
        config = client_config(groups=[NamedGroup.x25519, wanted], key_shares=[NamedGroup.x25519], tracer=trace)
        assert await resumed_by_us(cell.peer, Setup(files, group=wanted), config) == [False, True]
    else:
        # SHA-384: not what a client's first hello would be hashed with by default.
        suites = [CipherSuiteNumber.TLS_AES_256_GCM_SHA384]
        config_of_server = server_config(groups=[wanted], cipher_suites=suites, tracer=trace)
        assert await resumed_by(cell.peer, Setup(files), config_of_server) == [False, True]
    assert trace.count("client_hello") == 4


async def resumed_by_us(peer: Peer, setup: Setup, config: ClientConfig) -> list[bool]:
    """Connect twice; whether a session was resumed."""
    reused = []
    async with peer.server(setup) as listening:
        for _ in range(2):
            async with (
                listening.connection() as (transport, theirs),
                TLSStream(transport, config, server_hostname=HOST) as ours,
            ):
                await theirs.exchange(ours, b"0123456789 there and back\n")
                assert ours.info is not None and len(ours.info.verified_chain) == 2
                reused.append(ours.info.session_reused)
                if "server" not in peer.talks_once:
                    await ours.send_eof()
                    await theirs.saw_end()
    return reused


async def resumed_by(peer: Peer, setup: Setup, config: ServerConfig) -> list[bool]:
    """Serve two connections; whether a session was resumed."""
    reused: list[bool] = []
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def serve() -> None:
        while True:
            transport = await listener.accept()
            async with TLSStream(transport, config, server_side=True, require_close_notify=False) as ours:
                await ours.do_handshake()
                assert ours.info is not None
                reused.append(ours.info.session_reused)
                try:
                    await ours.send_all(b"greeting\n")
                    await ours.send_eof()
                    while await ours.receive_some():
                        pass
                except TransportError:
                    pass  # gnutls-cli closes the socket as soon as it has its ticket

    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await peer.visit_twice(setup, listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()
    return reused
