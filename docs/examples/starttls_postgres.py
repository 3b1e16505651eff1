"""PostgreSQL: a request of eight bytes, or TLS from the start."""

import ssl

import trio

from trio_tls import ClientConfig, TLSStream

SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")


async def start_tls(
    plain: trio.SocketStream, host: str, config: ClientConfig | ssl.SSLContext
) -> TLSStream[trio.SocketStream]:
    """Any version: ask in plain text."""
    await plain.send_all(SSL_REQUEST)
    # One byte, and no more: what comes behind it belongs to TLS, which
    # refuses what somebody may have put there (CVE-2021-23222).
    if await plain.receive_some(1) != b"S":
        raise OSError("the server has no TLS")
    return TLSStream(plain, config, server_hostname=host)


async def tls_at_once(
    plain: trio.SocketStream, host: str, config: ClientConfig
) -> TLSStream[trio.SocketStream]:
    """From version 17 on: no word in plain text, one round trip less."""
    config = config.replace(alpn_protocols=["postgresql"])
    stream = TLSStream(plain, config, server_hostname=host)
    await stream.do_handshake()
    if stream.selected_alpn_protocol() != "postgresql":
        raise OSError("this is no PostgreSQL")  # else another could answer
    return stream
