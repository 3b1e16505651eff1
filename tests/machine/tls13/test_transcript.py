"""The transcript hash."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives import hashes

from trio_tls.machine.tls13.transcript import Transcript, hash_of

from .traces import find

SHA256, SHA384 = hashes.SHA256(), hashes.SHA384()


def test_the_digest_is_that_of_all_messages_before_and_after_the_choice() -> None:
    transcript = Transcript()
    transcript.add(b"client hello")
    transcript.choose(SHA384)
    transcript.add(b"server hello")
    assert transcript.digest() == hashlib.sha384(b"client helloserver hello").digest()
    assert transcript.digest() == transcript.digest(), "a digest changes nothing"


def test_there_is_no_digest_before_the_hash_is_chosen() -> None:
    transcript = Transcript()
    for early in (transcript.digest, transcript.replace_by_message_hash, lambda: transcript.digest_with(b"")):
        with pytest.raises(RuntimeError, match="not chosen"):
            early()


def test_row_43_the_hash_cannot_be_changed() -> None:
    transcript = Transcript()
    transcript.choose(SHA256)
    transcript.choose(hashes.SHA256())
    with pytest.raises(RuntimeError, match="sha256"):
        transcript.choose(SHA384)


def test_what_is_hashed_for_a_binder_is_not_added() -> None:
    transcript = Transcript()
    assert transcript.digest_with(b"truncated", SHA384) == hashlib.sha384(b"truncated").digest()
    transcript.add(b"hello ")
    transcript.choose(SHA256)
    assert transcript.digest_with(b"truncated") == hashlib.sha256(b"hello truncated").digest()
    assert transcript.digest_with(b"truncated", SHA256) == transcript.digest_with(b"truncated")
    assert transcript.digest() == hashlib.sha256(b"hello ").digest()


def test_a_binder_of_another_hash_than_the_chosen_one_is_our_own_mistake() -> None:
    transcript = Transcript()
    transcript.choose(SHA256)
    with pytest.raises(RuntimeError, match="sha384"):
        transcript.digest_with(b"", SHA384)


@pytest.mark.parametrize("algorithm", [SHA256, SHA384], ids=lambda algorithm: algorithm.name)
def test_row_45_the_first_hello_is_replaced_by_its_hash(algorithm: hashes.HashAlgorithm) -> None:
    transcript = Transcript()
    transcript.add(b"hello 1")
    transcript.choose(algorithm)
    transcript.replace_by_message_hash()
    transcript.add(b"retry")
    header = bytes((254, 0, 0, algorithm.digest_size))
    assert transcript.digest() == hash_of(algorithm, header + hash_of(algorithm, b"hello 1") + b"retry")


def test_the_binder_hash_of_rfc_8448() -> None:
    binder = find("Resumed 0-RTT Handshake", "client", "calculate PSK binder")
    assert Transcript().digest_with(binder["ClientHello prefix"], SHA256) == binder["binder hash"]
