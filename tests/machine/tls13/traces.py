"""The example handshakes of RFC 8448, as the tests use them.

How this works. ``rfc8448.json`` holds what the RFC prints: for each of its sections a list of steps, and for each
step the values in hexadecimal that stand under it. Some steps only say "same as" another one and have no values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["RSA_KEY", "TRACES", "Step", "find", "messages"]


@dataclass(frozen=True)
class Step:
    """One step of a handshake: whose it is ("client" or "server"), its title, and its values by their names."""

    side: str
    title: str
    values: dict[str, bytes]


def _read() -> dict[str, tuple[Step, ...]]:
    sections = json.loads(Path(__file__).with_name("rfc8448.json").read_text(encoding="ascii"))
    return {
        section.partition(" ")[2]: tuple(
            Step(step["side"], step["step"], {name: bytes.fromhex(value) for name, value in step["values"].items()})
            for step in steps
        )
        for section, steps in sections.items()
    }


#: Section titles without their numbers ("Simple 1-RTT Handshake") -> the steps in the order of the RFC.
TRACES = _read()

#: The server's RSA key (section 2): "modulus (public)", "public exponent", "private exponent", "prime1", ...
RSA_KEY = TRACES.pop("Private Keys")[0].values


def find(trace: str, side: str, title: str, *, occurrence: int = 0) -> dict[str, bytes]:
    """The values of the step whose title begins with ``title``; steps without values are passed over."""
    found = [step for step in TRACES[trace] if step.side == side and step.title.startswith(title) and step.values]
    return found[occurrence].values


def messages(trace: str) -> Iterator[tuple[str, bytes]]:
    """Every whole handshake message of a trace: whose it is, and its bytes with the header."""
    for step in TRACES[trace]:
        if step.title.startswith("send handshake record"):
            flight = step.values["payload"]
            while flight:
                end = 4 + int.from_bytes(flight[1:4], "big")
                yield step.side, flight[:end]
                flight = flight[end:]
