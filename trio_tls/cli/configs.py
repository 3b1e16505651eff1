"""Which machine speaks TLS, and how it is configured: the one place of the command that knows.

How this works. Options become a `ClientConfig` or a `ServerConfig`, our own machine; with ``--openssl`` an
`ssl.SSLContext` (`trio_tls.cli.contexts`). What the chosen machine cannot do is refused here or in
`trio_tls.cli.options`, in words, so that the rest of the command never asks what is below a stream.
"""

from __future__ import annotations

import datetime
import enum
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ..config import ClientConfig, ServerConfig, accept_any_peer
from ..credentials import Credential
from ..errors import CertificateVerificationError
from ..keylog import KeyLog, keylog_from_environment
from ..machine.tls13.registry import CipherSuiteNumber, NamedGroup
from ..trust import PrivatePolicy, TrustAnchors, VerifiedPeer, Verifier
from .certificates import Issued
from .contexts import client_context, server_context
from .files import PEM_HINT, check_appendable, check_readable, password_in, usage
from .keylog_file import KeyLogFile
from .options import ClientSide, TLSOptions

if TYPE_CHECKING:
    from ..machine.tls13.tracer import Tracer

__all__ = ["client_config", "judged", "server_config"]


def client_config(options: ClientSide, tracer: Tracer | None = None) -> ssl.SSLContext | ClientConfig:
    """The configuration of a client.

    Args:
      options: what was asked for.
      tracer: is told what happens, on our own machine.

    Raises:
      Problem: a file cannot be used, or the machine cannot do what was asked for.
    """
    tls = options.tls
    if tls.openssl:
        return client_context(options)
    try:
        return ClientConfig(
            verify=accept_any_peer if options.insecure else _verifier(tls),
            credentials=_credential(tls),
            alpn_protocols=tls.alpn,
            groups=_numbers("--group", tls.groups, NamedGroup, ClientConfig.groups),
            cipher_suites=_numbers("--cipher", tls.ciphers, CipherSuiteNumber, ClientConfig.cipher_suites),
            keylog=_keylog(tls),
            tracer=tracer,
        )
    except ValueError as error:  # such as an ALPN protocol that is named twice
        raise usage(str(error), _NAMES_HINT) from error


def server_config(tls: TLSOptions, client_cert: str | None, throw_away: Issued | None) -> ssl.SSLContext | ServerConfig:
    """The configuration of a server.

    Args:
      tls: what was asked for.
      client_cert: ``"request"`` or ``"require"`` a certificate; None: do not ask for any.
      throw_away: the certificate to present, where none was given.

    Raises:
      Problem: a file cannot be used.
    """
    if tls.openssl:
        return server_context(tls, client_cert, throw_away)
    credential = _credential(tls) if throw_away is None else throw_away.credential
    assert credential is not None  # the options are one or the other
    try:
        return ServerConfig(
            credentials=credential,
            client_auth=_CLIENT_AUTH[client_cert],
            verify=_verifier(tls) if client_cert else None,
            alpn_protocols=tls.alpn,
            groups=_numbers("--group", tls.groups, NamedGroup, ServerConfig.groups),
            cipher_suites=_numbers("--cipher", tls.ciphers, CipherSuiteNumber, ServerConfig.cipher_suites),
            keylog=_keylog(tls),
        )
    except ValueError as error:
        raise usage(str(error), _NAMES_HINT) from error


_NAMES_HINT = "See what --alpn, --group and --cipher were given"

#: What ``--client-cert`` says, in the words of `ServerConfig`.
_CLIENT_AUTH: dict[str | None, Literal["none", "optional", "required"]] = {
    None: "none",
    "request": "optional",
    "require": "required",
}


def judged(tls: TLSOptions, chain: Sequence[bytes], server_name: str) -> VerifiedPeer | CertificateVerificationError:
    """What verification says of a server's chain, where ``--insecure`` has let it in without.

    Raises:
      Problem: there is nothing to verify it with.
    """
    now = datetime.datetime.now(datetime.timezone.utc)
    try:
        return _verifier(tls).verify_server(chain, server_name, now)
    except CertificateVerificationError as error:
        return error


def _verifier(tls: TLSOptions) -> Verifier:
    """Files with CAs are somebody's own; what the system trusts are those of the public web."""
    check_readable("--ca-file", *tls.ca_files)
    for path in tls.ca_files:
        try:
            TrustAnchors.from_files(path)
        except ValueError as error:
            raise usage(f"--ca-file {path} holds no CA certificate in PEM", PEM_HINT) from error
    if tls.ca_files:
        return Verifier(TrustAnchors.from_files(*tls.ca_files), PrivatePolicy())
    try:
        return Verifier(TrustAnchors.system())
    except ValueError as error:
        raise usage(
            str(error).partition(". ")[0],
            "Install this system's CA certificates (the package is often called ca-certificates), or give --ca-file",
        ) from error


def _credential(tls: TLSOptions) -> Credential | None:
    if tls.certificate is None:
        return None
    check_readable("--cert", tls.certificate)
    if tls.key:
        check_readable("--key", tls.key)
    password = None if tls.key_password_file is None else password_in(tls.key_password_file)
    try:
        return Credential.from_files(tls.certificate, tls.key, password=password)
    except ValueError as error:
        sentence, _, hint = str(error).partition(": give ")
        if sentence.endswith(" is encrypted"):
            raise usage(sentence, "Give a file with its password: --key-password-file") from error
        # What comes behind a semicolon is for those who write code.
        raise usage(sentence.partition("; ")[0], f"Give {hint}" if hint else PEM_HINT) from error


def _numbers(option: str, names: Sequence[str], registry: type[enum.IntEnum], known: Sequence[int]) -> Sequence[int]:
    """The numbers behind these names, in their order; all that there are, if none is named."""
    numbers = {registry(number).name.lower(): number for number in known}
    strange = [name for name in names if name.lower() not in numbers]
    if strange:
        has = ", ".join(registry(number).name for number in known)
        raise usage(f"{option}: {strange[0]} is not known here", f"There are: {has}")
    return [numbers[name.lower()] for name in dict.fromkeys(names)] if names else known


def _keylog(tls: TLSOptions) -> KeyLog | None:
    if tls.keylog is None:
        return keylog_from_environment()
    check_appendable("--keylog", tls.keylog)
    return KeyLogFile(tls.keylog)
