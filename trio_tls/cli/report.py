"""What ``trio-tls connect`` reports: the facts of a connection, as rows."""

from __future__ import annotations

import datetime
import ipaddress
import sys
from collections.abc import Iterator, Sequence

from .facts import CertificateFacts, ConnectionFacts
from .paper import Row

__all__ = ["agreed", "brief", "chain"]


def agreed(facts: ConnectionFacts, offered_alpn: Sequence[str]) -> Iterator[Row]:
    """What both ends have agreed on."""
    yield Row("version", facts.version)
    bits = f", {facts.cipher_bits} bits" if facts.cipher_bits else ""
    yield Row("cipher suite", f"{facts.cipher_suite}{bits}")
    yield Row("group", facts.group or _not_told())
    if facts.signature_scheme:
        yield Row("signed with", facts.signature_scheme)
    if facts.alpn:
        yield Row("ALPN", facts.alpn)
    elif offered_alpn:
        yield Row("ALPN", f"none; the server took none of {', '.join(offered_alpn)}", "yellow")
    else:
        yield Row("ALPN", "none offered")
    yield Row("server name", _server_name(facts.server_name))
    if facts.local_chain:
        yield Row("we presented", facts.local_chain[0].subject)


def brief(facts: ConnectionFacts) -> str:
    """The same in a few words, for a line that a server writes about a client."""
    words = [f"{facts.version} {facts.cipher_suite}"]
    if facts.group:
        words.append(f"group {facts.group}")
    if facts.alpn:
        words.append(f"ALPN {facts.alpn}")
    words.append("resumed session" if facts.session_reused else "new session")
    words.append(f"client certificate {facts.presented_chain[0].subject if facts.presented_chain else 'none'}")
    return ", ".join(words)


def chain(
    title: str, certificates: Sequence[CertificateFacts], known: Sequence[CertificateFacts] = ()
) -> Iterator[Row]:
    """A chain of certificates, leaf first; those ``known`` already are only named."""
    now = datetime.datetime.now(datetime.timezone.utc)
    count = len(certificates)
    yield Row(title, f"{count or 'no'} certificate{'s' if count != 1 else ''}")
    for number, each in enumerate(certificates):
        if each in known:
            yield Row(str(number), f"{each.subject} (presented, above)", depth=1)
            continue
        yield Row(str(number), each.subject, "bold", depth=1)
        yield Row("issuer", each.issuer, depth=2)
        if each.names or not number:
            yield Row("names", ", ".join(each.names) or "none", depth=2)
        validity = each.validity(now)
        yield Row("valid", validity, "red" if "EXPIRED" in validity or "NOT YET" in validity else "", depth=2)
        yield Row("key", f"{each.key()}; signed with {each.signature_algorithm}", depth=2)


def _server_name(name: str | None) -> str:
    if name is None:
        return "none"
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name
    return f"{name} (an address, so it is not sent)"


def _not_told() -> str:
    return f"not told by Python {sys.version_info[0]}.{sys.version_info[1]} (3.15 is the first that does)"
