"""Edits: how a script changes the messages and records of a peer by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from trio_tls.machine.tls13.extensions import Extension, Extensions, UnknownExtension
from trio_tls.machine.tls13.messages import Message, decode_message

from .scripted_peer import Edit, ScriptedPeer


def on(name: str, change: Callable[[bytes], bytes | Sequence[bytes]]) -> Edit:
    """Change the message of this name, and no other."""
    return lambda found, raw: change(raw) if found == name else raw


def rewritten(name: str, change: Callable[[Any], Message]) -> Edit:
    """Change the message of this name as an object."""
    return on(name, lambda raw: change(decode_message(raw[0], raw[4:])).encode())


def with_fields(name: str, **fields: Any) -> Edit:
    """Change fields of a message."""
    return rewritten(name, lambda message: replace(message, **fields))


def adding(name: str, *extensions: Extension) -> Edit:
    """Add extensions behind those that the message has."""
    return extended(name, lambda found: [*found, *extensions])


def without(name: str, kind: type[Extension]) -> Edit:
    """Leave an extension out."""
    return extended(name, lambda found: [each for each in found if type(each) is not kind])


def putting(name: str, extension: Extension) -> Edit:
    """Put an extension in the place of the one of its type."""
    return extended(name, lambda found: [extension if each.type == extension.type else each for each in found])


def extended(name: str, change: Callable[[list[Extension]], list[Extension]]) -> Edit:
    """Change the extensions of a message."""

    def changed(message: Any) -> Message:
        rebuilt: Message = replace(message, extensions=Extensions(change(list(message.extensions))))
        return rebuilt

    return rewritten(name, changed)


def dropped(name: str) -> Edit:
    return on(name, lambda raw: [])


def twice(name: str) -> Edit:
    return on(name, lambda raw: [raw, raw])


def sending(kind: int, content: bytes, *, times: int = 1, **how: Any) -> Callable[[ScriptedPeer], None]:
    """What ``before`` may do: send records."""

    def act(peer: ScriptedPeer) -> None:
        for _ in range(times):
            peer.record(kind, content, **how)

    return act


#: An extension that nobody knows.
STRANGE = UnknownExtension(0x1234, b"what is this")
