"""What is made of files, and made anew when they change, and at once on SIGHUP.

How this works. `Reloaded` is a `ReloadingConfig`, if there are files, and `keep` is the task that reads them again. Who
is told of it is named later: what is made before workers are forked is told by each of them.
"""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import trio

from ..reloading import ReloadingConfig

if TYPE_CHECKING:
    from ..machine.interface import MachineFactory

__all__ = ["Reloaded", "keep"]

T = TypeVar("T", bound="ssl.SSLContext | MachineFactory")


class Reloaded(Generic[T]):
    """A configuration, and the files that it is made of.

    Args:
      make: makes it.
      paths: its files; none: it stays as it is.
      server_side: whether it is for a server.

    Attributes:
      told: is called after each attempt, with None, or with what is wrong with the new files.

    Raises:
      Problem: a file cannot be used.
    """

    def __init__(self, make: Callable[[], T], paths: Iterable[str | os.PathLike[str]], *, server_side: bool) -> None:
        self.told: Callable[[Exception | None], object] = _nobody
        paths = list(paths)
        self._made = None if paths else make()
        self._reloading = ReloadingConfig(make, paths, on_reload=self._tell, server_side=server_side) if paths else None

    @property
    def current(self) -> T:
        """The newest."""
        return cast("T", self._made if self._reloading is None else self._reloading.current)

    def _tell(self, failure: Exception | None) -> None:
        self.told(failure)

    async def watch(self) -> None:
        """Read the files again when they change. For ever, or not at all."""
        if self._reloading is not None:
            await self._reloading.watch()

    async def refresh(self) -> None:
        """Read the files now if they have changed since: a worker may be forked long after they were read."""
        if self._reloading is not None:
            await self._reloading.refresh()

    async def reload(self) -> None:
        """Read the files again now."""
        if self._reloading is not None:
            await self._reloading.reload()


def _nobody(failure: Exception | None) -> None:
    """Nobody is to be told yet."""


async def keep(
    every: Sequence[Reloaded[Any]], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Read files again when they change, and on SIGHUP. For ever.

    Args:
      every: what is made of them.
      task_status: for ``nursery.start``, which returns once SIGHUP is obeyed, and what has changed since the start is
        read. Before, a worker ignores SIGHUP, and any other process is killed.
    """
    async with trio.open_nursery() as nursery:
        for each in every:
            nursery.start_soon(each.watch)
        with trio.open_signal_receiver(signal.SIGHUP) as signals:
            for each in every:
                await each.refresh()
            task_status.started()
            async for _ in signals:
                for each in every:
                    await each.reload()
