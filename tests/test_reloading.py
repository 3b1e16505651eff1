"""ReloadingConfig: new files are served without a restart, and never by halves."""

from __future__ import annotations

import logging
import math
import os
import shutil
import ssl
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from cryptography import x509
from trio.testing import MockClock

from trio_tls import (
    ConfigsByName,
    Credential,
    PrivatePolicy,
    ReloadingConfig,
    ServerConfig,
    TicketKeys,
    TLSError,
    TLSListener,
    TLSStream,
    TrustAnchors,
    Verifier,
    serve_tls,
)

from .peers import certified_client
from .support import HOST, Machines, authority, client_config, client_context, receive_exactly

MACHINES = ("ssl", "own")


@cache
def issued(number: int) -> trustme.LeafCert:
    """A certificate; the number is its organisation, and each has a key of its own."""
    return authority().issue_cert(HOST, organization_name=f"number {number}")


def write(folder: Path, number: int, *, key_of: int | None = None) -> None:
    """Put a pair into ``folder``, in place."""
    (folder / "cert.pem").write_bytes(b"".join(each.bytes() for each in issued(number).cert_chain_pems))
    (folder / "key.pem").write_bytes(issued(number if key_of is None else key_of).private_key_pem.bytes())


def reading(kind: str, folder: Path, **options: Any) -> Callable[[], Any]:
    """A function that reads the pair in ``folder``."""

    def read() -> ssl.SSLContext | ServerConfig:
        certificate, key = folder / "cert.pem", folder / "key.pem"
        if kind == "own":
            return ServerConfig(credentials=Credential.from_files(certificate, key), **options)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        return context

    return read


class Site:
    """A configuration, and what became of each attempt to reload it."""

    def __init__(self, kind: str, folder: Path, **options: Any) -> None:
        self.attempts: list[Exception | None] = []
        self._news = trio.Event()
        self.config = ReloadingConfig(
            reading(kind, folder, **options),
            [folder / "cert.pem", folder / "key.pem"],
            every=5,
            settle=1,
            on_reload=self._note,
        )

    def _note(self, failure: Exception | None) -> None:
        self.attempts.append(failure)
        self._news.set()

    async def attempt(self) -> Exception | None:
        """What the next attempt comes to."""
        await self._news.wait()
        self._news = trio.Event()
        return self.attempts[-1]


async def number_served(config: Any, client: Any = None) -> int:
    """Which certificate a client is shown, and verifies."""
    near, far = trio.testing.memory_stream_pair()
    stream = TLSStream(near, client or client_config(), server_hostname=HOST)
    async with stream, TLSStream(far, config, server_side=True) as server, trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        await stream.do_handshake()
        return number_of(stream)


def number_of(stream: TLSStream[Any]) -> int:
    der = stream.getpeercert(binary_form=True)
    assert der is not None
    subject = x509.load_der_x509_certificate(der).subject
    (name,) = subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
    return int(str(name.value).split()[1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, 1)
    return tmp_path


# -- what is read, and when ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MACHINES)
async def test_refresh_reads_what_has_changed_and_nothing_else(
    kind: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(kind, folder)
    before = site.config.current
    assert not await site.config.refresh()
    assert site.config.current is before
    assert site.attempts == []
    write(folder, 2)
    assert await site.config.refresh()
    assert await number_served(site.config) == 2
    (folder / "cert.pem").write_bytes(b"nothing")
    assert not await site.config.refresh()
    assert await number_served(site.config) == 2
    done, refused = site.attempts
    assert done is None
    assert refused is not None


@pytest.mark.parametrize("kind", MACHINES)
async def test_files_that_change_are_served_and_open_connections_go_on(
    kind: str, folder: Path, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.INFO, "trio_tls")
    site = Site(kind, folder)
    near, far = trio.testing.memory_stream_pair()
    client = TLSStream(near, client_config(), server_hostname=HOST)
    server = TLSStream(far, site.config, server_side=True)
    async with client, server, trio.open_nursery() as nursery:
        nursery.start_soon(site.config.watch)
        nursery.start_soon(server.send_all, b"before")
        assert await receive_exactly(client, 6) == b"before"
        write(folder, 2)
        assert await site.attempt() is None
        assert await number_served(site.config) == 2
        nursery.start_soon(server.send_all, b"after")
        assert await receive_exactly(client, 5) == b"after"
        assert number_of(client) == 1
        nursery.cancel_scope.cancel()
    assert [record.getMessage() for record in caplog.records] == [
        f"TLS configuration read again from {folder}/cert.pem, {folder}/key.pem"
    ]
    assert repr(site.config) == f"<ReloadingConfig of {folder}/cert.pem, {folder}/key.pem>"


@pytest.mark.parametrize("kind", MACHINES)
async def test_a_certificate_whose_key_has_not_come_yet_is_refused_in_one_line_and_served_when_it_has(
    kind: str, folder: Path, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    site = Site(kind, folder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.config.watch)
        write(folder, 2, key_of=1)
        assert await site.attempt() is not None
        assert await number_served(site.config) == 1
        await trio.sleep(60)
        assert await number_served(site.config) == 1
        (refusal,) = caplog.records
        assert refusal.levelno == logging.ERROR
        assert "is refused, and the old one stays: " in refusal.getMessage()
        assert ("does not fit" if kind == "own" else "KEY_VALUES_MISMATCH") in refusal.getMessage()
        assert "\n" not in refusal.getMessage()
        assert refusal.exc_info is None
        write(folder, 2)
        while await site.attempt() is not None:
            pass
        assert await number_served(site.config) == 2
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", MACHINES)
@pytest.mark.parametrize("damage", ["garbage", "empty", "gone", "half"])
async def test_broken_files_are_refused_and_the_old_ones_stay(
    kind: str, damage: str, folder: Path, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    site = Site(kind, folder)
    path = folder / "key.pem"
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"garbage": b"garbage", "empty": b"", "half": whole[: len(whole) // 2]}[damage])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.config.watch)
        assert await site.attempt() is not None
        assert await number_served(site.config) == 1
        path.write_bytes(whole)  # the old ones again: nothing is new
        await trio.sleep(60)
        assert await number_served(site.config) == 1
        write(folder, 2)
        while await site.attempt() is not None:
            pass
        assert await number_served(site.config) == 2
        nursery.cancel_scope.cancel()
    assert len(caplog.records) == 1


async def test_a_file_that_is_only_touched_makes_no_new_configuration(folder: Path, autojump_clock: MockClock) -> None:
    site = Site("ssl", folder)
    first = site.config.current
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.config.watch)
        (folder / "cert.pem").touch()
        await trio.sleep(60)
        assert site.config.current is first
        assert not site.attempts
        nursery.cancel_scope.cancel()


async def test_files_that_keep_changing_are_read_when_they_have_settled(
    folder: Path, autojump_clock: MockClock
) -> None:
    site = Site("own", folder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.config.watch)
        await trio.sleep(4.9)
        for _ in range(20):
            write(folder, 2, key_of=1)
            await trio.sleep(0.5)
        assert not site.attempts
        write(folder, 2)
        assert await site.attempt() is None
        nursery.cancel_scope.cancel()
    assert site.attempts == [None]


async def test_files_that_change_while_they_are_read_are_read_again(folder: Path, autojump_clock: MockClock) -> None:
    reads = 0
    news = trio.Event()
    attempts: list[Exception | None] = []

    def read() -> Any:
        nonlocal reads
        reads += 1
        config = reading("own", folder)()
        if reads == 2:
            write(folder, 3)
        return config

    def note(failure: Exception | None) -> None:
        attempts.append(failure)
        if failure is None:
            news.set()

    config = ReloadingConfig(read, [folder], every=5, on_reload=note)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(config.watch)
        write(folder, 2)
        await news.wait()
        nursery.cancel_scope.cancel()
    assert await number_served(config) == 3
    assert [str(each) for each in attempts] == ["the files changed while they were read", "None"]


async def test_a_failure_that_may_pass_is_tried_again_in_whatever_words_it_is_told(
    folder: Path, autojump_clock: MockClock
) -> None:
    news = trio.Event()
    attempts: list[Exception | None] = []
    failures: list[OSError] = []

    def read() -> Any:
        if failures:
            raise LookupError("no certificate") from failures.pop()
        return reading("own", folder)()

    def note(failure: Exception | None) -> None:
        attempts.append(failure)
        if failure is None:
            news.set()

    config = ReloadingConfig(read, [folder], on_reload=note)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(config.watch)
        failures.append(OSError(24, "Too many open files"))
        write(folder, 2)
        await news.wait()
        nursery.cancel_scope.cancel()
    assert await number_served(config) == 2
    assert [type(each) for each in attempts] == [LookupError, type(None)]


async def test_on_demand_it_reads_at_once_and_says_whether_that_worked(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = ReloadingConfig(reading("own", folder), [folder / "cert.pem", folder / "key.pem"])
    first = config.current
    assert await config.reload()
    assert config.current is not first
    write(folder, 2)
    assert await config.reload()
    assert await number_served(config) == 2
    write(folder, 3, key_of=2)
    assert not await config.reload()
    assert not await config.reload()
    assert len(caplog.records) == 2, "who demands is answered each time"
    assert await number_served(config) == 2


async def test_an_error_that_is_no_fault_of_the_files_is_logged_with_its_traceback(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Any] = [reading("own", folder)(), "cert.pem", client_context()]
    config = ReloadingConfig(lambda: answers.pop(0), [folder])
    assert not await config.reload()
    assert not await config.reload()
    assert not await config.reload()
    assert [record.exc_info is not None for record in caplog.records] == [True, False, True]


async def test_a_cancelled_reload_leaves_the_old_or_the_new(folder: Path) -> None:
    config = ReloadingConfig(reading("own", folder), [folder])
    write(folder, 2)
    with trio.CancelScope() as scope:
        scope.cancel()
        await config.reload()
    assert await number_served(config) in (1, 2)
    assert await config.reload()
    assert await number_served(config) == 2


def test_mistakes_are_told_at_the_start(folder: Path) -> None:
    read = reading("own", folder)
    with pytest.raises(ValueError, match="no path to watch"):
        ReloadingConfig(read, [])
    with pytest.raises(ValueError, match="every must be more than 0"):
        ReloadingConfig(read, [folder], every=0)
    with pytest.raises(ValueError, match="settle must be"):
        ReloadingConfig(read, [folder], settle=-1)
    with pytest.raises(ValueError, match="a ClientConfig cannot serve"):
        ReloadingConfig(client_config, [folder])
    assert ReloadingConfig(client_config, [folder], server_side=False).current is not None
    write(folder, 1, key_of=2)
    with pytest.raises(ValueError, match="does not fit"):
        ReloadingConfig(read, [folder])


# -- how certbot, Kubernetes and people replace files ------------------------------------------------------------------


def as_certbot(root: Path, number: int) -> None:
    """live/site/*.pem are links to archive/site/*N.pem, replaced one by one."""
    live, archive = root / "live" / "site", root / "archive" / "site"
    for folder in (live, archive):
        folder.mkdir(parents=True, exist_ok=True)
    write(archive, number)
    for name in ("cert", "key"):
        (archive / f"{name}.pem").rename(archive / f"{name}{number}.pem")
        (live / f"{name}.pem").unlink(missing_ok=True)
        (live / f"{name}.pem").symlink_to(f"../../archive/site/{name}{number}.pem")


def as_kubernetes(root: Path, number: int) -> None:
    """Files are links into ..data, itself a link, which is replaced atomically; the old directory is removed."""
    live = root / "live" / "site"
    live.mkdir(parents=True, exist_ok=True)
    old = live / "..data"
    before = old.readlink() if old.is_symlink() else None
    fresh = live / f"..2026_{number}"
    fresh.mkdir()
    write(fresh, number)
    (live / "..data_tmp").symlink_to(fresh.name)
    (live / "..data_tmp").rename(old)
    for name in ("cert.pem", "key.pem"):
        if not (live / name).is_symlink():
            (live / name).symlink_to(f"..data/{name}")
    if before is not None:
        shutil.rmtree(live / before)


def by_rename(root: Path, number: int) -> None:
    """Each file is written beside its place, and renamed over it."""
    live, aside = root / "live" / "site", root / "aside"
    for folder in (live, aside):
        folder.mkdir(parents=True, exist_ok=True)
    write(aside, number)
    for name in ("cert.pem", "key.pem"):
        (aside / name).rename(live / name)


@pytest.mark.parametrize("kind", MACHINES)
@pytest.mark.parametrize("replace", [as_certbot, as_kubernetes, by_rename])
async def test_files_are_replaced_as_others_replace_them(
    kind: str, replace: Callable[[Path, int], None], tmp_path: Path, autojump_clock: MockClock
) -> None:
    replace(tmp_path, 1)
    site = Site(kind, tmp_path / "live" / "site")
    assert await number_served(site.config) == 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.config.watch)
        for number in (2, 3):
            replace(tmp_path, number)
            assert await site.attempt() is None
            assert await number_served(site.config) == number
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", MACHINES)
async def test_under_load_no_connection_fails_while_pairs_come_by_halves(
    kind: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = ReloadingConfig(reading(kind, folder), [folder / "cert.pem", folder / "key.pem"], every=0.01, settle=0.005)
    (tcp,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = tcp.socket.getsockname()[1]
    news, seen = trio.open_memory_channel[int](math.inf)

    async def handler(stream: TLSStream[trio.SocketStream]) -> None:
        await stream.send_all(await stream.receive_some())

    async def visit() -> None:
        clients: dict[str, Any] = {"own": client_config(), "ssl": client_context()}
        while True:
            transport = await trio.open_tcp_stream("127.0.0.1", port)
            async with TLSStream(transport, clients[kind], server_hostname=HOST) as client:
                await client.send_all(b"x")
                assert await client.receive_some() == b"x"
                news.send_nowait(number_of(client))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(config.watch)
        await nursery.start(partial(serve_tls, handler, [TLSListener(tcp, config)]))
        async with trio.open_nursery() as visitors:
            for _ in range(3):
                visitors.start_soon(visit)
            with trio.fail_after(20):
                for number in range(2, 8):
                    write(folder, number, key_of=number - 1)  # half of it, for as long as ten connections take
                    for _ in range(10):
                        assert await seen.receive() <= number - 1
                    write(folder, number)
                    while await seen.receive() != number:
                        pass
            assert all("is refused" in record.getMessage() for record in caplog.records)
            visitors.cancel_scope.cancel()  # amid their handshakes: that is told, too
        nursery.cancel_scope.cancel()


# -- together with others ------------------------------------------------------------------------------------------


async def test_sessions_are_resumed_across_a_reload_if_the_ticket_keys_are_kept(folder: Path) -> None:
    config = ReloadingConfig(reading("own", folder, ticket_keys=TicketKeys(os.urandom)), [folder])
    client = client_config()
    session = None
    for number in (2, 3):
        near, far = trio.testing.memory_stream_pair()
        stream = TLSStream(near, client, server_hostname=HOST, session=session)
        async with stream, TLSStream(far, config, server_side=True) as server, trio.open_nursery() as nursery:
            nursery.start_soon(server.send_all, b"x")
            assert await receive_exactly(stream, 1) == b"x"
            assert stream.info is not None
            assert stream.info.session_reused == (number == 3)
            session = stream.session
        write(folder, number)
        assert await config.reload()


async def test_trust_anchors_are_reloaded(folder: Path, machines: Machines) -> None:
    others = trustme.CA()
    anchors = folder / "clients.pem"
    others.cert_pem.write_to_path(anchors)

    def read() -> Any:
        config = reading("own" if machines.is_own("server") else "ssl", folder)()
        if isinstance(config, ServerConfig):
            return config.replace(
                client_auth="required", verify=Verifier(TrustAnchors.from_files(anchors), PrivatePolicy())
            )
        config.maximum_version = machines.server.maximum_version
        config.load_verify_locations(anchors)
        config.verify_mode = ssl.CERT_REQUIRED
        return config

    config = ReloadingConfig(read, [folder])
    client = certified_client(machines)

    async def accepted() -> bool:
        near, far = trio.testing.memory_stream_pair()
        server = TLSStream(far, ConfigsByName({HOST: config}), server_side=True)
        accepted = False
        async with TLSStream(near, client, server_hostname=HOST) as stream, server, trio.open_nursery() as nursery:

            async def serve() -> None:
                nonlocal accepted
                try:
                    await server.do_handshake()
                    accepted = True
                except TLSError:
                    pass

            nursery.start_soon(serve)
            try:
                await stream.do_handshake()
            except TLSError:
                pass
        return accepted

    assert not await accepted()
    authority().cert_pem.write_to_path(anchors)
    assert await config.reload()
    assert await accepted()
