"""Extensions: each body, and the block that holds them (RFC 9846 section 4.3).

``row_N`` in a name numbers a known pitfall of TLS implementations.
"""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_tls import PeerMisbehaved
from trio_tls.alerts import Alert
from trio_tls.machine.tls13 import extensions
from trio_tls.machine.tls13.extensions import (
    ApplicationProtocols,
    CertificateAuthorities,
    Cookie,
    EarlyData,
    EarlyDataLimit,
    Extensions,
    KeyShareEntry,
    KeyShares,
    KnownExtension,
    MessageContext,
    Padding,
    PostHandshakeAuth,
    PreSharedKeys,
    PskIdentity,
    PskKeyExchangeModes,
    RecordSizeLimit,
    RetryGroup,
    SelectedKeyShare,
    SelectedPsk,
    SelectedVersion,
    ServerName,
    SignatureAlgorithms,
    SignatureAlgorithmsCert,
    SupportedGroups,
    SupportedVersions,
    UnknownExtension,
)
from trio_tls.machine.tls13.registry import GREASE, GREASE_PSK_MODES, ExtensionType, is_grease, name_of
from trio_tls.machine.tls13.wire import Reader, vector

from .strategies import CH, CR, CT, EE, HRR, KNOWN, NST, SH, extensions_of

#: As RFC 9846 section 4.3 prints it, with signed_certificate_timestamp as RFC 8446 section 4.2 had it.
RFC_TABLE = """
    server_name CH EE CR
    status_request CH CR CT
    supported_groups CH EE
    signature_algorithms CH CR
    use_srtp CH EE
    heartbeat CH EE
    application_layer_protocol_negotiation CH EE
    signed_certificate_timestamp CH CR CT
    client_certificate_type CH EE
    server_certificate_type CH EE
    padding CH
    compress_certificate CH CR
    record_size_limit CH EE
    delegated_credential CH CR CT
    supported_ekt_ciphers CH EE
    pre_shared_key CH SH
    early_data CH EE NST
    supported_versions CH SH HRR
    cookie CH HRR
    psk_key_exchange_modes CH
    certificate_authorities CH CR
    oid_filters CR
    post_handshake_auth CH
    signature_algorithms_cert CH CR
    key_share CH SH HRR
    transparency_info CH CR CT
    external_id_hash CH EE
    external_session_id CH EE
    quic_transport_parameters CH EE
    ticket_request CH EE
    ech_outer_extensions CH
    encrypted_client_hello CH HRR EE
"""
CONTEXTS = {"CH": CH, "SH": SH, "HRR": HRR, "EE": EE, "CR": CR, "CT": CT, "NST": NST}

BINDER = bytes(32)

#: One valid body for each class, in a message where it may be.
EXAMPLES: tuple[tuple[MessageContext, KnownExtension], ...] = (
    (CH, ServerName("example.com")),
    (EE, ServerName(None)),
    (CH, SupportedGroups((29, 23))),
    (CH, SignatureAlgorithms((0x0804,))),
    (CR, SignatureAlgorithmsCert((0x0804, 0x0403))),
    (EE, ApplicationProtocols((b"h2",))),
    (CH, SupportedVersions((0x0304,))),
    (SH, SelectedVersion(0x0304)),
    (CH, KeyShares((KeyShareEntry(29, bytes(32)),))),
    (CH, KeyShares(())),
    (SH, SelectedKeyShare(KeyShareEntry(29, bytes(32)))),
    (HRR, RetryGroup(29)),
    (CH, PskKeyExchangeModes((1,))),
    (CH, PreSharedKeys((PskIdentity(b"ticket", 1),), (BINDER,))),
    (SH, SelectedPsk(0)),
    (HRR, Cookie(b"cookie")),
    (EE, RecordSizeLimit(16385)),
    (CH, EarlyData()),
    (NST, EarlyDataLimit(1024)),
    (CR, CertificateAuthorities((b"0\0",))),
    (CH, PostHandshakeAuth()),
)
SELECTED = (ExtensionType.supported_versions, b"\3\4")


def block(*items: tuple[int, bytes]) -> bytes:
    return Extensions(UnknownExtension(*each) for each in items).encode()


def decode(context: MessageContext, *items: tuple[int, bytes]) -> Extensions:
    if context is SH and ExtensionType.supported_versions not in dict(items):
        items += (SELECTED,)  # or it would be one of TLS 1.2
    reader = Reader(block(*items), context.value)
    decoded = Extensions.decode(reader, context)
    reader.finish()
    return decoded


def refused(context: MessageContext, *items: tuple[int, bytes]) -> PeerMisbehaved:
    with pytest.raises(PeerMisbehaved) as caught:
        decode(context, *items)
    assert not caught.value.sent_by_peer
    return caught.value


@pytest.mark.parametrize("context", MessageContext)
@given(data=st.data())
def test_every_extension_decodes_to_what_was_encoded(context: MessageContext, data: st.DataObject) -> None:
    drawn = data.draw(extensions_of(context))
    reader = Reader(drawn.encode())
    assert Extensions.decode(reader, context) == drawn
    reader.finish()


@given(data=st.data())
def test_every_class_of_the_table_is_found_again_by_its_class(data: st.DataObject) -> None:
    for context, strategies in KNOWN.items():
        for strategy in strategies:
            extension = data.draw(strategy)
            assert not isinstance(extension, UnknownExtension)
            found = decode(context, (extension.type, extension.encode()))
            assert found.get(type(extension)) == found.require(type(extension)) == extension


def test_the_examples_leave_out_no_class_but_padding_which_any_length_suits() -> None:
    classes = {each for each in vars(extensions).values() if isinstance(getattr(each, "type", None), ExtensionType)}
    assert {type(example) for _context, example in EXAMPLES} == classes - {Padding}
    for context, example in EXAMPLES:
        assert decode(context, (example.type, example.encode())).get(type(example)) == example


@pytest.mark.parametrize("context", MessageContext)
@pytest.mark.parametrize("extension_type", [*ExtensionType, 0x1234])
def test_row_22_an_extension_that_is_there_twice_is_an_illegal_parameter(
    context: MessageContext, extension_type: int
) -> None:
    error = refused(context, (extension_type, b""), (0x4321, b""), (extension_type, b""))
    assert error.alert is Alert.illegal_parameter
    assert "twice" in error.message


def test_row_22_it_does_not_matter_whether_both_are_the_same() -> None:
    assert refused(CH, (0x1234, b"a"), (0x1234, b"b")).alert is Alert.illegal_parameter


def test_row_23_the_types_of_a_block_are_known_so_what_was_not_asked_for_can_be_refused() -> None:
    decoded = decode(EE, (0x1234, b"x"), (ExtensionType.server_name, b""))
    assert decoded.types == (0x1234, ExtensionType.server_name)
    assert list(decoded) == [UnknownExtension(0x1234, b"x"), ServerName(None)]


@pytest.mark.parametrize("row", RFC_TABLE.split("\n")[1:-1], ids=lambda row: row.split()[0])
def test_row_24_a_known_extension_in_the_wrong_message_is_an_illegal_parameter(row: str) -> None:
    name, *places = row.split()
    extension_type = ExtensionType[name]
    for short, context in CONTEXTS.items():
        if short in places:
            # It is read: an empty body suits some, and the others find fault with it alone.
            with contextlib.suppress(PeerMisbehaved):
                assert extension_type in decode(context, (extension_type, b"")).types
                continue
            assert refused(context, (extension_type, b"")).alert is Alert.decode_error
        else:
            assert refused(context, (extension_type, b"")).alert is Alert.illegal_parameter


def test_row_24_the_table_has_every_known_type() -> None:
    assert {row.split()[0] for row in RFC_TABLE.split("\n")[1:-1]} == {each.name for each in ExtensionType}


@pytest.mark.parametrize(("context", "example"), EXAMPLES)
def test_row_25_bytes_behind_the_body_are_a_decode_error(context: MessageContext, example: KnownExtension) -> None:
    error = refused(context, (example.type, example.encode() + b"\0"))
    assert error.alert is Alert.decode_error
    assert "1 bytes too many" in error.message
    assert name_of(ExtensionType, example.type) in error.message


@pytest.mark.parametrize(("context", "example"), EXAMPLES)
def test_row_25_a_body_that_ends_too_early_is_a_decode_error(context: MessageContext, example: KnownExtension) -> None:
    whole = example.encode()
    for size in range(len(whole)):
        assert refused(context, (example.type, whole[:size])).alert is Alert.decode_error


def test_row_25_what_is_inside_an_extension_that_is_not_implemented_is_not_judged() -> None:
    decoded = decode(CH, (ExtensionType.status_request, b"anything"))
    assert list(decoded) == [UnknownExtension(ExtensionType.status_request, b"anything")]


def test_a_block_that_is_longer_or_shorter_than_it_says_is_a_decode_error() -> None:
    whole = block((0x1234, b"abc"), (0x1235, b""))
    for size in range(len(whole)):
        with pytest.raises(PeerMisbehaved) as caught:
            Extensions.decode(Reader(whole[:size]), CH)
        assert caught.value.alert is Alert.decode_error
    with pytest.raises(PeerMisbehaved):
        Extensions.decode(Reader(vector(2, whole[2:] + b"\0")), CH)


def test_row_26_an_extension_that_must_be_there_and_is_not_is_a_missing_extension() -> None:
    decoded = decode(CR, (ExtensionType.server_name, ServerName("a").encode()))
    assert decoded.get(SignatureAlgorithms) is None
    with pytest.raises(PeerMisbehaved, match="signature_algorithms is missing") as caught:
        decoded.require(SignatureAlgorithms)
    assert caught.value.alert is Alert.missing_extension


def test_row_26_classes_of_one_type_are_not_taken_for_each_other() -> None:
    decoded = decode(CH, (ExtensionType.key_share, KeyShares(()).encode()))
    assert decoded.get(KeyShares) == KeyShares(())
    assert decoded.get(SelectedKeyShare) is None


@pytest.mark.parametrize(
    ("context", "extension_type", "body"),
    [
        (CH, "supported_groups", "0000"),
        (CH, "supported_groups", "0003 001d00"),
        (CH, "signature_algorithms", "0000"),
        (CH, "signature_algorithms", "0001 04"),
        (CH, "signature_algorithms_cert", "0000"),
        (CH, "supported_versions", "00"),
        (CH, "supported_versions", "ff" + "00" * 255),
        (CH, "supported_versions", "03 030403"),
        (CH, "psk_key_exchange_modes", "00"),
        (CH, "cookie", "0000"),
        (HRR, "cookie", "0000"),
        (CH, "key_share", "0004 001d 0000"),
        (SH, "key_share", "001d 0000"),
        (CH, "certificate_authorities", "0000"),
        (CH, "certificate_authorities", "0005 0000 000100"),
        (CH, "server_name", "0000"),
        (CH, "server_name", "0003 000000"),
        (CH, "pre_shared_key", "0000 0021 20" + "00" * 32),
        (CH, "pre_shared_key", "0006 0000 00000000 0021 20" + "00" * 32),
        (CH, "pre_shared_key", "0007 0001 61 00000000 0000"),
        (CH, "pre_shared_key", "0007 0001 61 00000000 0020 1f" + "00" * 31),
        (CH, "pre_shared_key", "000e" + 2 * "0001 61 00000000" + "0040" + 2 * ("1f" + "00" * 31)),
    ],
)
def test_row_27_a_vector_outside_of_its_bounds_is_a_decode_error(
    context: MessageContext, extension_type: str, body: str
) -> None:
    error = refused(context, (ExtensionType[extension_type], bytes.fromhex(body)))
    assert error.alert is Alert.decode_error
    assert error.message.startswith(f"{extension_type} in {context.value}")


@pytest.mark.parametrize("context", [EE, CR, CT, NST])
def test_row_27_a_block_without_extensions_is_allowed(context: MessageContext) -> None:
    assert len(decode(context)) == 0


def test_row_28_values_that_nobody_knows_survive() -> None:
    offered = Extensions(
        [
            UnknownExtension(GREASE[0], b""),
            SupportedVersions((GREASE[1], 0x0304)),
            SupportedGroups((GREASE[2], 29)),
            SignatureAlgorithms((GREASE[3], 0x0804)),
            KeyShares((KeyShareEntry(GREASE[2], b"\0"),)),
            PskKeyExchangeModes((GREASE_PSK_MODES[0], 1)),
            ApplicationProtocols((b"\x0a\x0a", b"h2")),
            UnknownExtension(GREASE[15], b"\0"),
        ]
    )
    assert Extensions.decode(Reader(offered.encode()), CH) == offered


def test_row_28_grease_is_told_from_what_means_something() -> None:
    assert [n for n in range(0x10000) if is_grease(n)] == list(GREASE)
    assert len(GREASE) == 16
    assert GREASE_PSK_MODES == (0x0B, 0x2A, 0x49, 0x68, 0x87, 0xA6, 0xC5, 0xE4)
    assert name_of(ExtensionType, GREASE[0]) == "unknown 0x0a0a"
    assert name_of(ExtensionType, 51) == "key_share"


def test_row_29_pre_shared_key_is_the_last_extension_or_an_illegal_parameter() -> None:
    psk = (int(ExtensionType.pre_shared_key), PreSharedKeys((PskIdentity(b"a", 0),), (BINDER,)).encode())
    assert decode(CH, (0x1234, b""), psk).get(PreSharedKeys) is not None
    error = refused(CH, psk, (0x1234, b""))
    assert error.alert is Alert.illegal_parameter
    assert "4.3.11" in error.message


def test_row_29_in_a_server_hello_it_may_be_anywhere() -> None:
    assert decode(SH, (ExtensionType.pre_shared_key, b"\0\1"), SELECTED).get(SelectedPsk) == SelectedPsk(1)


def test_row_33_a_server_hello_of_an_older_version_is_read_without_being_judged() -> None:
    older = block((ExtensionType.application_layer_protocol_negotiation, b"\0\3\2h2"), (0xFF01, b"\0"))
    decoded = Extensions.decode(Reader(older), SH)
    assert decoded.get(SelectedVersion) is None
    assert decoded.types == (16, 0xFF01)


@pytest.mark.parametrize(
    "body",
    [
        vector(2, b"\0" + vector(2, b"a.example") + b"\0" + vector(2, b"b.example")),
        vector(2, b"\1" + vector(2, b"a.example")),
        vector(2, b"\0" + vector(2, "ü.example".encode())),
        vector(2, b"\0" + vector(2, b"a.example\0")),
        vector(2, b"\0" + vector(2, b"a example")),
        vector(2, b"\0" + vector(2, b"\x1b[2J")),
    ],
    ids=["two names", "not a host_name", "not ASCII", "NUL", "space", "escape"],
)
def test_row_34_server_name_is_one_ascii_host_name_or_an_illegal_parameter(body: bytes) -> None:
    assert refused(CH, (ExtensionType.server_name, body)).alert is Alert.illegal_parameter


@pytest.mark.parametrize("name", ["example.com.", "192.0.2.1", "::1", "_x.example"])
def test_row_34_whether_a_name_is_served_is_left_to_the_server(name: str) -> None:
    assert decode(CH, (ExtensionType.server_name, ServerName(name).encode())).require(ServerName).host_name == name


def test_row_34_a_server_that_answers_with_a_name_is_a_decode_error() -> None:
    error = refused(EE, (ExtensionType.server_name, ServerName("example.com").encode()))
    assert error.alert is Alert.decode_error


def test_row_35_bytes_of_the_peer_are_escaped_and_cut_off_in_a_text() -> None:
    name = b"\xff\x1b\n" + bytes(10000)
    error = refused(CH, (ExtensionType.server_name, vector(2, b"\0" + vector(2, name))))
    assert len(str(error)) < 400
    assert str(error).isprintable()
    assert r"\x1b\n" in error.message


@pytest.mark.parametrize("body", ["0000", "0001 00", "0002 0000", "0003 016800"])
def test_row_36_no_alpn_protocol_or_an_empty_one_is_a_decode_error(body: str) -> None:
    for context in (CH, EE):
        error = refused(context, (ExtensionType.application_layer_protocol_negotiation, bytes.fromhex(body)))
        assert error.alert is Alert.decode_error


def test_row_36_several_selected_protocols_are_there_for_the_client_to_refuse() -> None:
    both = ApplicationProtocols((b"h2", b"http/1.1"))
    assert decode(EE, (both.type, both.encode())).require(ApplicationProtocols) == both


def test_row_48_key_shares_keep_their_order_and_duplicates_for_the_server_to_judge() -> None:
    shares = KeyShares((KeyShareEntry(29, b"a"), KeyShareEntry(23, b"b"), KeyShareEntry(29, b"c")))
    assert decode(CH, (shares.type, shares.encode())).require(KeyShares) == shares


@pytest.mark.parametrize(("identities", "binders"), [(1, 2), (2, 1)])
def test_row_53_binders_and_identities_of_different_number_are_an_illegal_parameter(
    identities: int, binders: int
) -> None:
    offered = PreSharedKeys((PskIdentity(b"a", 0),) * identities, (BINDER,) * binders)
    assert refused(CH, (offered.type, offered.encode())).alert is Alert.illegal_parameter


def test_a_record_size_limit_below_64_is_an_illegal_parameter() -> None:
    assert refused(CH, (ExtensionType.record_size_limit, b"\0\x3f")).alert is Alert.illegal_parameter
    assert decode(CH, (ExtensionType.record_size_limit, b"\0\x40")).require(RecordSizeLimit).limit == 64


def test_padding_is_zeros_or_an_illegal_parameter() -> None:
    assert decode(CH, (ExtensionType.padding, bytes(7))).require(Padding).length == 7
    assert refused(CH, (ExtensionType.padding, b"\0\1")).alert is Alert.illegal_parameter


def test_extensions_are_values() -> None:
    one = Extensions([Cookie(b"a"), EarlyData()])
    assert one == Extensions([Cookie(b"a"), EarlyData()])
    assert hash(one) == hash(Extensions([Cookie(b"a"), EarlyData()]))
    assert one != Extensions([EarlyData(), Cookie(b"a")])
    assert one != "something else"
    assert repr(one) == "Extensions([Cookie(cookie=b'a'), EarlyData()])"
    assert len(one) == 2
