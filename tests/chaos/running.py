"""What a world is made of, and an operation in its task, with the cancels that befall it."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from trio_tls.testing import CancelMode, Interrupter

from .operations import Operation, Party

__all__ = ["UNDISTURBED", "Interruption", "Running", "Setting"]


@dataclass(frozen=True)
class Setting:
    """What a world is made of.

    Attributes:
      machines: by name, as in `tests.support`.
      tier: of the transport; ``"5-..."`` is ``"4-..."`` without entering.
      pieces: how many bytes at most the transport takes at once; None: as many as come. Only on tiers 4 and 5.
      buffer: of the sockets, where there are any; None: as the kernel likes.
      lenient: whether the ends are ``https_compatible``.
    """

    machines: str
    tier: str
    pieces: int | None = None
    buffer: int | None = None
    lenient: bool = False


@dataclass(frozen=True)
class Interruption:
    """When an operation is cancelled.

    Attributes:
      step: at its step of this number, as the cancellation sweep counts them; 0: at none.
      mode: at which side of the step.
      timeout: after so many virtual seconds.
      instead: whether those are cancelled first that are in its way.
    """

    step: int = 0
    mode: CancelMode = CancelMode.BLOCKED
    timeout: float | None = None
    instead: bool = False


UNDISTURBED = Interruption()


@dataclass(eq=False)
class Running:
    """An operation in its task.

    Attributes:
      rivals: whether another one was under way that uses the same side.
      connecting: whether the handshake was not known to be done when it began.
    """

    operation: Operation
    party: Party
    size: int
    interruption: Interruption
    rivals: bool = False
    connecting: bool = False
    started: bool = False
    completed: bool = False
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def __str__(self) -> str:
        return f"{self.party.model.name}.{self.operation.name}"

    @property
    def undisturbed(self) -> bool:
        """Whether nobody has thought of cancelling it."""
        when = self.interruption
        return not (when.step or when.timeout is not None or self.scope.cancel_called)

    async def run(self) -> None:
        """Do it, with its cancels."""
        self.started = True
        with self.scope:
            when = self.interruption
            if when.step:
                await Interrupter(when.mode, when.step).attempt(self._act)
            elif when.timeout is not None:
                with trio.move_on_after(when.timeout):
                    await self._act()
            else:
                await self._act()

    async def _act(self) -> None:
        await self.operation.act(self.party, self.size)
        self.completed = True
