"""A machine without cryptography, which asks the application what it is told to ask.

How this works. It speaks records of a type byte, two bytes of length, and the payload in clear. A handshake is one
flight of the client, one of the server, and the client's Finished; the needs of its config are raised, one after
the other, once the peer's first flight is there. Everything else keeps the contract of
`trio_tls.machine.interface.Machine`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from trio_tls import Alert, ConnectionInfo, TLSError, UnexpectedEOF
from trio_tls.machine.bio import MemoryBIO
from trio_tls.machine.interface import Machine, Need, Want

HANDSHAKE, DATA, ALERT = 22, 23, 21

OUTGOING_LIMIT = 4096


class ScriptedConfig:
    """Makes machines that raise ``needs``, in this order. For one connection only: needs are settled once."""

    def __init__(self, needs: Sequence[Need] = ()) -> None:
        self.needs = needs
        self.machine: ScriptedMachine | None = None

    def create_machine(self, *, server_side: bool, server_hostname: str | None, session: object | None) -> Machine:
        self.machine = ScriptedMachine(self.needs, server_side=server_side, server_hostname=server_hostname)
        return self.machine

    @property
    def answers(self) -> list[object]:
        """What the machine was told, in order."""
        assert self.machine is not None
        return self.machine.answers


class ScriptedMachine:
    """One end. Attribute ``answers``: the values of its needs, as they were settled."""

    def __init__(self, needs: Sequence[Need], *, server_side: bool, server_hostname: str | None) -> None:
        self.incoming = MemoryBIO()
        self.outgoing = MemoryBIO(limit=OUTGOING_LIMIT)
        self.server_side = server_side
        self.server_hostname = server_hostname
        self.info: ConnectionInfo | None = None
        self.handshake_done = False
        self.sent_fatal_alert = False
        self.answers: list[object] = []
        self._needs = needs
        self._received = b""  # of a record that is not whole yet
        self._plaintext = b""
        self._ended = self._shut_down = False
        self._failure: TLSError | None = None
        self._handshake = self._serve() if server_side else self._connect()

    @property
    def buffered(self) -> int:
        return len(self._plaintext)

    @property
    def introspection(self) -> Any:
        raise NotImplementedError("a script has nothing to tell")

    @property
    def session(self) -> None:
        return None

    def update_keys(self, *, request_update: bool = False) -> None:
        raise ValueError("a script has no keys")

    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        raise ValueError("a script has no keys")

    def do_handshake(self) -> Want | Need | None:
        if self.handshake_done:
            return None
        if self._failure is not None:
            raise self._failure.again()
        for want in self._handshake:
            return want
        self.handshake_done = True
        self.info = ConnectionInfo("TLSv1.3", "CLEAR", None, None, None, self.server_hostname, False, ())
        return None

    def read_into(self, buffer: memoryview) -> int | Want:
        while not self._plaintext and not self._ended:
            record = self._next_record()
            if record is None:
                if self.incoming.eof:
                    raise UnexpectedEOF("the script ended early")
                return Want.READ
            kind, payload = record
            if kind == DATA:
                self._plaintext = payload
            elif kind == ALERT:
                self._ended = True
        count = min(len(buffer), len(self._plaintext))
        buffer[:count] = self._plaintext[:count]
        self._plaintext = self._plaintext[count:]
        return count

    def read_short(self, max_bytes: int) -> bytes | None:
        return None  # there is no quick way

    def rest(self) -> None:
        pass

    def write(self, data: memoryview) -> int | Want:
        count = min(len(data), self.outgoing.room, 1000)
        if count:
            self._queue(DATA, bytes(data[:count]))
        return count if count or not len(data) else Want.WRITE

    def shutdown(self) -> None:
        if not self._shut_down:
            self._shut_down = True
            self._queue(ALERT, bytes((1, Alert.close_notify)))

    def trailing_data(self) -> bytes:
        return self._received + self.incoming.read()

    # -- the script ----------------------------------------------------------------------------------------

    def _connect(self) -> Generator[Want | Need, None, None]:
        self._queue(HANDSHAKE, b"ClientHello")
        yield from self._expect(b"ServerHello")
        yield from self._ask()
        self._queue(HANDSHAKE, b"Finished")

    def _serve(self) -> Generator[Want | Need, None, None]:
        yield from self._expect(b"ClientHello")
        yield from self._ask()
        self._queue(HANDSHAKE, b"ServerHello")
        yield from self._expect(b"Finished")

    def _expect(self, message: bytes) -> Generator[Want | Need, None, None]:
        while (record := self._next_record()) is None:
            if self.incoming.eof:
                self._fail(UnexpectedEOF("the peer left in the middle of the script"))
            yield Want.READ
        if record != (HANDSHAKE, message):
            self._fail(TLSError(f"the peer failed, or does not keep to the script: {record!r}"))

    def _ask(self) -> Generator[Want | Need, None, None]:
        for need in self._needs:
            while not need.settled:
                yield need
            if need.error is not None:
                self._queue(ALERT, bytes((2, Alert.internal_error)))
                self.sent_fatal_alert = True
                failure = TLSError("the application could not answer", alert=Alert.internal_error)
                failure.__cause__ = need.error
                self._fail(failure)
            self.answers.append(need.value)

    def _fail(self, failure: TLSError) -> None:
        self._failure = failure
        raise failure.again()

    def _queue(self, kind: int, payload: bytes) -> None:
        self.outgoing.write(bytes((kind,)) + len(payload).to_bytes(2, "big") + payload)

    def _next_record(self) -> tuple[int, bytes] | None:
        self._received += self.incoming.read()
        if len(self._received) < 3:
            return None
        end = 3 + int.from_bytes(self._received[1:3], "big")
        if len(self._received) < end:
            return None
        record, self._received = (self._received[0], self._received[3:end]), self._received[end:]
        return record
