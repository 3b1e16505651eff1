"""ReloadingConfig: certificates, keys and trust anchors that are read again when their files change.

How this works. The application gives a function that reads its files and makes a whole configuration of them, and the
paths of those files. `ReloadingConfig` stands where that configuration could stand, and gives each new connection the
newest that was made; connections that are open keep what they began with. A configuration that serves is never
changed, only replaced, so nobody is served by half of a new one.

`ReloadingConfig.watch` looks every few seconds at what the paths lead to: behind symbolic links (certbot and
Kubernetes swap those), to which inode, of what size and times. When something differs it waits until nothing differs
any more, then reads; and what it has read counts only if the files are the same afterwards. So files that are replaced
one by one, or written slowly, are read once they are whole. A new pair whose key does not fit its certificate cannot be
made into a configuration at all: the old one stays, with one line in the log, until the files change again.

Reading and making happen in a worker thread. What has changed is decided by the contents: a file that is only touched
makes no new configuration, which for an `ssl.SSLContext` would be the end of its session tickets.
"""

from __future__ import annotations

import hashlib
import logging
import os
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

import trio

from .blocking_contexts import off_the_loop
from .machine.factory import create_machine
from .machine.interface import Machine, MachineFactory

__all__ = ["ReloadingConfig"]

LOGGER = logging.getLogger("trio_tls")

#: What the paths lead to, or what lies there: only good to be compared.
Look: TypeAlias = "tuple[object, ...]"


class _StillChanging(OSError):
    """The files were not the same before and after they were read."""


class ReloadingConfig:
    """A configuration that is made anew when its files change.

    ::

        def read() -> ServerConfig:
            return ServerConfig(credentials=Credential.from_files(CERTIFICATE, KEY), ticket_keys=keys)

        config = ReloadingConfig(read, [CERTIFICATE, KEY])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(config.watch)
            await serve_tls_over_tcp(handler, 443, config)

    It serves anywhere: in a `TLSStream`, a `TLSListener`, a `ConfigsByName`, for clients too. What shall outlive a
    reload is made outside the function: the `TicketKeys` of a `ServerConfig` above all, for sessions are resumed across
    reloads if they and the judgement of clients (``client_auth``, ``verify``) stay the same. The session tickets of an
    `ssl.SSLContext` end with it: Python has no way to hand their keys on.

    Args:
      build: reads the files and makes the configuration: an `ssl.SSLContext`, a `ServerConfig`, or what else makes its
        own machines. It is called at once, and later in a worker thread. It has to make a new one each time.
      paths: the files whose changes matter, and directories, which stand for the files in them.
      every: seconds between two looks.
      settle: seconds for which nothing may change before the files are read.
      on_reload: called in the event loop after each attempt, with None, or with the exception if the new configuration
        was refused. One that it raises ends `watch`.
      server_side: whether it is for servers; a configuration that cannot serve is refused.

    Raises:
      ValueError: there is no path, or a number makes no sense.
      BaseException: what ``build`` raises, and what is wrong with the configuration that it makes.
    """

    def __init__(
        self,
        build: Callable[[], ssl.SSLContext | MachineFactory],
        paths: Iterable[str | os.PathLike[str]],
        *,
        every: float = 10.0,
        settle: float = 1.0,
        on_reload: Callable[[Exception | None], object] | None = None,
        server_side: bool = True,
    ) -> None:
        self._paths = [Path(path) for path in paths]
        if not self._paths:
            raise ValueError("there is no path to watch: give the files that build() reads")
        if not every > 0:
            raise ValueError(f"every must be more than 0 seconds, not {every!r}")
        if not settle >= 0:
            raise ValueError(f"settle must be a number of seconds, 0 or more, not {settle!r}")
        self._build = build
        self._every = every
        self._settle = settle
        self._on_reload = on_reload
        self._server_side = server_side
        self._lock = trio.Lock()
        self._told = ""
        self._try_again = False
        self._look = self._look_at_files()
        self._contents = _contents_of(self._paths)
        self._config = self._built()

    @property
    def current(self) -> ssl.SSLContext | MachineFactory:
        """The configuration of the connections to come."""
        return self._config

    def create_machine(self, *, server_side: bool, server_hostname: str | None, session: object | None) -> Machine:
        """A machine for one connection, by the newest configuration; see `MachineFactory`."""
        return create_machine(
            off_the_loop(self._config), server_side=server_side, server_hostname=server_hostname, session=session
        )

    async def watch(self) -> None:
        """Look at the files for ever, and reload when they change. Run it in a nursery, beside the server.

        Whatever is wrong with the new files is logged to the logger ``trio_tls``, once; the old configuration stays.

        Cancelled: the configuration is the old one or the new one.
        """
        while True:
            await trio.sleep(self._every)
            look = await trio.to_thread.run_sync(self._look_at_files)
            if look == self._look and not self._try_again:
                continue
            while True:
                await trio.sleep(self._settle)
                again = await trio.to_thread.run_sync(self._look_at_files)
                if again == look:
                    break
                look = again
            await self._reload(demanded=False)

    async def reload(self) -> bool:
        """Read the files now, whether they have changed or not: on SIGHUP, say.

        Returns: whether the configuration is a new one. False: it was refused, which has been logged.

        Cancelled: the configuration is the old one or the new one.
        """
        return await self._reload(demanded=True)

    async def refresh(self) -> bool:
        """Read the files now if they have changed: in a process that was forked after the configuration was made.

        `watch` would see that too, but later: the worker that replaces another would begin with old certificates.

        Returns: whether the configuration is a new one. False: nothing has changed, or it was refused, which has been
        logged.

        Cancelled: the configuration is the old one or the new one.
        """
        return await self._reload(demanded=False)

    async def _reload(self, *, demanded: bool) -> bool:
        async with self._lock:
            look = await trio.to_thread.run_sync(self._look_at_files)
            made, failure = None, None
            try:
                made = await trio.to_thread.run_sync(self._attempt, demanded)
            except Exception as error:
                failure = error
            self._look = look
            # A file may be unreadable for a moment, and not change; build() may tell that in words of its own.
            reasons = () if failure is None else (failure, failure.__cause__)
            self._try_again = any(isinstance(each, OSError) for each in reasons)
            if failure is not None:
                self._tell(failure, demanded=demanded)
            elif made is None:
                self._told = ""  # the old files are back
                return False
            else:
                self._config, self._contents = made
                self._told = ""
                LOGGER.info("TLS configuration read again from %s", self._listed())
            if self._on_reload is not None:
                self._on_reload(failure)
            return failure is None

    def _attempt(self, demanded: bool) -> tuple[ssl.SSLContext | MachineFactory, Look] | None:
        """Runs in a thread: a new configuration and what it was made of; None if nothing has changed."""
        contents = _contents_of(self._paths)
        if contents == self._contents and not demanded:
            return None
        config = self._built()
        if _contents_of(self._paths) != contents:
            raise _StillChanging("the files changed while they were read")
        return config, contents

    def _built(self) -> ssl.SSLContext | MachineFactory:
        """A configuration that can serve."""
        config = self._build()
        if self._server_side:
            create_machine(off_the_loop(config), server_side=True, server_hostname=None, session=None)
        return config

    def _tell(self, failure: Exception, *, demanded: bool) -> None:
        """One line for each new reason; who has demanded it is told each time."""
        words = " ".join(str(failure).split()) or repr(failure)
        if words == self._told and not demanded:
            return
        self._told = words
        LOGGER.error(
            "the new TLS configuration in %s is refused, and the old one stays: %s",
            self._listed(),
            words,
            exc_info=None if isinstance(failure, (OSError, ValueError)) else failure,
        )

    def _listed(self) -> str:
        return ", ".join(map(str, self._paths))

    def _look_at_files(self) -> Look:
        return tuple(_look_at(path) for path in self._paths)

    def __repr__(self) -> str:
        return f"<ReloadingConfig of {self._listed()}>"


def _look_at(path: Path) -> Look | None:
    """What a path leads to, without reading it; None if that cannot be told, as when it is gone."""
    try:
        facts = path.stat()
        inside = tuple((each.name, _look_at(each)) for each in _files_in(path)) if path.is_dir() else ()
        real = os.path.realpath(path)
    except OSError:
        return None
    return (real, facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, inside)


def _contents_of(paths: Iterable[Path]) -> Look:
    """What the files hold, as digests; for each that cannot be read, the reason."""
    found: list[object] = []
    for path in paths:
        try:
            files = _files_in(path) if path.is_dir() else [path]
            found += [(str(each), hashlib.sha256(each.read_bytes()).digest()) for each in files]
        except OSError as error:
            found.append((str(path), error.errno))
    return tuple(found)


def _files_in(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_file())
