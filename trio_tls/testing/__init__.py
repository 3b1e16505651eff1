"""For tests: a transport that misbehaves on purpose, and a sweep that cancels an operation at every step.

Both work with any Trio code; TLS is only their first customer.
"""

from __future__ import annotations

from .chaos import Chaos, ChaosDirection, ChaosStream, CountedChaosStream
from .sweep import CancelMode, Interrupter, SweepReport, sweep

__all__ = [
    "CancelMode",
    "Chaos",
    "ChaosDirection",
    "ChaosStream",
    "CountedChaosStream",
    "Interrupter",
    "SweepReport",
    "sweep",
]
