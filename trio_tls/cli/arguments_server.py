"""The options that ``trio-tls serve`` and ``trio-tls proxy`` have alike; see `trio_tls.cli.arguments`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from .arguments_common import Parser, add_ca_file, many, port, seconds, target
from .options import LOCAL_NAMES

__all__ = ["add_limits", "add_processes", "add_server_side"]


class _Presented(argparse.Action):
    """Keeps the options that describe certificates together, in the order in which they were given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        namespace.presented = [*namespace.presented, (option_string, values)]


def add_server_side(command: Parser) -> None:
    """What a server presents, and what it asks of clients."""
    ours = command.add_argument_group("our own certificate")
    for option, text in (
        (
            "--cert",
            "the certificate to present, and its intermediates, PEM; may be repeated, then a client is shown the one "
            "that has the name it asks for",
        ),
        (
            "--key",
            "its private key, PEM (default: it is in the same file); of several, behind the --cert it belongs to",
        ),
        ("--key-password-file", "the first line of this file decrypts the key"),
    ):
        ours.add_argument(option, metavar="FILE", dest="presented", action=_Presented, default=(), help=text)
    ours.add_argument(
        "--unknown-name",
        choices=("first", "refuse"),
        default="first",
        help="whoever asks for a name that no certificate has, or for none, is shown the first one, or refused "
        "(default: first)",
    )
    ours.add_argument(
        "--self-signed",
        metavar="NAME",
        nargs="*",
        help="make a certificate for these names, valid for a day, by a throw-away CA "
        f"(default: {' '.join(LOCAL_NAMES)})",
    )
    ours.add_argument(
        "--write-ca", metavar="FILE", help="write the throw-away CA's certificate here (default: a temporary file)"
    )
    theirs = command.add_argument_group("the clients' certificates")
    theirs.add_argument(
        "--client-cert",
        choices=("request", "require"),
        help="ask for a certificate; 'request' lets in who has none, but nobody whose certificate is bad",
    )
    add_ca_file(theirs, "accept certificates of the CAs in this PEM file (may be repeated)")


def add_limits(command: Parser, timeout: float, what: str) -> None:
    """What clients may take.

    Args:
      command: to which to add it.
      timeout: the default of ``--timeout``, in seconds.
      what: takes so long at the most.
    """
    limits = command.add_argument_group("limits, in each process")
    limits.add_argument(
        "--timeout", metavar="SECONDS", type=seconds, default=timeout, help=f"for {what} (default: {timeout:g})"
    )
    limits.add_argument(
        "--max-connections",
        metavar="N",
        type=many,
        help="at most so many connections at once, those in their handshake included (default: no limit)",
    )
    limits.add_argument(
        "--max-handshakes",
        metavar="N",
        type=many,
        help="at most so many handshakes at once (default: no limit); as many silent clients hold up all others for "
        "the --timeout, so make it short",
    )
    limits.add_argument(
        "--when-full",
        choices=("wait", "refuse"),
        default="wait",
        help="what becomes of who comes when a limit is reached: waits, or is closed at once (default: wait)",
    )
    limits.add_argument(
        "--plain-http",
        action="store_true",
        help="tell clients that speak plain HTTP, by a 400, that this is a TLS port",
    )


def add_processes(command: Parser) -> None:
    """How many processes serve, what they share, and where they tell their counters."""
    processes = command.add_argument_group("several processes and hosts")
    processes.add_argument(
        "--workers",
        metavar="N",
        type=many,
        help="serve with N processes on the same port; one that dies is replaced, and loses its own connections alone",
    )
    processes.add_argument(
        "--ticket-secrets",
        metavar="FILE|URL",
        help="share session tickets with all servers that have this file (made if it is not there) or this Redis "
        "(redis://, rediss:// or unix://), so that one resumes what another began; not with --openssl",
    )
    processes.add_argument(
        "--metrics",
        metavar="[HOST:]PORT",
        type=_metrics_address,
        help="tell the counters, as Prometheus reads them, at http://HOST:PORT/metrics (default HOST: 127.0.0.1); "
        "each worker takes the next port",
    )


def _metrics_address(text: str) -> tuple[str, int]:
    if text.isascii() and text.isdigit():
        return "127.0.0.1", port(text)
    host, number = target(text)
    if number is None:
        raise argparse.ArgumentTypeError(f"PORT or HOST:PORT, not {text!r}")
    return host, number
