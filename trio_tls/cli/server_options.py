"""What ``trio-tls serve`` and ``trio-tls proxy`` can be told alike, after the checks that need more than one option.

How this works. As `trio_tls.cli.options`. What is presented to clients and asked of them (`ServerTLS`), what they may
take (`Limits`), and how many processes serve them and where those tell their counters (`Processes`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from .files import usage
from .options import LOCAL_NAMES, TLSOptions

__all__ = ["Limits", "Processes", "ServerTLS", "has_certificate"]

#: Processes.
MOST_WORKERS = 256

#: The options that describe a certificate, and what `TLSOptions` calls them.
ABOUT_A_CERTIFICATE = {"--cert": "cert", "--key": "key", "--key-password-file": "key_password_file"}


def has_certificate(arguments: argparse.Namespace) -> bool:
    """Whether there is something to present to clients, so that they speak TLS."""
    return arguments.self_signed is not None or any(option == "--cert" for option, _ in arguments.presented)


@dataclass(frozen=True, slots=True)
class ServerTLS:
    """TLS with the clients.

    Attributes:
      presented: what it is to be like, with one certificate each; of a throw-away one, without any.
      self_signed: the names of a throw-away certificate; None: ``presented`` has certificates of files.
      write_ca: where the CA of the throw-away certificate is written; None: to a temporary file.
      client_cert: ``"request"``, ``"require"``, or None.
      refuses_names: whether clients are refused that ask for a name which no certificate has, or for none; else they
        are shown the first certificate.
      ticket_secrets: where the secrets of session tickets are shared, a file or a URL; None: nowhere.
    """

    presented: tuple[TLSOptions, ...]
    self_signed: tuple[str, ...] | None
    write_ca: str | None
    client_cert: Literal["request", "require"] | None
    refuses_names: bool
    ticket_secrets: str | None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> ServerTLS:
        """From argparse's namespace.

        Raises:
          Problem: options contradict each other.
        """
        certificates = _certificates(arguments.presented)
        if ("cert" in certificates[0]) == (arguments.self_signed is not None):
            raise usage(
                "give either --cert or --self-signed",
                "--cert FILE presents a certificate of yours; --self-signed makes one for localhost, for a try",
            )
        if arguments.write_ca and arguments.self_signed is None:
            raise usage("--write-ca needs --self-signed", "Only a throw-away CA is made here, and so written")
        if arguments.client_cert and not arguments.ca_file:
            raise usage(f"--client-cert {arguments.client_cert} needs --ca-file", "Say whose certificates to accept")
        if arguments.ca_file and not arguments.client_cert:
            raise usage("--ca-file needs --client-cert", "Without it no client is asked for a certificate")
        if arguments.ticket_secrets and arguments.openssl:
            raise usage(
                "--ticket-secrets goes without --openssl",
                "Python's ssl module does not let anybody choose the keys of its tickets",
            )
        nothing = dict.fromkeys(ABOUT_A_CERTIFICATE.values())
        return cls(
            presented=tuple(
                TLSOptions.of(argparse.Namespace(**vars(arguments) | nothing | each)) for each in certificates
            ),
            self_signed=None if arguments.self_signed is None else tuple(arguments.self_signed) or LOCAL_NAMES,
            write_ca=arguments.write_ca,
            client_cert=arguments.client_cert,
            refuses_names=arguments.unknown_name == "refuse",
            ticket_secrets=arguments.ticket_secrets,
        )

    @property
    def tls(self) -> TLSOptions:
        """What TLS is to be like, whatever the certificate: with the first one."""
        return self.presented[0]


def _certificates(given: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Each certificate with what is about it. What is about the only one may stand anywhere, else behind its own."""
    certificates: list[dict[str, str]] = []
    early: dict[str, str] = {}
    for option, path in given:
        if option == "--cert":
            certificates.append({"cert": path})
            continue
        about = certificates[-1] if certificates else early
        if ABOUT_A_CERTIFICATE[option] in about:
            raise _twice(option)
        about[ABOUT_A_CERTIFICATE[option]] = path
    if len(certificates) > 1 and early:
        raise usage(
            f"--{next(iter(early)).replace('_', '-')} stands before all certificates",
            "Of several, each --cert is followed by the --key and the --key-password-file that belong to it",
        )
    only = certificates[0] if certificates else {}
    if twice := early.keys() & only.keys():
        raise _twice(f"--{min(twice).replace('_', '-')}")
    return [early | only] if len(certificates) < 2 else certificates


def _twice(option: str) -> Exception:
    return usage(f"{option} is given twice for one --cert", "Each certificate has one private key")


class LimitArguments(TypedDict):
    """Arguments of `trio_tls.serve_tls`."""

    handshake_timeout: float
    max_connections: int | None
    max_handshakes: int | None
    when_full: Literal["wait", "refuse"]
    plain_http: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may take.

    Attributes:
      timeout: seconds for a handshake.
      max_connections: how many connections there may be at once, in each process; None: no limit.
      max_handshakes: how many handshakes may be under way at once, in each process; None: no limit.
      when_full: what becomes of who comes when a limit is reached.
      plain_http: whether clients that speak plain HTTP are told that this is a TLS port.
    """

    timeout: float
    max_connections: int | None
    max_handshakes: int | None
    when_full: Literal["wait", "refuse"]
    plain_http: bool

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Limits:
        """From argparse's namespace.

        Raises:
          Problem: options contradict each other.
        """
        if arguments.when_full == "refuse" and not (arguments.max_connections or arguments.max_handshakes):
            raise usage(
                "--when-full refuse needs --max-connections or --max-handshakes", "Without a limit, all come in"
            )
        return cls(
            timeout=arguments.timeout,
            max_connections=arguments.max_connections,
            max_handshakes=arguments.max_handshakes,
            when_full=arguments.when_full,
            plain_http=arguments.plain_http,
        )

    @property
    def arguments(self) -> LimitArguments:
        """The same for `trio_tls.serve_tls`."""
        return {
            "handshake_timeout": self.timeout,
            "max_connections": self.max_connections,
            "max_handshakes": self.max_handshakes,
            "when_full": self.when_full,
            "plain_http": self.plain_http,
        }


@dataclass(frozen=True, slots=True)
class Processes:
    """How many processes serve, and where they tell their counters.

    Attributes:
      workers: how many; None: this one.
      metrics: the host and port where the counters can be asked for, or None.
    """

    workers: int | None
    metrics: tuple[str, int] | None

    @classmethod
    def of(cls, arguments: argparse.Namespace, *, alone: dict[str, object]) -> Processes:
        """From argparse's namespace.

        Args:
          arguments: the namespace.
          alone: options that go without workers, and what was given for them.

        Raises:
          Problem: options contradict each other.
        """
        workers, metrics = arguments.workers, arguments.metrics
        if workers is not None:
            if workers > MOST_WORKERS:
                raise usage(f"--workers {workers} is more than {MOST_WORKERS}", "One for each core is enough")
            for option, given in alone.items():
                if given:
                    sentence = f"--workers goes without {option}"
                    raise usage(sentence, "Workers share a TCP port until they are told to stop")
            if metrics and metrics[1] + workers - 1 > 65535:
                raise usage(f"--metrics {metrics[1]} leaves no port for each worker", "Each takes the next one")
        return cls(workers, metrics)
