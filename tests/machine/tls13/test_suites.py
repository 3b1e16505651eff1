"""The table of cipher suites."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes

from trio_tls.machine.tls13.key_schedule import Secret, traffic_keys
from trio_tls.machine.tls13.registry import CipherSuiteNumber
from trio_tls.machine.tls13.suites import SUITES, CipherSuite

ALL = pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)


def test_the_preferred_suite_is_the_one_that_everybody_must_have() -> None:
    # "A TLS-compliant application MUST implement the TLS_AES_128_GCM_SHA256 cipher suite" (RFC 9846 section 9.1)
    assert list(SUITES) == [0x1301, 0x1302, 0x1303]


@ALL
def test_a_suite_is_found_by_its_number_and_has_its_registered_name(suite: CipherSuite) -> None:
    assert SUITES[suite.number] is suite
    assert suite.name == CipherSuiteNumber(suite.number).name


@ALL
def test_the_lengths_are_those_of_the_hash_and_the_aead(suite: CipherSuite) -> None:
    assert suite.hash_length == suite.hash.digest_size == len(suite.empty_hash)
    assert suite.secret_bits == 8 * suite.key_length
    running = hashes.Hash(suite.hash)
    assert running.finalize() == suite.empty_hash
    key, iv = traffic_keys(suite, Secret(bytes(suite.hash_length)))
    assert (len(key), len(iv)) == (suite.key_length, 12)
    assert len(suite.aead(key).encrypt(iv, b"", b"")) == 16


def test_row_10_a_gcm_key_protects_at_most_2_to_the_24_records() -> None:
    # "up to 2^24.5 full-size records (about 24 million) may be encrypted under a given set of keys" (section 5.5)
    assert {suite.name: suite.record_limit for suite in SUITES.values()} == {
        "TLS_AES_128_GCM_SHA256": 2**24,
        "TLS_AES_256_GCM_SHA384": 2**24,
        "TLS_CHACHA20_POLY1305_SHA256": 2**64 - 1,
    }
