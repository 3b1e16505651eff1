"""A test: cancel a protocol at each of its steps, and go on each time."""

import trio
import trio.testing

from trio_tls import ClientConfig, ServerConfig, TLSStream
from trio_tls.testing import CancelMode, Interrupter, sweep


async def survives_every_cancel(
    client_config: ClientConfig, server_config: ServerConfig
) -> int:
    async def scenario(interrupter: Interrupter) -> None:
        a, b = trio.testing.memory_stream_pair()
        client = TLSStream(a, client_config, server_hostname="localhost")
        server = TLSStream(b, server_config)

        async def answer() -> None:
            async with server:
                await server.send_all(b"hello")

        async with client, trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            assert await interrupter.call(client.receive_some) == b"hello"

    report = await sweep(scenario, CancelMode.BLOCKED)
    return report.cancelled
