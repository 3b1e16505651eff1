"""What ``trio-tls serve`` was asked for; see `trio_tls.cli.options`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from .address import Endpoint
from .files import usage
from .server_options import Limits, Processes, ServerTLS

__all__ = ["ServeOptions"]

#: What ``--www`` speaks inside TLS, as ALPN names it.
HTTP = "http/1.1"


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What was asked for.

    Attributes:
      listen: where clients connect.
      clients: TLS with them.
      limits: what they may take.
      processes: how many processes serve them.
      www: whether to answer HTTP, instead of echoing.
      once: whether to end after one connection.
      json: whether each line is an object.
    """

    listen: Endpoint
    clients: ServerTLS
    limits: Limits
    processes: Processes
    www: bool
    once: bool
    json: bool

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> ServeOptions:
        """From argparse's namespace.

        Raises:
          Problem: options contradict each other.
        """
        if arguments.www:
            arguments.alpn = arguments.alpn or (HTTP,)
            if strange := [each for each in arguments.alpn if each != HTTP]:
                raise usage(f"--www goes without --alpn {strange[0]}", f"The page is served by {HTTP} alone")
        return cls(
            listen=Endpoint(arguments.host, arguments.port, arguments.unix),
            clients=ServerTLS.of(arguments),
            limits=Limits.of(arguments),
            processes=Processes.of(arguments, alone={"--unix": arguments.unix, "--once": arguments.once}),
            www=arguments.www,
            once=arguments.once,
            json=arguments.json,
        )
