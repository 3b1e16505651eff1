"""``trio-tls cert``: certificates for development, by a CA that is this machine's own.

How this works. The first call makes the CA (`trio_tls.cli.local_authority`); each call issues one certificate, and
writes it with its key into one PEM file, which is what servers and clients here read. Nothing is trusted by the call
itself: that would need the rights of an administrator, and should be a decision. What to do for it is printed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import trio
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from cryptography.x509.oid import ExtendedKeyUsageOID

from ..names import is_address, server_subject
from .certificates import Issued
from .facts import certificate_facts
from .files import unusable, usage
from .local_authority import CA_FILE, default_directory, local_authority, write_secret
from .options import LOCAL_NAMES
from .paper import Paper, Row
from .problem import ExitStatus

__all__ = ["CertOptions", "run"]

#: An address as people have them (RFC 5321 section 4.1.2), without the quoted ones that nobody has.
_MAILBOX = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")


@dataclass(frozen=True, slots=True)
class CertOptions:
    """What was asked for.

    Attributes:
      names: for whom; checked, DNS names in A-labels.
      directory: where the CA lies.
      out: the file for the certificate, and for the key if that has no file of its own.
      key_out: the file for the key, or None.
      lifetime: of the certificate.
      client: whether it is for a client only.
      force: whether files that are there may be replaced.
      json: whether the facts are told as JSON.
    """

    names: tuple[str, ...]
    directory: Path
    out: Path
    key_out: Path | None
    lifetime: datetime.timedelta
    client: bool
    force: bool
    json: bool

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> CertOptions:
        """From argparse's namespace.

        Raises:
          Problem: a name is none, or a file is there already.
        """
        names = tuple(dict.fromkeys(map(_name, arguments.names or LOCAL_NAMES)))
        out = Path(arguments.out) if arguments.out else Path(_file_name(names[0]) + ".pem")
        options = cls(
            names=names,
            directory=Path(arguments.ca_dir).expanduser() if arguments.ca_dir else default_directory(),
            out=out,
            key_out=Path(arguments.key_out) if arguments.key_out else None,
            lifetime=datetime.timedelta(days=arguments.days),
            client=arguments.client,
            force=arguments.force,
            json=arguments.json,
        )
        for option, path in (("--out", options.out), ("--key-out", options.key_out)):
            if path is not None and path.exists() and not (options.force and path.is_file()):
                raise usage(
                    f"{option} {path} is there already",
                    "Give another name, or --force to replace it" if path.is_file() else "Give the name of a file",
                )
        if options.key_out == options.out:
            raise usage("--out and --key-out are the same file", "Leave out --key-out: one file may have both")
        return options


def run(arguments: argparse.Namespace) -> int:
    """Run the command; the exit status.

    Raises:
      Problem: a name cannot be in a certificate, or a file cannot be used.
    """
    options = CertOptions.of(arguments)
    authority, new = local_authority(options.directory, name="trio-tls local CA")
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if not options.client:
        usages.insert(0, ExtendedKeyUsageOID.SERVER_AUTH)
    issued = authority.issue(*options.names, lifetime=options.lifetime, usages=usages)
    _write(options, issued)
    if options.json:
        Paper(sys.stdout).line(json.dumps(_facts(options, issued, new=new)))
    else:
        _tell(options, issued, new=new)
    return ExitStatus.OK


def _write(options: CertOptions, issued: Issued) -> None:
    files = [("--out", options.out, issued.certificate_pem + (b"" if options.key_out else issued.key_pem))]
    if options.key_out:
        files.insert(0, ("--key-out", options.key_out, issued.key_pem))
    for option, path, content in files:
        try:
            write_secret(path, content)
        except OSError as error:
            raise unusable(option, str(path), error) from error


def _facts(options: CertOptions, issued: Issued, *, new: bool) -> dict[str, object]:
    der = load_pem_x509_certificate(issued.certificate_pem).public_bytes(Encoding.DER)
    return {
        "ok": True,
        "certificate_file": str(options.out),
        "key_file": str(options.key_out or options.out),
        "ca_file": str(options.directory / CA_FILE),
        "ca_made": new,
        "certificate": certificate_facts(der).as_json(),
    }


def _tell(options: CertOptions, issued: Issued, *, new: bool) -> None:
    paper = Paper(sys.stdout)
    ca = options.directory / CA_FILE
    certificate = load_pem_x509_certificate(issued.certificate_pem)
    rows = [Row("certificate", str(options.out), "bold")]
    if options.key_out:
        rows.append(Row("key", str(options.key_out), "bold"))
    else:
        rows.append(Row("key", "in the same file, which is a secret (mode 0600)"))
    facts = certificate_facts(certificate.public_bytes(Encoding.DER))
    rows += [
        Row("names", ", ".join(facts.names)),
        Row("for", "a client" if options.client else "a server, or a client"),
        Row("valid", f"until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"),
        Row("CA", f"{ca} ({'made just now' if new else 'there already'})"),
    ]
    paper.rows(rows)
    for line in _how_to_use(options, ca):
        paper.line(line)


def _how_to_use(options: CertOptions, ca: Path) -> Iterator[str]:
    file, authority = quote(str(options.out)), quote(str(ca))
    key = f" --key {quote(str(options.key_out))}" if options.key_out else ""
    yield ""
    if options.client:
        yield "Try it, against a server that trusts the CA:"
        yield f"  trio-tls serve --self-signed --write-ca server-ca.pem --client-cert require --ca-file {authority}"
        yield f"  trio-tls connect localhost:4433 --ca-file server-ca.pem --cert {file}{key}"
    else:
        name = options.names[0].replace("*", "www", 1)
        yield "Try it:"
        yield f"  trio-tls serve --cert {file}{key}"
        yield f"  trio-tls connect localhost:4433 --server-name {quote(name)} --ca-file {authority}"
    yield ""
    yield "Trust the CA, where you need it:"
    for what, how in _ways_to_trust(ca):
        yield f"  {what:<21}{how}"
    yield ""
    directory = quote(str(options.directory))
    yield f"Keep {directory} to yourself: who has the CA's key can be anybody to those who trust it."


def _ways_to_trust(path: Path) -> Sequence[tuple[str, str]]:
    in_python, ca = repr(str(path)), quote(str(path))
    return (
        ("trio_tls", f"Verifier(TrustAnchors.from_files({in_python}), PrivatePolicy())"),
        ("ssl", f"ssl.create_default_context(cafile={in_python})"),
        ("one command", f"SSL_CERT_FILE={ca} COMMAND    (OpenSSL, Python, trio-tls)"),
        ("curl", f"curl --cacert {ca} URL"),
        (
            "Debian, Ubuntu",
            f"sudo cp {ca} /usr/local/share/ca-certificates/trio-tls.crt && sudo update-ca-certificates",
        ),
        ("Fedora, RHEL", f"sudo trust anchor {ca}"),
        ("Chromium on Linux", f"certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n trio-tls -i {ca}    (libnss3-tools)"),
        ("Firefox", "Settings, Certificates, Authorities, Import"),
        ("macOS", f"security add-trusted-cert -r trustRoot -k ~/Library/Keychains/login.keychain-db {ca}"),
        ("Windows", f"certutil -user -addstore Root {ca}"),
    )


def _name(text: str) -> str:
    """A name as a certificate has it: A-labels, addresses in their shortest form."""
    if "://" in text or "@" in text:
        if not (text.isascii() and text.isprintable() and " " not in text):
            raise usage(f"{text!r} has characters that no certificate has in an address", "Use ASCII, without spaces")
        if "://" not in text and not _MAILBOX.fullmatch(text):
            raise usage(f"{text!r} is no e-mail address", "It has the form somebody@example.org")
        return text
    wildcard, host = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    try:
        if not is_address(host):
            host = trio.lowlevel.encode_hostname(host).decode("ascii")
        subject = server_subject(host)
    except ValueError as error:  # UnicodeError and idna's errors are such
        raise usage(
            f"{text!r} is no name that a certificate can have",
            "Give DNS names (*.example.org, too), IP addresses, e-mail addresses, or URIs",
        ) from error
    if wildcard and is_address(host):
        raise usage(f"{text!r}: there are no wildcards of IP addresses", "Give each address by itself")
    return wildcard + str(subject.value)


def _file_name(name: str) -> str:
    """A file name that a person recognises, whatever is in the name."""
    kept = "".join(each if each.isalnum() or each in ".-" else "_" for each in name.replace("*", "wildcard"))
    return kept.strip("._") or "certificate"
