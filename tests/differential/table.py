"""Where our machine and OpenSSL differ, and why: each difference with the section that explains it.

How this works. A `Difference` says who accepts, and what the other says when it refuses; the tests look up every
difference that they meet, and fail if it is not here, or if a row is met no more. The manual shows this table
(docs/differential.rst); ``python -m tests.differential`` prints it as it stands there.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["DIFFERENCES", "Difference", "as_rst", "explained"]


@dataclass(frozen=True)
class Difference:
    """A reason for which one of them refuses what the other accepts.

    Attributes:
      role: of the machines: ``"client"`` or ``"server"``.
      refuses: ``"we"`` or ``"OpenSSL"``.
      words: a pattern for what the one who refuses says.
      still: whether the newest OpenSSL does so too.
      mutation: a pattern for the name of a mutation, where the words alone would explain too much.
      what: what the peer has sent, for people.
      section: where it is explained.
      why: what is written there, and so who is right.
    """

    role: str
    refuses: str
    words: str
    what: str
    section: str
    why: str
    still: bool = True
    mutation: str = ""

    def explains(self, role: str, refuses: str, error: str, mutations: Iterable[str]) -> bool:
        """Whether this is the row of a difference."""
        return (
            (self.role, self.refuses) == (role, refuses)
            and re.search(self.words, error) is not None
            and any(re.search(self.mutation, name) for name in mutations)
        )


def explained(role: str, refuses: str, error: str, mutations: Sequence[str]) -> Difference | None:
    """The row of a difference, if there is one."""
    return next((each for each in DIFFERENCES if each.explains(role, refuses, error, mutations)), None)


MISPLACED = "RFC 9846 section 4.3"
MISPLACED_WHY = (
    "an extension that is recognized and not specified for the message ends the connection with illegal_parameter. "
    "OpenSSL does not know this one, and passes it over"
)
UNASKED_WHY = (
    "an answer to an extension that was not sent ends the connection with unsupported_extension. OpenSSL passes over "
    "what it does not know"
)

DIFFERENCES = (
    # -- of a client's flight ------------------------------------------------------------------------------------------
    Difference(
        "server",
        "we",
        "the client's legacy_version is",
        "a ClientHello whose legacy_version is not 0x0303",
        "RFC 9846 section 4.2.2",
        "a server that negotiates TLS 1.3 must abort with protocol_version. RFC 8446 had not asked for it, and OpenSSL "
        "looks at supported_versions alone",
    ),
    Difference(
        "server",
        "we",
        "server_name in ClientHello has a vector of 0 bytes",
        "a server_name of no bytes",
        "RFC 6066 section 3",
        "HostName has at least one byte. OpenSSL takes it for no name",
    ),
    Difference(
        "server",
        "we",
        "server_name is not a host name",
        "a server_name that is not ASCII",
        "RFC 6066 section 3",
        "the name is ASCII, A-labels included. OpenSSL compares it with nothing unless the application asks for it",
    ),
    Difference(
        "server",
        "we",
        "two key shares of one group",
        "two key shares of one group",
        "RFC 9846 section 4.3.8",
        "clients must not, and servers may check and abort with illegal_parameter. OpenSSL takes the first",
    ),
    Difference(
        "server",
        "we",
        "second hello changes what may not change",
        "a second ClientHello that differs in more than the answer to the HelloRetryRequest",
        "RFC 9846 section 4.2.2",
        "the client must send the same ClientHello but for the changes named there. OpenSSL sees to it that suite and "
        "group stay what it has chosen",
    ),
    Difference(
        "server",
        "we",
        "second hello has a cookie that we did not send",
        "a cookie in the second ClientHello, and the HelloRetryRequest had none",
        "RFC 9846 section 4.3.2",
        "a cookie is the copy of the one in the HelloRetryRequest. OpenSSL passes it over",
    ),
    Difference(
        "server",
        "we",
        "hello lacks supported_groups or key_share",
        "a second ClientHello without supported_groups",
        "RFC 9846 section 9.2",
        "with key_share there must be supported_groups, else missing_extension. OpenSSL goes by the share alone once "
        "it has asked for its group",
    ),
    Difference(
        "server",
        "we",
        "the client offers none of our ALPN protocols",
        "ALPN protocols of which the server has none",
        "RFC 7301 section 3.2",
        "the server shall answer with no_application_protocol. Python's ssl makes OpenSSL go on without a protocol",
    ),
    Difference(
        "server",
        "we",
        "oid_filters has no place in ClientHello",
        "oid_filters in a ClientHello",
        MISPLACED,
        MISPLACED_WHY,
    ),
    Difference(
        "server",
        "we",
        "(compress_certificate|heartbeat|oid_filters|record_size_limit) has no place in Certificate ",
        "an extension of other messages in a client's Certificate",
        MISPLACED,
        MISPLACED_WHY,
    ),
    Difference(
        "server",
        "we",
        "the client's certificate has an extension that was not offered",
        "an extension in a client's Certificate that the CertificateRequest had not",
        MISPLACED,
        UNASKED_WHY,
    ),
    Difference(
        "server",
        "OpenSSL",
        "bad ecpoint|no point of the curve|bad key share",
        "a key share with the number of another group, which we would not choose",
        "RFC 9846 section 4.3.8",
        "we choose the group first, and ask for it with a HelloRetryRequest as no share of it is there; a share that "
        "is not chosen is not computed with. OpenSSL chooses among the groups that have a share",
    ),
    Difference(
        "server",
        "OpenSSL",
        "a record is longer than allowed|data length too long",
        "max_fragment_length, and then a record that is longer",
        "RFC 6066 section 4",
        "we do not offer this extension (RFC 8449 has replaced it), so nothing was agreed on. OpenSSL agrees to it",
    ),
    # -- of a server's flight ------------------------------------------------------------------------------------------
    Difference(
        "client",
        "we",
        "the server's legacy_version is",
        "a ServerHello whose legacy_version is not 0x0303",
        "RFC 9846 section 4.2.3",
        "a client must abort with protocol_version. RFC 8446 had not asked for it, and OpenSSL looks at "
        "supported_versions alone",
    ),
    Difference(
        "client",
        "we",
        "the server does not speak TLS 1.3",
        "a HelloRetryRequest without supported_versions",
        "RFC 9846 section 4.2.4",
        "it must contain supported_versions. OpenSSL 3.0 goes on to the ServerHello that follows; 4.0 refuses it too",
        still=False,
    ),
    Difference(
        "client",
        "we",
        "unknown 0x0+ where finished has to come",
        "a HelloRequest of TLS 1.2 in the flight",
        "RFC 9846 section 4",
        "its number is reserved, and a message that has no place ends the connection with unexpected_message. OpenSSL "
        "passes it over, as in TLS 1.2, and leaves it out of the transcript",
    ),
    Difference(
        "client",
        "we",
        "the server's CertificateRequest has a context",
        "a CertificateRequest with a context in the handshake",
        "RFC 9846 section 4.4.2",
        "it is empty but in post-handshake authentication. OpenSSL passes it over",
    ),
    Difference(
        "client",
        "we",
        r"(compress_certificate|heartbeat|oid_filters|record_size_limit) has no place in \w+ ",
        "an extension of other messages in ServerHello, HelloRetryRequest, EncryptedExtensions, CertificateRequest or "
        "Certificate",
        MISPLACED,
        MISPLACED_WHY,
    ),
    Difference(
        "client",
        "we",
        "extension that was not offered|has one that was not offered",
        "an extension in ServerHello, HelloRetryRequest, EncryptedExtensions or Certificate that was not asked for",
        MISPLACED,
        UNASKED_WHY,
    ),
    Difference(
        "client",
        "OpenSSL",
        "an extension cannot be parsed|bad extension",
        "an extension of TLS 1.2 in a CertificateRequest",
        "RFC 9846 section 4.4.2",
        "clients must pass over extensions that they do not recognize. We do not recognize these; OpenSSL knows them "
        "from TLS 1.2",
    ),
    *(
        Difference(
            role,
            "OpenSSL",
            "certificate signature failure|invalid bit string bits left",
            "a certificate whose signature has unused bits, which are zero",
            "RFC 5280 section 4.1.1.3",
            "the count of unused bits is not signed, and a signature is whole bytes. cryptography goes by the bytes, "
            "OpenSSL makes the unused bits an error. Nothing that is signed can be changed in this way",
            mutation=r"cert_data\.unused_bits: byte 0 \^ 01",
        )
        for role in ("server", "client")
    ),
)


def as_rst() -> str:
    """The table, for the manual."""
    return "".join(_rst())


def _rst() -> Iterator[str]:
    yield ".. list-table::\n   :header-rows: 1\n   :widths: 12 30 20 38\n\n"
    for row in (
        ("who refuses", "what", "explained by", "why"),
        *(
            (f"our {d.role}" if d.refuses == "we" else f"OpenSSL's {d.role}", d.what, d.section, d.why)
            for d in DIFFERENCES
        ),
    ):
        for number, cell in enumerate(row):
            lead = f"   {' ' if number else '*'} - "
            yield textwrap.fill(cell, 130, initial_indent=lead, subsequent_indent=" " * len(lead)) + "\n"
