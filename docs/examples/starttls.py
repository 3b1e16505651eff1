"""Plain text, then TLS, then plain text again, on one connection."""

import ssl

import trio

from trio_tls import TLSStream


async def client(
    plain: trio.SocketStream, context: ssl.SSLContext, hostname: str
) -> bytes:
    await plain.send_all(b"STARTTLS\n")
    ready = b""
    while b"\n" not in ready:
        ready += await plain.receive_some()
    # What came behind the line belongs to TLS.
    _, _, early = ready.partition(b"\n")

    secure = TLSStream(
        plain, context, server_hostname=hostname, initial_data=early
    )
    await secure.send_all(b"secret")
    # After a cancel: call it again.
    plain_again, trailing = await secure.unwrap()
    while not trailing:
        trailing = bytes(await plain_again.receive_some())
    return trailing
