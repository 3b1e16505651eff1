"""Names of servers, as a client asks for them and as certificates have them.

How this works. A server is asked for by a DNS name (already A-labels, RFC 5890) or by an IP address. Which of the
two a text is has to be decided once, and IP addresses first: ``"192.0.2.1"`` is also a well-formed DNS name, and a
certificate's DNS names must never vouch for an address (RFC 9525 section 6.1). What comes out of a peer's
certificate is shown only through `quoted`: those bytes are the peer's choice.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

from cryptography import x509

__all__ = ["is_address", "listed", "names_of", "normalised", "quoted", "server_subject", "subject_of", "wildcard_of"]

#: Longer texts of a peer are cut: enough to recognise a name, too little to flood a log.
SHOWN_CHARACTERS = 120

#: A label of a host name (RFC 1123 section 2.1); A-labels are such labels.
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

#: No DNS name is longer (RFC 1035 section 2.3.4), and no address with its scope.
LONGEST_NAME = 255

#: So many names of a certificate are shown.
SHOWN_NAMES = 5


def is_address(server_name: str) -> bool:
    """Whether ``server_name`` is an IP address, and not a DNS name."""
    return _address(server_name) is not None


def normalised(server_name: str) -> str:
    """``server_name`` in the one form to compare: lower case, no trailing dot, an IP address in its shortest form.

    The scope of an IPv6 address (``%eth0``) is for this host alone; no certificate has one.
    """
    address = _address(server_name)
    return server_name.lower().removesuffix(".") if address is None else str(address)


@lru_cache(maxsize=1024)
def server_subject(server_name: str) -> x509.DNSName | x509.IPAddress:
    """What a certificate has to name, so that it is one for ``server_name``.

    Args:
      server_name: a DNS name in A-labels, with or without its trailing dot, or an IP address.

    Raises:
      ValueError: if no certificate can be valid for it: it is empty, a wildcard, or has characters that host names
        do not have (an underscore, say, or U-labels).
    """
    address = _address(server_name)
    if address is not None:
        return x509.IPAddress(address)
    name = normalised(server_name)
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError(
            f"{quoted(server_name)} is not a host name that a certificate can be checked for: "
            "its labels have to be letters, digits and hyphens; encode other names with IDNA first"
        )
    return x509.DNSName(name)


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names and IP addresses in the certificate's subjectAltName, normalised, wildcards included.

    Nothing, if there is no such extension or if it cannot be parsed. The subject's common name does not count
    (RFC 9525 section 2).
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:
        # Mostly ValueError, ExtensionNotFound or DuplicateExtension. But names of odd kinds (x400Address, ediPartyName)
        # have an exception of their own, and a warning about an odd certificate is one under -W error.
        return ()
    dns = [name.lower().removesuffix(".") for name in names.get_values_for_type(x509.DNSName)]
    return (*dns, *map(str, names.get_values_for_type(x509.IPAddress)))


def wildcard_of(server_name: str) -> str | None:
    """The wildcard that covers a normalised DNS name: ``*.example.org`` for ``www.example.org``.

    A wildcard stands for exactly one label, the left-most one (RFC 9525 section 6.3). None for IP addresses and for
    names of a single label.
    """
    first, _dot, rest = server_name.partition(".")
    if not first or not rest or _address(server_name) is not None:
        return None
    return f"*.{rest}"


def subject_of(certificate: x509.Certificate) -> str:
    """Whom the certificate is about, to be shown: its subject, else its first name, else its serial number."""
    try:
        subject = certificate.subject.rfc4514_string()
    except Exception:  # ValueError as a rule; a refusal has to be worded whatever the certificate
        return "(a certificate whose subject cannot be read)"
    if subject:
        return quoted(subject)
    names = names_of(certificate)
    return quoted(names[0]) if names else f"(a certificate without subject, serial number {certificate.serial_number})"


def quoted(text: str) -> str:
    """A text from outside, safe to show: in quotes, ASCII only, control characters escaped, not too long."""
    if len(text) > SHOWN_CHARACTERS:
        text = text[: SHOWN_CHARACTERS - 3] + "..."
    return ascii(text)


def listed(names: Iterable[str]) -> str:
    """Names to be shown: the first few, and how many more there are."""
    every = list(names)
    shown = ", ".join(quoted(name) for name in every[:SHOWN_NAMES])
    more = len(every) - SHOWN_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    # A client may ask for any name, of 64 KiB even: what is remembered of it has to be small.
    return _short_address(text) if len(text) <= LONGEST_NAME else None


@lru_cache(maxsize=1024)
def _short_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return ipaddress.ip_address(address.packed)  # without the scope
