"""``--openssl``: options become an `ssl.SSLContext`, OpenSSL as this Python has it."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from .certificates import Issued
from .files import PEM_HINT, check_readable, password_in, unusable, usage
from .options import ClientSide, TLSOptions

__all__ = ["client_context", "server_context"]

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def client_context(options: ClientSide) -> ssl.SSLContext:
    """The context of a client.

    Raises:
      Problem: a file cannot be used.
    """
    tls = options.tls
    check_readable("--ca-file", *tls.ca_files)
    first = tls.ca_files[0] if tls.ca_files else None  # with one, the system's are not loaded
    with _about(f"--ca-file {first}"):
        context = ssl.create_default_context(cafile=first)
    _trust(context, tls.ca_files[1:])
    if options.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    _configure(context, tls)
    return context


def server_context(tls: TLSOptions, client_cert: str | None, throw_away: Issued | None) -> ssl.SSLContext:
    """The context of a server.

    Args:
      tls: what was asked for.
      client_cert: ``"request"`` or ``"require"`` a certificate; None: do not ask for any.
      throw_away: the certificate to present, where none was given.

    Raises:
      Problem: a file cannot be used.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if throw_away is not None:
        throw_away.load_into(context)
    if client_cert:
        check_readable("--ca-file", *tls.ca_files)
        _trust(context, tls.ca_files)
        context.verify_mode = ssl.CERT_REQUIRED if client_cert == "require" else ssl.CERT_OPTIONAL
    _configure(context, tls)
    return context


def _configure(context: ssl.SSLContext, tls: TLSOptions) -> None:
    # Some Python releases set this option, which makes a truncated stream look like a complete one.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    if tls.tls_min:
        context.minimum_version = VERSIONS[tls.tls_min]
    if tls.tls_max:
        context.maximum_version = VERSIONS[tls.tls_max]
    if tls.alpn:
        context.set_alpn_protocols(list(tls.alpn))
    if tls.certificate:
        _present(context, tls)
    if tls.keylog:
        try:
            context.keylog_filename = tls.keylog
        except OSError as error:
            raise unusable("--keylog", tls.keylog, error) from error


def _trust(context: ssl.SSLContext, paths: Iterable[str]) -> None:
    for path in paths:
        with _about(f"--ca-file {path}"):
            context.load_verify_locations(cafile=path)


@contextmanager
def _about(what: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        raise usage(f"{what} holds no CA certificate in PEM", PEM_HINT) from error


def _present(context: ssl.SSLContext, tls: TLSOptions) -> None:
    assert tls.certificate is not None  # the caller has looked
    check_readable("--cert", tls.certificate)
    if tls.key:
        check_readable("--key", tls.key)
    if tls.key_password_file:
        check_readable("--key-password-file", tls.key_password_file)
    key = tls.key or tls.certificate
    asked = False

    def password() -> bytes:
        nonlocal asked
        asked = True
        # Without an answer of ours, OpenSSL would ask on the terminal.
        if tls.key_password_file is None:
            raise usage(f"the key in {key} is encrypted", "Give a file with its password: --key-password-file")
        return password_in(tls.key_password_file)

    try:
        context.load_cert_chain(tls.certificate, tls.key, password=password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise usage(
                f"the key in {key} does not belong to the certificate in {tls.certificate}",
                "Give the key that the certificate was issued for, or the certificate that was issued for this key",
            ) from error
        if asked:  # the reason depends on how the key was encrypted
            raise usage(
                f"the password in {tls.key_password_file} does not decrypt the key in {key}",
                "The password is the first line of the file, as it stands",
            ) from error
        raise usage(
            f"{tls.certificate}{f' and {tls.key}' if tls.key else ''} cannot be used as certificate and key: "
            f"{(error.reason or 'not understood').replace('_', ' ').lower()}",
            PEM_HINT,
        ) from error
