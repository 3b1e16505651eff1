"""Two ways to go on with a send that was cancelled."""

from typing import Any

import trio

from trio_tls import TLSStream


async def by_sender(stream: TLSStream[Any], data: bytes) -> None:
    sender = stream.sender(data)  # it keeps its own position
    while True:
        with trio.move_on_after(5):
            await sender.send()
            break


async def by_hand(stream: TLSStream[Any], data: bytes) -> None:
    rest = data
    while rest:
        before = stream.plaintext_sent
        with trio.move_on_after(5):
            await stream.send_all(rest)
        rest = rest[stream.plaintext_sent - before :]
    await stream.flush()  # the last bytes may be accepted, and not yet sent
