"""SMTP: ask for TLS, and begin anew inside of it (RFC 3207)."""

import re
import ssl

import trio

from trio_tls import ClientConfig, TLSStream

LAST_LINE = re.compile(rb"^\d{3}( .*)?\r\n", re.MULTILINE)


async def answer(stream: trio.abc.Stream, *, wanted: bytes) -> bytes:
    """One answer of the server, and nothing behind it."""
    data = bytearray()
    while not (last := LAST_LINE.search(data)):
        part = await stream.receive_some()
        if not part or len(data) > 65536:
            raise OSError("the server does not speak SMTP")
        data += part
    if last.end() < len(data):
        # Whoever injects plain text here wants it to be taken for the
        # server's encrypted words (CVE-2011-0411).
        raise OSError("the server said more than it was asked")
    if not last[0].startswith(wanted):
        raise OSError(f"the server said {last[0].decode()!r}")
    return bytes(data)


async def start_tls(
    plain: trio.SocketStream, host: str, config: ClientConfig | ssl.SSLContext
) -> TLSStream[trio.SocketStream]:
    await answer(plain, wanted=b"220")
    await plain.send_all(b"EHLO me.example.org\r\n")
    if b"STARTTLS" not in await answer(plain, wanted=b"250"):
        raise OSError("the server offers no TLS")
    await plain.send_all(b"STARTTLS\r\n")
    await answer(plain, wanted=b"220")

    secure = TLSStream(plain, config, server_hostname=host)
    # What was said before is forgotten: anybody may have said it.
    await secure.send_all(b"EHLO me.example.org\r\n")
    await answer(secure, wanted=b"250")
    return secure


async def say_hello(
    host: str, port: int, config: ClientConfig | ssl.SSLContext
) -> None:
    async with (
        await trio.open_tcp_stream(host, port) as plain,
        await start_tls(plain, host, config) as stream,
    ):
        await stream.send_all(b"QUIT\r\n")
        await answer(stream, wanted=b"221")
