"""Certificate chains with their keys: how they are made, what is refused, and which is picked for a name."""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mldsa, padding, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from trio_tls.credentials import Credential, CredentialsByName
from trio_tls.machine.interface import NeedCredential
from trio_tls.machine.tls13.registry import SignatureScheme

from .interop.peers import openssl_command
from .trust_chains import HOST, Issued, intermediate, issue, root, rsa_key, server, with_unknown_key

P256 = SignatureScheme.ecdsa_secp256r1_sha256
ED25519 = SignatureScheme.ed25519
RSA_PSS = SignatureScheme.rsa_pss_rsae_sha256


def certificates(*issued: Issued) -> list[x509.Certificate]:
    return [each.certificate for each in issued]


def credential(*names: str, key: CertificateIssuerPrivateKeyTypes | None = None) -> Credential:
    leaf = issue(root(), names[0] if names else "nameless", names=names, key=key)
    return Credential(leaf.certificate, leaf.key)


def encrypted(issued: Issued, password: bytes) -> bytes:
    return issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))


# Making one.


def test_a_credential_holds_the_chain_as_it_is_sent() -> None:
    made = Credential(certificates(server(), intermediate()), server().key)
    assert made.chain == (server().certificate, intermediate().certificate)
    assert made.der_chain == (server().der, intermediate().der)
    assert not made.is_remote


def test_one_certificate_is_a_chain_too() -> None:
    assert Credential(server().certificate, server().key).der_chain == (server().der,)


def test_the_certificate_that_the_key_fits_comes_first_and_the_others_stay_in_order() -> None:
    lower = issue(intermediate(), "lower", ca=True)
    leaf = issue(lower, names=[HOST])
    made = Credential(certificates(lower, intermediate(), leaf, root()), leaf.key)
    assert made.der_chain == (leaf.der, lower.der, intermediate().der, root().der)


@pytest.mark.parametrize("text", [bytes, bytes.decode], ids=["bytes", "str"])
def test_pem_may_be_one_text_or_two(text: Callable[[bytes], bytes | str]) -> None:
    expected = (server().der, intermediate().der)
    both = server().pem + intermediate().pem
    assert Credential.from_pem(text(both + server().key_pem)).der_chain == expected
    assert Credential.from_pem(text(server().key_pem + both)).der_chain == expected
    assert Credential.from_pem(text(both), text(server().key_pem)).der_chain == expected
    assert Credential.from_pem(text(intermediate().pem + server().pem), text(server().key_pem)).der_chain == expected


def test_files_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "both.pem").write_bytes(b"a comment\n" + server().pem + server().key_pem)
    (tmp_path / "cert.pem").write_bytes(server().pem)
    (tmp_path / "key.pem").write_bytes(server().key_pem)
    one = Credential.from_files(tmp_path / "both.pem")
    two = Credential.from_files(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    for path in tmp_path.iterdir():
        path.unlink()
    assert one.der_chain == two.der_chain == (server().der,)
    assert isinstance(one.sign(P256, b"message"), bytes)


@pytest.mark.parametrize("password", [b"secret", "secret"])
def test_an_encrypted_key_is_decrypted(password: bytes | str) -> None:
    assert Credential.from_pem(server().pem, encrypted(server(), b"secret"), password=password).names
    der = server().key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    assert Credential.from_der([server().der], der, password=password).names


def test_der_in_memory_is_enough() -> None:
    key = server().key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    made = Credential.from_der([intermediate().der, server().der], key)
    assert made.der_chain == (server().der, intermediate().der)


def test_traditional_keys_are_read_too() -> None:
    pem = server().key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert b"BEGIN EC PRIVATE KEY" in pem
    assert Credential.from_pem(server().pem, parameters + pem).names


def test_what_trustme_issues_is_a_credential() -> None:
    leaf = trustme.CA().issue_cert(HOST, "127.0.0.1")
    assert Credential.from_pem(leaf.private_key_and_cert_chain_pem.bytes()).names == (HOST, "127.0.0.1")


def test_what_the_openssl_command_makes_is_a_credential(tmp_path: Path) -> None:
    for kind, options, scheme in (
        ("rsa", ["rsa:2048"], SignatureScheme.rsa_pss_rsae_sha256),
        ("pss", ["rsa-pss"], SignatureScheme.rsa_pss_pss_sha256),
        ("ec", ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"], SignatureScheme.ecdsa_secp384r1_sha384),
        ("ed", ["ed25519"], SignatureScheme.ed25519),
    ):
        where = ["-keyout", f"{tmp_path}/{kind}.key", "-out", f"{tmp_path}/{kind}.pem"]
        what = ["-nodes", "-subj", "/CN=x", "-addext", f"subjectAltName=DNS:{HOST}"]
        subprocess.run([openssl_command(), "req", "-x509", "-newkey", *options, *what, *where], check=True)
        made = Credential.from_files(tmp_path / f"{kind}.pem", tmp_path / f"{kind}.key")
        assert made.schemes[0] == scheme
        assert made.fits(HOST)
        assert made.sign(scheme, b"message")


# What is refused.


def test_a_key_that_does_not_fit_is_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="does not fit 'CN=leaf', 'CN=intermediate': give the key that"):
        Credential(certificates(server(), intermediate()), root().key)


@pytest.mark.parametrize(
    ("pem", "key_pem", "password", "told"),
    [
        (b"", None, None, "cert.pem is empty"),
        (b" \n", None, None, "cert.pem is empty"),
        (b"junk", None, None, "cert.pem is not PEM"),
        (server().der, None, None, "cert.pem is not PEM.*from_der"),
        (server().pem, None, None, "cert.pem has no private key"),
        (server().pem, b"", None, "key.pem has no private key"),
        (server().pem, server().pem, None, "key.pem has no private key"),
        (server().key_pem, None, None, "cert.pem has no certificate"),
        (server().pem, server().key_pem + root().key_pem, None, "key.pem has 2 private keys"),
        (server().pem, root().key_pem, None, "cert.pem and .*key.pem: the private key does not fit"),
        (server().pem + root().key_pem, None, None, "cert.pem: the private key does not fit"),
        (server().pem, encrypted(server(), b"secret"), None, "key.pem is encrypted: give its password"),
        (server().pem, encrypted(server(), b"secret"), b"wrong", "key.pem cannot be decrypted.*wrong password"),
        (server().pem, server().key_pem, b"secret", "key.pem is not encrypted: leave out the password"),
        (server().pem[:200] + b"\n-----END CERTIFICATE-----\n", server().key_pem, None, "cert.pem has a certificate"),
        (server().pem, server().key_pem[:60] + server().key_pem[70:], None, "key.pem cannot be parsed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_a_file_is_told_with_its_name(
    tmp_path: Path, pem: bytes, key_pem: bytes | None, password: bytes | None, told: str
) -> None:
    (tmp_path / "cert.pem").write_bytes(pem)
    key_path = None
    if key_pem is not None:
        key_path = tmp_path / "key.pem"
        key_path.write_bytes(key_pem)
    with pytest.raises(ValueError, match=told) as caught:
        Credential.from_files(tmp_path / "cert.pem", key_path, password=password)
    assert str(tmp_path) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent.pem"):
        Credential.from_files(tmp_path / "absent.pem")


def test_der_that_cannot_be_parsed_is_refused() -> None:
    key = server().key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ValueError, match="certificate 2 is not DER"):
        Credential.from_der([server().der, b"junk"], key)
    with pytest.raises(ValueError, match="the DER key cannot be parsed"):
        Credential.from_der([server().der], b"junk")
    with pytest.raises(ValueError, match="there is no certificate"):
        Credential.from_der([], key)


def test_small_rsa_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="1024 bits.*issue the certificate anew"):
        credential(HOST, key=rsa_key(1024))


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(lambda: ec.generate_private_key(ec.SECP256K1()), id="secp256k1"),
        pytest.param(lambda: dsa.generate_private_key(2048), id="DSA"),
    ],
)
def test_keys_that_tls_1_3_cannot_sign_with_are_refused(key: Callable[[], CertificateIssuerPrivateKeyTypes]) -> None:
    with pytest.raises(ValueError, match="TLS 1.3 has no signature scheme"):
        credential(HOST, key=key())


def test_a_certificate_whose_key_cannot_be_read_is_no_ones() -> None:
    strange = with_unknown_key(server())
    made = Credential([strange, server().certificate], server().key)
    assert made.chain == (server().certificate, strange)
    with pytest.raises(ValueError, match="the public key of 'CN=leaf' cannot be read"):
        Credential.remote(strange, lambda _scheme, _message: b"")


def test_keys_for_key_exchange_are_refused() -> None:
    key = x25519.X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ValueError, match="cannot sign, it is for key exchange"):
        Credential.from_pem(server().pem, key)


# Signing.


@pytest.mark.parametrize(
    ("key", "schemes"),
    [
        pytest.param(lambda: ec.generate_private_key(ec.SECP256R1()), ["ecdsa_secp256r1_sha256"], id="P-256"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP521R1()), ["ecdsa_secp521r1_sha512"], id="P-521"),
        pytest.param(ed25519.Ed25519PrivateKey.generate, ["ed25519"], id="Ed25519"),
        pytest.param(ed448.Ed448PrivateKey.generate, ["ed448"], id="Ed448"),
        pytest.param(mldsa.MLDSA44PrivateKey.generate, ["mldsa44"], id="ML-DSA-44"),
        pytest.param(
            lambda: rsa_key(2048), ["rsa_pss_rsae_sha256", "rsa_pss_rsae_sha384", "rsa_pss_rsae_sha512"], id="RSA"
        ),
    ],
)
def test_the_schemes_are_those_of_the_key(
    key: Callable[[], CertificateIssuerPrivateKeyTypes], schemes: list[str]
) -> None:
    made = credential(HOST, key=key())
    assert [SignatureScheme(scheme).name for scheme in made.schemes] == schemes
    for scheme in made.schemes:
        assert isinstance(made.sign(scheme, b"message"), bytes)


def test_a_signature_verifies_with_the_certificates_key() -> None:
    made = credential(HOST, key=rsa_key(2048))
    signature = made.sign(RSA_PSS, b"message")
    assert isinstance(signature, bytes)
    public_key = made.chain[0].public_key()
    assert isinstance(public_key, rsa.RSAPublicKey)
    public_key.verify(signature, b"message", padding.PSS(padding.MGF1(SHA256()), 32), SHA256())


def test_another_scheme_is_misuse() -> None:
    for made in (credential(HOST), Credential.remote(server().certificate, lambda _scheme, _message: b"")):
        with pytest.raises(ValueError, match="0x0807"):
            made.sign(ED25519, b"message")


async def test_a_remote_key_signs_at_once_or_awaitably() -> None:
    def at_once(scheme: int, message: bytes) -> bytes:
        return b"%d " % scheme + message

    async def awaitably(scheme: int, message: bytes) -> bytes:
        return at_once(scheme, message)

    chain = certificates(server(), intermediate())
    made = Credential.remote(chain, at_once)
    assert made.is_remote
    assert made.der_chain == (server().der, intermediate().der)
    assert made.schemes == (P256,)
    assert made.sign(P256, b"message") == b"1027 message"
    answer = Credential.remote(chain, awaitably).sign(P256, b"message")
    assert isinstance(answer, Awaitable)
    assert await answer == b"1027 message"


def test_a_remote_key_may_know_fewer_schemes_but_no_others() -> None:
    leaf = issue(root(), names=[HOST], key=rsa_key(2048)).certificate
    fewer = [SignatureScheme.rsa_pss_rsae_sha512, SignatureScheme.rsa_pss_rsae_sha256]
    made = Credential.remote(leaf, lambda _scheme, _message: b"", schemes=fewer)
    assert made.schemes == tuple(fewer)
    with pytest.raises(ValueError, match="does not sign"):
        made.sign(SignatureScheme.rsa_pss_rsae_sha384, b"message")
    for unsuited in ([P256], []):
        with pytest.raises(ValueError, match="suit the certificate's key: 0x0804, 0x0805, 0x0806"):
            Credential.remote(leaf, lambda _scheme, _message: b"", schemes=unsuited)


# Showing it.


def test_a_credential_shows_its_names_and_nothing_of_its_key() -> None:
    assert repr(credential("a.example", "b.example")) == "<Credential for 'a.example', 'b.example'>"
    assert repr(credential()) == "<Credential for 'CN=nameless'>"
    remote = Credential.remote(server().certificate, lambda _scheme, _message: b"")
    assert repr(remote).endswith("its key is elsewhere>")


def test_a_credential_does_not_change() -> None:
    made = credential(HOST)
    for name in ("chain", "der_chain", "schemes", "names", "anything"):
        with pytest.raises(AttributeError):
            setattr(made, name, ())


# Names.


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        (HOST, True),
        ("SERVER.example.org.", True),
        ("a.wild.example.org", True),
        ("A.WILD.example.org", True),
        ("wild.example.org", False),
        ("a.b.wild.example.org", False),
        (".wild.example.org", False),
        ("example.org", False),
        ("org", False),
        ("", False),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("2001:db8:0::1", True),
        ("xn--fa-hia.example.org", True),
        (None, False),
    ],
)
def test_a_credential_fits_its_names_and_one_label_of_its_wildcards(name: str | None, fits: bool) -> None:
    assert Credential(server().certificate, server().key).fits(name) is fits


def test_a_wildcard_covers_no_ip_address() -> None:
    assert not credential("*.0.2.1").fits("192.0.2.1")


def test_the_common_name_is_no_name() -> None:
    leaf = issue(root(), HOST)
    assert Credential(leaf.certificate, leaf.key).names == ()
    assert not Credential(leaf.certificate, leaf.key).fits(HOST)


# Picking one.


async def unasked(need: object) -> object:
    raise AssertionError("nobody awaits this need")


def asking(name: str | None, *schemes: int) -> NeedCredential:
    return NeedCredential(unasked, name, schemes or (P256, ED25519, RSA_PSS))


def test_the_exact_name_goes_before_a_wildcard_and_that_before_the_default() -> None:
    wild, exact, default = credential("*.example"), credential("a.example"), credential("other.example")
    pick = CredentialsByName([wild, exact, default], default=default)
    assert pick(asking("a.example")) is exact
    assert pick(asking("A.EXAMPLE.")) is exact
    assert pick(asking("b.example")) is wild
    assert pick(asking("c.b.example")) is default
    assert pick(asking(None)) is default


def test_without_a_default_nobody_is_shown_another_sites_certificate() -> None:
    pick = CredentialsByName([credential("a.example")], default=None)
    assert pick(asking("b.example")) is None
    assert pick(asking(None)) is None


def test_among_those_that_fit_the_first_is_picked_that_the_client_can_check() -> None:
    modern = credential("a.example", key=ed25519.Ed25519PrivateKey.generate())
    common = credential("a.example")
    old = credential("*.example", key=rsa_key(2048))
    pick = CredentialsByName([modern, common, old], default=None)
    assert pick(asking("a.example")) is modern
    assert pick(asking("a.example", P256, RSA_PSS)) is common
    assert pick(asking("a.example", RSA_PSS)) is old


def test_if_the_client_can_check_none_the_name_still_decides() -> None:
    fitting, default = credential("a.example"), credential("b.example", key=rsa_key(2048))
    pick = CredentialsByName([fitting], default=default)
    assert pick(asking("a.example", RSA_PSS)) is fitting


def test_there_has_to_be_something_to_pick() -> None:
    with pytest.raises(ValueError, match="at least one"):
        CredentialsByName([], default=credential("a.example"))
    with pytest.raises(ValueError, match="'CN=nameless'> has no names to pick it by"):
        CredentialsByName([credential("a.example"), credential()], default=None)


def test_the_picker_shows_its_names() -> None:
    pick = CredentialsByName([credential("a.example")], default=None)
    assert repr(pick) == "<CredentialsByName for 'a.example', default=None>"
