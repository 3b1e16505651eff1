"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import json
import platform
import ssl
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

import trio

from .peers import PEERS
from .report import figures, render
from .runner import cores, measure_all, settings_in
from .workloads import WORKLOADS


def _names(known: Collection[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return parse


def main() -> None:
    """Measure, and print tables of ratios."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Compare TLS on Trio, in ratios.")
    parser.add_argument("--quick", action="store_true", help="3 short rounds, under two minutes")
    parser.add_argument("--rounds", type=int, help="how many rounds (default 7, quick 3)")
    parser.add_argument("--seconds", type=float, help="how long one measurement takes (default 1, quick 0.25)")
    parser.add_argument("--only", type=_names(WORKLOADS), default=list(WORKLOADS), help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--peers", type=_names(PEERS), default=list(PEERS), help=f"of {', '.join(PEERS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    options = parser.parse_args()
    rounds = options.rounds or (3 if options.quick else 7)
    seconds = options.seconds or (0.25 if options.quick else 1.0)

    with tempfile.TemporaryDirectory(prefix="trio-tls-bench-") as directory:
        settings = settings_in(Path(directory))
        server_core, client_core = cores()
        where = "not pinned" if server_core is None else f"servers on core {server_core}, clients on core {client_core}"
        about = {
            "python": platform.python_version(),
            "openssl": ssl.OPENSSL_VERSION,
            "trio": trio.__version__,
            "machine": f"{platform.machine()}, {where}",
            "congestion control": settings.congestion or "the system's default",
        }
        for name, value in about.items():
            print(f"{name}: {value}", file=sys.stderr)
        results = measure_all(
            [WORKLOADS[name] for name in options.only],
            options.peers,
            rounds=rounds,
            seconds=seconds,
            settings=settings,
            tell=lambda line: print(line, file=sys.stderr, flush=True),
        )
    table = figures(results)
    if options.json:
        options.json.write_text(json.dumps({"about": about, "results": table}, indent=2) + "\n")
    print(render(table))


if __name__ == "__main__":
    main()
