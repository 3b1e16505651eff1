"""Which peers a Verifier believes: names, paths, keys, pins, and for how long."""

from __future__ import annotations

import datetime
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store
from hypothesis import given
from hypothesis import strategies as st

from trio_tls import names
from trio_tls.alerts import Alert
from trio_tls.names import server_subject
from trio_tls.trust import Policy, PrivatePolicy, TrustAnchors, Verifier

from .interop.peers import openssl_command
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
)
from .trust_verifiers import (
    ANCHORS,
    CLIENTS_ONLY,
    POLICIES,
    PRIVATE,
    WEB,
    chain,
    good,
    refusal,
    trusting,
)

#: The longest name that there can be.
LONG = ".".join(["a" * 62] * 4) + ".a"
assert len(LONG) == 253

# What is believed.


@POLICIES
@pytest.mark.parametrize(
    "name",
    [
        HOST,
        HOST.upper(),
        HOST + ".",
        "any.wild.example.org",
        "192.0.2.1",
        "2001:db8::1",
        "2001:DB8:0:0::1",
        "2001:db8::1%eth0",
        "xn--fa-hia.example.org",
    ],
)
def test_a_server_with_the_name_is_verified(policy: Policy, name: str) -> None:
    peer = Verifier(ANCHORS, policy).verify_server(good(), name, NOW)
    assert peer.chain == (server().certificate, intermediate().certificate, root().certificate)
    assert peer.presented == (server().certificate, intermediate().certificate)
    assert peer.not_before == NOW - 30 * DAY
    assert peer.not_after == NOW + 30 * DAY


@pytest.mark.parametrize(
    "name", ["other.example.org", "wild.example.org", "a.b.wild.example.org", "192.0.2.2", "example.org", "localhost"]
)
def test_a_server_without_the_name_is_not(name: str) -> None:
    error = refusal(WEB, good(), name)
    assert error.alert is Alert.bad_certificate
    assert f"'{name}'" in error.message
    assert f"'{HOST}', '*.wild.example.org'" in error.message
    assert "server_hostname" in error.hint


@pytest.mark.parametrize("verifier", [WEB, PRIVATE])
def test_row_81_a_wildcard_directly_under_a_top_level_label_covers_nothing(verifier: Verifier) -> None:
    chain = (issue(root(), names=["*.test", "exact.test"]).der,)
    verifier.verify_server(chain, "exact.test", NOW)
    error = refusal(verifier, chain, "other.test")
    assert error.alert is Alert.bad_certificate
    assert "does not cover other.test" in error.message


def test_certificates_may_be_any_kind_of_bytes() -> None:
    chain = [bytearray(der) for der in good()]
    assert WEB.verify_server(chain, HOST, NOW).server_name == HOST  # type: ignore[arg-type]  # all the same


def test_an_ip_address_is_never_a_dns_name() -> None:
    named = issue(root(), names=["example.org"])
    cunning = issue(
        root(), extensions=[(x509.SubjectAlternativeName([x509.DNSName("192.0.2.1"), x509.DNSName("*.0.2.1")]), False)]
    )
    assert refusal(PRIVATE, chain(cunning), "192.0.2.1").alert is Alert.bad_certificate
    assert refusal(PRIVATE, chain(named), "192.0.2.1").alert is Alert.bad_certificate


@pytest.mark.parametrize(
    "name", ["", ".", "a_b.example", "*.example.org", "faß.de", "-a.example", "a..b", "a" * 64, "[::1]", LONG + "a"]
)
def test_a_name_that_no_certificate_can_have_is_misuse(name: str) -> None:
    with pytest.raises(ValueError, match="not a host name"):
        WEB.verify_server(good(), name, NOW)


def test_the_longest_name_there_can_be_is_looked_for() -> None:
    long = issue(root(), names=[LONG])
    assert WEB.verify_server(chain(long), LONG, NOW).server_name == LONG


@given(st.text(alphabet="aZ0-.*_ß", max_size=12) | st.from_regex(r"[a-z0-9.-]{1,70}", fullmatch=True))
def test_what_is_a_host_name_here_is_one_for_the_verifier_too(name: str) -> None:
    try:
        subject = server_subject(name)
    except ValueError:
        return
    PolicyBuilder().store(Store([root().certificate])).build_server_verifier(subject)


def test_a_naive_time_is_misuse() -> None:
    with pytest.raises(ValueError, match="aware"):
        WEB.verify_server(good(), HOST, NOW.replace(tzinfo=None))


@POLICIES
def test_the_order_of_the_intermediates_and_what_is_there_twice_do_not_matter(policy: Policy) -> None:
    lower = issue(intermediate(), "lower", ca=True)
    leaf = issue(lower, names=[HOST])
    verifier = Verifier(ANCHORS, policy)
    for above in ([lower, intermediate()], [intermediate(), lower], [root(), lower, intermediate(), lower, leaf]):
        peer = verifier.verify_server(chain(leaf, *above), HOST, NOW)
        assert [each.subject.rfc4514_string() for each in peer.chain] == [
            "CN=leaf",
            "CN=lower",
            "CN=intermediate",
            "CN=root",
        ]


@POLICIES
def test_certificates_that_have_nothing_to_do_with_it_are_ignored(policy: Policy) -> None:
    stray = issue(None, "stray", ca=True, key=ed448.Ed448PrivateKey.generate())
    assert Verifier(ANCHORS, policy).verify_server((*good(), stray.der), HOST, NOW).chain


@POLICIES
def test_a_cross_signed_intermediate_leads_to_the_anchor_that_is_there(policy: Policy) -> None:
    old = issue(None, "old root", ca=True)
    crossed = issue(old, "intermediate", ca=True, key=intermediate().key)
    presented = chain(server(), intermediate(), crossed)
    for anchor in (root(), old):
        peer = trusting(anchor, policy=policy).verify_server(presented, HOST, NOW)
        assert peer.chain[-1] == anchor.certificate


@POLICIES
def test_an_intermediate_can_be_a_trust_anchor(policy: Policy) -> None:
    peer = trusting(intermediate(), policy=policy).verify_server(chain(server()), HOST, NOW)
    assert peer.chain == (server().certificate, intermediate().certificate)


@POLICIES
@pytest.mark.parametrize(
    "key",
    [
        pytest.param(ed25519.Ed25519PrivateKey.generate, id="Ed25519"),
        pytest.param(mldsa.MLDSA65PrivateKey.generate, id="ML-DSA-65"),
        pytest.param(lambda: rsa_key(2048), id="RSA-2048"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP521R1()), id="P-521"),
    ],
)
def test_leaves_may_have_any_kind_of_key(policy: Policy, key: Callable[[], ec.EllipticCurvePrivateKey]) -> None:
    leaf = issue(root(), names=[HOST], key=key())
    assert Verifier(ANCHORS, policy).verify_server(chain(leaf), HOST, NOW).chain


def test_a_self_signed_certificate_that_is_a_trust_anchor_is_believed_in_private() -> None:
    for ca, key in ((True, None), (False, None), (True, ed25519.Ed25519PrivateKey.generate())):
        lonely = issue(None, names=[HOST], ca=ca, usages=key_usage("digital_signature", "key_cert_sign"), key=key)
        peer = trusting(lonely).verify_server(chain(lonely), HOST, NOW)
        assert peer.chain == (lonely.certificate,)
        assert refusal(trusting(lonely), chain(lonely), "other.example.org").alert is Alert.bad_certificate
        assert refusal(trusting(lonely), chain(lonely), at=NOW + 31 * DAY).alert is Alert.certificate_expired


def test_trustme_is_believed_in_private_and_the_web_says_how() -> None:
    ca = trustme.CA()
    now = datetime.datetime.now(datetime.timezone.utc)
    leaf = ca.issue_cert(HOST, "127.0.0.1")
    presented = [
        x509.load_pem_x509_certificate(each.bytes()).public_bytes(Encoding.DER) for each in leaf.cert_chain_pems
    ]
    anchors = TrustAnchors.from_pem(ca.cert_pem.bytes())
    assert Verifier(anchors, PrivatePolicy()).verify_server(presented, HOST, now).chain
    assert Verifier(anchors, PrivatePolicy()).verify_server(presented, "127.0.0.1", now).chain
    assert Verifier(anchors, PrivatePolicy()).verify_client(presented, now).chain
    error = refusal(Verifier(anchors), presented, at=now)
    assert error.alert is Alert.certificate_unknown
    assert "PrivatePolicy()" in error.hint


def test_a_trustme_chain_through_an_intermediate_is_believed_in_private() -> None:
    ca = trustme.CA()
    child = ca.create_child_ca()
    leaf = child.issue_cert(HOST)
    presented = [
        x509.load_pem_x509_certificate(each.bytes()).public_bytes(Encoding.DER) for each in leaf.cert_chain_pems
    ]
    peer = Verifier(TrustAnchors.from_pem(ca.cert_pem.bytes()), PrivatePolicy()).verify_server(
        presented, HOST, datetime.datetime.now(datetime.timezone.utc)
    )
    assert len(peer.chain) == 3


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run([openssl_command(), *arguments], cwd=folder, check=True, capture_output=True)


def test_what_openssl_req_x509_makes_is_believed_in_private(tmp_path: Path) -> None:
    openssl(
        tmp_path,
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
        *("-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", "key.pem", "-out", "cert.pem"),
    )
    anchors = TrustAnchors.from_files(tmp_path / "cert.pem")
    presented = [each.public_bytes(Encoding.DER) for each in anchors]
    now = datetime.datetime.now(datetime.timezone.utc)
    assert Verifier(anchors, PrivatePolicy()).verify_server(presented, HOST, now).chain
    assert refusal(Verifier(anchors), presented, at=now).hint.startswith("If the peer's CA is your own")


def test_what_an_openssl_ca_issues_is_believed_in_private(tmp_path: Path) -> None:
    rsa = ("-newkey", "rsa:2048", "-nodes")
    openssl(tmp_path, "req", "-x509", *rsa, "-subj", "/CN=My CA", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem")
    openssl(tmp_path, "req", *rsa, "-subj", f"/CN={HOST}", "-keyout", "leaf.key", "-out", "leaf.csr")
    (tmp_path / "names").write_text(f"subjectAltName=DNS:{HOST}\n")
    issuing = ("x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1")
    openssl(tmp_path, *issuing, "-extfile", "names", "-out", "leaf.pem")
    verifier = Verifier(TrustAnchors.from_files(tmp_path / "ca.pem"), PrivatePolicy())
    leaf = x509.load_pem_x509_certificate((tmp_path / "leaf.pem").read_bytes()).public_bytes(Encoding.DER)
    assert verifier.verify_server([leaf], HOST, datetime.datetime.now(datetime.timezone.utc)).chain


# Clients.


@POLICIES
def test_a_client_is_verified_without_any_name(policy: Policy) -> None:
    client = issue(root(), names=["alice.example.org"], extensions=[CLIENTS_ONLY])
    peer = Verifier(ANCHORS, policy).verify_client(chain(client), NOW)
    assert peer.chain == (client.certificate, root().certificate)
    assert peer.server_name is None


def test_a_client_without_subject_alt_name_is_verified_in_private_only() -> None:
    client = issue(root(), "alice")
    assert PRIVATE.verify_client(chain(client), NOW).chain
    error = refusal(WEB, chain(client), None)
    assert error.message.startswith("the client's certificate 'CN=alice' was not accepted")
    assert "PrivatePolicy()" in error.hint


@POLICIES
def test_a_servers_certificate_is_no_clients(policy: Policy) -> None:
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    leaf = issue(root(), names=[HOST], extensions=[(usage, False)])
    assert Verifier(ANCHORS, policy).verify_server(chain(leaf), HOST, NOW).chain
    assert refusal(Verifier(ANCHORS, policy), chain(leaf), None).alert is Alert.unsupported_certificate


def test_a_peer_that_presents_nothing_is_refused() -> None:
    assert refusal(WEB, [], None).alert is Alert.certificate_required
    assert refusal(WEB, []).alert is Alert.decode_error


# Pins.


def pin(issued: Issued) -> bytes:
    spki = issued.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(spki)
    return digest.finalize()


@pytest.mark.parametrize("pinned", [server, intermediate, root])
def test_one_pinned_key_on_the_path_is_enough(pinned: Callable[[], Issued]) -> None:
    verifier = Verifier(ANCHORS, pins=[pin(pinned()), bytes(32)])
    assert verifier.verify_server(good(), HOST, NOW).chain


@POLICIES
def test_a_server_whose_certificate_states_no_usage_is_accepted(policy: Policy) -> None:
    unstated = issue(intermediate(), names=[HOST], any_usage=True)
    assert Verifier(ANCHORS, policy).verify_server([unstated.der, intermediate().der], HOST, NOW).chain


def test_a_path_without_a_pinned_key_is_refused_even_if_it_is_sound() -> None:
    stranger = issue(None, "stranger", ca=True)
    error = refusal(Verifier(ANCHORS, pins=[pin(stranger)]), (*good(), stranger.der))
    assert error.alert is Alert.bad_certificate
    assert "'CN=leaf' < 'CN=intermediate' < 'CN=root'" in error.message


def test_limits_at_the_end_of_their_range_are_none() -> None:
    for most in (1, 100):
        assert Verifier(ANCHORS, most_certificates=most).most_certificates == most


@pytest.mark.parametrize(
    "limits",
    [
        {"pins": [b"short"]},
        {"least_rsa_bits": 1024},
        {"least_rsa_bits": 4096, "greatest_rsa_bits": 2048},
        {"most_certificates": 0},
        {"most_certificates": 101},
    ],
    ids=str,
)
def test_limits_out_of_range_are_misuse(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="pin|RSA|most_certificates"):
        Verifier(ANCHORS, **limits)  # type: ignore[arg-type]


# Remembering.


def test_a_chain_is_verified_once_while_it_is_valid() -> None:
    verifier = Verifier(ANCHORS)
    first = verifier.verify_server(good(), HOST, NOW)
    assert verifier.verify_server(list(good()), HOST.upper() + ".", NOW + 29 * DAY) is first
    assert verifier.verify_server(good(), "192.0.2.1", NOW) is not first
    assert verifier.verify_client(good(), NOW) is not first


@pytest.mark.parametrize("at", [NOW + 31 * DAY, NOW - 31 * DAY])
def test_what_was_verified_is_not_believed_at_another_time(at: datetime.datetime) -> None:
    verifier = Verifier(ANCHORS)
    assert verifier.verify_server(good(), HOST, NOW).chain
    assert refusal(verifier, good(), at=at).alert is Alert.certificate_expired


def test_a_chain_is_verified_again_when_one_of_its_paths_ends() -> None:
    brief = issue(root(), "intermediate", ca=True, key=intermediate().key, ends=NOW + DAY)
    verifier = Verifier(ANCHORS)
    presented = chain(server(), brief, intermediate())
    first = verifier.verify_server(presented, HOST, NOW)
    assert first.not_after == NOW + DAY
    assert verifier.verify_server(presented, HOST, NOW + DAY) is first
    second = verifier.verify_server(presented, HOST, NOW + 2 * DAY)
    assert second.chain[1] == intermediate().certificate
    assert second.not_after == NOW + 30 * DAY


def test_refusals_are_not_remembered() -> None:
    verifier = Verifier(ANCHORS)
    refusal(verifier, good(), at=NOW - 31 * DAY)
    assert verifier.verify_server(good(), HOST, NOW).chain


def test_so_many_chains_are_remembered_and_the_oldest_are_forgotten() -> None:
    verifier = Verifier(ANCHORS, PrivatePolicy())
    wild = chain(server(), intermediate())
    first = verifier.verify_server(wild, "0.wild.example.org", NOW)
    second = verifier.verify_server(wild, "1.wild.example.org", NOW)
    for number in range(2, 256):
        verifier.verify_server(wild, f"{number}.wild.example.org", NOW)
    assert verifier.verify_server(wild, "0.wild.example.org", NOW) is first
    verifier.verify_server(wild, "256.wild.example.org", NOW)
    assert verifier.verify_server(wild, "0.wild.example.org", NOW) is first
    assert verifier.verify_server(wild, "1.wild.example.org", NOW) is not second


def test_what_is_remembered_is_bounded_in_bytes_whatever_peers_add_to_their_chains() -> None:
    padding = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(100_000))
    strays = [issue(None, f"stray {number}", ca=True, extensions=[(padding, False)]) for number in range(11)]
    verifier = Verifier(ANCHORS)
    first = verifier.verify_server(good(), HOST, NOW)
    proofs = [verifier.verify_server((*good(), stray.der), HOST, NOW) for stray in strays]
    assert verifier.verify_server((*good(), strays[-1].der), HOST, NOW) is proofs[-1]
    assert verifier.verify_server(good(), HOST, NOW) is not first, "it was the oldest"
    assert verifier.verify_server((*good(), strays[0].der), HOST, NOW) is not proofs[0]


def test_a_remembered_chain_is_not_taken_for_one_with_the_same_bytes_cut_elsewhere() -> None:
    verifier = Verifier(ANCHORS)
    leaf, above = good()
    assert verifier.verify_server([leaf, above], HOST, NOW).chain
    assert refusal(verifier, [leaf + above]).alert is Alert.bad_certificate
    assert refusal(verifier, [leaf[:-1], leaf[-1:] + above]).alert is Alert.bad_certificate


# Fingerprints.


def test_a_verifiers_fingerprint_tells_what_it_would_decide_differently() -> None:
    other = TrustAnchors.from_certificates(intermediate().certificate)
    verifiers = [
        Verifier(ANCHORS),
        Verifier(other),
        Verifier(ANCHORS | other),
        Verifier(ANCHORS, PrivatePolicy()),
        Verifier(ANCHORS, pins=[bytes(32)]),
        Verifier(ANCHORS, pins=[bytes(32), b"\1" * 32]),
        Verifier(ANCHORS, least_rsa_bits=3072),
        Verifier(ANCHORS, greatest_rsa_bits=4096),
        Verifier(ANCHORS, most_certificates=4),
    ]
    assert len({each.fingerprint for each in verifiers}) == len(verifiers)
    assert all(len(each.fingerprint) == 32 for each in verifiers)
    assert Verifier(ANCHORS, pins=[b"\1" * 32, bytes(32)]) == verifiers[5]
    assert len({*verifiers, *map(replace, verifiers)}) == len(verifiers)
    assert Verifier(ANCHORS, pins=[b"\1" * 32, bytes(32)]).fingerprint == verifiers[5].fingerprint


def test_what_is_remembered_of_names_that_clients_ask_for_is_small() -> None:
    before = names._short_address.cache_info().currsize
    for number in range(10):
        assert not names.is_address(f"{number}." * 20_000 + "example.org")
    assert names._short_address.cache_info().currsize == before
