"""The command line: every command, every option, and what ``--help`` says of it.

How this works. This module knows options and imports only what it takes to declare them, so ``--help`` and a
mistyped option answer at once; a command's own module is imported when it runs. The manual's pages are made
from `parser`.
"""

from __future__ import annotations

import argparse

from .. import __version__
from .arguments_bench import add_bench
from .arguments_certificates import add_cert, add_check
from .arguments_common import (
    Parser,
    add_ca_file,
    add_certificate,
    add_openssl,
    add_parameters,
    count,
    port,
    seconds,
    target,
)
from .arguments_proxy import add_proxy
from .arguments_server import add_limits, add_processes, add_server_side
from .options import STARTTLS_PORTS

__all__ = ["parser"]

EXIT_STATUS = """\
exit status:
  0    all went well
  2    usage: wrong options, or a file that cannot be used
  3    network: no connection, a reset, a timeout, or STARTTLS that did not come about
  4    TLS: the handshake or the connection failed
  5    verification: the peer's certificate was not accepted
  130  Ctrl-C
  141  whoever read the output has closed it"""

#: Seconds.
TIMEOUT = 30.0


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line. Its errors are `Problem` exceptions, not exits."""
    whole = Parser(prog="trio-tls", description="TLS for Trio that survives every cancel.")
    whole.add_argument("--version", action="version", version=f"trio-tls {__version__}")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND")
    _add_connect(commands)
    _add_serve(commands)
    add_proxy(commands, EXIT_STATUS, TIMEOUT)
    add_cert(commands, EXIT_STATUS)
    add_check(commands, EXIT_STATUS)
    _add_demo(commands)
    add_bench(commands)
    return whole


# -- the commands ------------------------------------------------------------------------------------------


def _add_connect(commands: argparse._SubParsersAction[Parser]) -> None:
    connect = commands.add_parser(
        "connect",
        help="connect to a TLS server, report what was agreed, and talk to it",
        description="Connect to a TLS server. What was agreed and whether the server's certificate holds goes to\n"
        "standard error; then standard input goes to the server, and what it answers to standard output.\n"
        "At the end of the input the server is told so (close_notify), and its answer is read to the end.",
        epilog=EXIT_STATUS,
    )
    connect.set_defaults(run=_run_connect)
    connect.add_argument(
        "target",
        metavar="HOST[:PORT]",
        nargs="?",
        type=target,
        help="where to; an IPv6 address in brackets; default port: 443, or that of --starttls",
    )
    connect.add_argument("--unix", metavar="PATH", help="connect to a Unix domain socket instead")
    connect.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=TIMEOUT,
        help=f"for the connection and the handshake together (default: {TIMEOUT:g})",
    )
    connect.add_argument(
        "--starttls",
        choices=sorted(STARTTLS_PORTS),
        help="begin in the plain text of this protocol, and change to TLS as it says",
    )
    trust = connect.add_argument_group("the server's certificate")
    add_ca_file(trust, "trust the CA certificates in this PEM file, instead of the system's (may be repeated)")
    trust.add_argument("--server-name", metavar="NAME", help="ask for this name (SNI) and check it (default: HOST)")
    trust.add_argument(
        "--insecure", action="store_true", help="check no certificate: DANGEROUS, anybody can be at the other end"
    )
    ours = connect.add_argument_group("our own certificate")
    add_certificate(ours)
    add_parameters(connect, "offer these ALPN protocols, in order, separated by commas")
    sessions = connect.add_argument_group("resumption")
    sessions.add_argument(
        "--reconnect",
        metavar="N",
        type=count,
        default=0,
        help="close, and connect N more times with the session of the connection before; implies --check",
    )
    sessions.add_argument(
        "--session-out", metavar="FILE", help="save the session, which is a secret (mode 0600); not with --openssl"
    )
    sessions.add_argument("--session-in", metavar="FILE", help="resume a saved session; not with --openssl")
    trace = connect.add_argument_group("the handshake, message by message (not with --openssl)")
    trace.add_argument("--trace", action="store_true", help="draw it as a ladder, with sizes and times")
    trace.add_argument("--trace-svg", metavar="FILE", help="draw the same ladder as a picture, SVG")
    output = connect.add_argument_group("input and output")
    output.add_argument("-q", "--no-report", action="store_true", help="no report; errors and warnings still come")
    output.add_argument("--no-input", action="store_true", help="leave standard input alone; show what the server says")
    output.add_argument(
        "--check", action="store_true", help="no conversation: handshake, report, close, and hear whether it objects"
    )
    output.add_argument(
        "--json",
        action="store_true",
        help="--check, with all facts (or the error) as one JSON object on standard output",
    )
    output.add_argument(
        "--raw", action="store_true", help="let a terminal have the server's control characters (default: escaped)"
    )


def _add_serve(commands: argparse._SubParsersAction[Parser]) -> None:
    serve = commands.add_parser(
        "serve",
        help="serve TLS: echo what comes, or answer HTTP with the connection's facts",
        description="Serve TLS. Each client's bytes are sent back to it; with --www, each request is answered with a\n"
        "page about the connection. Every connection, and every failure, is one line on standard output.\n"
        "Ctrl-C stops it: nobody new is let in, and those who are there have 2 seconds to finish. A certificate whose\n"
        "files change is read again within seconds, or at once on SIGHUP.",
        epilog=EXIT_STATUS,
    )
    serve.set_defaults(run=_run_serve)
    serve.add_argument("--port", type=port, default=4433, help="the TCP port; 0 takes any (default: 4433)")
    serve.add_argument(
        "--host",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="the address to listen on; 0.0.0.0 or :: for all (default: 127.0.0.1)",
    )
    serve.add_argument("--unix", metavar="PATH", help="listen on a Unix domain socket instead")
    serve.add_argument(
        "--www", action="store_true", help="answer HTTP with a page about the client's own handshake (and /json)"
    )
    serve.add_argument("--once", action="store_true", help="end after one connection, with the exit status that it had")
    serve.add_argument("--json", action="store_true", help="each line is a JSON object")
    add_limits(serve, TIMEOUT, "each handshake")
    add_processes(serve)
    add_server_side(serve)
    add_parameters(serve, "accept these ALPN protocols, in order of preference, separated by commas")


def _add_demo(commands: argparse._SubParsersAction[Parser]) -> None:
    demo = commands.add_parser(
        "demo",
        help="show that a connection survives every cancel",
        description="Cancels a TLS handshake at every point, and sends and receives all along, on loopback sockets\n"
        "with throw-away certificates; verifies every byte. Exits 0 only if everything held.",
    )
    demo.set_defaults(run=_run_demo)
    add_openssl(demo)


# -- what runs them: imported when it is needed ------------------------------------------------------------


def _run_connect(arguments: argparse.Namespace) -> int:
    from . import connect  # noqa: PLC0415  # only the command that runs

    return connect.run(arguments)


def _run_serve(arguments: argparse.Namespace) -> int:
    from . import serve  # noqa: PLC0415

    return serve.run(arguments)


def _run_demo(arguments: argparse.Namespace) -> int:
    from . import demo  # noqa: PLC0415

    return demo.run(arguments)
