"""Redis: TLS from the start, mostly with client certificates."""

import trio

from trio_tls import (
    ClientConfig,
    Credential,
    PrivatePolicy,
    TLSStream,
    TrustAnchors,
    Verifier,
    open_tls_over_tcp_stream,
)


def config(ca_file: str, certificate_file: str) -> ClientConfig:
    anchors = TrustAnchors.from_files(ca_file)
    return ClientConfig(
        verify=Verifier(anchors, PrivatePolicy()),
        credentials=Credential.from_files(certificate_file),
    )


async def call(stream: TLSStream[trio.SocketStream], *words: bytes) -> bytes:
    """One command; its answer, if that is one line."""
    lines = [b"*%d" % len(words)]
    for word in words:
        lines += [b"$%d" % len(word), word]
    await stream.send_all(b"\r\n".join(lines) + b"\r\n")
    data = bytearray()
    while not data.endswith(b"\r\n"):
        part = await stream.receive_some()
        if not part:
            raise OSError("the server has closed the connection")
        data += part
    return bytes(data[:-2])


async def ping(host: str, port: int, config: ClientConfig) -> bytes:
    async with await open_tls_over_tcp_stream(host, port, config) as stream:
        return await call(stream, b"PING")
