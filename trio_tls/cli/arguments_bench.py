"""The options of ``trio-tls bench``."""

from __future__ import annotations

import argparse

from .arguments_common import Parser, names, seconds

__all__ = ["add_bench"]


def add_bench(commands: argparse._SubParsersAction[Parser]) -> None:
    """Declare the command."""
    bench = commands.add_parser(
        "bench",
        help="measure how fast this is here, beside trio.SSLStream and others",
        description="Measures TLS on this machine, in ratios to trio.SSLStream: throughput, latency, handshakes,\n"
        "memory. Server and client are processes of their own, on cores of their own. Needs the extra 'bench'.",
    )
    bench.set_defaults(run=_run_bench)
    bench.add_argument("--quick", action="store_true", help="short rounds: two minutes, not a quarter of an hour")
    bench.add_argument("--rounds", metavar="N", type=_rounds, help="at most so many rounds (default: 7; --quick: 3)")
    bench.add_argument("--seconds", type=seconds, help="how long one measurement takes (default: 0.5; --quick: 0.1)")
    bench.add_argument(
        "--only", metavar="NAMES", type=names, default=(), help="only these workloads, separated by commas"
    )
    bench.add_argument("--peers", metavar="NAMES", type=names, default=(), help="only these peers, separated by commas")
    bench.add_argument(
        "--out", metavar="DIR", help="write results.json, and the chart as SVG, wide and narrow, into this directory"
    )
    bench.add_argument(
        "--from",
        dest="source",
        metavar="FILE",
        help="measure nothing: show the results of an earlier run, a results.json",
    )
    bench.add_argument("--json", action="store_true", help="all measurements as JSON on standard output, not tables")


def _run_bench(arguments: argparse.Namespace) -> int:
    from . import bench  # noqa: PLC0415  # only the command that runs

    return bench.run(arguments)


def _rounds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1000):
        raise argparse.ArgumentTypeError(f"a number from 1 to 1000, not {text!r}")
    return int(text)
