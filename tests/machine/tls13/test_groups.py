"""Key shares: both sides get the same secret, and no bad share of a peer gets through."""

from __future__ import annotations

import copy
import pickle

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

from trio_tls.alerts import Alert
from trio_tls.errors import PeerMisbehaved
from trio_tls.machine.tls13.groups import GROUPS, Group, KeyShare, x25519_key_share
from trio_tls.machine.tls13.registry import NamedGroup

from .traces import TRACES, find

ALL = pytest.mark.parametrize("group", GROUPS.values(), ids=lambda group: group.name)

#: What a client sends, and what a server answers, in bytes.
LENGTHS = {"X25519MLKEM768": (1184 + 32, 1088 + 32), "x25519": (32, 32), "secp256r1": (65, 65), "secp384r1": (97, 97)}

#: Points of small order on curve25519, and their like beyond the field's prime.
LOW_ORDER = (
    bytes(32),
    (1).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (2**255 - 19 - 1).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    (2**255 - 19 + 1).to_bytes(32, "little"),
)


def refused(share: KeyShare, peer: bytes) -> None:
    with pytest.raises(PeerMisbehaved) as caught:
        share.exchange(peer)
    assert caught.value.alert is Alert.illegal_parameter


def response_refused(group: Group, peer: bytes) -> None:
    with pytest.raises(PeerMisbehaved) as caught:
        group.respond(peer)
    assert caught.value.alert is Alert.illegal_parameter
    assert group.name in str(caught.value)


def test_the_groups_are_in_our_order() -> None:
    assert [group.name for group in GROUPS.values()] == list(LENGTHS)
    assert list(GROUPS) == [0x11EC, 0x001D, 0x0017, 0x0018]


@ALL
def test_client_and_server_agree_on_a_secret(group: Group) -> None:
    share = group.generate()
    assert share.group == group.number
    answer, server_secret = group.respond(share.public)
    assert (len(share.public), len(answer)) == LENGTHS[group.name]
    assert share.exchange(answer) == server_secret


@ALL
def test_row_49_shares_are_new_each_time_and_serve_one_exchange(group: Group) -> None:
    share, other = group.generate(), group.generate()
    assert share.public != other.public
    answer, _ = group.respond(share.public)
    again, _ = group.respond(share.public)  # the peer may reuse its share
    assert answer != again
    share.exchange(answer)
    with pytest.raises(RuntimeError, match="used already"):
        share.exchange(answer)


@ALL
def test_a_share_that_met_a_bad_answer_is_used_too(group: Group) -> None:
    share = group.generate()
    refused(share, b"")
    with pytest.raises(RuntimeError, match="used already"):
        share.exchange(group.respond(group.generate().public)[0])


@ALL
def test_row_84_a_share_does_not_show_its_key(group: Group) -> None:
    share = group.generate()
    assert repr(share) == f"<KeyShare {group.name}>"
    with pytest.raises(TypeError, match="private key"):
        pickle.dumps(share)
    with pytest.raises(TypeError, match="private key"):
        copy.copy(share)


@ALL
@pytest.mark.parametrize("change", [-1, 1, None], ids=["short", "long", "empty"])
def test_row_50_a_share_of_the_wrong_length_is_an_illegal_parameter(group: Group, change: int | None) -> None:
    share = group.generate()
    answer, _ = group.respond(share.public)

    def wrong(right: bytes) -> bytes:
        return b"" if change is None else (right + b"\0")[: len(right) + change]

    response_refused(group, wrong(share.public))
    refused(share, wrong(answer))


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:8])
def test_row_50_an_all_zero_x25519_secret_is_an_illegal_parameter(point: bytes) -> None:
    group = GROUPS[NamedGroup.x25519]
    refused(group.generate(), point)
    response_refused(group, point)


@pytest.mark.parametrize("number", [NamedGroup.secp256r1, NamedGroup.secp384r1], ids=lambda number: number.name)
@pytest.mark.parametrize("form", [0x02, 0x03, 0x00, 0x05, 0x06, 0x07])
def test_row_50_only_uncompressed_points_are_taken(number: NamedGroup, form: int) -> None:
    group = GROUPS[number]
    good = group.generate().public
    assert good[0] == 4
    response_refused(group, bytes((form,)) + good[1:])
    refused(group.generate(), bytes((form,)) + good[1:])
    response_refused(group, bytes((form,)) + good[1 : 1 + len(good) // 2])


@pytest.mark.parametrize("number", [NamedGroup.secp256r1, NamedGroup.secp384r1], ids=lambda number: number.name)
def test_row_50_a_compressed_point_that_the_library_would_take_is_refused(number: NamedGroup) -> None:
    group = GROUPS[number]
    curve: ec.EllipticCurve = ec.SECP256R1() if number == NamedGroup.secp256r1 else ec.SECP384R1()
    compressed = (
        ec.generate_private_key(curve)
        .public_key()
        .public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    )
    assert compressed[0] in {2, 3}
    ec.EllipticCurvePublicKey.from_encoded_point(curve, compressed)
    response_refused(group, compressed)


@pytest.mark.parametrize("number", [NamedGroup.secp256r1, NamedGroup.secp384r1], ids=lambda number: number.name)
def test_row_50_a_point_that_is_not_on_the_curve_is_an_illegal_parameter(number: NamedGroup) -> None:
    group = GROUPS[number]
    good = bytearray(group.generate().public)
    good[-1] ^= 1
    for bad in (bytes(good), b"\4" + bytes(len(good) - 1), b"\4" + b"\xff" * (len(good) - 1)):
        response_refused(group, bad)
        refused(group.generate(), bad)


def test_row_50_an_encapsulation_key_whose_numbers_are_out_of_range_is_an_illegal_parameter() -> None:
    group = GROUPS[NamedGroup.X25519MLKEM768]
    good = group.generate().public
    response_refused(group, b"\xff" * 3 + good[3:])


def test_row_50_the_x25519_half_of_the_hybrid_is_judged_as_well() -> None:
    group = GROUPS[NamedGroup.X25519MLKEM768]
    share = group.generate()
    response_refused(group, share.public[:-32] + bytes(32))
    answer, _ = group.respond(share.public)
    refused(share, answer[:-32] + bytes(32))


def test_row_51_in_the_hybrid_mlkem_comes_first() -> None:
    group = GROUPS[NamedGroup.X25519MLKEM768]
    share = group.generate()
    MLKEM768PublicKey.from_public_bytes(share.public[:1184])
    ours = x25519_key_share(b"\x11" * 32)
    answer, secret = group.respond(share.public[:1184] + ours.public)
    assert (len(answer), len(secret)) == (1088 + 32, 64)
    assert secret[32:] == ours.exchange(answer[1088:]), "the X25519 secret is behind that of ML-KEM"


def test_a_ciphertext_that_was_altered_gives_another_secret_and_no_error() -> None:
    # ML-KEM rejects implicitly: the handshake fails at the next record.
    group = GROUPS[NamedGroup.X25519MLKEM768]
    share = group.generate()
    answer, secret = group.respond(share.public)
    assert share.exchange(bytes((answer[0] ^ 1,)) + answer[1:])[:32] != secret[:32]


def test_a_server_answers_with_the_share_that_it_is_given() -> None:
    share = x25519_key_share(b"\x22" * 32)
    client = x25519_key_share(b"\x33" * 32)
    answer, secret = GROUPS[NamedGroup.x25519].respond(client.public, lambda group: share)
    assert answer == share.public
    assert client.exchange(answer) == secret


@pytest.mark.parametrize("trace", [name for name in TRACES if name != "HelloRetryRequest"])
def test_the_x25519_exchanges_of_rfc_8448(trace: str) -> None:
    client = find(trace, "client", "create an ephemeral x25519 key pair")
    server = find(trace, "server", "create an ephemeral x25519 key pair")
    share = x25519_key_share(client["private key"])
    assert share.public == client["public key"]
    assert share.exchange(server["public key"]) == find(trace, "server", 'extract secret "handshake"')["IKM"]
