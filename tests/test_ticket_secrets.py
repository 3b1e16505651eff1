"""Ticket secrets: several processes open each other's tickets, before, while and after the secrets change."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_tls import (
    ServerConfig,
    Session,
    SharedTicketKeys,
    TicketKeys,
    TicketSecret,
    TicketSecretFile,
    TLSStream,
)
from trio_tls.ticket_secrets import secrets_in, text_of

from .support import HOST, client_config, credential_of, receive_exactly, server_certificate

DAY = 24 * 3600
NOW = 1_800_000_000.0

OLD, NEW = TicketSecret(bytes(range(32)), NOW - 10 * DAY), TicketSecret(bytes(range(100, 132)), NOW + 60)


async def visit(config: ServerConfig, session: Session | None = None) -> tuple[bool, Any]:
    """Connect once; whether the session was resumed, and the next session."""
    near, far = trio.testing.memory_stream_pair()
    client = TLSStream(near, client_config(), server_hostname=HOST, session=session)
    async with client, TLSStream(far, config, server_side=True) as server, trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, b"x")
        assert await receive_exactly(client, 1) == b"x"
        assert client.info is not None
        return client.info.session_reused, client.session


def server(keys: TicketKeys) -> ServerConfig:
    return ServerConfig(credentials=credential_of(server_certificate()), ticket_keys=keys)


def names_in(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


async def until(true: Callable[[], bool]) -> None:
    """Wait by the mock clock; what happens in a thread takes none of its time."""
    while not true():  # noqa: ASYNC110
        await trio.sleep(5)


# -- keys of several secrets ---------------------------------------------------------------------------------------


def test_a_new_secret_opens_at_once_and_seals_when_its_time_has_come() -> None:
    early, late = SharedTicketKeys([OLD]), SharedTicketKeys([NEW, OLD])
    ticket = late.seal(b"state", NOW)
    assert ticket is not None
    assert early.open(ticket, NOW) == b"state", "who has not read the new secret yet still can"
    ticket = late.seal(b"state", NOW + 61)
    assert ticket is not None
    assert early.open(ticket, NOW + 61) is None
    early.use([OLD, NEW])
    assert early.open(ticket, NOW + 61) == b"state"
    assert early.secrets == late.secrets == (NEW, OLD)
    old_ticket = SharedTicketKeys([OLD]).seal(b"older", NOW)
    assert old_ticket is not None
    assert late.open(old_ticket, NOW + 61) == b"older"
    assert late.open(bytes(100), NOW) is None
    assert TicketKeys.from_secret(OLD.secret, os.urandom).open(old_ticket, NOW) == b"older", "the keys are the same"


def test_of_secrets_without_a_time_the_first_seals_and_one_of_the_future_is_better_than_none() -> None:
    first, second = TicketSecret(bytes(range(32))), TicketSecret(bytes(range(1, 33)))
    keys = SharedTicketKeys([first, second])
    ticket = keys.seal(b"state", NOW)
    assert ticket is not None
    assert SharedTicketKeys([first]).open(ticket, NOW) == b"state"
    assert SharedTicketKeys([NEW]).seal(b"state", NOW) is not None


def test_what_they_are_made_of_is_checked_and_not_shown() -> None:
    with pytest.raises(ValueError, match="1 to 16 ticket secrets, not 0"):
        SharedTicketKeys([])
    with pytest.raises(ValueError, match="not 17"):
        SharedTicketKeys([OLD] * 17)
    with pytest.raises(ValueError, match="at least 32 random"):
        SharedTicketKeys([TicketSecret(b"short")])
    with pytest.raises(ValueError, match="the lifetime of a ticket"):
        SharedTicketKeys([OLD], lifetime=0)
    keys = SharedTicketKeys([OLD, NEW])
    with pytest.raises(ValueError, match="all zero"):
        keys.use([TicketSecret(bytes(32))])
    assert keys.secrets == (NEW, OLD)
    assert repr(keys) == "<SharedTicketKeys of 2 secrets, lifetime=86400, rotation=43200>"
    assert repr(NEW) == "<TicketSecret since 2027-01-15T08:01:00+00:00>"


def test_the_text_has_one_line_for_each_secret() -> None:
    assert secrets_in(text_of([NEW, OLD])) == (NEW, OLD)
    bare = "ab" * 32
    assert secrets_in(f"# made by openssl rand -hex 32\n\n{bare} # ours\n".encode()) == (TicketSecret(b"\xab" * 32),)
    for broken in (b"ab" * 31, b"xy" * 32, b"ab" * 32 + b" tomorrow", b"ab" * 32 + b" 2026-01-01 x", b"\xff" * 64):
        with pytest.raises(ValueError, match="line 2 of the ticket secrets is not a secret") as caught:
            secrets_in(b"\n" + broken)
        assert broken.decode("latin-1") not in str(caught.value), "it may be one all the same"
    with pytest.raises(ValueError, match="no ticket secret"):
        secrets_in(b"# nothing\n")


# -- a file ----------------------------------------------------------------------------------------------------------


async def test_the_first_who_looks_makes_the_first_secret_and_all_others_read_it(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    found: list[SharedTicketKeys] = []

    async def load() -> None:
        found.append(await SharedTicketKeys.load(TicketSecretFile(path)))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(load)
    assert len({keys.secrets for keys in found}) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names_in(tmp_path) == ["secrets", "secrets.lock"]
    assert repr(TicketSecretFile(path)) == f"<TicketSecretFile {path}>"


async def test_of_several_who_rotate_one_succeeds_and_no_secret_is_lost_too_early(tmp_path: Path) -> None:
    store = TicketSecretFile(tmp_path / "secrets")
    now = int(time.time())
    expired, superseded, present = (
        TicketSecret(bytes([number] * 32), now - int(age * DAY)) for number, age in ((1, 30), (2, 2), (3, 0.5))
    )
    await store.replace(None, text_of([expired, present, superseded]))
    keys = await SharedTicketKeys.load(store)
    others = await SharedTicketKeys.load(store)
    done: list[bool] = []

    async def rotate(keys: SharedTicketKeys) -> None:
        done.append(await keys.rotate(store))

    text = await store.read()
    assert await keys.rotate(store, spread=60)
    assert not await store.replace(text, b"too late")
    assert keys.secrets[1:] == (present, superseded), "of one there can be no ticket any more"
    assert now + 59 < keys.secrets[0].since < now + 70
    await others.refresh(store)
    assert others.secrets == keys.secrets
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rotate, keys)
        nursery.start_soon(rotate, others)
    await others.refresh(store)
    await keys.refresh(store)
    assert others.secrets == keys.secrets
    assert any(done)
    assert sum(done) == len(keys.secrets) - 3


async def test_no_resumption_is_lost_while_two_servers_learn_of_a_new_secret_one_after_the_other(
    tmp_path: Path,
) -> None:
    store = TicketSecretFile(tmp_path / "secrets")
    one, other = await SharedTicketKeys.load(store), await SharedTicketKeys.load(store)
    configs = server(one), server(other)
    sessions = [(await visit(config))[1] for config in configs]
    assert await one.rotate(store, spread=60)  # the other has not read it yet
    for here, there in ((0, 1), (1, 0)):
        resumed, _ = await visit(configs[there], sessions[here])
        assert resumed
    resumed, session = await visit(configs[0])
    assert not resumed
    assert (await visit(configs[1], session))[0]
    await other.refresh(store)
    both = [TicketSecret(each.secret, each.since - 120) for each in one.secrets]  # two minutes later
    one.use(both)
    other.use(both)
    assert (await visit(configs[1], (await visit(configs[0]))[1]))[0]


def replaced(path: Path, content: bytes) -> None:
    """A file that nobody can read while it is half written."""
    beside = path.with_name("beside")
    beside.write_bytes(content)
    beside.replace(path)


async def test_it_follows_the_store_and_rotates_by_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    store = TicketSecretFile(tmp_path / "secrets")
    keys, others = await SharedTicketKeys.load(store), await SharedTicketKeys.load(store)
    text = await store.read()
    assert text is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keys.follow, store)

        assert await others.rotate(store)
        await until(lambda: len(keys.secrets) > 1)
        assert keys.secrets == others.secrets
        for broken in (b"no secret", None):
            if broken is None:
                store.path.unlink()
            else:
                replaced(store.path, broken)
            told = len(caplog.records)
            await until(lambda: len(caplog.records) > told)  # noqa: B023  # it is called now
            await trio.sleep(60)
            assert len(caplog.records) == told + 1
        assert "line 1 of the ticket secrets is not a secret" in caplog.records[0].getMessage()
        assert "the ticket secrets are gone" in caplog.records[1].getMessage()
        assert keys.secrets == others.secrets
        replaced(store.path, text_of([TicketSecret(bytes(range(32)), 0.0)]))
        await until(lambda: len(keys.secrets) == 1)
        nursery.cancel_scope.cancel()
    assert len(caplog.records) == 2
    async with trio.open_nursery() as nursery:

        async def rotating() -> None:
            await keys.follow(store, every=10, rotate_after=7000)

        nursery.start_soon(rotating)
        await until(lambda: len(keys.secrets) > 1)
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert len(keys.secrets) == 2, "the new one is young"


async def test_numbers_that_would_lose_resumptions_are_refused(tmp_path: Path) -> None:
    store = TicketSecretFile(tmp_path / "secrets")
    keys = await SharedTicketKeys.load(store)
    with pytest.raises(ValueError, match="less than spread"):
        await keys.follow(store, every=60, spread=60)
    with pytest.raises(ValueError, match="rotate_after has to be more than spread"):
        await keys.follow(store, rotate_after=60)
    with pytest.raises(
        ValueError, match=r"rotate_after has to be at least 6646 seconds, not 3600: .* shorter lifetime"
    ):
        await keys.follow(store, rotate_after=3600)


async def test_a_secret_that_tickets_are_alive_of_is_never_dropped(tmp_path: Path) -> None:
    store = TicketSecretFile(tmp_path / "secrets")
    keys = await SharedTicketKeys.load(store)
    ticket = keys.seal(b"state", time.time())
    assert ticket is not None
    for _ in range(15):
        assert await keys.rotate(store)
    text = await store.read()
    with pytest.raises(ValueError, match="tickets alive of all 16 ticket secrets, .* every 6646 seconds"):
        await keys.rotate(store)
    assert await store.read() == text
    assert len(keys.secrets) == 16
    assert keys.open(ticket, time.time()) == b"state"


@pytest.mark.parametrize("spread", [1, 60, 6000])
async def test_who_rotates_as_often_as_may_be_never_has_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spread: float
) -> None:
    store = TicketSecretFile(tmp_path / "secrets")
    keys = await SharedTicketKeys.load(store)
    now = NOW
    monkeypatch.setattr("trio_tls.ticket_secrets.time.time", lambda: now)
    for _ in range(40):
        now = max(now, keys.secrets[0].since + 6647)
        assert await keys.rotate(store, spread=spread)
    assert len(keys.secrets) <= 15, "there is room for one that a person adds"


async def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        await SharedTicketKeys.load(TicketSecretFile(tmp_path))


async def test_the_log_tells_no_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    store = TicketSecretFile(tmp_path / "secrets")
    keys = await SharedTicketKeys.load(store)
    await keys.rotate(store)
    assert not any(secret.secret.hex() in caplog.text + repr(keys) for secret in keys.secrets)
