"""What is not in this version: it is neither offered, nor answered where a peer offers it, nor accepted.

``row_N`` in a name, and ``row-N`` in an id, number a known pitfall of TLS implementations: those of what is left out
cannot be met.
"""

from __future__ import annotations

from typing import Any

import pytest

from trio_tls.alerts import Alert
from trio_tls.credentials import CredentialsByName
from trio_tls.errors import NoSharedParameters
from trio_tls.machine.tls13.extensions import (
    ApplicationProtocols,
    CertificateAuthorities,
    EarlyData,
    Extension,
    PostHandshakeAuth,
    PreSharedKeys,
    PskKeyExchangeModes,
    RetryGroup,
    UnknownExtension,
)
from trio_tls.machine.tls13.messages import (
    Certificate,
    CertificateRequest,
    ClientHello,
    EncryptedExtensions,
    NewSessionTicket,
)
from trio_tls.machine.tls13.registry import ExtensionType, NamedGroup, PskKeyExchangeMode

from ...support import verifier
from .edits import adding, on
from .ends import a_client, a_server, client_config, server_config, server_credential
from .scripted_peer import ScriptedClient, ScriptedServer, meet
from .test_resumption import session_of

#: What has a meaning in TLS 1.3 and none here: by its type, a body that is sound.
LEFT_OUT: dict[str, tuple[Extension, ...]] = {
    "row-37-certificate-compression": (UnknownExtension(ExtensionType.compress_certificate, b"\2\0\2"),),
    "row-59-early-data": (EarlyData(),),
    "row-78-raw-public-keys": (
        UnknownExtension(ExtensionType.client_certificate_type, b"\1\2"),
        UnknownExtension(ExtensionType.server_certificate_type, b"\1\2"),
    ),
    "row-85-ech": (UnknownExtension(ExtensionType.encrypted_client_hello, b"\0\0\1\0\1\1\0\0\0\1x"),),
    "stapled-ocsp": (UnknownExtension(ExtensionType.status_request, b"\1\0\0\0\0"),),
    "delegated-credentials": (UnknownExtension(ExtensionType.delegated_credential, b"\0\2\4\3"),),
    "post-handshake-authentication": (PostHandshakeAuth(),),
    "certificate-authorities": (CertificateAuthorities((b"\x30\0",)),),
}
ALL = pytest.mark.parametrize("extensions", LEFT_OUT.values(), ids=LEFT_OUT)


@ALL
def test_a_client_does_not_offer_what_is_left_out(extensions: tuple[Extension, ...]) -> None:
    """Not in a first hello, not in one that resumes, and not after a HelloRetryRequest."""
    config = client_config(credentials=None)
    session = session_of(config, server_config())
    peer = ScriptedServer(
        retry=[RetryGroup(NamedGroup.secp256r1)], group=NamedGroup.secp256r1, credential=server_credential()
    )
    meet(a_client(config, session=session), peer).succeeded()
    hellos = [each for each in peer.received if isinstance(each, ClientHello)]
    assert len(hellos) == 2
    for hello in hellos:
        assert hello.extensions.get(PreSharedKeys) is not None
        assert not {each.type for each in extensions} & set(hello.extensions.types)


@ALL
def test_a_server_does_not_answer_what_is_left_out(extensions: tuple[Extension, ...]) -> None:
    server = server_config(client_auth="optional", verify=verifier())
    peer = ScriptedClient(hello=lambda found: [*found, *extensions])
    meeting = meet(a_server(server), peer).succeeded()
    meeting.machine.write(memoryview(b"tickets come with this"))
    meeting.go_on()
    types = {each.type for each in extensions}
    for kind in (EncryptedExtensions, CertificateRequest, NewSessionTicket):
        message: Any = peer.got(kind)
        assert not types & set(message.extensions.types)
    assert not any(types & set(entry.extensions.types) for entry in peer.got(Certificate).entries)


@pytest.mark.parametrize("message", [b"\x19\0\0\x08\0\2\0\0\1\0\0\0", b"\x05\0\0\0"], ids=["row-37", "row-59"])
def test_messages_of_what_is_left_out_are_unexpected_at_both_ends(message: bytes) -> None:
    server = ScriptedServer(credential=server_credential(), edit=on("certificate", lambda raw: message))
    meet(a_client(), server).refused(Alert.unexpected_message)
    client = ScriptedClient(edit=on("finished", lambda raw: [message, raw]))
    meet(a_server(), client).refused(Alert.unexpected_message)


def test_row_87_no_psk_but_that_of_a_session_is_offered_and_none_without_a_key_exchange() -> None:
    config = client_config()
    for session in (None, session_of(config, server_config())):
        peer = ScriptedServer(credential=server_credential())
        meet(a_client(config, session=session), peer)
        hello = peer.got(ClientHello)
        offered = hello.extensions.get(PreSharedKeys)
        identities = () if offered is None else offered.identities
        assert [each.identity for each in identities] == ([] if session is None else [session.ticket])
        assert hello.extensions.require(PskKeyExchangeModes).modes == (PskKeyExchangeMode.psk_dhe_ke,)


@pytest.mark.parametrize("protocol", [b"ftp", b"imap", b"h2"])
def test_row_86_a_client_of_another_protocol_is_sent_away_before_it_has_sent_anything(protocol: bytes) -> None:
    """Whoever redirects it there has no use of a certificate that is good for both servers (ALPACA)."""
    meeting = meet(a_server(alpn_protocols=["http/1.1"]), ScriptedClient(alpn=[protocol]))
    meeting.refused(Alert.no_application_protocol, "ALPN", NoSharedParameters)
    assert meeting.peer.received == []
    server = ScriptedServer(
        credential=server_credential(), edit=adding("encrypted_extensions", ApplicationProtocols((protocol,)))
    )
    meet(a_client(alpn_protocols=["http/1.1"]), server).refused(Alert.illegal_parameter, "not offered")


@pytest.mark.parametrize("name", ["other.example.org", None])
def test_row_86_a_server_that_knows_its_names_serves_no_other(name: str | None) -> None:
    credentials = CredentialsByName([server_credential()], default=None)
    meeting = meet(a_server(credentials=credentials), ScriptedClient(server_name=name))
    meeting.refused(Alert.unrecognized_name, "no certificate for", NoSharedParameters)
