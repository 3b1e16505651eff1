"""A login that is worth nothing on another connection."""

import hmac
from typing import Any

from trio_tls import TLSStream


def proof(stream: TLSStream[Any], password: bytes) -> bytes:
    # Whoever is in between has two connections, and two different values.
    binding = stream.get_channel_binding("tls-exporter")
    assert binding is not None
    return hmac.digest(password, binding, "sha256")


async def log_in(stream: TLSStream[Any], password: bytes) -> None:
    await stream.do_handshake()
    await stream.send_all(proof(stream, password))


async def admit(stream: TLSStream[Any], password: bytes) -> bool:
    await stream.do_handshake()
    received = b""
    while len(received) < 32:
        data = await stream.receive_some(32 - len(received))
        if not data:
            return False
        received += data
    return hmac.compare_digest(received, proof(stream, password))
