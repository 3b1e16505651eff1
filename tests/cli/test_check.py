"""``trio-tls check``: what it finds in files, and what it makes of them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs7,
    pkcs12,
)

from trio_tls import TrustAnchors
from trio_tls.cli import pem_files

from .. import certificates
from ..trust_chains import Issued, key_usage, rsa_key, with_unknown_key
from ..trust_chains import issue as issue_at
from .driving import Said, ran, said

NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
DAY = datetime.timedelta(days=1)
HOST = "server.example.org"


def issue(issuer: Issued | None, subject: str = "leaf", **what: Any) -> Issued:
    """Valid now, for as long as nobody is warned."""
    return issue_at(issuer, subject, **{"begins": NOW - DAY, "ends": NOW + 60 * DAY} | what)


ROOT = issue(None, "root", ca=True)
MIDDLE = issue(ROOT, "middle", ca=True)
LEAF = issue(MIDDLE, "leaf", names=[HOST, "*.wild.example.org"])


@pytest.fixture
def checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Check one file of these bytes, which trusts ROOT."""
    (tmp_path / "ca.pem").write_bytes(ROOT.pem)

    async def run(content: bytes, *options: str | Path, trust: bool = True) -> Said:
        path = tmp_path / "file.pem"
        path.write_bytes(content)
        path.chmod(0o600)
        return await said(capsys, "check", path, *(("--ca-file", tmp_path / "ca.pem") if trust else ()), *options)

    return run


def own_anchor() -> Issued:
    """A certificate that vouches for itself, and may be a server's."""
    return issue(None, "own", names=[HOST], ca=True, usages=key_usage("digital_signature", "key_cert_sign"))


def signed_with_sha1() -> bytes:
    """A certificate that says so; nothing makes them any more."""
    issuer = issue(None, "old CA", ca=True, key=rsa_key(2048))
    der = issue(issuer, names=[HOST]).der
    sha256, sha1 = (bytes.fromhex("2a864886f70d0101" + last) for last in ("0b", "05"))
    return x509.load_der_x509_certificate(der.replace(sha256, sha1)).public_bytes(Encoding.PEM)


def pem(*issued: Issued, key: Issued | None = None) -> bytes:
    return b"".join(each.pem for each in issued) + (b"" if key is None else key.key_pem)


async def test_a_sound_chain_is_explained_and_nothing_is_wrong(checked: Callable[..., Any]) -> None:
    result = await checked(pem(LEAF, MIDDLE, key=LEAF))
    assert (result.status, result.err) == (0, "")
    for line in (
        "found        2 certificates",
        "  0          CN=leaf",
        f"    names    DNS:{HOST}, DNS:*.wild.example.org",
        "    key      EC secp256r1, 256 bits; signed with ecdsa-with-SHA256",
        "  1          CN=middle",
        'fits "leaf"',
        f'trio_tls, PrivatePolicy: accepted: the certificate is valid for {HOST} and leads to "root"',
        f": accepted: it is valid for {HOST}",
    ):
        assert line in result.out
    assert result.out.endswith("nothing is wrong\n")


#: What is in the file, what is told, and the exit status.
CASES: dict[str, tuple[Callable[[], bytes], str, int]] = {
    "expired": (
        lambda: pem(expired := issue(ROOT, names=[HOST], ends=NOW - DAY / 2), key=expired),
        'error: the certificate "leaf" expired on ',
        5,
    ),
    "not yet valid": (
        lambda: pem(early := issue(ROOT, names=[HOST], begins=NOW + DAY), key=early),
        'error: the certificate "leaf" is not valid before ',
        5,
    ),
    "soon": (
        lambda: pem(ending := issue(ROOT, names=[HOST], ends=NOW + 3 * DAY), key=ending),
        "UTC: 2 days left\n  Renew it\nnothing is wrong, but mind the warnings\n",
        0,
    ),
    "the key of another": (lambda: pem(LEAF, MIDDLE, key=MIDDLE), "is not the first certificate", 5),
    "a key of nobody": (
        lambda: pem(LEAF, MIDDLE, key=issue(None)),
        'does not belong to "leaf", "middle"\n  Give the key that',
        5,
    ),
    "no key": (lambda: pem(LEAF, MIDDLE), "note: there is no private key among these files", 0),
    "no certificate": (lambda: LEAF.key_pem, "error: there is a key, but no certificate", 5),
    "no intermediate": (
        lambda: pem(LEAF, key=LEAF),
        "put the intermediate certificates that it has sent behind the certificate",
        5,
    ),
    "out of order": (
        lambda: pem(LEAF, ROOT, MIDDLE, key=LEAF),
        'the chain is not in order, which some peers do not take\n  The order is: "leaf", "middle", "root"',
        0,
    ),
    "leaf last": (lambda: pem(MIDDLE, LEAF, key=LEAF), '"leaf" is not the first certificate', 0),
    "root sent": (lambda: pem(LEAF, MIDDLE, ROOT, key=LEAF), 'note: "root" is a root', 0),
    "twice": (lambda: pem(LEAF, MIDDLE, MIDDLE, key=LEAF), 'note: "middle" is there 2 times', 0),
    "a stranger": (
        lambda: pem(LEAF, MIDDLE, issue(None, "stranger", ca=True), key=LEAF),
        'warning: "stranger" has not issued any of the others',
        0,
    ),
    "no names": (lambda: pem(bare := issue(ROOT), key=bare), "has no names (no subjectAltName)", 5),
    "weak": (
        lambda: pem(weak := issue(ROOT, names=[HOST], key=rsa_key(1024)), key=weak),
        "has an RSA key of 1024 bits, and peers refuse fewer than 2048",
        5,
    ),
    "an unknown key": (
        lambda: with_unknown_key(issue(ROOT, names=[HOST])).public_bytes(Encoding.PEM),
        "has a key of a kind that is not known here",
        5,
    ),
    "a curve that TLS 1.3 has not": (
        lambda: pem(odd := issue(ROOT, names=[HOST], key=ec.generate_private_key(ec.SECP256K1())), key=odd),
        "TLS 1.3 has no signature scheme for the key",
        5,
    ),
    "names that are no host's": (
        lambda: pem(
            service := issue(
                ROOT,
                extensions=[(x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://a/b")]), False)],
            ),
            key=service,
        ),
        "the certificate is for no name at all, not for localhost",
        5,
    ),
    "SHA-1": (
        signed_with_sha1,
        "is signed with sha1WithRSAEncryption, which can be forged",
        5,
    ),
    "long": (
        lambda: pem(long := issue(ROOT, names=[HOST], ends=NOW + 500 * DAY), key=long),
        "browsers take at most 398 from public CAs",
        0,
    ),
    "self-signed": (
        lambda: pem(own := own_anchor(), key=own),
        "is signed by itself, and this machine does not trust it",
        5,
    ),
    "rules of the web": (
        lambda: pem(lax := issue(ROOT, names=[HOST], usages=certificates._CERTIFICATE_SIGNING), key=lax),
        "refused",
        5,
    ),
    "cut short": (lambda: pem(LEAF)[:-30], "has a -----BEGIN line without its -----END line", 5),
    "broken": (
        lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "has a certificate that cannot be parsed",
        5,
    ),
    "a broken key": (
        lambda: pem(LEAF, MIDDLE) + b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "cannot be parsed",
        5,
    ),
    "a request": (
        lambda: (
            x509.CertificateSigningRequestBuilder(x509.Name([]))
            .sign(ed25519.Ed25519PrivateKey.generate(), None)
            .public_bytes(Encoding.PEM)
        ),
        "has a certificate request, which is neither certificate nor key\n  It has to be sent to a CA",
        0,
    ),
    "a public key": (
        lambda: LEAF.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "has a public key, which is neither",
        0,
    ),
    "something else in PEM": (lambda: b"-----BEGIN X-----\n-----END X-----\n", "has a x, which is neither", 0),
    "parameters beside": (
        lambda: b"-----BEGIN EC PARAMETERS-----\n-----END EC PARAMETERS-----\n" + pem(LEAF, MIDDLE, key=LEAF),
        "nothing is wrong",
        0,
    ),
    "nothing": (lambda: b"", "is empty", 5),
    "nonsense": (lambda: b"\xff\x00nonsense", "is neither PEM nor DER", 5),
    "only parameters": (
        lambda: b"-----BEGIN EC PARAMETERS-----\n-----END EC PARAMETERS-----\n",
        "holds neither a certificate nor a key",
        5,
    ),
    "DER": (lambda: LEAF.der, "is DER; most servers want PEM", 5),
    "a DER key": (
        lambda: LEAF.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        "there is a key, but no certificate",
        5,
    ),
    "an encrypted DER key": (
        lambda: LEAF.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
        "is a DER key, encrypted",
        5,
    ),
    "PKCS 12": (
        lambda: pkcs12.serialize_key_and_certificates(b"x", LEAF.key, LEAF.certificate, None, NoEncryption()),  # type: ignore[arg-type]
        "is a PKCS #12 archive",
        5,
    ),
    "encrypted PKCS 12": (
        lambda: pkcs12.serialize_key_and_certificates(
            b"x",
            LEAF.key,  # type: ignore[arg-type]
            LEAF.certificate,
            None,
            BestAvailableEncryption(b"x"),
        ),
        "is a PKCS #12 archive",
        5,
    ),
    "PKCS 7": (lambda: pkcs7.serialize_certificates([LEAF.certificate], Encoding.DER), "is a PKCS #7 archive", 5),
    "PKCS 7 in PEM": (
        lambda: pkcs7.serialize_certificates([LEAF.certificate], Encoding.PEM),
        "openssl pkcs7 -print_certs",
        0,
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_what_is_wrong_is_told_with_its_exit_status(checked: Callable[..., Any], case: str) -> None:
    content, told, status = CASES[case]
    result = await checked(content())
    assert told in result.out
    assert result.status == status, result.out
    assert result.err == ""


async def test_a_certificate_that_is_its_own_anchor_is_accepted(tmp_path: Path, checked: Callable[..., Any]) -> None:
    own = own_anchor()
    (tmp_path / "own.pem").write_bytes(own.pem)
    result = await checked(pem(own, key=own), "--ca-file", tmp_path / "own.pem")
    assert result.status == 0, result.out
    assert "PrivatePolicy: accepted: " in result.out
    assert "WebPolicy: refused: " in result.out, "told, but nobody applies the rules of the web to a CA of his own"


async def test_each_name_that_is_asked_for_is_judged(checked: Callable[..., Any]) -> None:
    result = await checked(pem(LEAF, MIDDLE, key=LEAF), "--name", "a.wild.example.org", "--name", "b.example")
    assert result.status == 5
    assert "accepted: the certificate is valid for a.wild.example.org" in result.out
    assert f"refused: the certificate is for {HOST}, *.wild.example.org, not for b.example" in result.out
    assert "Issue it for that name, too" in result.out
    assert "Hostname mismatch, certificate is not valid for 'b.example'" in result.out, "OpenSSL's own words"
    assert result.out.endswith("a verifier does not accept it\n")


@pytest.mark.parametrize("name", ["*.wild.example.org", "under_score.example", ""])
async def test_a_name_that_no_server_has_is_a_mistake(checked: Callable[..., Any], name: str) -> None:
    result = await checked(pem(LEAF, MIDDLE), "--name", name)
    assert result.status == 2
    assert "--name" in result.err


async def test_of_a_client_no_name_is_asked(checked: Callable[..., Any]) -> None:
    client = issue(ROOT, "ann", extensions=[(x509.ExtendedKeyUsage([x509.OID_CLIENT_AUTH]), False)])
    result = await checked(pem(client, key=client), "--client")
    assert result.status == 0, result.out
    assert 'accepted: the certificate leads to "root", which is trusted' in result.out
    assert "accepted: it is valid for a client" in result.out
    as_server = await checked(pem(client, key=client))
    assert as_server.status == 5
    both = await checked(pem(client), "--client", "--name", HOST)
    assert (both.status, "--name is for servers" in both.err) == (2, True)


async def test_openssl_judges_a_client_by_what_the_system_trusts_where_no_ca_is_given(
    checked: Callable[..., Any],
) -> None:
    client = issue(ROOT, "ann", names=[HOST])
    result = await checked(pem(client, key=client), "--client", trust=False)
    assert result.status == 5
    assert "unable to get local issuer certificate" in result.out


async def test_what_openssl_cannot_load_is_told(checked: Callable[..., Any]) -> None:
    odd = issue(ROOT, names=[HOST], key=rsa_key(1024))
    result = await checked(pem(odd, key=odd))
    assert "refused: ee key too small" in result.out


async def test_without_trust_anchors_in_the_system_there_is_nothing_to_verify_with(
    checked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing() -> TrustAnchors:
        raise ValueError("no trust anchors")

    monkeypatch.setattr(TrustAnchors, "system", nothing)
    result = await checked(pem(LEAF, MIDDLE), trust=False)
    assert result.status == 5
    assert "there is nothing to verify it with" in result.out


async def test_a_ca_file_without_certificates_is_a_mistake(tmp_path: Path, checked: Callable[..., Any]) -> None:
    (tmp_path / "empty.pem").write_text("")
    result = await checked(pem(LEAF, MIDDLE), "--ca-file", tmp_path / "empty.pem", trust=False)
    assert result.status == 2
    assert "--ca-file holds no CA certificate in PEM" in result.err


async def test_several_ca_files_are_trusted_together(tmp_path: Path, checked: Callable[..., Any]) -> None:
    other = issue(None, "other", ca=True)
    (tmp_path / "other.pem").write_bytes(other.pem)
    leaf = issue(other, names=[HOST])
    assert (await checked(pem(leaf, key=leaf))).status == 5
    assert (await checked(pem(leaf, key=leaf), "--ca-file", tmp_path / "other.pem")).status == 0


def encrypted(key: Issued, password: bytes) -> bytes:
    return key.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))


async def test_an_encrypted_key_is_compared_with_its_password(tmp_path: Path, checked: Callable[..., Any]) -> None:
    content = pem(LEAF, MIDDLE) + encrypted(LEAF, b"secret")
    without = await checked(content)
    assert (without.status, "is encrypted\n  Give a file with its password" in without.out) == (0, True)
    assert "not compared" in without.out
    (tmp_path / "password").write_text("secret\n")
    assert 'fits "leaf"' in (await checked(content, "--key-password-file", tmp_path / "password")).out
    (tmp_path / "password").write_text("wrong\n")
    wrong = await checked(content, "--key-password-file", tmp_path / "password")
    assert (wrong.status, "cannot be decrypted, most likely for a wrong password" in wrong.out) == (5, True)


async def test_warnings_fail_where_that_is_wanted(checked: Callable[..., Any]) -> None:
    result = await checked(pem(LEAF, MIDDLE, key=LEAF), "--soon", "61", "--strict")
    assert result.status == 5
    assert result.out.endswith("there are warnings, and --strict was given\n")


async def test_a_key_that_others_may_read_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(pem(LEAF, MIDDLE, key=LEAF))
    path.chmod(0o644)
    result = await said(capsys, "check", path)
    assert f"{path} has a private key, and others than its owner may read or change it (644)" in result.out


async def test_a_bundle_of_cas_is_one_line_for_each(checked: Callable[..., Any]) -> None:
    bundle = [issue(None, f"CA {number}", ca=True) for number in range(8)]
    old = issue(None, "old CA", ca=True, ends=NOW - DAY / 2)
    result = await checked(pem(*bundle, old), trust=False)
    assert result.status == 0
    assert "found        9 certificates\n" in result.out
    assert "CA 7: " in result.out
    assert 'warning: the certificate "old CA" expired' in result.out
    assert "vouches for nobody any more" in result.out
    assert "verifier" not in result.out


async def test_a_key_that_cannot_sign_fits_nothing(checked: Callable[..., Any]) -> None:
    content = x25519.X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    result = await checked(pem(LEAF, MIDDLE) + content)
    assert (result.status, "the key in" in result.out, "does not belong to" in result.out) == (5, True, True)


async def test_all_facts_as_json(checked: Callable[..., Any]) -> None:
    result = await checked(pem(LEAF, MIDDLE, key=LEAF), "--json")
    facts = json.loads(result.out)
    assert (facts["ok"], facts["exit_status"], facts["findings"]) == (True, 0, [])
    leaf, middle = facts["certificates"]
    assert (leaf["common_name"], leaf["is_ca"], leaf["is_presented"]) == ("leaf", False, True)
    assert (middle["common_name"], middle["is_ca"], middle["is_presented"]) == ("middle", True, False)
    (key,) = facts["keys"]
    assert (key["fits"], key["kind"]) == (leaf["sha256"], "EC secp256r1")
    assert [each["accepted"] for each in facts["verdicts"]] == [True, True, True]
    assert facts["verdicts"][0]["verifier"] == "trio_tls, PrivatePolicy"
    bad = json.loads((await checked(pem(LEAF, key=MIDDLE), "--json")).out)
    assert (bad["ok"], bad["exit_status"]) == (False, 5)
    assert {each["severity"] for each in bad["findings"]} == {"error"}


async def test_standard_input_and_several_files(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(LEAF.key_pem)
    (tmp_path / "key.pem").chmod(0o600)
    (tmp_path / "ca.pem").write_bytes(ROOT.pem)
    trust = ("--ca", tmp_path / "ca.pem")
    result = await ran("check", "-", tmp_path / "key.pem", *trust, stdin=pem(LEAF, MIDDLE))
    assert (result.status, result.err) == (0, "")
    assert 'fits "leaf"' in result.out


async def test_files_that_cannot_be_read_are_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path / "nowhere.pem", tmp_path):
        result = await said(capsys, "check", path)
        assert (result.status, result.err.startswith(f"trio-tls: FILE {path}: ")) == (2, True)
    monkeypatch.setattr(pem_files, "MOST_BYTES", 1 << 20)
    huge = await said(capsys, "check", "/dev/zero")
    assert (huge.status, "has more than 1 MB" in huge.err) == (2, True)


@pytest.mark.parametrize(
    "extensions",
    [
        [(x509.UnrecognizedExtension(x509.OID_SUBJECT_ALTERNATIVE_NAME, b"\xff"), False)],
        [(x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.99"), b"\x00"), True)],
    ],
    ids=["names that cannot be parsed", "a critical extension that nobody knows"],
)
async def test_odd_certificates_are_no_obstacle(
    checked: Callable[..., Any], extensions: Iterable[tuple[x509.ExtensionType, bool]]
) -> None:
    odd = issue(ROOT, extensions=extensions)
    result = await checked(pem(odd, key=odd))
    assert result.status == 5
    assert "CN=leaf" in result.out


async def test_names_that_no_host_can_have_are_passed_over(checked: Callable[..., Any]) -> None:
    leaf = issue(ROOT, names=["my_host.test", "*.*.test", HOST])
    result = await checked(pem(leaf, key=leaf))
    assert f"accepted: the certificate is valid for {HOST}" in result.out
    assert result.err == ""
