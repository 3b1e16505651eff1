"""Tracer: what a machine tells of its work to whoever wants to watch. Nothing secret.

How this works. A config may carry an object with these methods; the machine calls them in the order in which things
happen. They must neither fail nor take long. `trio-tls connect --trace` draws its ladder from them.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["Tracer"]


class Tracer(Protocol):
    """Is told what happens on one connection."""

    def message(self, *, sent: bool, name: str, size: int, epoch: str) -> None:
        """A handshake message, by its name in the RFC, left or came.

        Args:
          sent: whether it is ours.
          name: such as ``"client_hello"``.
          size: its bytes, with header.
          epoch: ``"plaintext"``, ``"handshake"`` or ``"application"``: what protected it.
        """
        ...

    def key_change(self, *, sent: bool, epoch: str) -> None:
        """The keys of one direction changed: ``sent`` is our sending direction."""
        ...

    def alert(self, *, sent: bool, name: str) -> None:
        """An alert, by its name in the RFC."""
        ...

    def want(self, name: str) -> None:
        """The machine stopped: it wants ``"read"``, or an answer to a need, by the name of its class."""
        ...
