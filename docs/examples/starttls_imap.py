"""IMAP: ask for TLS before the login (RFC 9051 section 6.2.1)."""

import re
import ssl

import trio

from trio_tls import ClientConfig, TLSStream


async def command(stream: trio.abc.Stream, tag: bytes, words: bytes) -> bytes:
    """Send a command; the server's answer, which has to be OK."""
    if words:
        await stream.send_all(tag + b" " + words + b"\r\n")
    last_line = re.compile(rb"^%s .*\r\n" % re.escape(tag), re.MULTILINE)
    data = bytearray()
    while not (last := last_line.search(data)):
        part = await stream.receive_some()
        if not part or len(data) > 65536:
            raise OSError("the server does not speak IMAP")
        data += part
    # What is behind the last line in plain text may be anybody's.
    if not last[0].startswith(tag + b" OK") or last.end() < len(data):
        raise OSError(f"the server said {bytes(data)!r}")
    return bytes(data)


async def start_tls(
    plain: trio.SocketStream, host: str, config: ClientConfig | ssl.SSLContext
) -> TLSStream[trio.SocketStream]:
    await command(plain, b"*", b"")  # its greeting: "* OK ..."
    await command(plain, b"a1", b"STARTTLS")

    secure = TLSStream(plain, config, server_hostname=host)
    # What it can do has to be asked again: before, anybody may have answered.
    await command(secure, b"a2", b"CAPABILITY")
    return secure
