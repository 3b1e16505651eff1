"""The key schedule, against every secret that RFC 8448 prints."""

from __future__ import annotations

import copy
import hmac
import pickle

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from trio_tls.machine.tls13.key_schedule import (
    KeySchedule,
    Secret,
    derive_secret,
    expand_label,
    export_keying_material,
    finished_verify_data,
    next_traffic_secret,
    resumption_psk,
    traffic_keys,
)
from trio_tls.machine.tls13.registry import CipherSuiteNumber, HandshakeType
from trio_tls.machine.tls13.suites import SUITES, CipherSuite
from trio_tls.machine.tls13.transcript import Transcript, hash_of

from .traces import TRACES, find, messages

SUITE = SUITES[CipherSuiteNumber.TLS_AES_128_GCM_SHA256]
SHA384_SUITE = SUITES[CipherSuiteNumber.TLS_AES_256_GCM_SHA384]
ALL = pytest.mark.parametrize("trace", TRACES)

RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


def derived(trace: str, label: str) -> dict[str, bytes]:
    """The values of ``derive secret "tls13 <label>"``, whoever derives it."""
    for step in TRACES[trace]:
        if step.title.startswith(f'derive secret "tls13 {label}"') and step.values:
            return step.values
    raise LookupError(label)


def psk_of(trace: str) -> bytes | None:
    return find(trace, "client", 'extract secret "early"')["IKM"] if trace.startswith("Resumed") else None


# -- RFC 8448 ------------------------------------------------------------------------------------------------


@ALL
def test_every_secret_of_rfc_8448(trace: str) -> None:
    schedule = KeySchedule(SUITE, psk_of(trace))
    handshake = schedule.handshake_secrets(
        find(trace, "server", 'extract secret "handshake"')["IKM"], derived(trace, "c hs traffic")["hash"]
    )
    assert handshake.client.value == derived(trace, "c hs traffic")["expanded"]
    assert handshake.server.value == derived(trace, "s hs traffic")["expanded"]
    application = schedule.application_secrets(derived(trace, "c ap traffic")["hash"])
    assert application.client.value == derived(trace, "c ap traffic")["expanded"]
    assert application.server.value == derived(trace, "s ap traffic")["expanded"]
    assert schedule.exporter.value == derived(trace, "exp master")["expanded"]
    resumption = schedule.resumption_secret(derived(trace, "res master")["hash"])
    assert resumption.value == derived(trace, "res master")["expanded"]
    assert schedule.exporter.value == derived(trace, "exp master")["expanded"], "it outlives the schedule"


@ALL
def test_every_traffic_key_of_rfc_8448(trace: str) -> None:
    count = 0
    for step in TRACES[trace]:
        if "key expanded" in step.values:
            expected = (step.values["key expanded"], step.values["iv expanded"])
            assert traffic_keys(SUITE, Secret(step.values["PRK"])) == expected
            count += 1
    assert count >= 4


@ALL
def test_every_derivation_of_rfc_8448(trace: str) -> None:
    for step in TRACES[trace]:
        if step.title.startswith("derive secret") and step.values:
            label = step.title.split('"')[1].removeprefix("tls13 ").encode()
            values = step.values
            assert derive_secret(SUITE.hash, values["PRK"], label, values["hash"]) == values["expanded"]


@ALL
def test_every_finished_and_transcript_hash_of_rfc_8448(trace: str) -> None:
    transcript = Transcript()
    finished = 0
    for side, message in messages(trace):
        if message[0] == HandshakeType.server_hello and message[6:38] == RETRY:
            transcript.replace_by_message_hash()
        if message[0] == HandshakeType.finished:
            secret = Secret(derived(trace, f"{side[0]} hs traffic")["expanded"])
            assert finished_verify_data(SUITE, secret, transcript.digest()) == message[4:]
            finished += 1
        transcript.add(message)
        transcript.choose(SUITE.hash)
        if message[0] == HandshakeType.server_hello and message[6:38] != RETRY:
            assert transcript.digest() == derived(trace, "c hs traffic")["hash"]
        if message[0] == HandshakeType.finished:
            label = "c ap traffic" if side == "server" else "res master"
            assert transcript.digest() == derived(trace, label)["hash"]
    assert finished == 2


def test_the_binder_of_rfc_8448() -> None:
    values = find("Resumed 0-RTT Handshake", "client", "calculate PSK binder")
    schedule = KeySchedule(SUITE, psk_of("Resumed 0-RTT Handshake"))
    assert schedule.binder(values["binder hash"]) == values["finished"]
    assert schedule.binder(values["binder hash"]) == values["finished"], "a binder is no step"


def test_the_resumption_psk_of_rfc_8448() -> None:
    values = find("Simple 1-RTT Handshake", "server", "generate resumption secret")
    nonce = values["info"].rpartition(b"tls13 resumption")[2][1:]
    psk = resumption_psk(SUITE, Secret(values["PRK"]), nonce)
    assert psk == values["expanded"] == psk_of("Resumed 0-RTT Handshake")


# -- order and secrecy -----------------------------------------------------------------------------------------


def test_no_step_can_be_skipped() -> None:
    schedule = KeySchedule(SUITE)
    with pytest.raises(RuntimeError, match="early"):
        schedule.application_secrets(SUITE.empty_hash)
    with pytest.raises(RuntimeError, match="early"):
        schedule.resumption_secret(SUITE.empty_hash)
    with pytest.raises(RuntimeError, match="exporter"):
        _ = schedule.exporter
    schedule.handshake_secrets(b"shared", SUITE.empty_hash)
    with pytest.raises(RuntimeError, match="handshake"):
        schedule.resumption_secret(SUITE.empty_hash)
    with pytest.raises(RuntimeError, match="exporter"):
        _ = schedule.exporter


def test_no_step_can_be_taken_twice() -> None:
    schedule = KeySchedule(SUITE)
    schedule.handshake_secrets(b"shared", SUITE.empty_hash)
    with pytest.raises(RuntimeError, match="early"):
        schedule.handshake_secrets(b"shared", SUITE.empty_hash)
    with pytest.raises(RuntimeError, match="early"):
        schedule.binder(SUITE.empty_hash)
    schedule.application_secrets(SUITE.empty_hash)
    with pytest.raises(RuntimeError, match="handshake"):
        schedule.application_secrets(SUITE.empty_hash)
    schedule.resumption_secret(SUITE.empty_hash)
    with pytest.raises(RuntimeError, match="done"):
        schedule.resumption_secret(SUITE.empty_hash)


def test_row_84_secrets_do_not_show_themselves() -> None:
    secret = Secret(b"very secret")
    assert repr(secret) == str(secret) == "<Secret of 11 bytes>"
    schedule = KeySchedule(SUITE, b"very secret psk")
    assert repr(schedule) == "<KeySchedule at 'early'>"
    traffic = schedule.handshake_secrets(b"shared", SUITE.empty_hash)
    assert repr(traffic.client.value) not in repr(traffic)
    for keeper in (secret, schedule):
        assert not hasattr(keeper, "__dict__")
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(keeper)
        with pytest.raises(TypeError, match="not pickled"):
            copy.copy(keeper)


def test_row_84_a_step_drops_the_secret_that_it_started_from() -> None:
    schedule = KeySchedule(SUITE)
    early = schedule._secret
    schedule.handshake_secrets(b"shared", SUITE.empty_hash)
    assert schedule._secret is not early
    schedule.application_secrets(SUITE.empty_hash)
    schedule.resumption_secret(SUITE.empty_hash)
    assert schedule._secret.value == b""


# -- functions ---------------------------------------------------------------------------------------------------


def test_row_71_each_generation_of_a_traffic_secret_is_another() -> None:
    secret = Secret(bytes(32))
    later = next_traffic_secret(SUITE, secret)
    assert later.value == expand_label(SUITE.hash, bytes(32), b"traffic upd", b"", 32)
    assert len({secret.value, later.value, next_traffic_secret(SUITE, later).value}) == 3


def test_secrets_have_the_length_of_their_hash() -> None:
    schedule = KeySchedule(SHA384_SUITE, b"psk")
    assert len(schedule.binder(bytes(48))) == 48
    traffic = schedule.handshake_secrets(b"shared", bytes(48))
    assert len(traffic.client.value) == 48
    assert [len(part) for part in traffic_keys(SHA384_SUITE, traffic.server)] == [32, 12]
    assert len(finished_verify_data(SHA384_SUITE, traffic.server, bytes(48))) == 48


def test_row_82_exported_material_depends_on_label_context_and_length() -> None:
    exporter = Secret(b"\x07" * 32)

    def export(label: bytes, context: bytes, length: int) -> bytes:
        return export_keying_material(SUITE, exporter, label, context, length)

    material = export(b"EXPORTER-Channel-Binding", b"", 32)
    inner = derive_secret(SUITE.hash, exporter.value, b"EXPORTER-Channel-Binding", SUITE.empty_hash)
    assert material == expand_label(SUITE.hash, inner, b"exporter", hash_of(SUITE.hash, b""), 32)
    assert material != export(b"EXPORTER-Channel-Binding", b"context", 32)
    assert material != export(b"EXPORTER-other", b"", 32)
    assert material != export(b"EXPORTER-Channel-Binding", b"", 64)[:32], "the length is part of the label"
    assert len(export(b"x", b"", 255 * 32)) == 255 * 32
    for bad_label in (b"", b"x" * 250):
        with pytest.raises(ValueError, match="label"):
            export(bad_label, b"", 32)
    for bad_length in (-1, 0, 255 * 32 + 1, 2**16):
        with pytest.raises(ValueError, match="larger|expand"):
            export(b"x", b"", bad_length)


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_a_secret_is_expanded_as_hkdf_does_it_however_often(suite: CipherSuite) -> None:
    """RFC 8448 has SHA-256 alone."""
    value = bytes(range(suite.hash_length))
    secret = Secret(value)
    for label, context, length in ((b"key", b"", 16), (b"finished", b"", suite.hash_length), (b"iv", b"", 12)):
        for _again in range(2):
            assert secret.expand(suite.hash, label, context, length) == expand_label(
                suite.hash, value, label, context, length
            )
    early = HKDF.extract(suite.hash, bytes(suite.hash_length), b"psk")
    binder_key = expand_label(suite.hash, early, b"res binder", suite.empty_hash, suite.hash_length)
    finished_key = expand_label(suite.hash, binder_key, b"finished", b"", suite.hash_length)
    code = hmac.digest(finished_key, b"hash", suite.hash.name)
    assert KeySchedule(suite, b"psk").binder(b"hash") == code


def test_labels_and_contexts_have_their_bounds() -> None:
    assert len(expand_label(hashes.SHA256(), bytes(32), b"x" * 249, b"y" * 255, 16)) == 16
    with pytest.raises(ValueError, match="label"):
        expand_label(hashes.SHA256(), bytes(32), b"x", b"y" * 256, 16)
