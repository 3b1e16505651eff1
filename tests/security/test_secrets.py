"""No secret shows: in a repr, a log, a traceback with its locals, or a pickle; files of secrets are their owner's.

How this works. Two machines shake hands, and every secret of that is collected: what the key log is told, the keys and
IVs made of it, what the key exchange has given, the PSK, the secret of the tickets and the private keys (their files,
and the number that matters of them). Then everything that can be had is searched for each of them, in the forms that
bytes take in texts.
"""

from __future__ import annotations

import copy
import gc
import itertools
import logging
import os
import pickle
import ssl
import stat
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import trio_tls
from trio_tls import (
    ClientConfig,
    KeyLog,
    ServerConfig,
    Session,
    SharedTicketKeys,
    TicketKeys,
    TicketSecret,
    TLSError,
    TLSStream,
    serve_tls_over_tcp,
)
from trio_tls.cli import sessions as session_files
from trio_tls.machine.factory import create_machine
from trio_tls.machine.interface import Machine, Want
from trio_tls.machine.tls13.groups import GROUPS, KeyShare
from trio_tls.machine.tls13.key_schedule import KeySchedule, Secret, TrafficSecrets, traffic_keys
from trio_tls.machine.tls13.record import RecordKey
from trio_tls.machine.tls13.registry import NamedGroup
from trio_tls.machine.tls13.suites import SUITES
from trio_tls.machine.tls13.transcript import Transcript
from trio_tls.redis import Redis, RedisError, RedisTicketSecrets

from ..machine.tls13.ends import (
    a_client,
    a_server,
    client_config,
    client_credential,
    connected,
    fail,
    pass_on,
    read,
    send,
    server_config,
    server_credential,
)
from ..support import HOST, socket_pair, verifier

PACKAGE = str(Path(trio_tls.__file__).parent)
TICKET_SECRET = bytes(range(100, 132))


class Secrets:
    """Every secret of some connections, by what it is."""

    def __init__(self) -> None:
        self.found: dict[str, bytes] = {"ticket secret": TICKET_SECRET}
        for name, credential in (("server", server_credential()), ("client", client_credential())):
            key = credential._key
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            scalar = key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8, "big")
            form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            der = key.private_bytes(serialization.Encoding.DER, *form)
            self.found[f"key of the {name}"] = der
            self.found[f"scalar of the {name}'s key"] = scalar
            # The lines of the file that have a part of the scalar: what is behind it is the public key.
            lines = key.private_bytes(serialization.Encoding.PEM, *form).splitlines()[1:-1]
            for number in range(der.index(scalar) // 48, (der.index(scalar) + len(scalar) - 1) // 48 + 1):
                self.found[f"line {number + 1} of the {name}'s key file"] = lines[number]

    def __call__(self, label: str, _random: bytes, secret: bytes) -> None:
        self.found[f"{label} {len(self.found)}"] = secret
        for suite in SUITES.values():
            if suite.hash_length == len(secret):
                for name, part in zip(("key", "iv"), traffic_keys(suite, Secret(secret)), strict=True):
                    self.found[f"{label} {name} {suite.name} {len(self.found)}"] = part

    def add(self, session: object) -> None:
        assert isinstance(session, Session)
        self.found[f"PSK {len(self.found)}"] = session.psk

    def watch_key_exchanges(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Collect the shared secrets too, which no key log is told, as soon as they are there."""
        exchange = KeyShare.exchange

        def exchanged(share: KeyShare, peer: bytes) -> bytes:
            secret = exchange(share, peer)
            self.found[f"shared secret {len(self.found)}"] = secret
            return secret

        monkeypatch.setattr(KeyShare, "exchange", exchanged)
        for kind in {type(group) for group in GROUPS.values()}:
            monkeypatch.setattr(kind, "respond", self._responding(kind.respond))

    def _responding(self, respond: Callable[..., tuple[bytes, bytes]]) -> Callable[..., tuple[bytes, bytes]]:
        def responded(*arguments: object) -> tuple[bytes, bytes]:
            share, secret = respond(*arguments)
            self.found[f"shared secret {len(self.found)}"] = secret
            return share, secret

        return responded

    def in_text(self, text: str) -> list[str]:
        """Which secrets a text shows."""
        low = text.lower()
        return [
            name
            for name, secret in self.found.items()
            if secret.hex() in low or repr(secret)[2:-1] in text or str(int.from_bytes(secret, "big")) in text
        ]


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Secrets:
    """What is collected in this test, shared secrets among it."""
    found = Secrets()
    found.watch_key_exchanges(monkeypatch)
    return found


def configs(secrets: Secrets, **server: Any) -> tuple[ClientConfig, ServerConfig]:
    keys = TicketKeys.from_secret(TICKET_SECRET, os.urandom)
    return (
        client_config(keylog=secrets, credentials=client_credential(), session_cache=trio_tls.SessionCache()),
        server_config(keylog=secrets, client_auth="optional", verify=verifier(), ticket_keys=keys, **server),
    )


def a_connection(secrets: Secrets) -> tuple[Machine, Machine]:
    client, server = connected(*configs(secrets), name=HOST)
    assert send(server, client, b"x") == b"x"
    secrets.add(client.session)
    return client, server


# -- repr --------------------------------------------------------------------------------------------------------


def reachable(*roots: object) -> Iterator[object]:
    """Every object behind these, of the library and of whatever it is made of; not modules and classes."""
    seen: set[int] = set()
    waiting = list(roots)
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | types.ModuleType | types.CodeType):
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, types.FunctionType):
            waiting.extend(cell.cell_contents for cell in each.__closure__ or ())
        else:
            waiting.extend(gc.get_referents(each))


def ours(each: object) -> bool:
    return type(each).__module__.startswith("trio_tls")


def test_no_object_behind_a_connection_shows_a_secret(secrets: Secrets) -> None:
    client, server = a_connection(secrets)
    client_half, server_half = a_client(configs(secrets)[0]), a_server(configs(secrets)[1])
    client_half.do_handshake()
    pass_on(client_half, server_half)
    server_half.do_handshake()
    looked: set[str] = set()
    for each in reachable(client, server, client_half, server_half):
        if ours(each):
            looked.add(type(each).__name__)
            assert not secrets.in_text(repr(each)), type(each)
            assert not secrets.in_text(str(each)), type(each)
    for kind in (
        "Secret",
        "Session",
        "TicketKeys",
        "KeyShare",
        "ClientParameters",
        "Credential",
        "RecordKey",
        "Exchange",
    ):
        assert kind in looked, "then the search is none"


@asynccontextmanager
async def streams(secrets: Secrets) -> AsyncIterator[tuple[TLSStream[Any], TLSStream[Any]]]:
    """Both ends on sockets, after the handshake."""
    ends = socket_pair()
    client_side, server_side = configs(secrets)
    client = TLSStream(ends[0], client_side, server_hostname=HOST)
    server = TLSStream(ends[1], server_side, server_side=True)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.do_handshake)
            nursery.start_soon(server.do_handshake)
        yield client, server
    finally:
        await trio.aclose_forcefully(client)
        await trio.aclose_forcefully(server)


async def test_no_object_behind_a_stream_shows_a_secret(secrets: Secrets) -> None:
    async with streams(secrets) as (client, server):
        for each in (client, server, client.info, server.info, *configs(secrets)):
            assert not secrets.in_text(repr(each))
            assert not secrets.in_text(str(each))


def test_the_search_would_find_a_secret() -> None:
    secrets = Secrets()
    assert secrets.in_text(repr(TICKET_SECRET)) == secrets.in_text(TICKET_SECRET.hex().upper()) == ["ticket secret"]


@pytest.mark.parametrize("form", ["number", "hex", "bytes", "PEM", "DER"])
def test_the_search_would_find_a_private_key_in_any_form(form: str) -> None:
    key = server_credential()._key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    scalar = key.private_numbers().private_value
    encoded = [
        key.private_bytes(each, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        for each in (serialization.Encoding.PEM, serialization.Encoding.DER)
    ]
    text = {
        "number": repr(key.private_numbers().private_value),
        "hex": f"{scalar:064x}",
        "bytes": repr(scalar.to_bytes(32, "big")),
        "PEM": encoded[0].decode(),
        "DER": repr(encoded[1]),
    }[form]
    found = Secrets().in_text(text)
    assert found
    assert all("server" in each for each in found)


def test_the_search_knows_what_the_key_exchange_has_given(secrets: Secrets) -> None:
    a_connection(secrets)
    found = [secret for name, secret in secrets.found.items() if name.startswith("shared secret")]
    assert len(found) >= 2, "both ends have it"
    shared, ours, *others = sorted(set(found), key=len, reverse=True)
    assert not others
    assert shared.endswith(ours), "the server's X25519 half of a hybrid secret is one as well"
    assert len(secrets.in_text(repr(shared))) == len(found)


# -- logs --------------------------------------------------------------------------------------------------------


async def test_no_log_has_a_secret_whatever_is_logged(
    secrets: Secrets, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.NOTSET)
    client, server = configs(secrets)
    # A key log that cannot be written, beside an end that tells us the secrets.
    connected(client_config(keylog=KeyLog(tmp_path)), server, name=HOST)

    async def handler(stream: TLSStream[trio.SocketStream]) -> None:
        await stream.send_all(b"x")
        await stream.receive_some()  # it fails: what comes is no record of this connection

    def tell(error: Exception, stream: TLSStream[trio.SocketStream]) -> None:
        raise ValueError("what is told of failed handshakes has failed")

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(
            partial(
                serve_tls_over_tcp,
                handler,
                0,
                server.replace(keylog=KeyLog(tmp_path / "keys")),
                host="127.0.0.1",
                on_handshake_error=tell,
            )
        )
        address = listener.transport_listener.socket.getsockname()
        for wire in (b"no TLS at all", b"\x16\x03\x01\0\x05\x01\0\0\x01\0"):
            await _until_closed(await trio.open_tcp_stream(*address), wire)
        transport = await trio.open_tcp_stream(*address)
        stream = TLSStream(transport, client, server_hostname=HOST)
        assert await stream.receive_some() == b"x"
        await _until_closed(transport, b"\x17\x03\x03\0\x20" + bytes(32))
        await trio.aclose_forcefully(stream)
        nursery.cancel_scope.cancel()

    whole = [logging.Formatter().format(record) for record in caplog.records]
    for what in ("who has them can read", "cannot be written", "handshake", "has failed", "does not authenticate"):
        assert [each for each in whole if what in each], (what, whole)
    assert len(whole) > 6
    for record, text in zip(caplog.records, whole, strict=True):
        assert not secrets.in_text(text), text
        assert not secrets.in_text(repr(record.__dict__)), text


async def _until_closed(transport: trio.SocketStream, wire: bytes) -> None:
    """Send this, and wait until the server has had enough of it."""
    await transport.send_all(wire)
    try:
        while await transport.receive_some():
            pass
    except trio.BrokenResourceError:
        pass
    await transport.aclose()


def test_a_key_log_is_announced_once_and_only_when_it_is_used(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    keylog = KeyLog(tmp_path / "keys")
    assert not caplog.records
    for _ in range(2):
        connected(client_config(keylog=keylog), server_config())
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(tmp_path / "keys") in record.getMessage()


def test_the_environment_asks_for_a_key_log_and_that_is_announced_too(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SSLKEYLOGFILE", raising=False)
    connected(client_config(), server_config())
    assert not caplog.records
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    connected(client_config(), server_config())
    (record,) = caplog.records
    assert str(tmp_path / "keys") in record.getMessage()


# -- tracebacks --------------------------------------------------------------------------------------------------


def locals_of(error: BaseException) -> Iterator[tuple[str, object]]:
    """What the frames of an exception hold, and those of all that are chained to it."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        waiting += [other for other in (each.__cause__, each.__context__) if other is not None]
        traceback = each.__traceback__
        while traceback is not None:
            frame = traceback.tb_frame
            if frame.f_code.co_filename.startswith(PACKAGE):
                yield from ((f"{frame.f_code.co_name}: {name}", value) for name, value in frame.f_locals.items())
            traceback = traceback.tb_next


def check(error: BaseException, secrets: Secrets) -> None:
    for where, value in locals_of(error):
        assert not secrets.in_text(repr(value)), where
        if isinstance(value, bytes | bytearray | memoryview) and "released" not in repr(value):
            assert not [name for name, secret in secrets.found.items() if secret in bytes(value)], where


def _at(number: int, change: Callable[[bytes], bytes]) -> Callable[[Secrets], TLSError]:
    """A handshake whose flight of this number is changed on its way."""

    def run(secrets: Secrets) -> TLSError:
        client_side, server_side = configs(secrets)
        client, server = a_client(client_side), a_server(server_side)
        flights = 0
        for _ in range(4):
            for end, peer in ((client, server), (server, client)):
                try:
                    if end.do_handshake() is None and read(end) is not Want.READ:
                        continue
                except TLSError as failure:
                    return failure
                flight = end.outgoing.read()
                if flight:
                    peer.incoming.write(change(flight) if flights == number else flight)
                    flights += 1
        raise AssertionError("nothing has failed")

    return run


def _last_byte(flight: bytes) -> bytes:
    return flight[:-1] + bytes((flight[-1] ^ 1,))


def _after_handshake(wire: bytes) -> Callable[[Secrets], TLSError]:
    def run(secrets: Secrets) -> TLSError:
        client, _server = a_connection(secrets)
        client.incoming.write(wire)
        with pytest.raises(TLSError) as caught:
            read(client)
        return caught.value

    return run


def _application_fails(**server: Any) -> Callable[[Secrets], TLSError]:
    def run(secrets: Secrets) -> TLSError:
        client_side, server_side = configs(secrets, **server)
        failures = fail(a_client(client_side), a_server(server_side))
        return failures["server"]

    return run


def _raise(*_arguments: object) -> Any:
    raise RuntimeError("the application has failed")


FAILURES: dict[str, Callable[[Secrets], TLSError]] = {
    "a hello that was changed": _at(0, lambda flight: flight[:60] + b"\xff" + flight[61:]),
    "a hello that was cut": _at(0, lambda flight: flight[:9] + b"\0\0" + flight[11:]),
    "a server's flight that was changed": _at(1, _last_byte),
    "a client's flight that was changed": _at(2, _last_byte),
    "a record that does not authenticate": _after_handshake(b"\x17\x03\x03\0\x20" + bytes(32)),
    "a record that is too long": _after_handshake(b"\x17\x03\x03\xff\xff"),
    "a plain record": _after_handshake(b"\x16\x03\x03\0\x04\0\0\0\0"),
    "no credential": _application_fails(credentials=lambda need: None),
    "a credential's function that fails": _application_fails(credentials=_raise),
    "a choice that fails": _application_fails(choose=_raise),
}


@pytest.mark.parametrize("what", FAILURES)
def test_no_traceback_of_a_failure_holds_a_secret_in_its_locals(what: str, secrets: Secrets) -> None:
    check(FAILURES[what](secrets), secrets)


#: Where a defect is planted: a class, its method, and in which of its calls. The server is the first to get there.
DEFECTS: dict[str, tuple[type, str, int]] = {
    "the server's transcript": (Transcript, "digest", 0),
    "the server's handshake secrets": (KeySchedule, "handshake_secrets", 0),
    "the client's handshake secrets": (KeySchedule, "handshake_secrets", 1),
    "the server's application secrets": (KeySchedule, "application_secrets", 0),
    "the client's application secrets": (KeySchedule, "application_secrets", 1),
    "the client's resumption secret": (KeySchedule, "resumption_secret", 0),
    "the server's resumption secret": (KeySchedule, "resumption_secret", 1),
    "the server's Finished": (Secret, "expand", 4),
}


@pytest.mark.parametrize("where", DEFECTS)
def test_no_traceback_of_our_own_defects_holds_a_secret_in_its_locals(
    where: str, secrets: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, name, number = DEFECTS[where]
    sound: Callable[..., object] = getattr(holder, name)
    calls = itertools.count()

    def defective(*arguments: object) -> object:
        result = sound(*arguments)
        if next(calls) >= number:
            raise RuntimeError("a defect")
        return result

    monkeypatch.setattr(holder, name, defective)
    client, server = configs(secrets)
    failures = fail(a_client(client), a_server(server))
    told = [error for error in failures.values() if not error.sent_by_peer and "of its own" in str(error)]
    assert told
    assert [name for name in secrets.found if name.startswith("shared secret")]
    assert all(isinstance(error.__cause__, RuntimeError) for error in told)
    for error in failures.values():
        check(error, secrets)


async def test_no_traceback_of_a_stream_holds_a_secret_in_its_locals(secrets: Secrets) -> None:
    async with streams(secrets) as (client, server):
        assert isinstance(server.transport_stream, trio.SocketStream)
        await server.transport_stream.send_all(b"\x17\x03\x03\0\x20" + bytes(32))
        with pytest.raises(TLSError) as caught:
            await client.receive_some()
        with pytest.raises(TLSError) as again:
            await client.send_all(b"x")
        for error in (caught.value, again.value):
            check(error, secrets)


#: What a Redis answers that does nothing for us.
USELESS = {
    "it refuses": b"-WRONGPASS who are you?\r\n",
    "it is no Redis": b"HTTP/1.1 400 Bad Request\r\n",
    "it is gone": b"",
    "it refuses the command": b"+OK\r\n-ERR not this one\r\n",
}


@pytest.mark.parametrize("answer", USELESS.values(), ids=list(USELESS))
async def test_no_traceback_of_a_redis_that_fails_holds_its_password_or_what_it_was_to_store(
    secrets: Secrets, answer: bytes
) -> None:
    secrets.found["password of the Redis"] = b"open, sesame"
    keys = SharedTicketKeys([TicketSecret(TICKET_SECRET)])

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        redis = Redis("127.0.0.1", listener.socket.getsockname()[1], password="open, sesame", timeout=5)
        failing: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: redis.call("SET", "a session", TICKET_SECRET),
            lambda: RedisTicketSecrets(redis).replace(None, TICKET_SECRET.hex().encode()),
            lambda: RedisTicketSecrets(redis).replace(TICKET_SECRET, b"another one"),
            lambda: keys._replace(RedisTicketSecrets(redis), f"{TICKET_SECRET.hex()}\n".encode(), 60),
        )
        for call in failing:
            with pytest.raises(RedisError) as caught:
                await call()
            check(caught.value, secrets)
        await redis.aclose()
        nursery.cancel_scope.cancel()


# -- pickles -----------------------------------------------------------------------------------------------------


def secret_objects() -> dict[str, object]:
    client, server = a_connection(Secrets())
    suite = SUITES[0x1301]
    return {
        "a secret": Secret(bytes(32)),
        "traffic secrets": TrafficSecrets(Secret(bytes(32)), Secret(bytes(32))),
        "a key schedule": KeySchedule(suite),
        "a record key": RecordKey(suite, Secret(bytes(32))),
        "a key share": GROUPS[NamedGroup.x25519].generate(),
        "ticket keys": TicketKeys.from_secret(TICKET_SECRET, os.urandom),
        "a ticket secret": TicketSecret(TICKET_SECRET),
        "shared ticket keys": SharedTicketKeys([TicketSecret(TICKET_SECRET)]),
        "a credential": server_credential(),
        "a configuration": server_config(),
        "a client": client,
        "a server": server,
    }


@pytest.mark.parametrize("what", secret_objects())
def test_what_holds_a_secret_is_not_pickled(what: str) -> None:
    with pytest.raises((TypeError, pickle.PicklingError, AttributeError)):
        pickle.dumps(secret_objects()[what])


def test_a_secret_a_key_share_and_ticket_keys_are_not_copied_either() -> None:
    for what in ("a secret", "a key share", "ticket keys", "a ticket secret", "a key schedule", "a record key"):
        for copied in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="not pickled or copied"):
                copied(secret_objects()[what])


# -- files -------------------------------------------------------------------------------------------------------


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def lax_umask() -> Iterator[None]:
    """Files would be anybody's."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("lax_umask")
def test_a_session_file_is_its_owners_alone_also_where_it_was_not(tmp_path: Path) -> None:
    client, _server = a_connection(Secrets())
    assert isinstance(client.session, Session)
    path = tmp_path / "session"
    for before in (None, 0o666):
        if before is not None:
            path.chmod(before)
        session_files.save(client.session, str(path))
        assert mode_of(path) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["session"]


@pytest.mark.usefixtures("lax_umask")
def test_a_key_log_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    connected(client_config(keylog=KeyLog(tmp_path / "keys")), server_config())
    assert mode_of(tmp_path / "keys") == 0o600


@pytest.mark.usefixtures("lax_umask")
def test_the_key_log_of_an_ssl_context_is_cpythons_and_nobodys_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    context = ssl.create_default_context()
    assert context.keylog_filename == str(tmp_path / "keys")
    create_machine(context, server_side=False, server_hostname=HOST, session=None).do_handshake()
    assert mode_of(tmp_path / "keys") == 0o666
    assert not caplog.records


def test_a_machine_lets_go_of_its_exporter_when_both_ends_are_closed() -> None:
    ends: Any = connected()
    exporter = ends[0]._established.exporter.value
    assert exporter in [each for each in reachable(*ends) if isinstance(each, bytes)]
    for end, peer in (ends, ends[::-1]):
        end.shutdown()
        pass_on(end, peer)
        read(peer)
    assert exporter not in [each for each in reachable(*ends) if isinstance(each, bytes)]
