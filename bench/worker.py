"""One process of a peer: ``python -m bench.worker ROLE PEER CORE SETTINGS``.

How this works. A server announces its port as a line on stdout and serves until it is killed. A client reads
one JSON command a line from stdin and answers each with one JSON line on stdout.
"""

from __future__ import annotations

import gc
import json
import os
import sys

from .peers import PEERS, Settings
from .workloads import WORKLOADS


def say(message: object) -> None:
    """One JSON line to the process that started this one."""
    print(json.dumps(message), flush=True)


def main(role: str, peer_name: str, core: str, settings: str) -> None:
    """Be a server, or a client."""
    if core and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core)})
    peer = PEERS[peer_name](Settings(**json.loads(settings)))
    if role == "server":
        peer.serve(say)
        return
    for line in sys.stdin:
        command = json.loads(line)
        gc.collect()
        say(peer.measure(WORKLOADS[command["workload"]], command["count"], command["port"]).as_dict())


if __name__ == "__main__":
    main(*sys.argv[1:])
