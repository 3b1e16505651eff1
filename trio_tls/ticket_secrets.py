"""Ticket keys that several processes and hosts have in common, and that change without a lost resumption.

How this works. `TicketKeys.from_secret` makes the same keys of the same secret on every host, and changes them by the
clock. What is left to share is the secret, or rather a few: for a secret should be replaced one day, and not everybody
learns the new one at the same moment. So each secret has a time from which on tickets are sealed with it; tickets are
opened with all of them, from the moment that a host has read them. A new secret is published some time before it is
used, and an old one is kept until the last ticket of it has expired.

The secrets are one small text, `TicketSecretStore` is where it lies: it can be read, and replaced if nobody else has
replaced it meanwhile. That is all, so a file will do (`TicketSecretFile`), or a key in Redis (`trio_tls.redis`)::

    # newest first: the secret, and since when tickets are sealed with it
    59c9...e1 2026-03-02T04:00:00+00:00
    0b1f...77 2026-02-01T04:00:00+00:00

A line without a time is good at once, and the first such line goes first: ``openssl rand -hex 32`` makes a valid file.
"""

from __future__ import annotations

import logging
import math
import os
import secrets as randomness
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

import trio

from .machine.tls13.tickets import LEAST_SECRET, TicketKeys

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # there nobody waits for anybody else

__all__ = ["SharedTicketKeys", "TicketSecret", "TicketSecretFile", "TicketSecretStore"]

LOGGER = logging.getLogger("trio_tls")

#: Secrets in one text. Each ticket that is no ticket of ours is tried with all of them.
MOST_SECRETS = 16

HEADING = b"# Ticket secrets of trio_tls. Whoever reads them can open the tickets of your clients.\n"


@dataclass(frozen=True, slots=True, repr=False)
class TicketSecret:
    """A secret that ticket keys are made of.

    Attributes:
      secret: at least 32 random bytes.
      since: from when on tickets are sealed with it, seconds since 1970. Tickets are opened with it at any time.
    """

    secret: bytes
    since: float = 0.0

    def __repr__(self) -> str:
        return f"<TicketSecret since {_iso(self.since)}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a TicketSecret is not pickled or copied: share it by a TicketSecretStore")


class TicketSecretStore(Protocol):
    """Where processes and hosts share a small text."""

    async def read(self) -> bytes | None:
        """The text; None if there is none yet."""
        ...

    async def replace(self, old: bytes | None, new: bytes) -> bool:
        """Put ``new`` in the place of ``old``; False if what is there is not ``old`` (any more).

        It has to be one step for all who share the text: of several who replace the same ``old``, one may succeed.
        """
        ...


class TicketSecretFile:
    """Shares the secrets in a file: a `TicketSecretStore`.

    Between hosts, copy the file from the one that changes it, in less time than ``spread`` (`SharedTicketKeys.follow`).

    Args:
      path: of the file. It is made for its owner alone, and replaced by renaming. A file ``.lock`` is made beside it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)

    async def read(self) -> bytes | None:
        """As `TicketSecretStore.read`. OSError if it is there and cannot be read."""
        return await trio.to_thread.run_sync(self._read)

    async def replace(self, old: bytes | None, new: bytes) -> bool:
        """As `TicketSecretStore.replace`. OSError if it cannot be written."""
        return await trio.to_thread.run_sync(self._replace, old, new)

    def _read(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    def _replace(self, old: bytes | None, new: bytes) -> bool:
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
            if self._read() != old:
                return False
            aside = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
            aside.unlink(missing_ok=True)  # of a process of the same number that was killed here
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(new)
                file.flush()
                os.fsync(descriptor)
            aside.replace(self.path)
            return True
        finally:
            os.close(lock)

    def __repr__(self) -> str:
        return f"<TicketSecretFile {self.path}>"


class SharedTicketKeys(TicketKeys):
    """Ticket keys of several secrets: seals with the newest whose time has come, opens with all.

    ::

        store = TicketSecretFile("/var/lib/site/ticket-secrets")
        keys = await SharedTicketKeys.load(store)  # makes the first secret, if there is none
        config = ServerConfig(credentials=credential, ticket_keys=keys)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(keys.follow, store, rotate_after=30 * 24 * 3600))
            await serve_tls_over_tcp(handler, 443, config)

    Args:
      secrets: at least one, 16 at the most.
      lifetime: as for `TicketKeys`.
      rotation: as for `TicketKeys`. Everybody who shares the secrets needs the same.
      random: as for `TicketKeys`.

    Raises:
      ValueError: there is no secret, too many, one that is too short, or a number is out of its range.
    """

    __slots__ = ("_shared", "_told")

    def __init__(
        self,
        secrets: Sequence[TicketSecret],
        *,
        lifetime: int = 24 * 3600,
        rotation: int = 12 * 3600,
        random: Callable[[int], bytes] = randomness.token_bytes,
    ) -> None:
        super().__init__(random, lifetime=lifetime, rotation=rotation)
        #: Newest first. A thread that sees this while another replaces it sees one whole or the other.
        self._shared: tuple[tuple[TicketSecret, TicketKeys], ...] = ()
        self._told = ""
        self.use(secrets)

    @classmethod
    async def load(
        cls, store: TicketSecretStore, *, lifetime: int = 24 * 3600, rotation: int = 12 * 3600
    ) -> SharedTicketKeys:
        """Keys of the secrets in ``store``, where a first one is made if there is none.

        Raises:
          ValueError: what is in the store are no secrets; or a number is out of its range.
          Exception: what the store raises.
        """
        while True:
            text = await store.read()
            if text is not None:
                return cls(secrets_in(text), lifetime=lifetime, rotation=rotation)
            await store.replace(None, text_of([TicketSecret(randomness.token_bytes(LEAST_SECRET))]))

    def use(self, secrets: Sequence[TicketSecret]) -> None:
        """Seal and open with these from now on.

        Raises:
          ValueError: as for the class; then nothing has changed.
        """
        if not 1 <= len(secrets) <= MOST_SECRETS:
            raise ValueError(f"give 1 to {MOST_SECRETS} ticket secrets, not {len(secrets)}")
        known = {each.secret: keys for each, keys in self._shared}
        shared = [
            (
                each,
                known.get(each.secret)
                or TicketKeys.from_secret(each.secret, self._random, lifetime=self.lifetime, rotation=self.rotation),
            )
            for each in secrets
        ]
        self._shared = tuple(sorted(shared, key=lambda pair: -pair[0].since))  # stable: of equals the first stays so

    @property
    def secrets(self) -> tuple[TicketSecret, ...]:
        """The secrets in use, the newest first."""
        return tuple(secret for secret, _ in self._shared)

    def seal(self, state: bytes, now: float) -> bytes | None:
        """As `TicketKeys.seal`, with the newest secret whose time has come."""
        shared = self._shared
        keys = next((keys for secret, keys in shared if secret.since <= now), shared[-1][1])
        return keys.seal(state, now)

    def open(self, ticket: bytes, now: float) -> bytes | None:
        """As `TicketKeys.open`, with any of the secrets."""
        for _, keys in self._shared:
            state = keys.open(ticket, now)
            if state is not None:
                return state
        return None

    async def refresh(self, store: TicketSecretStore) -> None:
        """Read the secrets again now.

        Cancelled: the old secrets or the new ones are in use.

        Raises:
          ValueError: what is in the store are no secrets; the old ones stay.
          Exception: what the store raises.
        """
        await self._read(store)

    async def _read(self, store: TicketSecretStore) -> bytes:
        text = await store.read()
        if text is None:
            raise ValueError("the ticket secrets are gone: put them back, or a new one in their place")
        self.use(secrets_in(text))
        return text

    async def rotate(self, store: TicketSecretStore, *, spread: float = 60.0) -> bool:
        """Add a new secret, and drop those that no ticket can be alive of.

        Tickets are sealed with the new one after ``spread`` seconds. When several processes do this at the same time,
        one succeeds.

        Returns: whether it was this one.

        Raises:
          ValueError: as `refresh`; or there would be more than 16 secrets that tickets are alive of.
          Exception: what the store raises.
        """
        done = await self._replace(store, await store.read(), spread)
        await self.refresh(store)
        return done

    async def _replace(self, store: TicketSecretStore, old: bytes | None, spread: float) -> bool:
        kept = () if old is None else secrets_in(old)
        now = time.time()
        fresh = TicketSecret(randomness.token_bytes(LEAST_SECRET), math.ceil(now + spread))
        new = [fresh, *_alive(kept, now, self.lifetime)]
        if len(new) > MOST_SECRETS:
            raise ValueError(
                f"there are tickets alive of all {len(new) - 1} ticket secrets, and {MOST_SECRETS} is the most: "
                f"make a new one at most every {self._least_rotation:.0f} seconds, or let the tickets live shorter"
            )
        answer = store.replace(old, text_of(new))
        del old  # if that fails, the traceback shows no secret
        return await answer

    @property
    def _least_rotation(self) -> float:
        """Seconds between two secrets, such that those of which tickets are alive are never too many.

        Beside the secrets of one lifetime there is one to come, one that began before, and one that a person adds.
        """
        return self.lifetime / (MOST_SECRETS - 3)

    async def follow(
        self,
        store: TicketSecretStore,
        *,
        every: float = 10.0,
        rotate_after: float | None = None,
        spread: float = 60.0,
    ) -> None:
        """Keep up with the store for ever. Run it in a nursery, beside the server.

        Whatever goes wrong is logged to the logger ``trio_tls``, once, and tried again; the secrets stay as they are.

        Args:
          store: where the secrets are.
          every: seconds between two looks.
          rotate_after: seconds after which a secret is replaced by a new one, by whoever sees it first; None: another
            program does that.
          spread: seconds between the making of a secret and its first use: in that time everybody has to read it.

        Raises:
          ValueError: a number makes no sense; ``spread`` has to be longer than ``every``, and ``rotate_after`` at
            least a thirteenth of the tickets' lifetime.
        """
        if not 0 < every < spread:
            raise ValueError(f"every has to be more than 0 and less than spread, not {every!r} and {spread!r}")
        if rotate_after is not None and not rotate_after > spread:
            raise ValueError(f"rotate_after has to be more than spread ({spread!r}), or None, not {rotate_after!r}")
        if rotate_after is not None and rotate_after < self._least_rotation:
            raise ValueError(
                f"rotate_after has to be at least {self._least_rotation:.0f} seconds, not {rotate_after!r}: with "
                f"tickets that live for {self.lifetime} there would be more than {MOST_SECRETS} secrets to keep. "
                "Rotate less often, or give SharedTicketKeys a shorter lifetime"
            )
        while True:
            await trio.sleep(every)
            try:
                text = await self._read(store)
                if rotate_after is not None and time.time() - self._shared[0][0].since >= rotate_after:
                    await self._replace(store, text, spread)  # unless somebody else has just done so
                    await self._read(store)
                self._told = ""
            except Exception as error:
                words = " ".join(str(error).split()) or repr(error)
                if words != self._told:
                    LOGGER.error("the ticket secrets cannot be read or replaced, and the old ones stay: %s", words)
                self._told = words

    def __repr__(self) -> str:
        return f"<SharedTicketKeys of {len(self._shared)} secrets, lifetime={self.lifetime}, rotation={self.rotation}>"


def _alive(secrets: Sequence[TicketSecret], now: float, lifetime: float) -> list[TicketSecret]:
    """The secrets that are still sealed with, or were until less than a lifetime ago; newest first."""
    ordered = sorted(secrets, key=lambda secret: -secret.since)
    alive = []
    succeeded = now + lifetime  # when the next newer one has taken over
    for secret in ordered:
        if succeeded + lifetime > now:
            alive.append(secret)
        succeeded = secret.since
    return alive


def text_of(secrets: Sequence[TicketSecret]) -> bytes:
    """The text that is shared."""
    return HEADING + b"".join(f"{each.secret.hex()} {_iso(each.since)}\n".encode() for each in secrets)


def secrets_in(text: bytes) -> tuple[TicketSecret, ...]:
    """The secrets in such a text.

    Raises:
      ValueError: a line is none of a secret (its number is told, and nothing of what it holds); or there is none.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split(b"#")[0].split()
        if not words:
            continue
        try:
            secret = bytes.fromhex(words[0].decode("ascii"))
            since = datetime.fromisoformat(words[1].decode("ascii")).timestamp() if len(words) > 1 else 0.0
            if len(words) > 2 or len(secret) < LEAST_SECRET:
                raise ValueError
        except ValueError:
            raise ValueError(
                f"line {number} of the ticket secrets is not a secret: {2 * LEAST_SECRET} or more hexadecimal digits, "
                f"and a time such as {_iso(0)}, or none"
            ) from None
        found.append(TicketSecret(secret, since))
    if not found:
        raise ValueError("there is no ticket secret in the text: make one with `openssl rand -hex 32`")
    return tuple(found)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
