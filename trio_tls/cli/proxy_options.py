"""What ``trio-tls proxy`` was asked for, after the checks that need more than one option.

How this works. As `trio_tls.cli.options`. TLS with the clients and TLS with the backend are two sets of options; either
may be missing, but not both.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Literal

from .address import Endpoint
from .files import usage
from .options import TLSOptions
from .server_options import Limits, Processes, ServerTLS, has_certificate

__all__ = ["BackendTLS", "ProxyOptions"]


@dataclass(frozen=True, slots=True)
class BackendTLS:
    """TLS with the backend.

    Attributes:
      tls: what it is to be like.
      server_name: the name to ask for and to check; None: nothing is checked (``insecure`` on a Unix socket).
      insecure: whether the backend's certificate goes unchecked.
    """

    tls: TLSOptions
    server_name: str | None
    insecure: bool


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """What was asked for.

    Attributes:
      listen: where clients connect.
      backend: where they are taken.
      clients: TLS with the clients; None: they speak none.
      to_backend: TLS with the backend; None: it speaks none.
      limits: what clients may take; its ``timeout`` is for a connection to the backend, too.
      processes: how many processes serve them.
      idle_timeout: seconds for which nothing may come over a connection; None: no limit.
      stop_grace: seconds that connections have to finish at the end.
      proxy_protocol: the version of the PROXY protocol to tell the backend of the client, or None.
      quiet: whether only failures are told.
      json: whether each line is an object.
    """

    listen: Endpoint
    backend: Endpoint
    clients: ServerTLS | None
    to_backend: BackendTLS | None
    limits: Limits
    processes: Processes
    idle_timeout: float | None
    stop_grace: float
    proxy_protocol: Literal["v1", "v2"] | None
    quiet: bool
    json: bool

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> ProxyOptions:
        """From argparse's namespace.

        Raises:
          Problem: options contradict each other.
        """
        ours = has_certificate(arguments)
        if not ours and not arguments.to_tls:
            raise usage(
                "neither side speaks TLS: give --cert, --self-signed or --to-tls",
                "With a certificate the clients speak TLS, with --to-tls the backend does",
            )
        listen, backend = Endpoint.of(arguments.listen), Endpoint.of(arguments.backend)
        if not ours:
            _check_clients_without_tls(arguments)
        return cls(
            listen=listen,
            backend=backend,
            clients=ServerTLS.of(arguments) if ours else None,
            to_backend=_with_backend(arguments, backend),
            limits=Limits.of(arguments),
            processes=Processes.of(arguments, alone={"LISTEN at unix:PATH": listen.unix}),
            idle_timeout=arguments.idle_timeout,
            stop_grace=arguments.stop_grace,
            proxy_protocol=arguments.proxy_protocol,
            quiet=arguments.quiet,
            json=arguments.json,
        )


#: What is about TLS with the clients, beside certificates: what argparse calls it.
WITH_CLIENTS = ("client_cert", "ca_file", "alpn", "write_ca", "ticket_secrets", "max_handshakes", "plain_http")


def _check_clients_without_tls(arguments: argparse.Namespace) -> None:
    given = [option for option, _ in arguments.presented]
    given += [f"--{name.replace('_', '-')}" for name in WITH_CLIENTS if getattr(arguments, name)]
    if arguments.unknown_name == "refuse":
        given.append("--unknown-name")
    if given:
        raise usage(f"{given[0]} needs --cert or --self-signed", "It is about TLS with the clients")


#: What TLS with the backend has of its own, and under which names `TLSOptions` looks for it.
BACKEND = ("cert", "key", "key_password_file", "ca_file", "alpn")


def _with_backend(arguments: argparse.Namespace, backend: Endpoint) -> BackendTLS | None:
    if not arguments.to_tls:
        for option in (*BACKEND, "name", "insecure"):
            if getattr(arguments, f"backend_{option}"):
                raise usage(f"--backend-{option.replace('_', '-')} needs --to-tls", "It is about TLS with the backend")
        return None
    for option in ("key", "key_password_file"):
        if getattr(arguments, f"backend_{option}") and not arguments.backend_cert:
            raise usage(
                f"--backend-{option.replace('_', '-')} needs --backend-cert",
                "The certificate that belongs to the key is given with --backend-cert",
            )
    if backend.unix and not arguments.backend_name and not arguments.backend_insecure:
        raise usage(
            "a backend at unix:PATH needs --backend-name",
            "A path is no name that a certificate could have; say which name the backend's certificate has",
        )
    own = {name: getattr(arguments, f"backend_{name}") for name in BACKEND}
    return BackendTLS(
        tls=TLSOptions.of(argparse.Namespace(**vars(arguments) | own)),
        server_name=arguments.backend_name or backend.host or None,
        insecure=arguments.backend_insecure,
    )
