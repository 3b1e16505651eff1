"""What several commands declare alike: the parser, groups of options, and types of arguments."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import NoReturn

from .address import host_and_port
from .problem import ExitStatus, Problem

__all__ = [
    "Parser",
    "add_ca_file",
    "add_certificate",
    "add_openssl",
    "add_parameters",
    "count",
    "endpoint",
    "many",
    "names",
    "port",
    "seconds",
    "target",
]

VERSIONS = ("1.2", "1.3")


class Parser(argparse.ArgumentParser):
    """argparse, with our errors: one sentence, a hint, exit status 2, and no abbreviated options."""

    def __init__(self, **settings: object) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)  # type: ignore[arg-type]  # argparse's own, passed through

    def error(self, message: str) -> NoReturn:
        """As argparse's, but raised, so that ``--json`` can tell it as JSON.

        Raises:
          Problem: always.
        """
        raise Problem(ExitStatus.USAGE, message, f"{self.prog} --help lists the options")


# -- groups of options ---------------------------------------------------------------------------------------


def add_ca_file(group: argparse._ArgumentGroup, text: str) -> None:
    """The CA certificates to trust."""
    group.add_argument("--ca-file", metavar="FILE", action="append", help=text)


def add_certificate(group: argparse._ArgumentGroup) -> None:
    """What to present."""
    group.add_argument("--cert", metavar="FILE", help="the certificate to present, and its intermediates, PEM")
    group.add_argument("--key", metavar="FILE", help="its private key, PEM (default: it is in the same file)")
    group.add_argument("--key-password-file", metavar="FILE", help="the first line of this file decrypts the key")


def add_openssl(group: Parser | argparse._ArgumentGroup) -> None:
    """Which machine speaks TLS."""
    group.add_argument(
        "--openssl",
        action="store_true",
        help="speak TLS by the interpreter's OpenSSL (TLS 1.2 and 1.3), not by our own machine (TLS 1.3)",
    )


def add_parameters(command: Parser, alpn: str) -> None:
    """What to agree on."""
    group = command.add_argument_group("parameters")
    group.add_argument("--alpn", metavar="NAMES", type=names, default=(), help=alpn)
    add_openssl(group)
    group.add_argument("--tls-min", choices=VERSIONS, help="the least version to speak; 1.2 needs --openssl")
    group.add_argument("--tls-max", choices=VERSIONS, help="the greatest version to speak; 1.2 needs --openssl")
    for option, what in (("--group", "key exchange groups"), ("--cipher", "cipher suites")):
        text = f"only these {what}, in order, separated by commas; not with --openssl"
        group.add_argument(option, metavar="NAMES", type=names, default=(), help=text)
    group.add_argument(
        "--keylog", metavar="FILE", help="append the secrets of the connection to this file, as Wireshark reads them"
    )


# -- types of arguments --------------------------------------------------------------------------------------


def target(text: str) -> tuple[str, int | None]:
    """``HOST[:PORT]``."""
    try:
        return host_and_port(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def endpoint(text: str) -> tuple[str, int] | str:
    """``HOST:PORT``, ``PORT`` on this machine, or ``unix:PATH``; of the last the path."""
    if text.startswith("unix:") and len(text) > len("unix:"):
        return text[len("unix:") :]
    if text.isascii() and text.isdigit():
        return "127.0.0.1", port(text)
    try:
        host, number = host_and_port(text, least=0)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if number is None:
        raise argparse.ArgumentTypeError(f"HOST:PORT, PORT or unix:PATH, not {text!r}")
    return host, number


def seconds(text: str) -> float:
    """A time, more than 0 seconds."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"a number of seconds, more than 0, not {text!r}")
    return number


def count(text: str) -> int:
    """A number of times."""
    if not (text.isascii() and text.isdigit() and int(text) <= 1000):
        raise argparse.ArgumentTypeError(f"a number from 0 to 1000, not {text!r}")
    return int(text)


def port(text: str) -> int:
    """A TCP port; 0: any."""
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"a number from 0 to 65535, not {text!r}")
    return int(text)


def names(text: str) -> Sequence[str]:
    """Names, separated by commas."""
    listed = tuple(name.strip() for name in text.split(","))
    if not all(name.isascii() and 0 < len(name) < 256 for name in listed):
        raise argparse.ArgumentTypeError(f"names of 1 to 255 ASCII characters, separated by commas, not {text!r}")
    return listed


def many(text: str) -> int:
    """How many of something there may be, at least one."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 1_000_000):
        raise argparse.ArgumentTypeError(f"a number from 1 to 1000000, not {text!r}")
    return int(text)
