"""How ciphertext crosses a Trio stream without losing count.

How this works. A transport is used through two halves: a `Sender` drains the machine's outgoing BIO, a
`Receiver` fills the incoming one. What a half may promise depends on the stream below it; there are five tiers.

==== ================================================= ================ ==================================
tier transport                                         module           a cancel inside a send
==== ================================================= ================ ==================================
1    ``trio.SocketStream``                             `.socket`        exact: every byte is counted
2    a `TLSStream`, or anything with ``send_some``     `.counted`       exact
3    ``trio.StapledStream`` of those                   `choose`         exact
4    any other stream, inside ``async with``           `.background`    nothing lost: the send goes on
5    any other stream, not entered                     `.inline`        handshake flights finish under a
                                                                        bounded shield; application data
                                                                        breaks the send side
==== ================================================= ================ ==================================

Receiving is cancel-safe on all of them, as far as the stream's own ``receive_some`` is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import trio

from .base import Receiver, Sender
from .counted import CountedReceiver, CountedSender, can_count
from .inline import InlineSender
from .socket import SocketReceiver, SocketSender, borrow
from .stream import StreamReceiver

if TYPE_CHECKING:
    from trio.abc import ReceiveStream, SendStream, Stream

__all__ = ["Receiver", "Sender", "choose"]


def choose(stream: Stream, *, grace: float) -> tuple[Sender, Receiver]:
    """The two halves for this stream, of the best tier that it allows without being entered.

    Args:
      stream: the transport.
      grace: seconds that a cancelled handshake flight may still take on tier 5.
    """
    if isinstance(stream, trio.StapledStream):
        return _sender(stream.send_stream, grace), _receiver(stream.receive_stream)
    borrowed = borrow(stream)
    if borrowed is not None:
        return SocketSender(borrowed), SocketReceiver(borrowed)
    return _sender(stream, grace), _receiver(stream)


def _sender(stream: SendStream, grace: float) -> Sender:
    borrowed = borrow(stream)
    if borrowed is not None:
        return SocketSender(borrowed)
    if can_count(stream):
        return CountedSender(stream)
    return InlineSender(stream, grace)


def _receiver(stream: ReceiveStream) -> Receiver:
    borrowed = borrow(stream)
    if borrowed is not None:
        borrowed.sent = True  # or not: that goes another way
        return SocketReceiver(borrowed)
    if can_count(stream):
        return CountedReceiver(cast("ReceiveStream", stream))
    return StreamReceiver(stream)
