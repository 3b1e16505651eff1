"""What an extension is: one of a known type, or one of which only the bytes are known.

How this works. The two differ in where the type stands: a class of ours is one type for ever, an `UnknownExtension`
carries it. So what is looked up by class (`Extensions.get`) can only be a known one.
"""

from __future__ import annotations

from typing import ClassVar, Protocol, TypeAlias

from ..registry import ExtensionType
from ..value import value

__all__ = ["Extension", "KnownExtension", "UnknownExtension"]


class KnownExtension(Protocol):
    """A class for one type of extension."""

    type: ClassVar[ExtensionType]

    def encode(self) -> bytes:
        """The body, without type and length."""
        ...


@value
class UnknownExtension:
    """An extension whose body nobody here reads: of an unknown type, or of one that is not implemented."""

    type: int
    data: bytes

    def encode(self) -> bytes:
        """The body, without type and length."""
        return self.data


#: One extension of a message: ``type`` is its ExtensionType, perhaps one without a name.
Extension: TypeAlias = KnownExtension | UnknownExtension
