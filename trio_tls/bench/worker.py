"""One process of a peer: ``python -m trio_tls.bench.worker ROLE PEER CORE SETTINGS``.

How this works. A server announces its port and its process as a line on stdout. A client reads one JSON command a line
from stdin and answers each with one JSON line on stdout. Both end when their stdin does: the server has a thread that
waits for that, and interrupts the rest as Ctrl-C would. So no process outlives the one that started it.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading

from .measurement import Settings, UnfairError
from .peers import PEERS, Peer
from .workloads import WORKLOADS

__all__ = ["main"]


def main(role: str, peer_name: str, core: str, settings: str) -> None:
    """Be a server, or a client."""
    if core and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core)})
    peer = PEERS[peer_name](Settings(**json.loads(settings)))
    if role == "server":
        _serve(peer)
    else:
        _measure(peer)


def _serve(peer: Peer) -> None:
    over = threading.Event()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

    def interrupt_at_the_end() -> None:
        sys.stdin.read()
        over.set()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt_at_the_end, daemon=True).start()
    try:
        peer.serve(lambda port, pid: _say({"port": port, "pid": pid or os.getpid()}))
    except BaseException:  # a KeyboardInterrupt, or a group with one in it
        if not over.is_set():
            raise


def _measure(peer: Peer) -> None:
    for line in sys.stdin:
        command = json.loads(line)
        workload = WORKLOADS[command["workload"]]
        gc.collect()
        try:
            measurement = peer.measure(workload, command["count"], command["port"], command["server"])
        except UnfairError as reason:
            _say({"unfair": str(reason)})
        else:
            _say(measurement.as_dict())


def _say(message: object) -> None:
    """One JSON line to the process that started this one."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
