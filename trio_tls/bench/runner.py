"""Runs the rounds: starts the processes, measures one peer after the other, collects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .measurement import HOST, Measurement, Settings, UnfairError
from .peers import PEERS
from .wire import Relay
from .workloads import Method, Workload

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Measurements", "WorkerFailed", "cores", "measure_all", "settings_in"]

#: By workload, then by peer: one for each round.
Measurements = dict[str, dict[str, list[Measurement]]]

#: Seconds that one measurement may take at the very most; a process that is not done by then is stuck.
ANSWER = 120.0

#: Seconds that a process may take to end by itself.
PATIENCE = 10.0


class WorkerFailed(Exception):
    """A process of the benchmark ended early; what it had to say is on standard error."""


def settings_in(directory: Path) -> Settings:
    """Make the certificates in ``directory``, and choose the congestion control."""
    import trustme  # noqa: PLC0415  # of the extra "bench"

    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    authority.cert_pem.write_to_path(directory / "ca.pem")
    leaf = authority.issue_cert(HOST, key_type=trustme.KeyType.ECDSA)
    leaf.private_key_and_cert_chain_pem.write_to_path(directory / "server.pem")
    return Settings(str(directory), _congestion_control())


def _congestion_control() -> str:
    # The kernel's default may be BBR, which makes throughput over loopback erratic.
    try:
        available = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text(encoding="utf-8").split()
    except OSError:
        return ""
    return next((name for name in ("cubic", "reno") if name in available), "")


class Worker:
    """A process of `trio_tls.bench.worker`."""

    def __init__(self, role: str, peer: str, core: int | None, settings: Settings) -> None:
        arguments = [role, peer, "" if core is None else str(core), json.dumps(asdict(settings))]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "trio_tls.bench.worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the benchmark, which ends its processes
        )

    def ask(self, command: object) -> Any:
        """Send a command; its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what `hear` says of it is of more use
        return self.hear()

    def hear(self) -> Any:
        """The next line of the process."""
        assert self._process.stdout is not None
        watchdog = threading.Timer(ANSWER, self._process.kill)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            raise WorkerFailed(
                f"a process of the benchmark ended early or was stuck; its exit status is {self._process.wait()}"
            )
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *exc_info: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(PATIENCE if failure is None else 0.1)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
        self._process.wait()
        self._process.stdout.close()


class Server(Worker):
    """The server of a peer."""

    def __init__(self, peer: str, core: int | None, settings: Settings) -> None:
        super().__init__("server", peer, core, settings)
        try:
            announced = self.hear()
        except BaseException:
            self.__exit__(*sys.exc_info())  # nobody has entered it yet
            raise
        self.port: int = announced["port"]
        self.pid: int = announced["pid"]


class Client(Worker):
    """A client of a peer."""

    def __init__(self, peer: str, core: int | None, settings: Settings) -> None:
        super().__init__("client", peer, core, settings)

    def measure(self, workload: Workload, count: int, server: Server) -> Measurement:
        """One measurement of a workload."""
        command = {"workload": workload.name, "count": count, "server": server.pid}
        if workload.method is not Method.WIRE:
            return self._answer({**command, "port": server.port})
        relay = Relay(server.port, workload.size)
        measurement = self._answer({**command, "port": relay.port})
        relay.finish()
        return replace(measurement, sent=relay.sent, received=relay.received, round_trips=relay.round_trips)

    def _answer(self, command: object) -> Measurement:
        answer = self.ask(command)
        if "unfair" in answer:
            raise UnfairError(answer["unfair"])
        return Measurement(**answer)


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
    few: int,
    budget: float,
    settings: Settings,
    tell: Callable[[str], None],
) -> Measurements:
    """All rounds of all workloads, interleaved.

    Args:
      rounds: how many; less if the time is over before.
      seconds: how long one measurement should take; the count is chosen by what the one before has shown.
      few: how many rounds of what is not about speed: it takes fresh processes, and its figures hardly differ.
      budget: seconds for everything; a round that would take longer than that is not begun.
      tell: gets a line of progress for each workload of each round.

    Raises:
      WorkerFailed: a process ended early.
      UnfairError: a connection was not what all peers are to have.
    """
    deadline = time.monotonic() + budget
    last_began = 0.0
    server_core, client_core = cores()
    results: Measurements = {workload.name: {} for workload in workloads}
    with ExitStack() as stack:
        servers = {peer: stack.enter_context(Server(peer, server_core, settings)) for peer in peers}
        clients = {peer: stack.enter_context(Client(peer, client_core, settings)) for peer in peers}

        def measure(workload: Workload, peer: str, so_far: list[Measurement]) -> Measurement:
            if workload.method is Method.LONG_SEND:
                with Client(peer, client_core, settings) as client:
                    return client.measure(workload, workload.first_count, servers[peer])
            if workload.method is Method.HOLD:
                with Server(peer, server_core, settings) as server, Client(peer, client_core, settings) as client:
                    return client.measure(workload, workload.first_count, server)
            if not workload.timed:
                return clients[peer].measure(workload, workload.first_count, servers[peer])
            last = so_far[-1] if so_far else clients[peer].measure(workload, workload.first_count, servers[peer])
            count = max(workload.concurrency, round(last.count * seconds / last.seconds))
            return clients[peer].measure(workload, count, servers[peer])

        for number in range(1, rounds + 1):
            began = time.monotonic()
            if number > 1 and 2 * began - last_began > deadline:
                tell(f"the time is over after {number - 1} of {rounds} rounds")
                break
            last_began = began
            for workload in workloads:
                for peer in peers:
                    if PEERS[peer].can(workload):
                        so_far = results[workload.name].setdefault(peer, [])
                        if workload.timed or number <= few:
                            so_far.append(measure(workload, peer, so_far))
                if results[workload.name] and (workload.timed or number <= few):
                    tell(_progress(f"round {number}/{rounds}", workload, results[workload.name]))
    return results


def _progress(where: str, workload: Workload, so_far: dict[str, list[Measurement]]) -> str:
    def shown(last: Measurement) -> str:
        if workload.method is Method.LONG_SEND:
            return f"{(last.stall or 0) * 1000:.0f} ms"
        if workload.method is Method.HOLD:
            return f"{(last.server_rss or 0) / 1024:.0f} KiB"
        if workload.method is Method.WIRE:
            return f"{last.sent}+{last.received}"
        return f"{workload.rate(last.count, last.seconds):.0f}"

    figures = "  ".join(f"{peer} {shown(rounds[-1])}" for peer, rounds in so_far.items())
    return f"{where}  {workload.name:13}  {workload.unit if workload.timed else '':4}  {figures}"
