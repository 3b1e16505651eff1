"""The library's log, while a server of the command tells what happens by itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["switched_off"]


@contextmanager
def switched_off() -> Iterator[None]:
    """Nothing is logged: what is told of failures would be told twice."""
    logger = logging.getLogger("trio_tls")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
