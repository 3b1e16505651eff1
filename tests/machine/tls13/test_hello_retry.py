"""HelloRetryRequest in both roles (RFC 9846 sections 4.2.4 and 4.2.2): who may change what, and who asks when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from trio_tls.alerts import Alert
from trio_tls.errors import NoSharedParameters
from trio_tls.machine.tls13.extensions import (
    ApplicationProtocols,
    Cookie,
    EarlyData,
    Extension,
    Extensions,
    KeyShareEntry,
    KeyShares,
    Padding,
    RecordSizeLimit,
    RetryGroup,
    SelectedKeyShare,
    SelectedVersion,
    ServerName,
    SignatureAlgorithms,
    SupportedGroups,
    SupportedVersions,
    UnknownExtension,
)
from trio_tls.machine.tls13.groups import GROUPS
from trio_tls.machine.tls13.messages import ClientHello, Finished, HelloRetryRequest
from trio_tls.machine.tls13.registry import GREASE, TLS_1_2, TLS_1_3, CipherSuiteNumber, ExtensionType, NamedGroup
from trio_tls.machine.tls13.suites import SUITES

from .edits import STRANGE, adding, extended, on, putting, with_fields, without
from .ends import a_client, a_server, client_config, connected, pass_on, server_config, server_credential
from .primitives import primitives
from .scripted_peer import CCS, Edit, Meeting, ScriptedClient, ScriptedServer, as_it_is, meet

UNEXPECTED = Alert.unexpected_message
ILLEGAL = Alert.illegal_parameter

P256 = NamedGroup.secp256r1
HYBRID = NamedGroup.X25519MLKEM768
COOKIE = Cookie(b"c" * 300)


def serve(
    edit: Edit | None = None,
    *,
    retry: Sequence[Extension] = (RetryGroup(P256),),
    client: dict[str, Any] | None = None,
    **how: Any,
) -> Meeting:
    """Our client, and a server that asks for another hello."""
    group = P256 if any(isinstance(each, RetryGroup) for each in retry) else NamedGroup.x25519
    how = {"credential": server_credential(), "group": group, "edit": edit or as_it_is, **how}
    return meet(a_client(**(client or {})), ScriptedServer(retry=retry, **how))


def ask(edit: Edit | None = None, **how: Any) -> Meeting:
    """Our server, which wants another share, and a client."""
    return meet(a_server(groups=[P256, NamedGroup.x25519]), ScriptedClient(edit=edit or as_it_is, **how))


def hellos(meeting: Meeting) -> tuple[ClientHello, ClientHello]:
    first, second = (each for each in meeting.peer.received if isinstance(each, ClientHello))
    return first, second


# -- our client ------------------------------------------------------------------------------------------------


def test_the_second_hello_has_the_share_that_was_asked_for_and_nothing_else_new() -> None:
    first, second = hellos(serve().succeeded())
    (entry,) = second.extensions.require(KeyShares).entries
    assert entry.group == P256
    assert (first.random, first.session_id, first.cipher_suites) == (
        second.random,
        second.session_id,
        second.cipher_suites,
    )
    kept = [[each for each in hello.extensions if not isinstance(each, KeyShares)] for hello in (first, second)]
    assert kept[0] == kept[1]
    assert first.extensions.types == second.extensions.types


def test_row_46_a_cookie_is_echoed_and_never_in_the_first_hello() -> None:
    first, second = hellos(serve(retry=[RetryGroup(P256), COOKIE]).succeeded())
    assert first.extensions.get(Cookie) is None
    assert second.extensions.require(Cookie) == COOKIE


def test_row_46_a_cookie_alone_changes_no_key_share() -> None:
    first, second = hellos(serve(retry=[COOKIE]).succeeded())
    assert second.extensions.require(Cookie) == COOKIE
    assert first.extensions.require(KeyShares) == second.extensions.require(KeyShares)


def test_row_12_the_client_sends_one_change_cipher_spec_before_its_second_hello() -> None:
    client, server = a_client(key_shares=[NamedGroup.x25519]), a_server(groups=[P256])
    client.do_handshake()
    pass_on(client, server)
    server.do_handshake()
    retry = pass_on(server, client)
    client.do_handshake()
    second = pass_on(client, server)
    assert [record[0] for record in records(retry)] == [22, CCS]
    assert [(record[0], record[1:3]) for record in records(second)] == [(CCS, b"\3\3"), (22, b"\3\3")]
    server.do_handshake()
    assert CCS not in {record[0] for record in records(pass_on(server, client))}
    client.do_handshake()
    assert CCS not in {record[0] for record in records(pass_on(client, server))}


def records(flight: bytes) -> list[bytes]:
    found = []
    while flight:
        end = 5 + int.from_bytes(flight[3:5], "big")
        found.append(flight[:end])
        flight = flight[end:]
    return found


@pytest.mark.parametrize(
    ("edit", "retry", "alert", "text"),
    [
        pytest.param(
            on("server_hello", lambda raw: a_retry()), (RetryGroup(P256),), UNEXPECTED, "once too often", id="row-41"
        ),
        pytest.param(None, (), ILLEGAL, "changes nothing", id="row-41-no-change"),
        pytest.param(None, (RetryGroup(NamedGroup.x25519),), ILLEGAL, "that it has", id="row-42-share-is-there"),
        pytest.param(None, (RetryGroup(HYBRID),), ILLEGAL, "that it has", id="row-42-hybrid-is-there"),
        pytest.param(
            None, (RetryGroup(NamedGroup.x448),), ILLEGAL, "x448, which was not offered", id="row-42-not-offered"
        ),
        pytest.param(None, (RetryGroup(GREASE[0]),), ILLEGAL, "not offered", id="row-42-grease"),
        pytest.param(
            putting("server_hello", SelectedKeyShare(KeyShareEntry(NamedGroup.x25519, b"\x09" + bytes(31)))),
            (RetryGroup(P256),),
            ILLEGAL,
            "no share of",
            id="row-42-other-group-in-hello",
        ),
        pytest.param(
            with_fields("server_hello", cipher_suite=0x1302),
            (RetryGroup(P256),),
            ILLEGAL,
            "changed the cipher",
            id="row-43",
        ),
        pytest.param(
            putting("server_hello", SelectedVersion(TLS_1_2)),
            (RetryGroup(P256),),
            ILLEGAL,
            "0x0303",
            id="row-43-version",
        ),
        pytest.param(
            adding("hello_retry_request", STRANGE),
            (COOKIE,),
            Alert.unsupported_extension,
            "HelloRetryRequest",
            id="row-23",
        ),
        pytest.param(
            adding("hello_retry_request", UnknownExtension(ExtensionType.encrypted_client_hello, b"")),
            (COOKIE,),
            Alert.unsupported_extension,
            "",
            id="row-23-ech",
        ),
        pytest.param(
            adding("hello_retry_request", ApplicationProtocols((b"h2",))), (COOKIE,), ILLEGAL, "no place", id="row-24"
        ),
        pytest.param(adding("hello_retry_request", COOKIE), (COOKIE,), ILLEGAL, "twice", id="row-22"),
        pytest.param(None, (Cookie(b""),), Alert.decode_error, "", id="row-27-empty-cookie"),
        pytest.param(with_fields("hello_retry_request", session_id=b""), (COOKIE,), ILLEGAL, "session_id", id="row-32"),
        pytest.param(
            with_fields("hello_retry_request", compression_method=1), (COOKIE,), ILLEGAL, "compression", id="row-30"
        ),
        pytest.param(with_fields("hello_retry_request", cipher_suite=0x1304), (COOKIE,), ILLEGAL, "CCM", id="suite"),
    ],
)
def test_a_wrong_retry_is_refused(edit: Edit | None, retry: Sequence[Extension], alert: Alert, text: str) -> None:
    serve(edit, retry=retry, client={"primitives": primitives()}).refused(alert, text)


def a_retry() -> bytes:
    """A HelloRetryRequest in the place of a ServerHello."""
    return HelloRetryRequest(b"", 0x1301, Extensions([SelectedVersion(TLS_1_3), COOKIE])).encode()


def test_row_31_a_retry_with_another_legacy_version_is_refused() -> None:
    serve(with_fields("hello_retry_request", legacy_version=0x0302)).refused(
        Alert.protocol_version, "legacy_version", NoSharedParameters
    )


def test_a_retry_without_supported_versions_is_refused() -> None:
    serve(without("hello_retry_request", SelectedVersion)).refused(Alert.protocol_version, "", NoSharedParameters)


# -- our server ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
@pytest.mark.parametrize("group", GROUPS.values(), ids=lambda group: group.name)
def test_row_45_a_handshake_with_a_retry_succeeds_for_each_group_and_hash(group: Any, suite: Any) -> None:
    """Both of our ends, and each against one by hand: none could be wrong about the transcript alone."""
    first = next(number for number in GROUPS if number != group.number)
    client = client_config(groups=[first, group.number], key_shares=[first], cipher_suites=[suite.number])
    connection, _server = connected(client, server_config(groups=[group.number]))
    assert connection.info is not None
    assert (connection.info.group, connection.info.cipher_suite) == (group.name, suite.name)
    by_hand = ScriptedClient(groups=[first, group.number], shares=[first], suite=suite.number)
    meet(a_server(groups=[group.number]), by_hand).succeeded()
    server = ScriptedServer(
        credential=server_credential(), suite=suite.number, group=group.number, retry=[RetryGroup(group.number)]
    )
    meet(a_client(client), server).succeeded()


def test_row_47_a_group_is_chosen_by_policy_and_not_by_the_share_that_is_there() -> None:
    client = ScriptedClient(groups=[NamedGroup.x25519, HYBRID], shares=[NamedGroup.x25519])
    meeting = meet(a_server(), client).succeeded()
    assert meeting.machine.info is not None
    assert meeting.machine.info.group == "X25519MLKEM768"
    assert client.got(HelloRetryRequest).extensions.require(RetryGroup).group == HYBRID


def test_row_47_no_retry_where_the_share_of_the_best_group_is_there() -> None:
    client = ScriptedClient(groups=[NamedGroup.x25519, HYBRID], shares=[NamedGroup.x25519, HYBRID])
    meeting = meet(a_server(), client).succeeded()
    assert not [each for each in client.received if isinstance(each, HelloRetryRequest)]
    assert meeting.machine.info is not None
    assert meeting.machine.info.group == "X25519MLKEM768"


def test_a_client_may_send_no_share_at_all() -> None:
    client = ScriptedClient(shares=[])
    meet(a_server(), client).succeeded()
    assert client.got(HelloRetryRequest).extensions.require(RetryGroup).group == NamedGroup.x25519


def changed(kind: type[Extension], to: Extension) -> Callable[[list[Extension]], list[Extension]]:
    return lambda found: [to if type(each) is kind else each for each in found]


@pytest.mark.parametrize(
    ("edit", "alert", "text"),
    [
        pytest.param(with_fields("second_client_hello", random=bytes(32)), ILLEGAL, "may not change", id="random"),
        pytest.param(with_fields("second_client_hello", session_id=b""), ILLEGAL, "may not change", id="session-id"),
        pytest.param(
            with_fields("second_client_hello", cipher_suites=(0x1301, 0x1302)), ILLEGAL, "may not", id="suites"
        ),
        pytest.param(
            with_fields("second_client_hello", compression_methods=b"\0\1"), ILLEGAL, "compression", id="compression"
        ),
        pytest.param(putting("second_client_hello", ServerName("other")), ILLEGAL, "may not change", id="server-name"),
        pytest.param(without("second_client_hello", ServerName), ILLEGAL, "may not change", id="no-server-name"),
        pytest.param(putting("second_client_hello", SupportedGroups((P256,))), ILLEGAL, "may not change", id="groups"),
        pytest.param(putting("second_client_hello", SignatureAlgorithms((0x0403,))), ILLEGAL, "may not", id="schemes"),
        pytest.param(
            putting("second_client_hello", SupportedVersions((TLS_1_3, TLS_1_2))),
            ILLEGAL,
            "may not change",
            id="versions",
        ),
        pytest.param(
            adding("second_client_hello", ApplicationProtocols((b"h2",))), ILLEGAL, "may not change", id="alpn"
        ),
        pytest.param(adding("second_client_hello", RecordSizeLimit(64)), ILLEGAL, "may not change", id="one-more"),
        pytest.param(adding("second_client_hello", STRANGE), ILLEGAL, "may not change", id="an-unknown-one"),
        pytest.param(extended("second_client_hello", lambda found: found[::-1]), ILLEGAL, "may not change", id="order"),
        pytest.param(adding("second_client_hello", EarlyData()), ILLEGAL, "early_data", id="early-data"),
        pytest.param(adding("second_client_hello", COOKIE), ILLEGAL, "cookie", id="row-46-cookie"),
        pytest.param(
            putting("second_client_hello", KeyShares(())), ILLEGAL, "share of secp256r1", id="row-41-no-share"
        ),
        pytest.param(
            putting("second_client_hello", KeyShares((KeyShareEntry(NamedGroup.x25519, b"\x09" + bytes(31)),))),
            ILLEGAL,
            "share of secp256r1",
            id="row-41-the-same-share-again",
        ),
        pytest.param(
            extended(
                "second_client_hello",
                lambda found: [
                    KeyShares((KeyShareEntry(NamedGroup.x25519, b"\x09" + bytes(31)), *each.entries))
                    if isinstance(each, KeyShares)
                    else each
                    for each in found
                ],
            ),
            ILLEGAL,
            "share of secp256r1",
            id="two-shares",
        ),
        pytest.param(
            putting("second_client_hello", KeyShares((KeyShareEntry(P256, b"\2" + bytes(32)),))),
            ILLEGAL,
            "none of secp256r1",
            id="row-50-compressed-point",
        ),
        pytest.param(
            on("second_client_hello", lambda raw: Finished(bytes(32)).encode()), UNEXPECTED, "finished", id="row-40"
        ),
        pytest.param(on("second_client_hello", lambda raw: raw + b"\1"), UNEXPECTED, "span a change", id="row-1"),
    ],
)
def test_row_44_a_second_hello_that_changes_what_it_may_not_is_refused(edit: Edit, alert: Alert, text: str) -> None:
    ask(edit).refused(alert, text)


def test_row_44_padding_may_change() -> None:
    ask(adding("second_client_hello", Padding(50))).succeeded()
    ask(adding("client_hello", Padding(9))).succeeded()


def test_row_44_early_data_may_go() -> None:
    ask(adding("client_hello", EarlyData())).succeeded()


def test_a_client_that_drops_tls_1_3_in_its_second_hello_is_refused() -> None:
    ask(putting("second_client_hello", SupportedVersions((TLS_1_2,)))).refused(
        Alert.protocol_version, "", NoSharedParameters
    )


def test_row_43_the_hello_after_the_retry_has_the_same_suite() -> None:
    client = ScriptedClient(suites=sorted(CipherSuiteNumber)[:3])
    meeting = meet(a_server(groups=[P256]), client).succeeded()
    suites = {getattr(each, "cipher_suite", None) for each in client.received} - {None}
    assert len(suites) == 1
    assert meeting.machine.handshake_done
