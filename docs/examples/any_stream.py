"""TLS over a stream that the library knows nothing of."""

import ssl

import trio

from trio_tls import TLSStream


async def request(
    transport: trio.abc.Stream,
    context: ssl.SSLContext,
    hostname: str,
    data: bytes,
) -> bytes:
    async with TLSStream(
        transport, context, server_hostname=hostname
    ) as stream:
        sender = stream.sender(data)
        while sender.remaining:
            with trio.move_on_after(0.5):
                await sender.send()
        return await stream.receive_some()
