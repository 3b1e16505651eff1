"""value: the decorator of messages, extensions and other facts, which are dataclasses that nobody may change.

How this works. The type checkers refuse every assignment to a field. At run time nothing does: a dataclass that is
frozen there takes three times as long to make, and a handshake makes about fifty. What proves something (the parts of
`established.Established`, `signatures.VerifiedSignature`) is frozen at run time too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

__all__ = ["value"]

T = TypeVar("T")

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform

    @dataclass_transform(frozen_default=True)
    def value(cls: type[T]) -> type[T]:
        """Make a dataclass of ``cls``, with slots, equality and a hash."""
        return cls
else:
    value = dataclass(slots=True, unsafe_hash=True)
