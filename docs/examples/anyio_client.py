"""TLS over any stream of anyio's."""

import ssl

import anyio
from anyio.streams.tls import TLSAttribute

from trio_tls.anyio import AnyIOTLSStream


async def request(
    host: str, port: int, context: ssl.SSLContext, hostname: str
) -> tuple[str, bytes]:
    tcp = await anyio.connect_tcp(host, port)
    async with AnyIOTLSStream(tcp, context, hostname=hostname) as stream:
        while True:
            with anyio.move_on_after(0.5):
                await stream.do_handshake()
                break
            print("slow; the same handshake goes on")
        await stream.send(b"hello")
        version = stream.extra(TLSAttribute.tls_version)  # noqa: S610
        return version, await stream.receive()
