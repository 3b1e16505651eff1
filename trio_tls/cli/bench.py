"""``trio-tls bench``: how fast this is here, beside trio.SSLStream and others.

How this works. `trio_tls.bench` measures; this tells how it goes on standard error, and writes what came out: tables
(or JSON) to standard output, and into a directory what the manual shows.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import ssl
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.backends.openssl.backend import backend

from ..bench.chart import NARROW, WIDE, drawn
from ..bench.measurement import GROUP, SUITE, Settings, UnfairError
from ..bench.peers import BASE, PEERS, missing
from ..bench.report import as_text
from ..bench.results import NotResults, Results
from ..bench.runner import WorkerFailed, cores, measure_all, settings_in
from ..bench.workloads import WORKLOADS
from .paper import Paper
from .problem import ExitStatus, Problem

__all__ = ["run"]


@dataclass(frozen=True)
class Effort:
    """How much is measured; see `measure_all`."""

    rounds: int
    seconds: float
    few: int
    budget: float


FULL = Effort(rounds=7, seconds=0.5, few=3, budget=840)
QUICK = Effort(rounds=3, seconds=0.1, few=1, budget=110)

#: The files of ``--out``.
JSON = "results.json"
CHARTS = {"chart.svg": WIDE, "chart-narrow.svg": NARROW}


def run(arguments: argparse.Namespace) -> int:
    """Measure, or read what was measured, and show it; the exit status.

    Raises:
      Problem: it cannot be done here; the text says why.
    """
    results = _measured(arguments) if arguments.source is None else _read(Path(arguments.source))
    paper = Paper(sys.stdout)
    if arguments.json:
        paper.line(results.to_json().rstrip("\n"))
    else:
        for line in as_text(results, shutil.get_terminal_size((168, 40)).columns):
            paper.line(line)
    if arguments.out is not None:
        _write(results, Path(arguments.out))
    return ExitStatus.OK


def _measured(arguments: argparse.Namespace) -> Results:
    if importlib.util.find_spec("trustme") is None:
        raise Problem(
            ExitStatus.USAGE, "the benchmark needs packages that are not installed", "pip install 'trio_tls[bench]'"
        )
    workloads = _chosen(arguments.only, WORKLOADS, "workload")
    wanted = _chosen(arguments.peers, PEERS, "peer")
    effort = QUICK if arguments.quick else FULL
    progress = Paper(sys.stderr)
    with tempfile.TemporaryDirectory(prefix="trio-tls-bench-") as name:
        directory = Path(name)
        settings = settings_in(directory)
        about = _about(settings)
        for label, value in about.items():
            progress.line(f"{label}: {value}")
        peers = []
        for peer in wanted:
            reason = missing(peer, directory)
            if reason is None:
                peers.append(peer)
            else:
                progress.line(f"without the peer {peer}: {reason}")
        if not peers:
            raise Problem(ExitStatus.USAGE, "none of these peers can be measured here", "trio-tls bench has others")
        try:
            measurements = measure_all(
                [WORKLOADS[workload] for workload in workloads],
                peers,
                rounds=arguments.rounds or effort.rounds,
                seconds=arguments.seconds or effort.seconds,
                few=effort.few,
                budget=effort.budget,
                settings=settings,
                tell=progress.line,
            )
        except UnfairError as reason:
            raise Problem(
                ExitStatus.TLS,
                f"the comparison would not be fair: {reason}",
                "Leave that peer out, with --peers",
            ) from None
        except WorkerFailed as reason:
            raise Problem(ExitStatus.NETWORK, str(reason), "What it had to say stands above") from None
    return Results(about, measurements)


def _chosen(names: Sequence[str], known: Collection[str], what: str) -> list[str]:
    strangers = [name for name in names if name not in known]
    if strangers:
        raise Problem(ExitStatus.USAGE, f"there is no {what} {strangers[0]}", f"There are {', '.join(known)}")
    return [name for name in known if name in names or not names]


def _read(path: Path) -> Results:
    try:
        return Results.load(path)
    except OSError as error:
        raise Problem(ExitStatus.USAGE, f"{path} cannot be read: {error.strerror}", "Check the path") from None
    except NotResults as reason:
        raise Problem(
            ExitStatus.USAGE, str(reason), "Pass a results.json that trio-tls bench --out has written"
        ) from None


def _write(results: Results, directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / JSON).write_text(results.to_json(), encoding="utf-8")
        for name, layout in CHARTS.items():
            (directory / name).write_text(drawn(results, layout), encoding="utf-8")
    except OSError as error:
        raise Problem(ExitStatus.USAGE, f"{directory} cannot be written: {error.strerror}", "Check the path") from None
    except LookupError:
        hint = f"Measure {BASE} too, and a workload that has a speed"
        raise Problem(ExitStatus.USAGE, f"there is no chart of these results; {JSON} is written", hint) from None


def _about(settings: Settings) -> dict[str, str]:
    """What the figures depend on."""
    server, client = cores()
    pinned = "not pinned to cores" if server is None else f"servers on core {server}, clients on core {client}"
    packages = ("trio", "anyio", "uvloop")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "openssl": _openssl(),
        **{name: f"{name} {importlib.metadata.version(name)}" for name in packages if importlib.util.find_spec(name)},
        "cryptography": f"cryptography {importlib.metadata.version('cryptography')}, {backend.openssl_version_text()}",
        "handshake": f"TLS 1.3, {GROUP}, {SUITE}, ECDSA P-256",
        "processes": pinned,
        "congestion control": settings.congestion or "the system's default",
    }


def _openssl() -> str:
    """Of ``"OpenSSL 3.0.19 27 Jan 2026"`` the name and the version."""
    return " ".join(ssl.OPENSSL_VERSION.split()[:2])


def _processor() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
