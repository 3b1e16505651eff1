"""The peers: ways to move the same bytes.

How this works. `PEERS` has them all, by the names that ``--peers`` takes, in the order in which they are measured and
shown. A peer that needs something which is not installed says so in `missing`, and is left out.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from .base import Peer
from .blocking import Blocking
from .libssl import LibSSL, build
from .on_asyncio import Asyncio, Uvloop
from .on_trio import TCP, AnyIO, OnContext, OwnHybrid, OwnMachine, TrioSSL

__all__ = ["BASE", "PEERS", "Peer", "missing"]

#: The peer that all others are compared with.
BASE = "trio"

PEERS: dict[str, type[Peer]] = {
    BASE: TrioSSL,
    "ours": OnContext,
    "own": OwnMachine,
    "tcp": TCP,
    "anyio": AnyIO,
    "asyncio": Asyncio,
    "uvloop": Uvloop,
    "blocking": Blocking,
    "libssl": LibSSL,
    "own-hybrid": OwnHybrid,
}

#: The package that a peer needs.
_PACKAGES = {"anyio": "anyio", "uvloop": "uvloop"}


def missing(peer: str, directory: Path) -> str | None:
    """Why a peer cannot be measured here; None if it can. What has to be compiled is compiled into ``directory``."""
    if peer == "libssl":
        return build(directory)
    package = _PACKAGES.get(peer)
    if package is not None and importlib.util.find_spec(package) is None:
        return f"{package} is not installed: pip install 'trio_tls[bench]'"
    return None
