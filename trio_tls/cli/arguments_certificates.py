"""The options of ``trio-tls cert`` and ``trio-tls check``; see `trio_tls.cli.arguments`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .options import LOCAL_NAMES

if TYPE_CHECKING:
    from .arguments_common import Parser

__all__ = ["add_cert", "add_check"]

#: Of a certificate: what is short enough for every browser, and long enough to be forgotten.
DAYS = 90

#: Before the end of a certificate; who renews on time does so earlier.
SOON_DAYS = 14

#: Ten years: no certificate for development has to be valid for longer.
MOST_DAYS = 3650


def add_cert(commands: argparse._SubParsersAction[Parser], epilog: str) -> None:
    """Declare ``trio-tls cert``.

    Args:
      commands: of the whole command line.
      epilog: the exit statuses.
    """
    cert = commands.add_parser(
        "cert",
        help="make a certificate for development, by a CA of this machine's own",
        description="Make a certificate and its key. The CA that signs it is made by the first call, and lies in a\n"
        "directory of the user; what has to be done to trust it is printed, and not done.",
        epilog=epilog,
    )
    cert.set_defaults(run=_run_cert)
    cert.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="DNS names (*.example.org, too), IP addresses, e-mail addresses or URIs; "
        f"the first one also names the file (default: {' '.join(LOCAL_NAMES)})",
    )
    cert.add_argument("--out", metavar="FILE", help="where the certificate and its key go (default: NAME.pem, here)")
    cert.add_argument("--key-out", metavar="FILE", help="the key goes to a file of its own")
    cert.add_argument(
        "--days", metavar="N", type=_days, default=DAYS, help=f"it is valid for so many days (default: {DAYS})"
    )
    cert.add_argument("--client", action="store_true", help="for a client only (default: for servers and clients)")
    cert.add_argument("--force", action="store_true", help="replace files that are there already")
    cert.add_argument(
        "--ca-dir",
        metavar="DIRECTORY",
        help="where the CA lies (default: trio-tls in $XDG_DATA_HOME or ~/.local/share)",
    )
    cert.add_argument("--json", action="store_true", help="all facts as one JSON object")


def add_check(commands: argparse._SubParsersAction[Parser], epilog: str) -> None:
    """Declare ``trio-tls check``; see `add_cert`."""
    check = commands.add_parser(
        "check",
        help="explain certificates and keys in files, and what is wrong with them",
        description="Look at certificates and keys in files, PEM or DER, in any order: what they are, whether they\n"
        "belong together, whether they are valid, and what verifiers say, ours and OpenSSL (which is asked if\n"
        "there is a key). The exit status is 5 if anything will not work.",
        epilog=epilog,
    )
    check.set_defaults(run=_run_check)
    check.add_argument("files", metavar="FILE", nargs="+", help="certificates and keys; - is standard input")
    check.add_argument(
        "--name",
        metavar="HOST",
        action="append",
        help="the server's name to check them for (may be repeated; default: one that the certificate has)",
    )
    check.add_argument(
        "--ca-file",
        "--ca",
        metavar="FILE",
        action="append",
        help="trust the CA certificates in this PEM file, instead of the system's (may be repeated)",
    )
    check.add_argument("--client", action="store_true", help="a client presents it, and not a server")
    check.add_argument("--key-password-file", metavar="FILE", help="the first line of this file decrypts the key")
    check.add_argument(
        "--soon",
        metavar="N",
        type=_days,
        default=SOON_DAYS,
        help=f"warn of certificates that expire within so many days (default: {SOON_DAYS})",
    )
    check.add_argument("--strict", action="store_true", help="exit with 5 for warnings, too")
    check.add_argument("--json", action="store_true", help="all facts as one JSON object")


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_DAYS):
        raise argparse.ArgumentTypeError(f"a number of days from 1 to {MOST_DAYS}, not {text!r}")
    return int(text)


def _run_cert(arguments: argparse.Namespace) -> int:
    from . import cert  # noqa: PLC0415  # only the command that runs

    return cert.run(arguments)


def _run_check(arguments: argparse.Namespace) -> int:
    from . import check  # noqa: PLC0415

    return check.run(arguments)
