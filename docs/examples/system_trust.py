"""The operating system decides which servers to trust."""

import ssl

import trio
import truststore

from trio_tls import TLSStream, open_tls_over_tcp_stream


async def connect(host: str, port: int) -> TLSStream[trio.SocketStream]:
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return await open_tls_over_tcp_stream(host, port, context)
