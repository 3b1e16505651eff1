"""What a Verifier says of the peers that it does not believe, and that no bytes bring it to anything else.

How this works. A case of `REFUSED` is a chain with one thing wrong; it pins the alert, the reason and the words of the
installed `cryptography`, because `trio_tls.trust.failures` reads those words.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID
from hypothesis import given
from hypothesis import strategies as st

from trio_tls.alerts import Alert
from trio_tls.errors import CertificateVerificationError
from trio_tls.names import names_of, subject_of
from trio_tls.trust import Policy, PrivatePolicy, Verifier, WebPolicy
from trio_tls.trust import failures as failures_module
from trio_tls.trust.failures import REASONS, Reason, essence, reason_of

from .trust_chains import (
    DAY,
    HOST,
    NOW,
    Issued,
    intermediate,
    issue,
    key_usage,
    root,
    rsa_key,
    server,
    with_unknown_key,
)
from .trust_verifiers import (
    ANCHORS,
    ANY_USE,
    CLIENTS_ONLY,
    PRIVATE,
    UNKNOWN_CRITICAL,
    WEB,
    chain,
    good,
    refusal,
    trusting,
)


@cache
def stale_root() -> Issued:
    return issue(None, "stale root", ca=True, ends=NOW - DAY)


@cache
def rsa_root() -> Issued:
    return issue(None, "rsa root", ca=True, key=rsa_key(2048))


@dataclass(frozen=True)
class Refused:
    """A chain, and what is said of it.

    Attributes:
      presented: the chain; its root is trusted unless ``anchor`` is another.
      words: what the words of `cryptography` start with.
      told: what the message has to tell.
    """

    presented: Callable[[], tuple[Issued, ...]]
    reason: Reason
    words: str
    told: str
    policy: Policy = PRIVATE.policy
    anchor: Callable[[], Issued] = root


def below(parent: Issued, *above: Issued) -> tuple[Issued, ...]:
    """A server's certificate below ``parent``, which is presented too."""
    return (issue(parent, names=[HOST]), parent, *above)


def constrained(**constraints: list[x509.GeneralName] | None) -> Issued:
    constraint = x509.NameConstraints(**{"permitted_subtrees": None, "excluded_subtrees": None, **constraints})
    return issue(root(), "constrained", ca=True, extensions=[(constraint, True)])


def look_alikes() -> tuple[Issued, ...]:
    """A server's certificate below issuers that all have one name and one key: each may be above each."""
    first = issue(None, "look-alike", ca=True)
    return below(first, *(issue(first, "look-alike", ca=True, key=first.key) for _ in range(7)))


def three_levels(path_length: int) -> tuple[Issued, ...]:
    upper = issue(root(), "upper", ca=True, path_length=path_length)
    return below(issue(upper, "lower", ca=True), upper)


REFUSED: dict[str, Refused] = {
    "expired": Refused(
        lambda: (issue(root(), names=[HOST], ends=NOW - DAY),),
        Reason.VALIDITY,
        "cert is not valid at validation time",
        "'CN=leaf' was not accepted: it expired at 2026-05-31 12:00:00 UTC",
    ),
    "not yet valid": Refused(
        lambda: (issue(root(), names=[HOST], begins=NOW + DAY),),
        Reason.VALIDITY,
        "cert is not valid at validation time",
        "it is not valid before 2026-06-02 12:00:00 UTC",
    ),
    "expired intermediate": Refused(
        lambda: below(issue(root(), "stale", ca=True, ends=NOW - DAY)),
        Reason.VALIDITY,
        "cert is not valid at validation time",
        "'CN=stale' above it expired at",
    ),
    "expired anchor": Refused(
        lambda: (issue(stale_root(), names=[HOST]),),
        Reason.VALIDITY,
        "cert is not valid at validation time",
        "'CN=stale root' above it expired at",
        anchor=stale_root,
    ),
    "unknown CA": Refused(
        lambda: (issue(issue(None, "stranger", ca=True), names=[HOST]),),
        Reason.NO_PATH,
        "all candidates exhausted with no interior errors",
        "its issuer 'CN=stranger' was neither presented nor is it a trust anchor",
    ),
    "missing intermediate": Refused(
        lambda: (server(),),
        Reason.NO_PATH,
        "all candidates exhausted with no interior errors",
        "its issuer 'CN=intermediate' was neither presented",
    ),
    "missing upper intermediate": Refused(
        lambda: three_levels(1)[:2],
        Reason.NO_PATH,
        "all candidates exhausted with no interior errors",
        "'CN=upper', the issuer of 'CN=lower', was neither presented",
    ),
    "self-signed": Refused(
        lambda: (issue(None, names=[HOST]),),
        Reason.NO_PATH,
        "all candidates exhausted with no interior errors",
        "it is self-signed, and no trust anchor",
    ),
    "self-signed root of its own": Refused(
        lambda: below(issue(None, "stranger", ca=True)),
        Reason.NO_PATH,
        "chain construction exceeds max depth",
        "ends at the self-signed 'CN=stranger', which is no trust anchor",
    ),
    "CA made anew under the same name": Refused(
        lambda: (issue(issue(None, "root", ca=True), names=[HOST]),),
        Reason.SIGNATURE,
        "signature does not match",
        "'signature does not match' (it was issued by 'CN=root')",
    ),
    "no names": Refused(
        lambda: (issue(root(), HOST),),
        Reason.NO_NAMES,
        "missing required extension: leaf server certificate has no subjectAltName",
        "subjectAltName is missing",
    ),
    "other name": Refused(
        lambda: (issue(root(), names=["other.example.org"]),),
        Reason.NAME,
        "leaf certificate has no matching subjectAltName",
        f"it is not valid for '{HOST}', but for 'other.example.org'",
    ),
    "for clients only": Refused(
        lambda: (issue(root(), names=[HOST], extensions=[CLIENTS_ONLY]),),
        Reason.PURPOSE,
        "extendedKeyUsage does not have the required purpose",
        "required purpose",
    ),
    "for clients only, web": Refused(
        lambda: (issue(root(), names=[HOST], extensions=[CLIENTS_ONLY]),),
        Reason.PURPOSE,
        "required EKU not found",
        "EKU",
        policy=WebPolicy(),
    ),
    "CA for clients only": Refused(
        lambda: below(issue(root(), "for clients", ca=True, extensions=[CLIENTS_ONLY])),
        Reason.PURPOSE,
        "extendedKeyUsage does not have the required purpose",
        "issued by 'CN=for clients'",
    ),
    "CA for clients only, web": Refused(
        lambda: below(issue(root(), "for clients", ca=True, extensions=[CLIENTS_ONLY])),
        Reason.PURPOSE,
        "Neither EKU nor anyEKU could be found",
        "issued by 'CN=for clients'",
        policy=WebPolicy(),
    ),
    "key not for signing": Refused(
        lambda: (issue(root(), names=[HOST], usages=key_usage("key_encipherment")),),
        Reason.PURPOSE,
        "keyUsage does not assert digitalSignature",
        "digitalSignature",
    ),
    "key not for signing, web": Refused(
        lambda: (issue(root(), names=[HOST], usages=key_usage("key_encipherment")),),
        Reason.PURPOSE,
        "keyUsage does not assert digitalSignature",
        "digitalSignature",
        policy=WebPolicy(),
    ),
    "issuer is no CA": Refused(
        lambda: below(issue(root(), "not a CA")),
        Reason.NOT_AN_ISSUER,
        "basicConstraints.cA must be asserted in a CA certificate",
        "issued by 'CN=not a CA'",
        policy=WebPolicy(),
    ),
    "issuer is no CA, private": Refused(
        lambda: below(issue(root(), "not a CA", usages=key_usage("key_cert_sign"))),
        Reason.NOT_AN_ISSUER,
        "basicConstraints.cA must be asserted in a CA certificate",
        "issued by 'CN=not a CA'",
    ),
    "issuer without basicConstraints": Refused(
        lambda: below(issue(root(), "who knows", ca=None, usages=key_usage("key_cert_sign"))),
        Reason.NOT_AN_ISSUER,
        "missing required extension: CA certificate has no basicConstraints",
        "issued by 'CN=who knows'",
    ),
    "CA that may not sign": Refused(
        lambda: below(issue(root(), "mute", ca=True, usages=key_usage("crl_sign"))),
        Reason.NOT_AN_ISSUER,
        "keyUsage does not assert keyCertSign",
        "issued by 'CN=mute'",
    ),
    "CA that may not sign, web": Refused(
        lambda: below(issue(root(), "mute", ca=True, usages=key_usage("crl_sign"))),
        Reason.NOT_AN_ISSUER,
        "keyUsage.keyCertSign must be asserted in a CA certificate",
        "issued by 'CN=mute'",
        policy=WebPolicy(),
    ),
    "path length": Refused(
        lambda: three_levels(0), Reason.NOT_AN_ISSUER, "path length constraint violated", "path length"
    ),
    "row 80: too many paths": Refused(
        look_alikes, Reason.LIMIT, "Exceeded maximum signature check limit", "Exceeded maximum"
    ),
    "row 81: outside name constraints": Refused(
        lambda: below(constrained(permitted_subtrees=[x509.DNSName("example.com")])),
        Reason.NAME_CONSTRAINTS,
        "no permitted name constraints matched SAN",
        "issued by 'CN=constrained'",
    ),
    "row 81: excluded by name constraints": Refused(
        lambda: below(constrained(excluded_subtrees=[x509.DNSName("example.org")])),
        Reason.NAME_CONSTRAINTS,
        "excluded name constraint matched SAN",
        "issued by 'CN=constrained'",
    ),
    "CA with a small RSA key": Refused(
        lambda: below(issue(root(), "small", ca=True, key=rsa_key(1024))),
        Reason.WEAK_KEY,
        "RSA key is too weak",
        "RSA key is too weak",
    ),
    "CA with an Ed25519 key": Refused(
        lambda: below(issue(root(), "modern", ca=True, key=ed25519.Ed25519PrivateKey.generate())),
        Reason.KEY_TYPE,
        "Forbidden public key algorithm",
        "Forbidden public key algorithm",
    ),
    "signed with SHA-224": Refused(
        lambda: (issue(rsa_root(), names=[HOST], digest=hashes.SHA224()),),
        Reason.SIGNATURE_ALGORITHM,
        "Forbidden signature algorithm",
        "Forbidden signature algorithm",
        anchor=rsa_root,
    ),
    "unknown critical extension": Refused(
        lambda: (issue(root(), names=[HOST], extensions=[UNKNOWN_CRITICAL]),),
        Reason.PROFILE,
        "certificate contains unaccounted-for critical extensions",
        "critical extensions",
    ),
    "a CA as a server, web": Refused(
        lambda: (issue(root(), names=[HOST], ca=True, usages=key_usage("digital_signature")),),
        Reason.PROFILE,
        "basicConstraints.cA must not be asserted in an EE certificate",
        "basicConstraints",
        policy=WebPolicy(),
    ),
    "a signing CA as a server, web": Refused(
        lambda: (issue(root(), names=[HOST], usages=key_usage("digital_signature", "key_cert_sign")),),
        Reason.PROFILE,
        "EE keyUsage must not assert keyCertSign",
        "keyCertSign",
        policy=WebPolicy(),
    ),
    "critical names beside a subject, web": Refused(
        lambda: (issue(root(), extensions=[(x509.SubjectAlternativeName([x509.DNSName(HOST)]), True)]),),
        Reason.PROFILE,
        "EE subjectAltName MUST NOT be critical when subject is nonempty",
        "subjectAltName MUST NOT be critical",
        policy=WebPolicy(),
    ),
    "any purpose, web": Refused(
        lambda: (issue(root(), names=[HOST], extensions=[ANY_USE]),),
        Reason.PURPOSE,
        "required EKU not found",
        "EKU",
        policy=WebPolicy(),
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_decides_the_alert_and_the_text(case: Refused) -> None:
    presented = case.presented()
    error = refusal(trusting(case.anchor(), policy=case.policy), chain(*presented))
    assert essence(error.verify_message).startswith(case.words)
    assert reason_of(error.verify_message) is case.reason
    assert error.alert is case.reason.alert
    assert error.message.startswith("the server's certificate 'CN=")
    assert case.told in error.message
    assert isinstance(error, ssl.SSLCertVerificationError)


#: Rows that no test can reach: malformations that depend on the bytes.
UNREACHED = {
    "ASN.1 parsing error",
    "duplicate extension",
    "mismatch between signatureAlgorithm",
    "issuer has malformed public key",
    "certificate must be an X509v3 certificate",
    "Certificate is missing required extension",
    "Certificate contains prohibited extension",
    "Certificate extension has incorrect criticality",
    "authorityKeyIdentifier must",
}


def test_every_row_of_the_table_has_its_case() -> None:
    shown = {start for case in REFUSED.values() for start, _reason in REASONS if case.words.startswith(start)}
    shown |= {"EE subjectAltName MUST"}
    assert {start for start, _reason in REASONS} - shown == UNREACHED


def test_a_peer_cannot_choose_the_reason_by_its_names() -> None:
    sly = issue(root(), "cert is not valid at validation time", names=["other.example.org"])
    assert refusal(PRIVATE, chain(sly)).alert is Alert.bad_certificate
    assert reason_of("validation failed: something new (encountered processing <Certificate(RSA key is too weak") is (
        Reason.OTHER
    )


def test_what_a_peer_writes_into_its_certificate_is_shown_quoted_and_cut() -> None:
    loud = issue(root(), "\x1b[31mevil\n" + "x" * 40, names=["a" * 60 + f".{n}.example.org" for n in range(99)])
    error = refusal(PRIVATE, chain(loud))
    assert error.message.isascii()
    assert "\\x1b[31mevil\\n" in error.message
    assert "and 94 more" in error.message
    assert len(str(error)) < 1500


def test_a_certificate_without_subject_is_called_by_a_name_or_its_number() -> None:
    named = issue(root(), "", names=["other.example.org"])
    assert "the server's certificate 'other.example.org' was not accepted" in refusal(PRIVATE, chain(named)).message
    nameless = issue(root(), "")
    number = str(nameless.certificate.serial_number)
    assert f"without subject, serial number {number}) was not accepted" in refusal(PRIVATE, chain(nameless)).message


def test_a_certificate_whose_subject_cannot_be_read_is_refused() -> None:
    bad = server().der.replace(b"leaf", b"l\xffaf")
    error = refusal(WEB, [bad, intermediate().der])
    assert error.alert is Alert.bad_certificate
    assert "certificate 1 of 2 cannot be parsed" in error.message
    assert subject_of(x509.load_der_x509_certificate(bad)) == "(a certificate whose subject cannot be read)"


def test_row_80_a_presented_chain_that_is_too_long_is_refused_unread() -> None:
    error = refusal(WEB, [b"nonsense"] * 11)
    assert error.alert is Alert.certificate_unknown
    assert "11 certificates were presented, 10 are allowed" in error.message


def test_row_80_a_long_chain_is_verified_within_the_limit() -> None:
    above = [root()]
    for number in range(9):
        above.append(issue(above[-1], f"level {number}", ca=True))
    leaf = issue(above[-1], names=[HOST])
    presented = chain(leaf, *above[:0:-1])
    assert len(presented) == 10
    assert len(PRIVATE.verify_server(presented, HOST, NOW).chain) == 11
    shorter = Verifier(ANCHORS, PrivatePolicy(), most_certificates=9)
    assert refusal(shorter, presented).alert is Alert.certificate_unknown


def test_row_80_rsa_keys_have_to_be_neither_small_nor_huge() -> None:
    small = issue(root(), names=[HOST], key=rsa_key(1024))
    error = refusal(WEB, chain(small))
    assert error.alert is Alert.bad_certificate
    assert "'CN=leaf' has an RSA key of 1024 bits, less than 2048" in error.message
    larger = issue(root(), names=[HOST], key=rsa_key(2048))
    assert WEB.verify_server(chain(larger), HOST, NOW).chain
    strict = Verifier(ANCHORS, least_rsa_bits=3072)
    assert "less than 3072" in refusal(strict, chain(larger)).message
    modest = Verifier(ANCHORS, greatest_rsa_bits=2048)
    assert modest.verify_server(chain(larger), HOST, NOW).chain
    big = issue(root(), "big", ca=True, key=rsa_key(3072))
    assert "'CN=big' has an RSA key of 3072 bits, more than 2048" in refusal(modest, chain(*below(big))).message


def test_a_key_that_cannot_sign_handshakes_at_all_is_refused() -> None:
    strange = with_unknown_key(server()).public_bytes(Encoding.DER)
    error = refusal(WEB, [strange, intermediate().der])
    assert error.alert is Alert.unsupported_certificate
    assert "public key" in error.message


def with_names(san: bytes) -> tuple[bytes, ...]:
    """A chain whose leaf has these GeneralNames, in DER."""
    extension = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes((0x30, len(san))) + san)
    return chain(issue(root(), extensions=[(extension, False)]))


#: Names of kinds that `cryptography` has no type for: ediPartyName and x400Address (RFC 5280 section 4.2.1.6).
ODD_NAMES = pytest.mark.parametrize(
    "odd", [b"\xa5\x07\xa1\x05\x0c\x03abc", b"\xa3\x02\x30\x00"], ids=["ediPartyName", "x400Address"]
)
DNS_NAME = bytes((0x82, len(HOST))) + HOST.encode()


@ODD_NAMES
@pytest.mark.parametrize("verifier", [WEB, PRIVATE], ids=["web", "private"])
def test_a_peer_with_names_of_an_odd_kind_is_refused_as_any_other(verifier: Verifier, odd: bytes) -> None:
    for san in (odd, DNS_NAME + odd):
        error = refusal(verifier, with_names(san), "other.example.org")
        assert error.alert is Alert.bad_certificate
        assert "not valid for 'other.example.org', but for no name that can be read" in error.message
        error = refusal(verifier, with_names(san), None)
        assert error.alert is Alert.bad_certificate
        assert "something in it cannot be read" in error.message
    assert verifier.verify_server(with_names(DNS_NAME + odd), HOST, NOW).chain


@ODD_NAMES
def test_names_of_an_odd_kind_are_no_names(odd: bytes) -> None:
    certificate = x509.load_der_x509_certificate(with_names(DNS_NAME + odd)[0])
    assert names_of(certificate) == ()
    assert subject_of(certificate) == "'CN=leaf'"


def test_a_refusal_that_cannot_be_put_into_words_is_still_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(certificate: x509.Certificate) -> str:
        raise RuntimeError("words fail")

    monkeypatch.setattr(failures_module, "_issuer", unreadable)
    error = refusal(WEB, [server().der])
    assert error.alert is Alert.unknown_ca
    assert "was not accepted: 'all candidates exhausted" in error.message


# Whatever the bytes.


SIGNED = [server().certificate.tbs_certificate_bytes, intermediate().certificate.tbs_certificate_bytes]


def judge(presented: Sequence[bytes], name: str | None = HOST) -> None:
    """Nothing but a refusal may come of these bytes, or else what their CAs have signed is what is believed.

    A certificate may be altered where it is not signed: in the unused bits behind its signature, say.
    """
    try:
        peer = WEB.verify_client(presented, NOW) if name is None else WEB.verify_server(presented, name, NOW)
    except CertificateVerificationError as exc:
        error = exc
    else:
        assert [each.tbs_certificate_bytes for each in peer.chain[:2]] == SIGNED
        return
    assert str(error).isprintable()
    assert error.alert is not None


@pytest.mark.parametrize("which", [0, 1])
def test_no_flipped_bit_changes_what_is_believed(which: int) -> None:
    chance = random.Random(0)
    presented = list(good())
    for place in range(len(presented[which])):
        altered = bytearray(presented[which])
        altered[place] ^= 1 << chance.randrange(8)
        judge([*presented[:which], bytes(altered), *presented[which + 1 :]])


@given(st.lists(st.binary(max_size=40) | st.sampled_from(good()), max_size=4), st.sampled_from([HOST, None]))
def test_whatever_is_presented_is_believed_or_refused(presented: list[bytes], name: str | None) -> None:
    judge(presented, name)


@given(st.data())
def test_no_piece_cut_out_or_put_in_changes_what_is_believed(data: st.DataObject) -> None:
    leaf, above = good()
    start = data.draw(st.integers(0, len(leaf) - 1))
    end = data.draw(st.integers(start, len(leaf)))
    piece = data.draw(st.binary(max_size=8))
    judge([leaf[:start] + piece + leaf[end:], above])
