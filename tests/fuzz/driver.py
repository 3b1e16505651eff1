"""``python -m tests.fuzz.driver TARGET [libFuzzer's options]``: one target under atheris, in a process of its own.

How this works. The library is instrumented as it is imported, so nothing of it may be imported before. libFuzzer ends
the process by itself: at a crash with the input in a file, or when its time is over.
"""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-untyped,unused-ignore]  # it is in a group of its own

with atheris.instrument_imports(include=["trio_tls"]):
    from .targets import TARGETS

if __name__ == "__main__":
    target = TARGETS[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target.run)
    atheris.Fuzz()
