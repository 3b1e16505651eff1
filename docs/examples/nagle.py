"""Many small messages one way: let TCP gather them, and then again not."""

import ssl

from trio_tls import (
    ClientConfig,
    open_tls_over_tcp_stream,
    set_tcp_nodelay,
)


async def report(
    host: str,
    port: int,
    config: ssl.SSLContext | ClientConfig,
    lines: list[bytes],
) -> bytes:
    # TCP_NODELAY for the handshake, which waits for answers; not behind it
    async with await open_tls_over_tcp_stream(
        host, port, config, tcp_nodelay="handshake"
    ) as stream:
        for line in lines:
            await stream.send_all(line)
        set_tcp_nodelay(stream, True)  # from here on it is question and answer
        await stream.send_all(b"END\n")
        return await stream.receive_some()
