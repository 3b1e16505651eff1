"""The options of ``trio-tls proxy``; see `trio_tls.cli.arguments`."""

from __future__ import annotations

import argparse

from .arguments_common import Parser, add_parameters, endpoint, names, seconds
from .arguments_server import add_limits, add_processes, add_server_side

__all__ = ["add_proxy"]

#: Seconds.
STOP_GRACE = 10.0


def add_proxy(commands: argparse._SubParsersAction[Parser], epilog: str, timeout: float) -> None:
    """Declare ``trio-tls proxy``.

    Args:
      commands: of the whole command line.
      epilog: the exit statuses.
      timeout: the default of ``--timeout``, in seconds.
    """
    proxy = commands.add_parser(
        "proxy",
        help="speak TLS for a server or a client that does not",
        description="Join each connection to LISTEN with one to BACKEND. With a certificate (--cert, --self-signed)\n"
        "clients speak TLS and the backend gets plain TCP; with --to-tls it is the other way round; with both, TLS is\n"
        "spoken on both sides. A half-close is passed on as one, and a failure as a failure: a truncated answer never\n"
        "looks whole. Every connection is a line on standard output. Ctrl-C stops it: nobody new is let in, and those\n"
        "who are there have --stop-grace seconds to finish.",
        epilog=epilog,
    )
    proxy.set_defaults(run=_run_proxy)
    addresses = "HOST:PORT, PORT (of 127.0.0.1) or unix:PATH"
    proxy.add_argument("listen", metavar="LISTEN", type=endpoint, help=f"where clients connect: {addresses}")
    proxy.add_argument("backend", metavar="BACKEND", type=endpoint, help=f"where they are taken: {addresses}")
    proxy.add_argument(
        "--idle-timeout",
        metavar="SECONDS",
        type=seconds,
        help="end a connection over which nothing has come for so long (default: no limit)",
    )
    proxy.add_argument(
        "--stop-grace",
        metavar="SECONDS",
        type=seconds,
        default=STOP_GRACE,
        help=f"for the connections that are open when it is stopped (default: {STOP_GRACE:g})",
    )
    proxy.add_argument(
        "--proxy-protocol",
        choices=("v1", "v2"),
        help="tell the backend who the client is, by this version of the PROXY protocol, which it has to expect",
    )
    proxy.add_argument("-q", "--quiet", action="store_true", help="no line for a connection unless it fails")
    proxy.add_argument("--json", action="store_true", help="each line is a JSON object")
    add_limits(proxy, timeout, "each handshake, and for each connection to the backend")
    add_processes(proxy)
    add_server_side(proxy)
    backend = proxy.add_argument_group("TLS with the backend")
    backend.add_argument("--to-tls", action="store_true", help="speak TLS to the backend")
    backend.add_argument(
        "--backend-name", metavar="NAME", help="the name to ask for and to check (default: the host of BACKEND)"
    )
    backend.add_argument(
        "--backend-ca-file",
        metavar="FILE",
        action="append",
        help="trust the CA certificates in this PEM file, instead of the system's (may be repeated)",
    )
    backend.add_argument("--backend-cert", metavar="FILE", help="the certificate to present to the backend, PEM")
    backend.add_argument("--backend-key", metavar="FILE", help="its private key (default: it is in the same file)")
    backend.add_argument(
        "--backend-key-password-file", metavar="FILE", help="the first line of this file decrypts that key"
    )
    backend.add_argument(
        "--backend-insecure", action="store_true", help="check no certificate: DANGEROUS, anybody can be the backend"
    )
    backend.add_argument(
        "--backend-alpn",
        metavar="NAMES",
        type=names,
        default=(),
        help="offer these ALPN protocols to the backend, in order, separated by commas",
    )
    add_parameters(proxy, "accept these ALPN protocols of clients, in order of preference, separated by commas")


def _run_proxy(arguments: argparse.Namespace) -> int:
    from . import proxy  # noqa: PLC0415  # only the command that runs

    return proxy.run(arguments)
