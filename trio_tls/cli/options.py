"""What the command line asked for, with types, after the checks that need more than one option.

How this works. argparse knows each option by itself; ``of()`` turns its namespace into one of these and raises a
`Problem` (exit status 2) where two options contradict each other. From here on nobody looks at argparse.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Protocol

from .files import usage

__all__ = ["ClientSide", "ConnectOptions", "TLSOptions"]


@dataclass(frozen=True, slots=True)
class TLSOptions:
    """What both commands can be told about TLS.

    Attributes:
      ca_files: files with trusted CA certificates, PEM. Empty: a client trusts what the system trusts.
      certificate: our certificate chain, PEM, or None.
      key: its private key; None: it is in the same file.
      key_password_file: a file whose first line is the password of the key.
      alpn: the ALPN protocols to offer or to accept, in order.
      tls_min: the least version, ``"1.2"`` or ``"1.3"``; None: what Python allows.
      tls_max: the greatest version.
      openssl: whether the interpreter's OpenSSL speaks TLS, and not our own machine.
      groups: the names of the key exchange groups, in order; empty: all.
      ciphers: the names of the cipher suites, in order; empty: all.
      keylog: a file that the secrets of the connections are appended to.
    """

    ca_files: tuple[str, ...]
    certificate: str | None
    key: str | None
    key_password_file: str | None
    alpn: tuple[str, ...]
    tls_min: str | None
    tls_max: str | None
    openssl: bool
    groups: tuple[str, ...]
    ciphers: tuple[str, ...]
    keylog: str | None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> TLSOptions:
        """From argparse's namespace."""
        if arguments.key and not arguments.cert:
            raise usage("--key needs --cert", "The certificate that belongs to the key is given with --cert")
        if arguments.key_password_file and not arguments.cert:
            raise usage("--key-password-file needs --cert", "It is for the key of the certificate that --cert gives")
        if arguments.tls_min and arguments.tls_max and arguments.tls_min > arguments.tls_max:
            raise usage(
                f"--tls-min {arguments.tls_min} is more than --tls-max {arguments.tls_max}",
                "Leave one of them out, or give the same version to both",
            )
        for option, version in (("--tls-min", arguments.tls_min), ("--tls-max", arguments.tls_max)):
            if version == "1.2" and not arguments.openssl:
                raise usage(f"{option} 1.2 needs --openssl", "Our own machine speaks TLS 1.3, and nothing else")
        for option, names in (("--group", arguments.group), ("--cipher", arguments.cipher)):
            if names and arguments.openssl:
                raise usage(f"{option} goes without --openssl", "OpenSSL's own configuration file decides there")
        return cls(
            ca_files=tuple(arguments.ca_file or ()),
            certificate=arguments.cert,
            key=arguments.key,
            key_password_file=arguments.key_password_file,
            alpn=arguments.alpn,
            tls_min=arguments.tls_min,
            tls_max=arguments.tls_max,
            openssl=arguments.openssl,
            groups=tuple(arguments.group),
            ciphers=tuple(arguments.cipher),
            keylog=arguments.keylog,
        )

    @property
    def paths(self) -> list[str]:
        """The files that are read: those of the certificate and of the CAs."""
        ours = (self.certificate, self.key, self.key_password_file)
        return [*(path for path in ours if path is not None), *self.ca_files]


class ClientSide(Protocol):
    """What a client's configuration is made of."""

    @property
    def tls(self) -> TLSOptions: ...  # noqa: D102  # see the classes that have it
    @property
    def insecure(self) -> bool: ...  # noqa: D102


#: Where each protocol of ``--starttls`` is served in plain text at first.
STARTTLS_PORTS = {"smtp": 25, "imap": 143, "postgres": 5432}

HTTPS_PORT = 443

#: What a throw-away certificate is for, if nothing else is said.
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """What ``trio-tls connect`` was asked for.

    Attributes:
      tls: what both commands can be told.
      host: the host to connect to; None with ``unix``.
      port: the TCP port.
      unix: the path of a Unix domain socket, instead.
      server_name: the name to ask for and to check; None: nothing is checked (``insecure`` on a Unix socket).
      insecure: whether the peer's certificate goes unchecked.
      timeout: seconds for the connection, STARTTLS and the handshake together.
      starttls: the protocol that begins in plain text, or None.
      session_in: the file with a session to resume, or None.
      session_out: the file to keep the session in, or None.
      reconnect: how often to connect again, with the session.
      trace: whether the handshake is drawn as text.
      trace_svg: the file to draw it in as a picture, or None.
      check: no conversation: handshake, report, close.
      read_input: whether standard input goes to the peer.
      report: whether the facts are told on standard error.
      json: whether they are told on standard output, as one object.
      raw: whether a terminal gets the peer's bytes as they are.
    """

    tls: TLSOptions
    host: str | None
    port: int
    unix: str | None
    server_name: str | None
    insecure: bool
    timeout: float
    starttls: str | None
    session_in: str | None
    session_out: str | None
    reconnect: int
    trace: bool
    trace_svg: str | None
    check: bool
    read_input: bool
    report: bool
    json: bool
    raw: bool

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> ConnectOptions:
        """From argparse's namespace.

        Raises:
          Problem: options contradict each other.
        """
        host, port = arguments.target or (None, None)
        if (host is None) == (arguments.unix is None):
            raise usage("give either HOST[:PORT] or --unix PATH", "For example: trio-tls connect example.org:443")
        if arguments.unix and not arguments.server_name and not arguments.insecure:
            raise usage(
                "--unix needs --server-name",
                "A path is no name that a certificate could have; say which name the server's certificate has",
            )
        if arguments.openssl:
            _refuse_what_openssl_cannot(arguments)
        if arguments.insecure and (arguments.session_in or arguments.session_out):
            raise usage(
                "--session-in and --session-out go without --insecure",
                "A session is as good as the verification that it was made with",
            )
        return cls(
            tls=TLSOptions.of(arguments),
            host=host,
            port=port or STARTTLS_PORTS.get(arguments.starttls, HTTPS_PORT),
            unix=arguments.unix,
            server_name=arguments.server_name or host,
            insecure=arguments.insecure,
            timeout=arguments.timeout,
            starttls=arguments.starttls,
            session_in=arguments.session_in,
            session_out=arguments.session_out,
            reconnect=arguments.reconnect,
            trace=arguments.trace,
            trace_svg=arguments.trace_svg,
            check=arguments.check or arguments.json or arguments.reconnect > 0,
            read_input=not arguments.no_input,
            report=not arguments.no_report and not arguments.json,
            json=arguments.json,
            raw=arguments.raw,
        )


def _refuse_what_openssl_cannot(arguments: argparse.Namespace) -> None:
    for option, given in (("--session-in", arguments.session_in), ("--session-out", arguments.session_out)):
        if given:
            raise usage(
                f"{option} goes without --openssl: Python's ssl module cannot export a session, or import one",
                "--reconnect N shows resumption, inside one process",
            )
    if arguments.trace or arguments.trace_svg:
        option = "--trace" if arguments.trace else "--trace-svg"
        raise usage(f"{option} goes without --openssl", "Python's ssl module does not tell of single messages")
