"""The C peer: ``SSL_read`` and ``SSL_write`` in a loop, where a compiler and OpenSSL's headers are there.

How this works. The program, libssl.c, is compiled once into the directory of the run's certificates. The processes of
this peer start it, and pass on what it prints; it measures by itself, so starting it costs nothing in the figures.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ..measurement import GROUP, SUITE, Measurement
from ..processes import processor_time
from ..workloads import Method, Workload
from .base import Announce, Peer

__all__ = ["LibSSL", "build"]

SOURCE = Path(__file__).parent.parent / "libssl.c"


def build(directory: Path) -> str | None:
    """Compile the program into ``directory``; why that cannot be done, or None."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return "there is no C compiler"
    command = [compiler, "-O2", "-o", str(directory / "libssl"), str(SOURCE), "-lssl", "-lcrypto"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if made.returncode == 0 else "libssl.c cannot be compiled; OpenSSL's headers may be missing"


class LibSSL(Peer):
    """A C program on libssl, one connection at a time, 16 KiB a call."""

    title = "C loop over libssl"
    short = "C loop"

    @classmethod
    def can(cls, workload: Workload) -> bool:
        """As `Peer.can`: it has one connection at a time, and no event loop that could stand still."""
        return workload.concurrency == 1 and workload.method not in (Method.HOLD, Method.LONG_SEND)

    def serve(self, announce: Announce) -> None:
        """As `Peer.serve`."""
        with subprocess.Popen(self._command("server", "server.pem"), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None  # it was asked for
            try:
                announce(int(process.stdout.readline()), process.pid)
                process.wait()
            finally:
                process.kill()

    def measure(self, workload: Workload, count: int, port: int, server: int) -> Measurement:
        """As `Peer.measure`."""
        numbers = (port, int(workload.kind), workload.size, count, int(workload.resumed))
        before = processor_time(server)
        done = subprocess.run(
            [*self._command("client", "ca.pem"), *map(str, numbers)], stdout=subprocess.PIPE, text=True, check=True
        )
        after = processor_time(server)
        seconds, cpu = map(float, done.stdout.split())
        return Measurement(count, seconds, cpu, None if before is None or after is None else after - before)

    def _command(self, role: str, file: str) -> list[str]:
        program, pem = str(self.settings.path("libssl")), str(self.settings.path(file))
        return [program, role, pem, self.settings.congestion, GROUP, SUITE]
