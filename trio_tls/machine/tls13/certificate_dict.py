"""A certificate as a dict, in the form of `ssl.SSLSocket.getpeercert`.

How this works. Programs have picked these dicts apart since Python 2.6, so the shape is the contract: names as tuples
of tuples of pairs, attribute types under OpenSSL's long names, times as ``asctime`` writes them, IP addresses of
version 6 in full. The tests compare with what `ssl` says of the same certificates.

Only a certificate that was accepted comes here, so it parses. An extension that `cryptography` cannot read all the
same (with an EDI party name among the names, for one) is left out.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

__all__ = ["certificate_dict"]

T_Extension = TypeVar("T_Extension", bound=x509.ExtensionType)

#: The types of a name's attributes as OpenSSL calls them at length; of others it writes the numbers.
ATTRIBUTE_TYPES: dict[str, str] = {
    "0.9.2342.19200300.100.1.1": "userId",
    "0.9.2342.19200300.100.1.3": "rfc822Mailbox",
    "0.9.2342.19200300.100.1.25": "domainComponent",
    "0.9.2342.19200300.100.1.44": "uniqueIdentifier",
    "1.2.643.3.131.1.1": "INN",
    "1.2.643.100.1": "OGRN",
    "1.2.643.100.3": "SNILS",
    "1.2.840.113549.1.9.1": "emailAddress",
    "1.2.840.113549.1.9.2": "unstructuredName",
    "1.2.840.113549.1.9.8": "unstructuredAddress",
    "1.3.6.1.4.1.311.60.2.1.1": "jurisdictionLocalityName",
    "1.3.6.1.4.1.311.60.2.1.2": "jurisdictionStateOrProvinceName",
    "1.3.6.1.4.1.311.60.2.1.3": "jurisdictionCountryName",
    "2.5.4.3": "commonName",
    "2.5.4.4": "surname",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "countryName",
    "2.5.4.7": "localityName",
    "2.5.4.8": "stateOrProvinceName",
    "2.5.4.9": "streetAddress",
    "2.5.4.10": "organizationName",
    "2.5.4.11": "organizationalUnitName",
    "2.5.4.12": "title",
    "2.5.4.13": "description",
    "2.5.4.15": "businessCategory",
    "2.5.4.16": "postalAddress",
    "2.5.4.17": "postalCode",
    "2.5.4.18": "postOfficeBox",
    "2.5.4.20": "telephoneNumber",
    "2.5.4.41": "name",
    "2.5.4.42": "givenName",
    "2.5.4.43": "initials",
    "2.5.4.44": "generationQualifier",
    "2.5.4.45": "x500UniqueIdentifier",
    "2.5.4.46": "dnQualifier",
    "2.5.4.51": "houseIdentifier",
    "2.5.4.65": "pseudonym",
    "2.5.4.97": "organizationIdentifier",
}

#: The other names that OpenSSL 3 can show: what it calls them, and the tag of their one string.
OTHER_NAMES: dict[str, tuple[str, int]] = {
    "1.3.6.1.4.1.311.20.2.3": ("UPN", 0x0C),
    "1.3.6.1.5.5.7.8.5": ("XmppAddr", 0x0C),
    "1.3.6.1.5.5.7.8.7": ("SRVName", 0x16),
    "1.3.6.1.5.5.7.8.8": ("NAIRealm", 0x0C),
    "1.3.6.1.5.5.7.8.9": ("SmtpUTF8Mailbox", 0x0C),
}

#: What OpenSSL says of a name that it cannot show.
UNSUPPORTED = "<unsupported>"

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def certificate_dict(der: bytes) -> dict[str, Any]:
    """The certificate as ``getpeercert()`` tells it.

    Args:
      der: the certificate.

    Returns:
      A dict with ``subject``, ``issuer``, ``version``, ``serialNumber``, ``notBefore`` and ``notAfter``; and where the
      certificate has them, ``subjectAltName``, ``OCSP``, ``caIssuers`` and ``crlDistributionPoints``. What of it cannot
      be read is left out; a subject or an issuer is empty then.
    """
    certificate = x509.load_der_x509_certificate(der)
    told: dict[str, Any] = {
        "subject": _name_if_readable(lambda: certificate.subject),
        "issuer": _name_if_readable(lambda: certificate.issuer),
        "version": certificate.version.value + 1,
        "serialNumber": _serial(certificate.serial_number),
        "notBefore": _time(certificate.not_valid_before_utc),
        "notAfter": _time(certificate.not_valid_after_utc),
    }
    names = _extension(certificate, x509.SubjectAlternativeName)
    access = _extension(certificate, x509.AuthorityInformationAccess)
    points = _extension(certificate, x509.CRLDistributionPoints)
    found = {
        "subjectAltName": tuple(map(_general_name, names or ())),
        "OCSP": _locations(access, AuthorityInformationAccessOID.OCSP),
        "caIssuers": _locations(access, AuthorityInformationAccessOID.CA_ISSUERS),
        "crlDistributionPoints": _uris(name for point in points or () for name in point.full_name or ()),
    }
    return told | {key: value for key, value in found.items() if value}


def _extension(certificate: x509.Certificate, kind: type[T_Extension]) -> T_Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return None


def _name_if_readable(read: Callable[[], x509.Name]) -> tuple[tuple[tuple[str, str | bytes], ...], ...]:
    try:
        return _name(read())
    except Exception:  # ValueError as a rule; TypeError for a string of a kind that such an attribute never is
        return ()


def _name(name: x509.Name) -> tuple[tuple[tuple[str, str | bytes], ...], ...]:
    return tuple(tuple(map(_attribute, relative_name)) for relative_name in name.rdns)


def _attribute(attribute: x509.NameAttribute[Any]) -> tuple[str, str | bytes]:
    value = attribute.value
    # Of a BIT STRING, which only x500UniqueIdentifier is, the first byte counts the unused bits.
    return _type_name(attribute.oid), value[1:] if isinstance(value, bytes) else value


def _type_name(oid: x509.ObjectIdentifier) -> str:
    return ATTRIBUTE_TYPES.get(oid.dotted_string, oid.dotted_string)


def _serial(number: int) -> str:
    digits = f"{abs(number):X}"
    return ("-" if number < 0 else "") + "0" * (len(digits) % 2) + digits


def _time(time: datetime.datetime) -> str:
    """As in ``Jan  5 09:34:43 2018 GMT``, whatever the locale."""
    return f"{MONTHS[time.month - 1]} {time.day:2} {time:%H:%M:%S} {time.year} GMT"


def _general_name(name: x509.GeneralName) -> tuple[str, Any]:
    match name:
        case x509.DNSName():
            return "DNS", name.value
        case x509.IPAddress():
            return "IP Address", _address(name.value)
        case x509.RFC822Name():
            return "email", name.value
        case x509.UniformResourceIdentifier():
            return "URI", name.value
        case x509.DirectoryName():
            return "DirName", _name(name.value)
        case x509.RegisteredID():
            return "Registered ID", _type_name(name.value)
    return "othername", _other_name(name) if isinstance(name, x509.OtherName) else UNSUPPORTED


def _address(address: object) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        return ":".join(f"{int(group, 16):X}" for group in address.exploded.split(":"))
    return str(address)


def _other_name(name: x509.OtherName) -> str:
    label, tag = OTHER_NAMES.get(name.type_id.dotted_string, ("", -1))
    if not label or name.value[0] != tag:
        return UNSUPPORTED
    # DER: the tag, the length in one byte or in as many as the low bits of the first one say, the string.
    start = 2 + (name.value[1] & 0x7F if name.value[1] & 0x80 else 0)
    return f"{label}:{name.value[start:].decode(errors='replace')}"


def _locations(access: x509.AuthorityInformationAccess | None, method: x509.ObjectIdentifier) -> tuple[str, ...]:
    return _uris(each.access_location for each in access or () if each.access_method == method)


def _uris(names: Iterable[x509.GeneralName]) -> tuple[str, ...]:
    return tuple(name.value for name in names if isinstance(name, x509.UniformResourceIdentifier))
