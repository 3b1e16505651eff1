"""A peer that does a handshake by hand, and does any part of it wrongly if told to.

How this works. `ScriptedServer` and `ScriptedClient` are written with the codecs, the key schedule and the record layer
alone: nothing of the handshakes that they test is in them. Without a script they behave. A script has three places:

* ``edit`` is given the name of each message and its bytes, and returns what is sent instead: other bytes, several
  messages, or none. That happens before the transcript, so signatures and Finished fit what was sent, and the machine
  has nothing to complain of but the edit itself.
* ``before`` does something to the peer just before the message of a name is sent: `ScriptedPeer.record` and
  `ScriptedPeer.raw` send whatever they are given.
* ``cut`` makes the fragments of a flight, one for each record.

`meet` lets a machine and a peer talk until nothing moves, and `Meeting.refused` checks a failure on both sides: the
exception that the machine raised, and the one alert that reached the peer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from trio_tls.alerts import Alert
from trio_tls.credentials import Credential
from trio_tls.errors import PeerMisbehaved, TLSError
from trio_tls.machine.bio import MemoryBIO
from trio_tls.machine.interface import Machine, Need, Want
from trio_tls.machine.tls13.extensions import (
    ApplicationProtocols,
    Cookie,
    Extension,
    Extensions,
    KeyShareEntry,
    KeyShares,
    PreSharedKeys,
    PskIdentity,
    PskKeyExchangeModes,
    RetryGroup,
    SelectedKeyShare,
    SelectedPsk,
    SelectedVersion,
    ServerName,
    SignatureAlgorithms,
    SupportedGroups,
    SupportedVersions,
)
from trio_tls.machine.tls13.groups import GROUPS, KeyShare
from trio_tls.machine.tls13.key_schedule import (
    KeySchedule,
    Secret,
    TrafficSecrets,
    finished_verify_data,
    next_traffic_secret,
    resumption_psk,
)
from trio_tls.machine.tls13.messages import (
    Certificate,
    CertificateEntry,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    Finished,
    HelloRetryRequest,
    KeyUpdate,
    Message,
    NewSessionTicket,
    ServerHello,
    decode_message,
)
from trio_tls.machine.tls13.record import ReceivedAlert, RecordKey
from trio_tls.machine.tls13.record_reader import RecordReader
from trio_tls.machine.tls13.registry import TLS_1_3, CipherSuiteNumber, ContentType, NamedGroup
from trio_tls.machine.tls13.sessions import Session
from trio_tls.machine.tls13.signatures import DEFAULT_SCHEMES, certificate_verify_content
from trio_tls.machine.tls13.suites import SUITES, CipherSuite
from trio_tls.machine.tls13.transcript import Transcript

from ...support import HOST
from .records import plain, seal_inner

M = TypeVar("M", bound=Message)
T = TypeVar("T")

Edit: TypeAlias = "Callable[[str, bytes], bytes | Sequence[bytes]]"
Cut: TypeAlias = Callable[[bytes], Iterable[bytes]]
Steps: TypeAlias = Generator[None, None, T]

CCS = ContentType.change_cipher_spec
ALERT = ContentType.alert
HANDSHAKE = ContentType.handshake
DATA = ContentType.application_data


def as_it_is(name: str, raw: bytes) -> bytes:
    return raw


def whole(flight: bytes) -> Iterable[bytes]:
    """In as few records as it fits in."""
    return [flight[start : start + 2**14] for start in range(0, len(flight), 2**14)]


class Ended(Exception):
    """The machine has ended the connection: the script is over."""


class ScriptedPeer:
    """What both flavours have: records, messages, keys.

    Args:
      edit: changes messages.
      before: by the name of a message, what to do before it.
      cut: makes fragments of a flight.
      suite: the cipher suite.
      credential: what to present; None: nothing.
      session: to resume.

    Attributes:
      wire: what is on its way to the machine.
      alerts: what the machine has sent; it is always one, or none.
      received: the machine's messages, in their order.
      data: its application data.
      done: whether the handshake is.
    """

    def __init__(
        self,
        *,
        edit: Edit = as_it_is,
        before: dict[str, Callable[[Any], object]] | None = None,
        cut: Cut = whole,
        suite: int = CipherSuiteNumber.TLS_AES_128_GCM_SHA256,
        credential: Credential | None = None,
        session: Session | None = None,
    ) -> None:
        self.incoming = MemoryBIO()
        self.wire = bytearray()
        self.reader = RecordReader(self.incoming)
        self.reader.ccs_allowed = self.reader.application_data_allowed = True
        self.transcript = Transcript()
        self.alerts: list[Alert] = []
        self.received: list[Message] = []
        self.data = bytearray()
        self.last = b""
        self.done = self.ended = False
        self.suite: CipherSuite = SUITES[suite]
        self.credential = credential
        self.session = session
        self.secrets: TrafficSecrets
        self.resumption: Secret
        self._handshake_secrets: TrafficSecrets
        self._edit, self._before, self._cut = edit, dict(before or {}), cut
        self._write_key: RecordKey | None = None
        self._flight = b""

    def run(self) -> Steps[None]:
        """The handshake, as long as nobody ends it."""
        raise NotImplementedError

    # -- records -------------------------------------------------------------------------------------------------

    def raw(self, data: bytes) -> None:
        """Bytes as they are, whatever they are."""
        self.wire += data

    def cut_off(self) -> None:
        """The stream ends here, without close_notify."""
        self.ended = True
        raise Ended

    def record(self, kind: int, content: bytes, *, padding: int = 0, protected: bool = True) -> None:
        """One record, under the current key if there is one."""
        if self._write_key is None or not protected or kind == CCS:
            self.wire += plain(kind, content)
        else:
            self.wire += seal_inner(self._write_key, content + bytes((kind,)) + bytes(padding))

    def alert(self, alert: int, level: int = 2, *, protected: bool = True) -> None:
        self.record(ALERT, bytes((level, alert)), protected=protected)

    def emit(self, message: Message, name: str = "") -> None:
        """Add a message to the flight, as the script has it."""
        name = name or message.type.name
        if name in self._before:
            self.flush()
            self._before.pop(name)(self)
        edited = self._edit(name, message.encode())
        for each in [edited] if isinstance(edited, bytes) else edited:
            self.transcript.add(each)
            self._flight += each

    def flush(self) -> None:
        flight, self._flight = self._flight, b""
        if flight:
            for fragment in self._cut(flight):
                self.record(HANDSHAKE, fragment)

    def write_with(self, secret: Secret) -> None:
        self.flush()
        self._write_key = RecordKey(self.suite, secret)

    def read_with(self, secret: Secret) -> None:
        self.reader.set_key(RecordKey(self.suite, secret))

    # -- messages ------------------------------------------------------------------------------------------------

    def receive(self, *kinds: type[M], hashed: bool = True) -> Steps[M]:
        """The machine's next message, which is one of ``kinds``; its bytes are in ``last``."""
        self.flush()
        while (found := self._next()) is None:
            yield
        message, raw = found
        assert isinstance(message, kinds), f"the machine sent {message!r}"
        self.last = raw
        if hashed:
            self.transcript.add(raw)
        return message

    def _next(self) -> tuple[Message, bytes] | None:
        found = self.reader.read_message(lambda kind: 2**24)
        if isinstance(found, ReceivedAlert):
            self.alerts.append(found.description)
            assert found.level == (1 if found.description in {Alert.close_notify, Alert.user_canceled} else 2)
            raise Ended
        if found is None:
            return None
        kind, raw = found
        message = decode_message(kind, raw[4:])
        self.received.append(message)
        return message, raw

    def got(self, kind: type[M]) -> M:
        """The last message of this kind that came."""
        return next(message for message in reversed(self.received) if isinstance(message, kind))

    def certify(self, *, server: bool, context: bytes = b"", schemes: Sequence[int] = ()) -> None:
        """Certificate and CertificateVerify, or an empty Certificate."""
        credential = self.credential
        entries = [] if credential is None else [CertificateEntry(der, Extensions()) for der in credential.der_chain]
        self.emit(Certificate(context, tuple(entries)))
        if credential is not None:
            scheme = next(each for each in credential.schemes if not schemes or each in schemes)
            content = certificate_verify_content(server=server, transcript_hash=self.transcript.digest())
            signature = credential.sign(scheme, content)
            assert isinstance(signature, bytes)
            self.emit(CertificateVerify(scheme, signature))

    def finish(self, secret: Secret) -> None:
        self.emit(Finished(finished_verify_data(self.suite, secret, self.transcript.digest())))

    def check_finished(self, secret: Secret) -> Steps[None]:
        expected = finished_verify_data(self.suite, secret, self.transcript.digest())
        finished = yield from self.receive(Finished)
        assert finished.verify_data == expected, "the machine's Finished is wrong"

    # -- after the handshake -------------------------------------------------------------------------------------

    def update_keys(self, *, request: bool = False, raw: bytes | None = None) -> None:
        """A KeyUpdate, and the keys that follow it."""
        self.record(HANDSHAKE, KeyUpdate(request).encode() if raw is None else raw)
        self.next_write_key()

    def next_write_key(self) -> None:
        raise NotImplementedError

    def next_read_key(self) -> None:
        raise NotImplementedError

    def listen(self) -> None:
        """Take what came after the handshake, into ``data``, ``received`` and ``alerts``."""
        try:
            while True:
                buffer = memoryview(bytearray(2**16))
                count = self.reader.read_into(buffer)
                self.data += buffer[:count]
                if not count:
                    found = self._next() if self.reader.other_pending else None
                    if found is None:
                        return
                    if isinstance(found[0], KeyUpdate):
                        self.next_read_key()
        except Ended:
            return


class ScriptedServer(ScriptedPeer):
    """A server by hand.

    Args (beside those of the peer):
      group: for the key exchange.
      retry: the extensions of a HelloRetryRequest to send first; None: none is sent.
      request: a CertificateRequest to send; None: none is sent.
      alpn: the protocol to select.
    """

    def __init__(
        self,
        *,
        group: int = NamedGroup.x25519,
        retry: Sequence[Extension] | None = None,
        request: CertificateRequest | None = None,
        alpn: bytes | None = None,
        **how: Any,
    ) -> None:
        super().__init__(**how)
        self.group, self.retry, self.request, self.alpn = group, retry, request, alpn

    def run(self) -> Steps[None]:
        hello = yield from self.receive(ClientHello)
        self.transcript.choose(self.suite.hash)
        if self.retry is not None:
            self.transcript.replace_by_message_hash()
            extensions = Extensions([SelectedVersion(TLS_1_3), *self.retry])
            self.emit(HelloRetryRequest(hello.session_id, self.suite.number, extensions), "hello_retry_request")
            self.flush()
            self.record(CCS, b"\x01")
            hello = yield from self.receive(ClientHello)
        self._hello(hello)
        self.emit(EncryptedExtensions(Extensions([ApplicationProtocols((self.alpn,))] if self.alpn else [])))
        if self.session is None:
            if self.request is not None:
                self.emit(self.request)
            self.certify(server=True, schemes=hello.extensions.require(SignatureAlgorithms).schemes)
        self.finish(self._handshake_secrets.server)
        self.secrets = self._schedule.application_secrets(self.transcript.digest())
        self.write_with(self.secrets.server)
        if self.request is not None:
            certificate = yield from self.receive(Certificate)
            if certificate.entries:
                yield from self.receive(CertificateVerify)
        yield from self.check_finished(self._handshake_secrets.client)
        self.read_with(self.secrets.client)
        self.resumption = self._schedule.resumption_secret(self.transcript.digest())
        self.done = True

    def _hello(self, hello: ClientHello) -> None:
        entries = {entry.group: entry.key_exchange for entry in hello.extensions.require(KeyShares).entries}
        answer, secret = GROUPS[self.group].respond(entries[self.group])
        extensions: list[Extension] = [
            SelectedVersion(TLS_1_3),
            SelectedKeyShare(KeyShareEntry(self.group, answer)),
        ]
        psk = None
        if self.session is not None:
            extensions.append(SelectedPsk(0))
            psk = self.session.psk
        self.emit(ServerHello(b"\x5e" * 32, hello.session_id, self.suite.number, Extensions(extensions)))
        self.flush()
        if hello.session_id and self.retry is None:
            self.record(CCS, b"\x01")
        self._schedule = KeySchedule(self.suite, psk)
        self._handshake_secrets = self._schedule.handshake_secrets(secret, self.transcript.digest())
        self.write_with(self._handshake_secrets.server)
        self.read_with(self._handshake_secrets.client)

    def next_write_key(self) -> None:
        self.secrets = TrafficSecrets(self.secrets.client, next_traffic_secret(self.suite, self.secrets.server))
        self.write_with(self.secrets.server)

    def next_read_key(self) -> None:
        self.secrets = TrafficSecrets(next_traffic_secret(self.suite, self.secrets.client), self.secrets.server)
        self.read_with(self.secrets.client)

    def ticket(self, *, lifetime: int = 3600, nonce: bytes = b"\0", extensions: Sequence[Extension] = ()) -> bytes:
        """A NewSessionTicket."""
        return NewSessionTicket(lifetime, 7, nonce, b"ticket" + nonce, Extensions(extensions)).encode()

    def psk_of(self, nonce: bytes = b"\0") -> bytes:
        """What goes with the ticket of this nonce."""
        return resumption_psk(self.suite, self.resumption, nonce)


class ScriptedClient(ScriptedPeer):
    """A client by hand.

    Args (beside those of the peer):
      groups: to list.
      shares: the groups to send a share of.
      suites: to offer; by default the one of ``suite``.
      alpn: the protocols to offer.
      server_name: whom to ask for.
      hello: is given the extensions of each ClientHello but pre_shared_key, and returns those to send.
      binder: is given the right binder, and returns the one to send.
    """

    def __init__(
        self,
        *,
        groups: Sequence[int] = (NamedGroup.x25519, NamedGroup.secp256r1),
        shares: Sequence[int] = (NamedGroup.x25519,),
        suites: Sequence[int] = (),
        alpn: Sequence[bytes] = (),
        server_name: str | None = HOST,
        session_id: bytes = b"\x1d" * 32,
        hello: Callable[[list[Extension]], list[Extension]] = lambda extensions: extensions,
        binder: Callable[[bytes], bytes] = lambda binder: binder,
        **how: Any,
    ) -> None:
        super().__init__(**how)
        self.groups, self.alpn, self.server_name, self.session_id = groups, alpn, server_name, session_id
        self.suites = tuple(suites) or (self.suite.number,)
        self._hello, self._binder = hello, binder
        self._shares: dict[int, KeyShare] = {group: GROUPS[group].generate() for group in shares}
        self._cookie: Cookie | None = None

    def run(self) -> Steps[None]:
        self._send_hello("client_hello")
        hello: Any = yield from self.receive(ServerHello, HelloRetryRequest, hashed=False)
        self.suite = SUITES[hello.cipher_suite]
        self.transcript.choose(self.suite.hash)
        if isinstance(hello, HelloRetryRequest):
            self.transcript.replace_by_message_hash()
            self.transcript.add(self.last)
            group = hello.extensions.require(RetryGroup).group
            self._shares = {group: GROUPS[group].generate()}
            self._send_hello("second_client_hello")
            hello = yield from self.receive(ServerHello, hashed=False)
        self.transcript.add(self.last)
        if self.session_id:
            self.record(CCS, b"\x01")
        answer = hello.extensions.require(SelectedKeyShare).entry
        resumed = hello.extensions.get(SelectedPsk) is not None
        self._schedule = KeySchedule(self.suite, self.session.psk if resumed and self.session else None)
        shared = self._shares[answer.group].exchange(answer.key_exchange)
        self._handshake_secrets = self._schedule.handshake_secrets(shared, self.transcript.digest())
        self.read_with(self._handshake_secrets.server)
        self.write_with(self._handshake_secrets.client)
        yield from self.receive(EncryptedExtensions)
        request: CertificateRequest | None = None
        if not resumed:
            message: Any = yield from self.receive(CertificateRequest, Certificate)
            if isinstance(message, CertificateRequest):
                request = message
                yield from self.receive(Certificate)
            yield from self.receive(CertificateVerify)
        yield from self.check_finished(self._handshake_secrets.server)
        self.secrets = self._schedule.application_secrets(self.transcript.digest())
        self.read_with(self.secrets.server)
        if request is not None:
            self.certify(server=False, schemes=request.extensions.require(SignatureAlgorithms).schemes)
        self.finish(self._handshake_secrets.client)
        self.write_with(self.secrets.client)
        self.resumption = self._schedule.resumption_secret(self.transcript.digest())
        self.done = True

    def _send_hello(self, name: str) -> None:
        entries = tuple(KeyShareEntry(group, share.public) for group, share in self._shares.items())
        extensions: list[Extension] = [
            SupportedVersions((TLS_1_3,)),
            SupportedGroups(tuple(self.groups)),
            SignatureAlgorithms(DEFAULT_SCHEMES),
            KeyShares(entries),
            PskKeyExchangeModes((1,)),
        ]
        if self.server_name is not None:
            extensions.insert(0, ServerName(self.server_name))
        if self.alpn:
            extensions.append(ApplicationProtocols(tuple(self.alpn)))
        extensions = self._hello(extensions)
        session = self.session
        if session is None:
            self.emit(ClientHello(b"\xc1" * 32, self.session_id, self.suites, Extensions(extensions)), name)
            self.flush()
            return
        suite = SUITES[session.cipher_suite]

        def with_binder(binder: bytes) -> ClientHello:
            psk = PreSharedKeys((PskIdentity(session.ticket, session.age_add),), (binder,))
            return ClientHello(b"\xc1" * 32, self.session_id, self.suites, Extensions([*extensions, psk]))

        blank = with_binder(bytes(suite.hash_length))
        digest = self.transcript.digest_with(blank.truncated(blank.encode()), suite.hash)
        self.emit(with_binder(self._binder(KeySchedule(suite, session.psk).binder(digest))), name)
        self.flush()

    def next_write_key(self) -> None:
        self.secrets = TrafficSecrets(next_traffic_secret(self.suite, self.secrets.client), self.secrets.server)
        self.write_with(self.secrets.client)

    def next_read_key(self) -> None:
        self.secrets = TrafficSecrets(self.secrets.client, next_traffic_secret(self.suite, self.secrets.server))
        self.read_with(self.secrets.server)


# -- a machine and a peer --------------------------------------------------------------------------------------


@dataclass
class Meeting:
    """What came of it.

    Attributes:
      failure: what the machine raised, or None.
      data: the application data that it gave out.
      closed: whether it told that the peer has closed.
      short: whether a record that came alone is read as streams do it, by ``read_short``.
    """

    machine: Machine
    peer: ScriptedPeer
    failure: TLSError | None = None
    data: bytearray = field(default_factory=bytearray)
    closed: bool = False
    short: bool = False

    def step(self) -> bool:
        """Let the machine go on; whether it did anything."""
        machine = self.machine
        if self.failure is not None:
            return False
        try:
            done = machine.do_handshake()
            assert not isinstance(done, Need), "who asks for something async answers it"
            while done is None and not self.closed:
                if self.short and (data := machine.read_short(2**16)) is not None:
                    self.data += data
                    continue
                buffer = bytearray(2**16)
                count = machine.read_into(memoryview(buffer))
                if isinstance(count, Want):
                    break
                self.closed = not count
                self.data += buffer[:count]
        except TLSError as error:
            self.failure = error
        return True

    def carry(self) -> bool:
        """Take bytes both ways; whether there were any."""
        there, back = bytes(self.peer.wire), self.machine.outgoing.read()
        self.peer.wire.clear()
        if there:
            self.machine.incoming.write(there)
        ends = self.peer.ended and not self.machine.incoming.eof_written
        if ends:
            self.machine.incoming.write_eof()
        self.peer.incoming.write(back)
        return bool(there or back or ends)

    def go_on(self) -> None:
        """After the handshake: carry what each has sent, until nothing moves."""
        moved = True
        while moved:
            moved = self.carry()
            self.step()
            self.peer.listen()
            moved = moved or bool(self.machine.outgoing.pending)

    def succeeded(self) -> Meeting:
        """Both ends are done."""
        if self.failure is not None:
            raise self.failure
        assert self.machine.handshake_done
        assert self.peer.done
        assert not self.peer.alerts
        return self

    def refused(self, alert: Alert, text: str = "", error: type[TLSError] = PeerMisbehaved) -> TLSError:
        """The machine has refused the peer: with this alert and error, once, and for good."""
        failure = self.failure
        assert failure is not None, "the machine has accepted it"
        assert (type(failure), failure.alert) == (error, alert), f"{failure!r} {failure.alert!s}"
        assert not failure.sent_by_peer
        assert text in str(failure), str(failure)
        assert self.peer.alerts == [alert]
        assert self.machine.sent_fatal_alert
        assert not self.machine.outgoing.pending
        assert str(self._again()) == str(failure)
        assert not self.machine.outgoing.pending, "a failed machine has sent something more"
        return failure

    def _again(self) -> TLSError:
        """What the machine says when it is asked once more."""
        try:
            assert self.machine.do_handshake() is None  # a finished handshake stays finished
            self.machine.read_into(memoryview(bytearray(9)))
        except TLSError as again:
            return again
        raise AssertionError("the machine goes on after a failure")


def meet(machine: Machine, peer: ScriptedPeer) -> Meeting:
    """Let them talk until nothing moves."""
    meeting = Meeting(machine, peer)
    script = peer.run()
    meeting.step()
    talking = True
    while True:
        if talking:
            try:
                next(script)
            except (StopIteration, Ended):
                talking = False
        elif not peer.alerts:
            peer.listen()
        if not meeting.carry() and not meeting.machine.outgoing.pending:
            return meeting
        meeting.step()
