"""Runs the rounds: starts the processes, measures one peer after the other, collects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import trustme

from .peers import HOST, Measurement, Settings
from .workloads import Workload

__all__ = ["Results", "measure_all", "settings_in"]

#: By workload, then by peer: one (count, measurement) a round.
Results = dict[str, dict[str, list[tuple[int, Measurement]]]]


def settings_in(directory: Path) -> Settings:
    """Make the certificates in ``directory``, and choose the congestion control."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(directory / "server.pem")
    return Settings(str(directory), _congestion_control())


def _congestion_control() -> str:
    # The kernel's default may be BBR, which makes throughput over loopback erratic.
    try:
        available = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
    except OSError:
        return ""
    return next((name for name in ("cubic", "reno") if name in available), "")


class Worker:
    """A process of `bench.worker`."""

    def __init__(self, role: str, peer: str, core: int | None, settings: Settings) -> None:
        arguments = [role, peer, "" if core is None else str(core), json.dumps(asdict(settings))]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )

    def ask(self, command: object) -> Any:
        """Send a command; its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self.hear()

    def hear(self) -> Any:
        """The next line of the process."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process of the benchmark ended early, with {self._process.wait()}")
        return json.loads(line)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.communicate()


def cores() -> tuple[int | None, int | None]:
    """The cores for servers and for clients; None where they cannot be kept apart."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    available = sorted(os.sched_getaffinity(0))
    return (available[0], available[1]) if len(available) > 1 else (None, None)


def measure_all(
    workloads: list[Workload],
    peers: list[str],
    *,
    rounds: int,
    seconds: float,
    settings: Settings,
    tell: Callable[[str], None],
) -> Results:
    """All rounds of all workloads, interleaved.

    Args:
      seconds: how long one measurement should take; the count is chosen by what the one before has shown.
      tell: gets a line of progress for each workload of each round.
    """
    server_core, client_core = cores()
    results: Results = {workload.name: {peer: [] for peer in peers} for workload in workloads}
    with ExitStack() as stack:
        servers = {peer: stack.enter_context(Worker("server", peer, server_core, settings)) for peer in peers}
        ports = {peer: server.hear() for peer, server in servers.items()}
        clients = {peer: stack.enter_context(Worker("client", peer, client_core, settings)) for peer in peers}

        def measure(workload: Workload, peer: str, count: int) -> tuple[int, Measurement]:
            command = {"workload": workload.name, "count": count, "port": ports[peer]}
            if not workload.fixed:
                return count, Measurement(**clients[peer].ask(command))
            with Worker("client", peer, client_core, settings) as fresh:
                return count, Measurement(**fresh.ask(command))

        for number in range(1, rounds + 1):
            for workload in workloads:
                line = []
                for peer in peers:
                    so_far = results[workload.name][peer]
                    if workload.fixed:
                        count = workload.first_count
                    else:
                        count, last = so_far[-1] if so_far else measure(workload, peer, workload.first_count)
                        count = max(1, round(count * seconds / last.seconds))
                    so_far.append(measure(workload, peer, count))
                    line.append(f"{peer} {workload.rate(count, so_far[-1][1].seconds):.0f}")
                tell(f"round {number}/{rounds}  {workload.name:13}  {workload.unit:4}  {'  '.join(line)}")
    return results
