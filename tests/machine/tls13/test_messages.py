"""Handshake messages between bytes and dataclasses (RFC 9846 section 4).

``row_N`` in a name numbers a known pitfall of TLS implementations.
"""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_tls import PeerMisbehaved
from trio_tls.alerts import Alert
from trio_tls.machine.tls13 import messages
from trio_tls.machine.tls13.extensions import (
    Extensions,
    KeyShares,
    PreSharedKeys,
    PskIdentity,
    SelectedVersion,
    SupportedVersions,
    UnknownExtension,
)
from trio_tls.machine.tls13.messages import (
    HELLO_RETRY_REQUEST_RANDOM,
    Certificate,
    CertificateEntry,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    EndOfEarlyData,
    Finished,
    HelloRetryRequest,
    KeyUpdate,
    Message,
    NewSessionTicket,
    ServerHello,
    decode_message,
)
from trio_tls.machine.tls13.registry import GREASE, ExtensionType, HandshakeType

from .strategies import MESSAGES

RANDOM = bytes(range(32))
NOTHING = Extensions()
TLS13 = Extensions([SelectedVersion(0x0304)])
OFFER = Extensions([SupportedVersions((0x0304,)), KeyShares(())])

#: One of each, without what varies in length.
EXAMPLES: tuple[Message, ...] = (
    ClientHello(RANDOM, bytes(32), (0x1301, 0x1302), OFFER),
    ServerHello(RANDOM, bytes(32), 0x1301, TLS13),
    HelloRetryRequest(bytes(32), 0x1301, TLS13),
    EncryptedExtensions(NOTHING),
    CertificateRequest(b"", NOTHING),
    Certificate(b"context", (CertificateEntry(b"der", NOTHING), CertificateEntry(b"der", NOTHING))),
    CertificateVerify(0x0804, b"signature"),
    NewSessionTicket(7200, 0x01020304, b"\0", b"ticket", NOTHING),
    KeyUpdate(True),
    EndOfEarlyData(),
)


def refused(kind: int, body: bytes) -> PeerMisbehaved:
    with pytest.raises(PeerMisbehaved) as caught:
        decode_message(kind, body)
    assert not caught.value.sent_by_peer
    assert caught.value.__cause__ is None, "a check is missing: the boundary had to help"
    return caught.value


@pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.__name__)
@given(data=st.data())
def test_every_message_decodes_to_what_was_encoded(cls: type[Message], data: st.DataObject) -> None:
    message = data.draw(MESSAGES[cls])
    encoded = message.encode()
    assert encoded[0] == message.type
    assert int.from_bytes(encoded[1:4], "big") == len(encoded) - 4
    assert decode_message(encoded[0], encoded[4:]) == message
    assert type(message).decode(encoded[4:]) == message


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_that_ends_too_early_is_a_decode_error(message: Message) -> None:
    body = message.encode()[4:]
    for size in range(len(body)):
        if isinstance(message, ClientHello) and size == 2 + 32 + 33 + 6 + 2:
            continue  # it ends where one of TLS 1.2 may end
        if isinstance(message, ServerHello) and size == 2 + 32 + 33 + 3:
            continue
        assert refused(message.type, body[:size]).alert is Alert.decode_error


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_bytes_behind_a_message_are_a_decode_error(message: Message) -> None:
    error = refused(message.type, message.encode()[4:] + b"\0")
    assert error.alert is Alert.decode_error
    assert error.message.startswith(type(message).__name__)


@pytest.mark.parametrize("kind", [kind for kind in range(256) if kind not in {each.type for each in EXAMPLES} - {20}])
def test_a_message_type_that_does_not_exist_is_an_unexpected_message(kind: int) -> None:
    if kind == HandshakeType.finished:
        assert decode_message(kind, b"data") == Finished(b"data")
    else:
        assert refused(kind, b"").alert is Alert.unexpected_message


def test_an_error_that_no_check_foresaw_still_is_a_decode_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgotten(body: bytes) -> KeyUpdate:
        raise IndexError("nobody checked")

    monkeypatch.setattr(KeyUpdate, "decode", forgotten)
    with pytest.raises(PeerMisbehaved, match="KeyUpdate is malformed") as caught:
        decode_message(HandshakeType.key_update, b"\0")
    assert caught.value.alert is Alert.decode_error
    assert isinstance(caught.value.__cause__, IndexError)


def test_only_what_a_peer_repeats_is_read_once_and_only_if_it_is_short() -> None:
    short = Certificate(b"", (CertificateEntry(b"der", NOTHING),))
    long = Certificate(b"", (CertificateEntry(bytes(messages.MOST_REPEATED), NOTHING),))
    for message, once in ((short, True), (long, False), (Finished(RANDOM), False)):
        first, again = (decode_message(message.type, message.encode()[4:]) for _each in range(2))
        assert first == again == message
        assert (first is again) is once


def test_row_20_certificate_lists_may_be_as_long_as_the_record_layer_lets_them() -> None:
    chain = Certificate(b"", tuple(CertificateEntry(bytes(40000), NOTHING) for _each in range(3)))
    assert decode_message(HandshakeType.certificate, chain.encode()[4:]) == chain


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("session id of 33 bytes", b"\3\3" + RANDOM + b"\x21" + bytes(33) + b"\0\2\x13\1\1\0" + b"\0\0"),
        ("no cipher suites", b"\3\3" + RANDOM + b"\0" + b"\0\0" + b"\1\0" + b"\0\0"),
        ("half a cipher suite", b"\3\3" + RANDOM + b"\0" + b"\0\3\x13\1\x13" + b"\1\0" + b"\0\0"),
        ("no compression methods", b"\3\3" + RANDOM + b"\0" + b"\0\2\x13\1" + b"\0" + b"\0\0"),
    ],
)
def test_row_27_vectors_of_client_hello_have_their_bounds(field: str, body: bytes) -> None:
    assert refused(HandshakeType.client_hello, body).alert is Alert.decode_error, field


def test_row_27_vectors_of_the_other_messages_have_their_bounds() -> None:
    hello = b"\3\3" + RANDOM + b"\x21" + bytes(33) + b"\x13\1\0" + TLS13.encode()
    assert refused(HandshakeType.server_hello, hello).alert is Alert.decode_error
    assert refused(HandshakeType.certificate, b"\0\0\0\5\0\0\0\0\0").alert is Alert.decode_error  # cert_data<1..>
    ticket = NewSessionTicket(0, 0, b"", b"", NOTHING).encode()[4:]  # ticket<1..>
    assert refused(HandshakeType.new_session_ticket, ticket).alert is Alert.decode_error


def test_row_27_a_client_hello_without_extensions_is_read_so_it_can_be_refused_for_its_version() -> None:
    older = ClientHello(RANDOM, b"", (0xC02F,), NOTHING, compression_methods=b"\1\0").encode()[4:]
    for body in (older, older[:-2]):  # an empty block, and none at all
        hello = decode_message(HandshakeType.client_hello, body)
        assert isinstance(hello, ClientHello)
        assert hello.extensions.get(SupportedVersions) is None


def test_row_28_cipher_suites_that_nobody_knows_survive() -> None:
    hello = ClientHello(RANDOM, b"", (GREASE[5], 0x1301, 0xFFFF), OFFER)
    assert decode_message(HandshakeType.client_hello, hello.encode()[4:]) == hello


def test_rows_30_to_32_compression_version_and_session_id_are_facts_for_others_to_judge() -> None:
    offer = ClientHello(RANDOM, b"session", (0x1301,), OFFER, legacy_version=0x0301, compression_methods=b"\1\0")
    answer = ServerHello(RANDOM, b"another", 0x1301, TLS13, legacy_version=0x0304, compression_method=1)
    for message in (offer, answer):
        assert decode_message(message.type, message.encode()[4:]) == message


def test_row_33_a_server_hello_of_tls_1_2_is_read_so_its_random_and_version_can_be_judged() -> None:
    extensions = Extensions([UnknownExtension(0xFF01, b"\0"), UnknownExtension(ExtensionType.server_name, b"")])
    downgraded = ServerHello(RANDOM[:24] + b"DOWNGRD\1", b"", 0xC02F, extensions)
    body = downgraded.encode()[4:]
    assert decode_message(HandshakeType.server_hello, body) == downgraded
    bare = ServerHello(RANDOM, b"", 0xC02F, NOTHING)
    assert decode_message(HandshakeType.server_hello, bare.encode()[4:-2]) == bare


def test_the_random_of_a_hello_retry_request_is_the_hash_that_the_standard_says() -> None:
    assert sha256(b"HelloRetryRequest").digest() == HELLO_RETRY_REQUEST_RANDOM == HelloRetryRequest.random
    retry = HelloRetryRequest(b"", 0x1301, TLS13)
    assert isinstance(decode_message(HandshakeType.server_hello, retry.encode()[4:]), HelloRetryRequest)


def test_a_hello_retry_request_without_extensions_is_a_decode_error() -> None:
    body = HelloRetryRequest(b"", 0x1301, NOTHING).encode()[4:-2]
    assert refused(HandshakeType.server_hello, body).alert is Alert.decode_error


@pytest.mark.parametrize("binders", [(bytes(32),), (bytes(32), bytes(48)), (bytes(255), bytes(32), bytes(64))])
def test_row_53_truncation_cuts_exactly_the_list_of_binders(binders: tuple[bytes, ...]) -> None:
    identities = tuple(PskIdentity(b"ticket", n) for n in range(len(binders)))
    offer = ClientHello(RANDOM, b"", (0x1301,), Extensions([*OFFER, PreSharedKeys(identities, binders)]))
    encoded = offer.encode()
    listed = b"".join(bytes([len(binder)]) + binder for binder in binders)
    assert offer.truncated(encoded) + len(listed).to_bytes(2, "big") + listed == encoded


def test_row_53_binders_filled_in_later_are_not_part_of_what_they_are_made_over() -> None:
    def with_binder(binder: bytes) -> ClientHello:
        offered = PreSharedKeys((PskIdentity(b"ticket", 0),), (binder,))
        return ClientHello(RANDOM, b"", (0x1301,), Extensions([*OFFER, offered]))

    empty, filled = with_binder(bytes(32)), with_binder(b"\xff" * 32)
    assert empty.truncated(empty.encode()) == filled.truncated(filled.encode())


def test_a_client_hello_without_psk_has_nothing_to_truncate() -> None:
    with pytest.raises(ValueError, match="no pre_shared_key"):
        ClientHello(RANDOM, b"", (0x1301,), OFFER).truncated(b"")


@pytest.mark.parametrize("value", [2, 3, 255])
def test_row_62_a_key_update_with_another_value_is_an_illegal_parameter(value: int) -> None:
    assert refused(HandshakeType.key_update, bytes([value])).alert is Alert.illegal_parameter


def test_row_67_an_empty_certificate_list_is_read_for_the_receiver_to_judge() -> None:
    nobody = Certificate(b"", ())
    assert decode_message(HandshakeType.certificate, nobody.encode()[4:]) == nobody


def test_row_70_a_finished_of_any_length_is_read_for_the_receiver_to_judge() -> None:
    for size in (0, 31, 32, 48):
        assert decode_message(HandshakeType.finished, bytes(size)) == Finished(bytes(size))


def test_messages_cannot_be_changed() -> None:
    for message in EXAMPLES:
        assert not hasattr(message, "__dict__")
        with pytest.raises((AttributeError, TypeError)):
            message.type = HandshakeType.finished  # type: ignore[misc]
    assert set(messages.__all__) >= {type(message).__name__ for message in EXAMPLES}
