"""The model that a connection is held against: two queues of bytes, and a few flags.

How this works. An `End` knows what its stream has accepted and what its stream has given out, and which of the events
that may fail an operation have happened: that it was closed or half-closed, that another task was at it, that the
connection was ended from either side. `End.may_raise` is the manual's list of errors ("Errors, and what to do") as a
function of these flags. The model knows nothing of TLS, records, keys, or transports but their tier.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from trio_tls import (
    AlertReceived,
    HandshakeClosed,
    NeedHandshakeError,
    TLSError,
    TransportError,
    UnexpectedEOF,
    UnreadDataError,
)

__all__ = ["End", "Link", "Traits", "Violation"]

#: Unread bytes beyond which `trio_tls.TLSStream.unwrap` may refuse to go on.
UNREAD_LIMIT = 2**20

#: How a connection may end for a peer that is sound. A misbehaviour or a refusal is never among them.
HONEST_ENDS = (UnexpectedEOF, TransportError, HandshakeClosed, AlertReceived)


class Violation(AssertionError):
    """The stream has done what its manual does not promise."""


@dataclass(frozen=True)
class Traits:
    """What the model has to know of an operation.

    Attributes:
      sends, receives: which of the two sides it uses; no two operations may use one side at a time.
      shakes_hands: whether it does the handshake if that is not done.
      ends: ``"half"`` if nothing can be sent after it, ``"whole"`` if nothing at all.
      repeats: whether it calls several times, so that another may come between.
      nowait: whether it is a synchronous method, which raises instead of waiting.
      raises: what else it may raise for a reason of its own.
    """

    sends: bool = False
    receives: bool = False
    shakes_hands: bool = True
    ends: str = ""
    repeats: bool = False
    nowait: bool = False
    raises: tuple[type[Exception], ...] = ()


@dataclass
class Link:
    """What both ends share.

    Attributes:
      tier: of the transport, one of `tests.support.TIERS`, or with a 5 in the place of the 4.
      lenient: whether the ends take an EOF without close_notify for an ordinary one.
      doomed: why operations may fail from now on; empty while they may not.
    """

    tier: str
    lenient: bool
    doomed: str = ""

    @property
    def uncounted(self) -> bool:
        """Whether a cancelled send may break the sending side: tier 5."""
        return self.tier.startswith("5")

    def cancelled(self, what: str) -> None:
        """A send, or a handshake, was cancelled: on tier 5 that may break the sending side."""
        if self.uncounted and not self.doomed:
            self.doomed = f"{what}, cancelled on tier 5"


@dataclass
class End:
    """One end of the connection.

    Attributes:
      accepted: what the stream has accepted to send, in order.
      received: what the stream has given out, in order.
      connected: whether its handshake has been seen to be done.
      ending: whether a `send_eof` or `unwrap` was begun: later sends may be refused.
      ended: whether one of them was completed: later sends must be refused.
      unwrapped: whether `unwrap` has given the transport back.
      closing: whether a close was begun.
      closed: whether it was completed, or cancelled: either way the transport is closed. A second close returns at
        once, though the first may still be using its grace period: that closes nothing.
      end_seen: whether its stream has said that the peer has ended its side.
    """

    name: str
    link: Link
    accepted: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)
    connected: bool = False
    ending: bool = False
    ended: bool = False
    unwrapped: bool = False
    closing: bool = False
    closed: bool = False
    end_seen: bool = False
    peer: End = field(init=False, repr=False)

    @property
    def missing(self) -> int:
        """How many bytes the peer's stream has accepted that this one has not given out."""
        return len(self.peer.accepted) - len(self.received)

    def take(self, data: bytes) -> None:
        """The stream has given out ``data``.

        Raises:
          Violation: that is not what comes next.
        """
        start = len(self.received)
        self.received += data
        expected = bytes(self.peer.accepted[start : len(self.received)])
        if bytes(data) != expected:
            wrong = next(
                (index for index, (a, b) in enumerate(zip(data, expected, strict=False)) if a != b), len(expected)
            )
            raise Violation(
                f"the {self.name} was given {len(data)} bytes at {start}, of which byte {wrong} is not what was sent: "
                f"{bytes(data[wrong : wrong + 16]).hex()} instead of {expected[wrong : wrong + 16].hex()!r}"
            )

    def take_end(self) -> None:
        """The stream has said that the peer has ended its side.

        Raises:
          Violation: it has not, or there was something before it.
        """
        self.end_seen = True
        if not (self.peer.ending or self.peer.closing):
            raise Violation(f"the {self.name} was told of an end, and the peer has ended nothing")
        if self.missing and not self.link.lenient:
            raise Violation(f"the {self.name} was told of an end {self.missing} bytes too early")

    def may_raise(self, error: Exception, traits: Traits, *, rivals: bool) -> bool:
        """Whether an operation may end with this error, by the manual.

        Args:
          rivals: whether another operation was under way that uses the same side.
        """
        if isinstance(error, traits.raises):
            return not isinstance(error, UnreadDataError) or self.missing > UNREAD_LIMIT
        if isinstance(error, trio.BusyResourceError):
            return rivals
        if isinstance(error, trio.ClosedResourceError):
            return self.closing or self.unwrapped or (traits.sends and self.ending)
        if isinstance(error, trio.WouldBlock):
            return traits.nowait
        if isinstance(error, NeedHandshakeError):
            return traits.nowait and not self.connected
        if isinstance(error, TLSError):
            return bool(self.link.doomed) and type(error) in HONEST_ENDS and bool(str(error) and error.hint)
        return False
