"""What the sides of a `TLSStream` share: its state, and the checks that it may be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import trio
from trio.lowlevel import checkpoint

if TYPE_CHECKING:
    from .errors import UnexpectedEOF
    from .machine.interface import Machine
    from .pump import Pump

__all__ = ["Core", "Guard", "T_Stream"]

T_Stream = TypeVar("T_Stream", bound=trio.abc.Stream)


class Guard:
    """At most one task at a time; a second one gets BusyResourceError, as from trio's streams."""

    __slots__ = ("_message", "busy")

    def __init__(self, message: str) -> None:
        self.busy: bool = False
        self._message = message

    def enter(self) -> None:
        """As ``with``; for the few methods where its two calls would show, in a ``try`` with ``busy = False``."""
        if self.busy:
            raise trio.BusyResourceError(self._message)
        self.busy = True

    __enter__ = enter

    def __exit__(self, *exc_info: object) -> None:
        self.busy = False


class Core(Generic[T_Stream]):
    """The state of a stream. `TLSStream` sets it; receiving, sending and ending work on it."""

    transport_stream: T_Stream | None
    """The stream that carries the ciphertext; None once `unwrap` has given it back."""

    _require_close_notify: bool

    def __init__(self, machine: Machine, pump: Pump) -> None:
        self._machine = machine
        self._pump = pump
        self._send_guard = Guard("another task is currently sending data on this TLSStream")
        self._receive_guard = Guard("another task is currently receiving data on this TLSStream")
        self._closed = False
        self._eof_sent = False
        self._settled = False  # open, and the handshake behind us: nothing to look at before a send or receive

    def _check_open(self, *, sending: bool = False, receiving: bool = False) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this TLSStream was closed")
        if sending and self._eof_sent:
            raise trio.ClosedResourceError("can't send data after send_eof() or unwrap()")
        if self.transport_stream is None and not (receiving and self._pump.stash):
            raise trio.ClosedResourceError("this TLSStream was unwrapped")

    async def _check_usable(self, *, sending: bool = False, receiving: bool = False) -> None:
        try:
            self._check_open(sending=sending, receiving=receiving)
        except trio.ClosedResourceError:
            await checkpoint()
            raise

    def _accept_eof(self, error: UnexpectedEOF) -> None:
        """The transport ended without close_notify: raise, unless such an end is to be taken for an ordinary one.

        A reset is never one.
        """
        if self._pump.reset is not None:
            raise self._pump.reset.again()
        if self._require_close_notify:
            try:
                raise error
            finally:
                del error  # or this frame, which its traceback holds, would hold it
