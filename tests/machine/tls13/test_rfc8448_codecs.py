"""Every handshake message that RFC 8448 prints, through the codecs and back."""

from __future__ import annotations

import pytest

from trio_tls.machine.tls13.extensions import (
    Cookie,
    EarlyData,
    EarlyDataLimit,
    KeyShares,
    PreSharedKeys,
    RecordSizeLimit,
    RetryGroup,
    SelectedKeyShare,
    SelectedPsk,
    SelectedVersion,
    ServerName,
    SignatureAlgorithms,
    SupportedGroups,
    SupportedVersions,
)
from trio_tls.machine.tls13.messages import (
    Certificate,
    CertificateRequest,
    ClientHello,
    EncryptedExtensions,
    HelloRetryRequest,
    Message,
    NewSessionTicket,
    ServerHello,
    decode_message,
)
from trio_tls.machine.tls13.registry import CipherSuiteNumber, NamedGroup, SignatureScheme

from .traces import TRACES, find, messages


def decoded(trace: str) -> list[tuple[str, Message]]:
    return [(side, decode_message(message[0], message[4:])) for side, message in messages(trace)]


def first(trace: str, cls: type[Message]) -> Message:
    return next(message for _side, message in decoded(trace) if type(message) is cls)


@pytest.mark.parametrize("trace", TRACES)
def test_every_message_is_encoded_to_the_bytes_it_was_decoded_from(trace: str) -> None:
    count = 0
    for _side, raw in messages(trace):
        assert decode_message(raw[0], raw[4:]).encode() == raw
        count += 1
    assert count >= 6


def test_the_messages_of_a_handshake_come_out_in_their_order() -> None:
    assert [(side, message.type.name) for side, message in decoded("Client Authentication")] == [
        ("client", "client_hello"),
        ("server", "server_hello"),
        ("server", "encrypted_extensions"),
        ("server", "certificate_request"),
        ("server", "certificate"),
        ("server", "certificate_verify"),
        ("server", "finished"),
        ("client", "certificate"),
        ("client", "certificate_verify"),
        ("client", "finished"),
    ]


def test_the_client_hello_of_the_simple_handshake_offers_what_the_rfc_says() -> None:
    hello = first("Simple 1-RTT Handshake", ClientHello)
    assert isinstance(hello, ClientHello)
    assert hello.cipher_suites == (
        CipherSuiteNumber.TLS_AES_128_GCM_SHA256,
        CipherSuiteNumber.TLS_CHACHA20_POLY1305_SHA256,
        CipherSuiteNumber.TLS_AES_256_GCM_SHA384,
    )
    assert hello.extensions.require(ServerName).host_name == "server"
    assert hello.extensions.require(SupportedVersions).versions == (0x0304,)
    assert hello.extensions.require(SupportedGroups).groups[0] == NamedGroup.x25519
    (share,) = hello.extensions.require(KeyShares).entries
    public = find("Simple 1-RTT Handshake", "client", "create an ephemeral x25519")["public key"]
    assert (share.group, share.key_exchange) == (NamedGroup.x25519, public)


def test_the_server_hello_of_the_simple_handshake_selects_what_the_rfc_says() -> None:
    hello = first("Simple 1-RTT Handshake", ServerHello)
    assert isinstance(hello, ServerHello)
    assert hello.cipher_suite == CipherSuiteNumber.TLS_AES_128_GCM_SHA256
    assert hello.extensions.require(SelectedVersion).version == 0x0304
    share = hello.extensions.require(SelectedKeyShare).entry
    public = find("Simple 1-RTT Handshake", "server", "create an ephemeral x25519")["public key"]
    assert (share.group, share.key_exchange) == (NamedGroup.x25519, public)
    answers = first("Simple 1-RTT Handshake", EncryptedExtensions)
    assert isinstance(answers, EncryptedExtensions)
    assert answers.extensions.get(ServerName) == ServerName(None)
    assert answers.extensions.get(RecordSizeLimit) == RecordSizeLimit(16385)


def test_the_ticket_allows_the_early_data_that_the_resumption_then_sends() -> None:
    ticket = first("Simple 1-RTT Handshake", NewSessionTicket)
    assert isinstance(ticket, NewSessionTicket)
    assert (ticket.lifetime, ticket.nonce) == (30, b"\0\0")
    assert ticket.extensions.require(EarlyDataLimit).max_size == 1024
    hello = first("Resumed 0-RTT Handshake", ClientHello)
    assert isinstance(hello, ClientHello)
    assert hello.extensions.get(EarlyData) is not None
    assert hello.extensions.require(PreSharedKeys).identities[0].identity == ticket.ticket
    server_hello = first("Resumed 0-RTT Handshake", ServerHello)
    assert isinstance(server_hello, ServerHello)
    assert server_hello.extensions.get(SelectedPsk) == SelectedPsk(0)


def test_row_53_the_binder_is_made_over_the_client_hello_up_to_the_binders() -> None:
    raw = next(message for _side, message in messages("Resumed 0-RTT Handshake"))
    hello = decode_message(raw[0], raw[4:])
    assert isinstance(hello, ClientHello)
    step = find("Resumed 0-RTT Handshake", "client", "calculate PSK binder")
    assert hello.truncated(raw) == step["ClientHello prefix"]
    assert hello.extensions.require(PreSharedKeys).binders == (step["finished"],)


def test_a_hello_retry_request_is_told_by_its_random() -> None:
    _hello, (side, retry), (_side, again), *_ = decoded("HelloRetryRequest")
    assert side == "server"
    assert isinstance(retry, HelloRetryRequest)
    assert isinstance(again, ClientHello)
    assert retry.extensions.require(RetryGroup).group == NamedGroup.secp256r1
    assert retry.extensions.require(Cookie) == again.extensions.require(Cookie)
    assert [entry.group for entry in again.extensions.require(KeyShares).entries] == [NamedGroup.secp256r1]


def test_the_certificate_request_names_the_schemes_and_the_client_answers_with_a_chain() -> None:
    request = first("Client Authentication", CertificateRequest)
    assert isinstance(request, CertificateRequest)
    assert request.context == b""
    assert SignatureScheme.rsa_pss_rsae_sha256 in request.extensions.require(SignatureAlgorithms).schemes
    (server, client) = [each for _side, each in decoded("Client Authentication") if isinstance(each, Certificate)]
    assert len(server.entries) == len(client.entries) == 1
    assert client.context == b""
    assert client.entries[0].data.startswith(b"\x30\x82")


def test_compatibility_mode_echoes_the_session_id() -> None:
    hello = first("Compatibility Mode", ClientHello)
    answer = first("Compatibility Mode", ServerHello)
    assert isinstance(hello, ClientHello)
    assert isinstance(answer, ServerHello)
    assert len(hello.session_id) == 32
    assert answer.session_id == hello.session_id
