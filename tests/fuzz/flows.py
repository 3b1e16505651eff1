"""Targets that are whole handshakes: a client or a server, and a peer that misbehaves as the bytes say.

How this works. There are two ways in. The *wire* targets get the bytes as they are: keys and randomness are fixed, so
a recorded flight is understood, and mutation changes what is on the wire. Whatever was altered there must not go
through: if the handshake completes, both ends have the same exporter. The *script* targets get a script: a peer by hand
edits its messages before they join the transcript, adds records, cuts them, and goes on after the handshake. There
nothing fails but the machine's own checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from trio_tls import ClientConfig, ServerConfig, Session, TLSError
from trio_tls.machine.interface import Machine, Need, Want
from trio_tls.machine.openssl import OpenSSLMachine
from trio_tls.machine.tls13.extensions import Extensions, RetryGroup, SignatureAlgorithms
from trio_tls.machine.tls13.messages import CertificateRequest
from trio_tls.machine.tls13.registry import ContentType, NamedGroup
from trio_tls.machine.tls13.signatures import DEFAULT_SCHEMES

from ..machine.tls13.ends import a_client, a_server, client_config, connected, read, send, server_config
from ..machine.tls13.scripted_peer import Meeting, ScriptedClient, ScriptedPeer, ScriptedServer
from ..support import HOST, client_context, server_context
from .identities import credential, primitives, verifier
from .target import Defect, Source, foreseen

CLIENT_SEED, SERVER_SEED = 1, 2
X25519, P256 = NamedGroup.x25519, NamedGroup.secp256r1

#: What a machine may hold that was not given out: one record, and the largest message that is waited for.
MOST_HELD = 2**14 + 2**17 + 2**14


@cache
def client(**fields: Any) -> ClientConfig:
    fields = {"key_shares": (X25519,), "groups": (X25519, P256), "alpn_protocols": ("h2", "http/1.1"), **fields}
    return client_config(verify=verifier(), primitives=primitives(CLIENT_SEED), **fields)


@cache
def server(**fields: Any) -> ServerConfig:
    fields = {"groups": (X25519,), "alpn_protocols": ("h2",), "tickets": 1, **fields}
    return server_config(credentials=credential(), primitives=primitives(SERVER_SEED), **fields)


@cache
def a_session() -> Session:
    ends = connected(client(), server())
    send(ends[1], ends[0], b"x")
    assert isinstance(ends[0].session, Session)
    return ends[0].session


# -- the wire ---------------------------------------------------------------------------------------------------


class Recording:
    """A connection between two machines: what went each way, and the exporter."""

    def __init__(self, ends: tuple[Machine, Machine]) -> None:
        self.to_client, self.to_server = bytearray(), bytearray()
        ours, theirs = ends
        while not (ours.handshake_done and theirs.handshake_done):
            self._carry(ours, theirs)
        self.exporter = ours.export_keying_material(b"EXPORTER-fuzz", b"", 32)
        for end in ends:
            end.write(memoryview(b"hello" * 9))
        self._carry(ours, theirs)
        for end in ends:
            read(end)
            end.update_keys()
            end.write(memoryview(b"goodbye"))
            end.shutdown()
        self._carry(ours, theirs)

    def _carry(self, ours: Machine, theirs: Machine) -> None:
        for end, peer, log in ((ours, theirs, self.to_server), (theirs, ours, self.to_client)):
            end.do_handshake()
            flight = end.outgoing.read()
            log += flight
            peer.incoming.write(flight)


#: What the ends of the wire targets can be: the first byte chooses.
WIRES: tuple[Callable[[], tuple[Machine, Machine]], ...] = (
    lambda: (a_client(client()), a_server(server())),
    lambda: (a_client(client(session_cache=None), session=a_session()), a_server(server())),
    lambda: (
        a_client(client(credentials=credential())),
        a_server(server(client_auth="optional", verify=verifier())),
    ),
    lambda: (a_client(client(record_size_limit=512)), a_server(server(record_size_limit=300))),
    lambda: (a_client(client(grease=False, middlebox_compatibility=False)), a_server(server(groups=(P256,)))),
)


@cache
def recordings() -> tuple[Recording, ...]:
    return tuple(Recording(make()) for make in WIRES)


def to_client(data: bytes) -> None:
    """Bytes from the server, as they are."""
    _to_machine(data, 0)


def to_server(data: bytes) -> None:
    """Bytes from the client, as they are."""
    _to_machine(data, 1)


def to_client_seeds() -> list[bytes]:
    return [bytes((number, 0)) + bytes(recording.to_client) for number, recording in enumerate(recordings())]


def to_server_seeds() -> list[bytes]:
    return [bytes((number, 0)) + bytes(recording.to_server) for number, recording in enumerate(recordings())]


def _to_machine(data: bytes, which: int) -> None:
    source = Source(data)
    short, number = divmod(source.number(), len(WIRES))
    step = source.number() or 2**14
    machine = WIRES[number]()[which]
    wire = source.rest()
    try:
        machine.do_handshake()
        for start in range(0, len(wire), step):
            machine.incoming.write(wire[start : start + step])
            _go_on(machine, short=bool(short % 2))
        machine.incoming.write_eof()
        _go_on(machine)
    except TLSError as error:
        foreseen(error)
        _has_failed(machine, error)
    if machine.handshake_done and machine.info is not None:
        try:
            ours = machine.export_keying_material(b"EXPORTER-fuzz", b"", 32)
        except ValueError:
            return  # the connection is over
        if ours not in [recording.exporter for recording in recordings()]:  # hellos of two kinds may be the same
            raise Defect("the handshake is complete, and the two ends have different secrets")


def _go_on(machine: Machine, *, short: bool = False) -> None:
    if isinstance(machine.do_handshake(), Want):
        return
    if short:
        machine.read_short(2**14)
    buffer = memoryview(bytearray(2**14))
    while not isinstance(count := machine.read_into(buffer), Want) and count:
        pass


def _has_failed(machine: Machine, error: TLSError) -> None:
    """The failure is for good, and at most one alert went out."""
    left = len(machine.outgoing.read())
    try:
        machine.do_handshake()
        machine.read_into(memoryview(bytearray(9)))
    except TLSError as again:
        if str(again) != str(error):
            raise Defect(f"first {error}, then {again}") from again
    else:
        raise Defect(f"the machine goes on after {error}")
    if machine.outgoing.pending:
        raise Defect(f"a failed machine has sent {machine.outgoing.pending} bytes more than {left}")


# -- the script -------------------------------------------------------------------------------------------------

REQUEST = CertificateRequest(b"", Extensions([SignatureAlgorithms(DEFAULT_SCHEMES)]))

SERVERS: tuple[Callable[..., tuple[Machine, ScriptedPeer]], ...] = (
    lambda **how: (a_client(client()), ScriptedServer(credential=credential(), **how)),
    lambda **how: (
        a_client(client()),
        ScriptedServer(credential=credential(), group=P256, retry=[RetryGroup(P256)], **how),
    ),
    lambda **how: (a_client(client(), session=a_session()), ScriptedServer(session=a_session(), **how)),
    lambda **how: (
        a_client(client(credentials=credential())),
        ScriptedServer(credential=credential(), request=REQUEST, alpn=b"h2", **how),
    ),
)

CLIENTS: tuple[Callable[..., tuple[Machine, ScriptedPeer]], ...] = (
    lambda **how: (a_server(server()), ScriptedClient(alpn=[b"h2"], **how)),
    lambda **how: (a_server(server(groups=(P256,))), ScriptedClient(alpn=[b"h2"], **how)),
    lambda **how: (a_server(server()), ScriptedClient(session=a_session(), alpn=[b"h2"], **how)),
    lambda **how: (
        a_server(server(client_auth="optional", verify=verifier())),
        ScriptedClient(credential=credential(), **how),
    ),
)


class Script:
    """What the peer does, as the bytes say.

    The first byte is the kind of handshake and how data is read, the second the size of the fragments. Then come
    steps: an edit of one message, a record before one, or a record after the handshake.
    """

    def __init__(self, data: bytes) -> None:
        source = Source(data)
        self.kind = source.number()
        self.size = source.number() * 8 or 2**14
        self.edits: dict[int, list[tuple[int, int, bytes, bool]]] = {}
        self.before: dict[int, list[tuple[int, bytes, bool]]] = {}
        self.after: list[tuple[int, bytes, bool]] = []
        self.data = bytearray()
        self._message = 0
        self.peer: ScriptedPeer
        while source:
            step, number = source.number(), source.number() % 8
            flag = bool(step & 4)
            if step % 3 == 0:
                position, removed, added = source.number(2), source.number(), source.number()
                self.edits.setdefault(number, []).append((position, removed, source.piece(added), flag))
            else:
                record = (source.number(), source.piece(source.number(2) % 2**14), flag)
                if step % 3 == 1:
                    self.before.setdefault(number, []).append(record)
                else:
                    self.after.append(record)

    def edit(self, _name: str, raw: bytes) -> bytes:
        """The next message, as it is sent."""
        number, self._message = self._message, self._message + 1
        for record in self.before.get(number, ()):
            self.peer.flush()
            self.send(record)
        for position, removed, added, fix in self.edits.get(number, ()):
            at = position % (len(raw) + 1)
            raw = raw[:at] + added + raw[at + removed :]
            if fix and len(raw) >= 4:
                raw = raw[:1] + (len(raw) - 4).to_bytes(3, "big") + raw[4:]
        return raw

    def cut(self, flight: bytes) -> Iterable[bytes]:
        return [flight[start : start + self.size] for start in range(0, len(flight), self.size)]

    def send(self, record: tuple[int, bytes, bool]) -> None:
        kind, content, protected = record
        inner = (content + bytes((kind,))).rstrip(b"\0")  # a type of 0 is padding: the type is before it
        if protected and inner[-1:] == bytes((ContentType.application_data,)):
            self.data += inner[:-1]
        self.peer.record(kind, content, protected=protected)
        if self.peer.done and protected and kind == ContentType.handshake and content[:4] == b"\x18\0\0\1":
            self.peer.next_write_key()

    def meet(self, make: Callable[..., tuple[Machine, ScriptedPeer]]) -> Meeting:
        machine, self.peer = make(edit=self.edit, cut=self.cut)
        meeting = Meeting(machine, self.peer, short=bool(self.kind & 4))
        with fragile():
            self._talk(meeting)
        return meeting

    def _talk(self, meeting: Meeting) -> None:
        meeting.step()
        script: Iterator[None] | None = self.peer.run()
        later = iter(self.after)
        while True:
            with fragile():
                if script is not None and next(script, script) is script:
                    script = None
            if script is None or self.peer.alerts:
                with fragile():
                    self.peer.listen()
                if self.peer.done and (record := next(later, None)) is not None:
                    self.send(record)
            if not meeting.carry() and not meeting.machine.outgoing.pending:
                return
            meeting.step()


@contextmanager
def fragile() -> Iterator[None]:
    """The peer by hand gives up where the machine does what it has no script for. That is not what is tested here."""
    try:
        yield
    except Defect:
        raise
    except Exception:
        return


def a_server_by_hand(data: bytes) -> None:
    """A server that does what the bytes say, and our client."""
    _judge(Script(data), SERVERS)


def a_client_by_hand(data: bytes) -> None:
    """A client that does what the bytes say, and our server."""
    _judge(Script(data), CLIENTS)


def _judge(script: Script, kinds: tuple[Callable[..., tuple[Machine, ScriptedPeer]], ...]) -> None:
    meeting = script.meet(kinds[script.kind % len(kinds)])
    machine: Any = meeting.machine
    if meeting.failure is not None:
        foreseen(meeting.failure)
        _has_failed(machine, meeting.failure)
    if not bytes(script.data).startswith(meeting.data):
        raise Defect("data came out that was never sent")
    if machine.buffered + len(machine._reader._handshake) > MOST_HELD:
        raise Defect("the machine holds more than it may")


def script_seeds() -> list[bytes]:
    def record(step: int, number: int, kind: int, content: bytes) -> bytes:
        return bytes((step, number, kind)) + len(content).to_bytes(2, "big") + content

    def edit(number: int, position: int, removed: int, added: bytes, *, fix: bool = True) -> bytes:
        step = 12 if fix else 3
        return bytes((step, number)) + position.to_bytes(2, "big") + bytes((removed, len(added))) + added

    ticket = b"\x04\0\0\x16" + bytes((0, 0, 14, 16, 0, 0, 0, 7, 1, 0, 0, 6)) + b"ticket" + bytes(4)[:2] + b"\0\0"
    after = record(5, 0, 23, b"hello") + record(14, 0, 22, b"\x18\0\0\1\1") + record(14, 0, 23, b"again")
    seeds = []
    for kind in range(8):
        head = bytes((kind, 0))
        seeds += [head, bytes((kind, 4)), head + after, head + record(14, 0, 22, ticket) + record(14, 0, 21, b"\1\0")]
        seeds += [head + record(4, number, 20, b"\1") for number in range(3)]
        seeds += [head + edit(number, 40, 0, b"") for number in range(5)]
        seeds += [head + edit(number, 4, 2, b"\0\0") for number in range(5)]
        seeds.append(head + edit(0, 2**16 - 1, 0, b"\x12\x34\0\1x", fix=False))
    return seeds


# -- the machine behind an ssl.SSLContext -------------------------------------------------------------------------


@cache
def _contexts() -> tuple[Any, Any]:
    return client_context(), server_context()


def to_openssl(data: bytes) -> None:
    """Bytes from a peer to a machine on an `ssl.SSLContext`: the first one says to which end, the second how."""
    source = Source(data)
    role, step = source.number() % 2, source.number() or 2**14
    hostname = None if role else HOST
    machine = OpenSSLMachine(_contexts()[role], server_side=bool(role), server_hostname=hostname)
    wire = source.rest()
    try:
        machine.do_handshake()
        for start in range(0, len(wire), step):
            machine.incoming.write(wire[start : start + step])
            if isinstance(machine.do_handshake(), Need):
                raise Defect("this machine needs nothing")
        machine.incoming.write_eof()
        machine.do_handshake()
    except TLSError as error:
        if len(str(error)) > 2000:
            raise Defect(f"an error of {len(str(error))} characters") from error
        return
    raise Defect("a handshake with nobody has come to an end")


def openssl_seeds() -> list[bytes]:
    first = recordings()[0]
    return [b"\0\0" + bytes(first.to_client), b"\1\0" + bytes(first.to_server), b"\1\0GET / HTTP/1.1\r\n\r\n"]
