"""Every public operation of a stream, as the model-based test calls it.

How this works. An `Operation` has the method to call and the `Traits` by which the model judges what comes of it. Its
``act`` does the call on a `Party`, tells the model what was accepted or given out, and checks what the method itself
promises: that a count is the whole truth, that a buffer is not overrun, that what was asked for came.
"""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from trio_tls import TLSStream, UnreadDataError

from ..support import pattern
from .model import End, Traits, Violation

__all__ = ["OPERATIONS", "QUESTIONS", "Operation", "Party"]


@dataclass
class Party:
    """One end of the connection, and its model.

    Attributes:
      own: whether it runs on our own machine.
      position: where the data of the next send stands in the pattern that all data is cut from.
      updates: how many KeyUpdates it was made to send.
      other: the party at the other end.
    """

    stream: TLSStream[Any]
    model: End
    own: bool
    position: int = 0
    updates: int = 0
    other: Party = field(init=False, repr=False)
    _under_way: memoryview | None = None
    _before: int = 0

    def fresh(self, count: int) -> bytes:
        """``count`` bytes such as no other send has."""
        data = pattern(self.position + count + 4, seed=self.model.name == "server")[self.position :][:count]
        self.position += count
        return data

    def sync(self) -> None:
        """Tell the model what the stream has accepted up to now of a send that is under way."""
        if self._under_way is not None:
            count = self.stream.plaintext_sent - self._before
            if not 0 <= count <= len(self._under_way):
                raise Violation(f"{count} bytes were accepted of {len(self._under_way)}")
            self.model.accepted += self._under_way[:count]
            self._under_way = self._under_way[count:]
            self._before += count

    @contextmanager
    def sending(self, data: bytes) -> Iterator[None]:
        """``data`` is what the stream accepts from, meanwhile."""
        self.sync()
        kept = self._under_way, self._before
        self._under_way, self._before = memoryview(data), self.stream.plaintext_sent
        try:
            yield
        except trio.BusyResourceError:
            # At once, before anybody else ran: it is the other send that goes on.
            if self.stream.plaintext_sent != self._before:
                raise Violation("a refused send has sent something") from None
            self._under_way, self._before = kept
            raise
        except BaseException:
            self.sync()
            self._under_way = None
            raise
        self.sync()
        self._under_way = None

    def took(self, data: bytes | bytearray) -> None:
        """The stream has given out ``data``, or nothing, which means the end."""
        self.other.sync()
        if data:
            self.model.take(bytes(data))
        else:
            self.model.take_end()


@dataclass(frozen=True)
class Operation:
    """One method of a stream.

    Attributes:
      act: calls it: ``await act(party, size)``; a synchronous method's is called too, and does not wait.
      traits: what the model has to know of it.
    """

    name: str
    act: Callable[[Party, int], Awaitable[None]]
    traits: Traits


async def do_handshake(party: Party, size: int) -> None:
    await party.stream.do_handshake()
    if party.stream.info is None:
        raise Violation("the handshake is done, and info does not tell what it agreed on")


async def send_all(party: Party, size: int) -> None:
    data = party.fresh(size)
    before = party.stream.plaintext_sent
    with party.sending(data):
        await party.stream.send_all(data)
        if party.stream.plaintext_sent - before != size:
            raise Violation("send_all() has returned, and not all was accepted")


async def send_some(party: Party, size: int) -> None:
    data = party.fresh(size)
    before = party.stream.plaintext_sent
    with party.sending(data):
        try:
            count = await party.stream.send_some(data)
        except trio.Cancelled:
            if party.stream.plaintext_sent != before:
                raise Violation("send_some() was cancelled, and has accepted something") from None
            raise
        if count != party.stream.plaintext_sent - before or not min(1, size) <= count <= size:
            raise Violation(f"send_some() of {size} bytes says {count}")


async def send_nowait(party: Party, size: int) -> None:
    data = party.fresh(size)
    before = party.stream.plaintext_sent
    with party.sending(data):
        count = party.stream.send_nowait(data)
        if count != party.stream.plaintext_sent - before:
            raise Violation(f"send_nowait() says {count}")


async def resumable_send(party: Party, size: int) -> None:
    """Cancelled and called again in one breath, three times, and then for good."""
    data = party.fresh(size)
    with party.sending(data):
        sender = party.stream.sender(data)
        for patience in (0, 0, 1):
            with trio.move_on_after(patience) as scope:
                await sender.send()
            if scope.cancelled_caught:
                party.model.link.cancelled("resumable_send")
        await sender.send()
        if sender.remaining or sender.position != size:
            raise Violation(f"ResumableSend.send() has returned at {sender.position} of {size}")


async def flush(party: Party, size: int) -> None:
    with party.sending(b""):
        await party.stream.flush()


async def wait_send_all_might_not_block(party: Party, size: int) -> None:
    await party.stream.wait_send_all_might_not_block()


async def update_keys(party: Party, size: int) -> None:
    """Few enough for a peer that counts them: see `MOST_UPDATES`."""
    if party.updates < MOST_UPDATES:
        party.updates += 1
        try:
            await party.stream.update_keys(request_update=size % 2 == 1)
        except ValueError:
            if party.own:
                raise Violation("our own machine cannot update its keys") from None
            raise


async def receive_some(party: Party, size: int) -> None:
    data = await party.stream.receive_some(size or None)
    if len(data) > (size or 256 * 1024):
        raise Violation(f"receive_some({size}) returned {len(data)} bytes")
    party.took(data)


async def receive_some_into(party: Party, size: int) -> None:
    buffer = bytearray(size + 1)
    count = await party.stream.receive_some_into(buffer)
    party.took(buffer[:count])


async def receive_nowait(party: Party, size: int) -> None:
    data = party.stream.receive_nowait(size or None)
    if size and len(data) > size:
        raise Violation(f"receive_nowait({size}) returned {len(data)} bytes")
    party.took(data)


async def receive_on(party: Party, size: int) -> None:
    """One receive after the other, to the end."""
    while data := await party.stream.receive_some(size or None):
        party.took(data)
    party.took(b"")


async def send_eof(party: Party, size: int) -> None:
    await party.stream.send_eof()
    party.model.ended = True


async def unwrap(party: Party, size: int) -> None:
    _, trailing = await party.stream.unwrap()
    party.model.unwrapped = party.model.ended = True
    if trailing:
        raise Violation(f"nobody has sent plain text, but unwrap() returned {trailing!r}")
    party.other.sync()
    if party.stream.pending() < party.model.missing and not party.model.link.lenient:
        raise Violation("unwrap() has lost what was still under way")


async def aclose(party: Party, size: int) -> None:
    await party.stream.aclose()


async def aclose_forcefully(party: Party, size: int) -> None:
    await trio.aclose_forcefully(party.stream)


#: A peer refuses more than 32 KeyUpdates in a row.
MOST_UPDATES = 30

_SEND = Traits(sends=True)
_RECEIVE = Traits(receives=True)

OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("do_handshake", do_handshake, Traits()),
        Operation("send_all", send_all, _SEND),
        Operation("send_some", send_some, _SEND),
        Operation("send_nowait", send_nowait, Traits(sends=True, shakes_hands=False, nowait=True)),
        Operation("resumable_send", resumable_send, _SEND),
        Operation("flush", flush, _SEND),
        Operation(
            "wait_send_all_might_not_block", wait_send_all_might_not_block, Traits(sends=True, shakes_hands=False)
        ),
        Operation("update_keys", update_keys, Traits(sends=True, raises=(ValueError,))),
        Operation("receive_some", receive_some, _RECEIVE),
        Operation("receive_some_into", receive_some_into, _RECEIVE),
        Operation("receive_nowait", receive_nowait, Traits(receives=True, shakes_hands=False, nowait=True)),
        Operation("receive_on", receive_on, Traits(receives=True, repeats=True)),
        Operation("send_eof", send_eof, Traits(sends=True, ends="half")),
        Operation("unwrap", unwrap, Traits(sends=True, receives=True, ends="half", raises=(UnreadDataError,))),
        Operation("aclose", aclose, Traits(shakes_hands=False, ends="whole")),
        Operation("aclose_forcefully", aclose_forcefully, Traits(shakes_hands=False, ends="whole")),
    )
}


def _selected_npn_protocol(stream: TLSStream[Any]) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the `ssl` module's
        return stream.selected_npn_protocol()


#: What can be asked at any time. Before the handshake some answer with NeedHandshakeError.
QUESTIONS: dict[str, Callable[[TLSStream[Any]], object]] = {
    "pending": lambda stream: stream.pending(),
    "is_readable": lambda stream: stream.is_readable(),
    "plaintext_sent": lambda stream: stream.plaintext_sent,
    "want": lambda stream: stream.want,
    "info": lambda stream: stream.info,
    "session": lambda stream: stream.session,
    "session_reused": lambda stream: stream.session_reused,
    "version": lambda stream: stream.version(),
    "cipher": lambda stream: stream.cipher(),
    "group": lambda stream: stream.group(),
    "shared_ciphers": lambda stream: stream.shared_ciphers(),
    "compression": lambda stream: stream.compression(),
    "selected_alpn_protocol": lambda stream: stream.selected_alpn_protocol(),
    "selected_npn_protocol": _selected_npn_protocol,
    "getpeercert": lambda stream: stream.getpeercert(),
    "get_channel_binding": lambda stream: stream.get_channel_binding("tls-unique"),
    "get_verified_chain": lambda stream: stream.get_verified_chain(),
    "get_unverified_chain": lambda stream: stream.get_unverified_chain(),
    "export_keying_material": lambda stream: stream.export_keying_material(b"EXPORTER-chaos", b"", 32),
    "context": lambda stream: stream.context,
    "server_hostname": lambda stream: stream.server_hostname,
    "server_side": lambda stream: stream.server_side,
    "verify_client_post_handshake": lambda stream: stream.verify_client_post_handshake(),
}
