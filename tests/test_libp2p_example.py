"""The example of peers that are their keys, as in libp2p (``docs/examples/libp2p_identity.py``)."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from trio_tls import CertificateVerificationError, Credential, KeyLog, TLSStream

from .blocking import concurrently, outcomes
from .support import socket_pair
from .test_docs_examples import EXAMPLES, example, self_signed

EXAMPLE = example("libp2p_identity")
ALICE, BOB = (Credential.from_pem(self_signed(name)) for name in ("alice", "bob"))


def peer_id(chain: Sequence[bytes]) -> str:
    """The digest of the key, if the certificate is signed by it; libp2p has an extension with another key."""
    (certificate,) = (x509.load_der_x509_certificate(der) for der in chain)
    certificate.verify_directly_issued_by(certificate)
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key).hexdigest()


def dial(expected: Credential, lines: list[str] | None = None) -> tuple[TLSStream[Any], TLSStream[Any]]:
    """Alice dials whom she expects; it is Bob who listens."""
    a, b = socket_pair()
    keylog = KeyLog((lines if lines is not None else []).append)
    dialing = EXAMPLE.dialing(ALICE, peer_id, peer_id(expected.der_chain), keylog)
    return TLSStream(a, dialing), TLSStream(b, EXAMPLE.listening(BOB, peer_id), server_side=True)


async def test_both_ends_know_each_other_and_agree_on_a_muxer() -> None:
    lines: list[str] = []
    alice, bob = dial(BOB, lines)
    async with alice, bob:
        await concurrently(alice.do_handshake, bob.do_handshake)
        assert alice.info is not None and peer_id(alice.info.peer_chain) == peer_id(BOB.der_chain)
        assert bob.info is not None and peer_id(bob.info.peer_chain) == peer_id(ALICE.der_chain)
        assert alice.selected_alpn_protocol() == bob.selected_alpn_protocol() == "/yamux/1.0.0"
    assert any(line.startswith("CLIENT_TRAFFIC_SECRET_0 ") for line in lines)


async def test_whoever_else_listens_is_refused() -> None:
    alice, bob = dial(ALICE)
    async with alice, bob:
        failures = await outcomes(alice.do_handshake, bob.do_handshake)
    assert isinstance(failures[0], CertificateVerificationError)
    assert "is not" in str(failures[0])
    assert "certificate" in str(failures[1])


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([b"libp2p", b"/yamux/1.0.0"], "libp2p"),
        ([b"/mplex/6.7.0", b"/yamux/1.0.0"], "/yamux/1.0.0"),
        ([b"/mplex/6.7.0"], None),
    ],
)
async def test_the_client_chooses_the_protocol(offered: list[bytes], chosen: str | None) -> None:
    a, b = socket_pair()
    dialing = EXAMPLE.dialing(ALICE, peer_id, peer_id(BOB.der_chain), None).replace(alpn_protocols=offered)
    async with (
        TLSStream(a, dialing) as alice,
        TLSStream(b, EXAMPLE.listening(BOB, peer_id), server_side=True) as bob,
    ):
        await concurrently(alice.do_handshake, bob.do_handshake)
        assert alice.selected_alpn_protocol() == chosen


def test_it_takes_less_than_thirty_lines() -> None:
    text = (EXAMPLES / "libp2p_identity.py").read_text()
    body = [node for node in ast.parse(text).body[1:] if not isinstance(node, ast.ImportFrom)]
    lines = "\n".join(ast.get_source_segment(text, node) or "" for node in body).splitlines()
    assert len([line for line in lines if line.strip()]) < 30
