"""Where trust anchors come from, and that they are a set."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from trio_tls.trust import TrustAnchors

from .trust_chains import (
    intermediate,
    root,
    server,
)


def test_trust_anchors_have_no_order_and_no_duplicates() -> None:
    one, two = root().certificate, intermediate().certificate
    anchors = TrustAnchors.from_certificates(one, two, one)
    assert len(anchors) == 2
    assert set(anchors) == {one, two}
    assert one in anchors
    assert server().certificate not in anchors
    assert "root" not in anchors
    again = TrustAnchors.from_certificates(two) | TrustAnchors.from_der(root().der)
    assert again == anchors
    assert hash(again) == hash(anchors)
    assert anchors not in (None, anchors.fingerprint)
    assert again.fingerprint == anchors.fingerprint
    assert anchors != TrustAnchors.from_certificates(two)
    with pytest.raises(TypeError):
        anchors | one  # type: ignore[operator]
    assert repr(anchors) == f"<2 trust anchors {anchors.fingerprint.hex()[:16]}>"


def test_the_store_is_built_once() -> None:
    anchors = TrustAnchors.from_certificates(root().certificate)
    assert anchors.store is anchors.store


def test_trust_anchors_come_from_pem_and_files(tmp_path: Path) -> None:
    both = TrustAnchors.from_certificates(root().certificate, intermediate().certificate)
    assert TrustAnchors.from_pem(root().pem + intermediate().pem) == both
    assert TrustAnchors.from_pem((root().pem + intermediate().pem).decode()) == both
    (tmp_path / "one.pem").write_bytes(b"# a comment\n" + root().pem)
    (tmp_path / "two.pem").write_bytes(intermediate().pem)
    assert TrustAnchors.from_files(tmp_path / "one.pem", str(tmp_path / "two.pem")) == both


def test_what_is_no_trust_anchor_is_misuse_and_the_text_tells_where(tmp_path: Path) -> None:
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    (tmp_path / "broken.pem").write_bytes(broken)
    (tmp_path / "key.pem").write_bytes(root().key_pem)
    (tmp_path / "ca.der").write_bytes(root().der)
    attempts: list[tuple[Callable[[], TrustAnchors], str]] = [
        (lambda: TrustAnchors([]), "no certificate to trust"),
        (lambda: TrustAnchors.from_der(root().der, b"junk"), "certificate 2 is not a DER certificate"),
        (lambda: TrustAnchors.from_pem(b""), "PEM text is not PEM"),
        (lambda: TrustAnchors.from_files(tmp_path / "broken.pem"), "broken.pem has no certificate"),
        (lambda: TrustAnchors.from_files(tmp_path / "key.pem"), "key.pem has no certificate"),
        (lambda: TrustAnchors.from_files(tmp_path / "ca.der"), "ca.der is not PEM.*from_der"),
    ]
    for attempt, told in attempts:
        with pytest.raises(ValueError, match=told):
            attempt()


def test_the_systems_trust_anchors_are_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundle.pem").write_bytes(
        root().pem + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    )
    hashed = tmp_path / "hashed"
    hashed.mkdir()
    (hashed / "0a1b2c3d.0").write_bytes(intermediate().pem)
    (hashed / "README").write_bytes(server().pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "bundle.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", os.pathsep.join([str(tmp_path / "none"), str(hashed)]))
    assert TrustAnchors.system() == TrustAnchors.from_certificates(root().certificate, intermediate().certificate)


def test_a_system_without_trust_anchors_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=r"absent\.pem.*SSL_CERT_FILE"):
        TrustAnchors.system()


def test_the_systems_own_trust_anchors_are_found_as_openssl_finds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    context = ssl.create_default_context()
    if not context.get_ca_certs():
        text = "this system has no CA certificates in one file"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    found = {each.public_bytes(Encoding.DER) for each in TrustAnchors.system()}
    assert set(context.get_ca_certs(binary_form=True)) <= found
