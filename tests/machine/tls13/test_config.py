"""ClientConfig and ServerConfig: mistakes are told when a config is made; what it says is what both ends agree on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from trio_tls import ClientConfig, Credential, ServerConfig, Session, accept_any_peer
from trio_tls.machine.interface import Machine, MachineFactory
from trio_tls.machine.tls13.extensions import (
    ApplicationProtocols,
    KeyShares,
    RecordSizeLimit,
    ServerName,
    SignatureAlgorithms,
    SupportedGroups,
    SupportedVersions,
)
from trio_tls.machine.tls13.groups import GROUPS
from trio_tls.machine.tls13.messages import ClientHello, decode_message
from trio_tls.machine.tls13.registry import CipherSuiteNumber, NamedGroup, SignatureScheme, is_grease
from trio_tls.machine.tls13.signatures import DEFAULT_SCHEMES
from trio_tls.machine.tls13.suites import SUITES

from ...support import HOST, verifier
from .ends import (
    a_client,
    a_server,
    client_config,
    client_credential,
    connected,
    send,
    server_config,
    server_credential,
)
from .primitives import primitives, seeded


def hello_of(client: Machine) -> ClientHello:
    client.do_handshake()
    record = client.outgoing.read()
    hello = decode_message(record[5], record[9:])
    assert isinstance(hello, ClientHello)
    return hello


# -- mistakes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [client_config, server_config])
@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"cipher_suites": []}, ValueError, "cipher_suites must be some of TLS_AES_128_GCM_SHA256"),
        ({"cipher_suites": [0x1304]}, ValueError, "cipher_suites"),
        ({"cipher_suites": [0x1301, 0x1301]}, ValueError, "each once"),
        ({"groups": [NamedGroup.x448]}, ValueError, "groups must be some of X25519MLKEM768"),
        ({"groups": []}, ValueError, "groups"),
        ({"signature_schemes": [SignatureScheme.rsa_pkcs1_sha256]}, ValueError, "signature_schemes"),
        ({"alpn_protocols": "h2"}, TypeError, "a list"),
        ({"alpn_protocols": b"h2"}, TypeError, "a list"),
        ({"alpn_protocols": [""]}, ValueError, "1 to 255"),
        ({"alpn_protocols": ["x" * 256]}, ValueError, "1 to 255"),
        ({"alpn_protocols": ["h2", b"h2"]}, ValueError, "twice"),
        ({"alpn_protocols": [f"{number:0200}" for number in range(41)]}, ValueError, "at most 8192 bytes"),
        ({"record_size_limit": 63}, ValueError, "64 to 16385"),
        ({"record_size_limit": 16386}, ValueError, "64 to 16385"),
        ({"most_certificate": 0}, ValueError, "most_certificate"),
        ({"verify": "everybody"}, TypeError, "Verifier or a function"),
    ],
)
def test_a_mistake_is_told_when_the_config_is_made(
    make: Callable[..., Any], fields: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        make(**fields)
    with pytest.raises(error, match=text):
        make().replace(**fields)


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"key_shares": [NamedGroup.secp256r1], "groups": [NamedGroup.x25519]}, ValueError, "key_shares"),
        ({"key_shares": [NamedGroup.x25519] * 2}, ValueError, "key_shares"),
        ({"credentials": "cert.pem"}, TypeError, "Credential or a function"),
    ],
)
def test_a_mistake_of_a_client_is_told(fields: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        client_config(**fields)


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"credentials": []}, ValueError, "needs a credential"),
        ({"client_auth": "sometimes"}, ValueError, "client_auth"),
        ({"client_auth": "optional"}, ValueError, "needs verify"),
        ({"client_auth": "required"}, ValueError, "needs verify"),
        ({"tickets": -1}, ValueError, "tickets"),
        ({"tickets": 17}, ValueError, "tickets"),
        ({"ticket_lifetime": 0}, ValueError, "7 days"),
        ({"ticket_lifetime": 7 * 24 * 3600 + 1}, ValueError, "7 days"),
    ],
)
def test_a_mistake_of_a_server_is_told(fields: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        server_config(**fields)


@pytest.mark.parametrize("name", ["", "*.example.org", "under_score.example.org", "bücher.example", "a..b"])
def test_row_34_a_name_that_no_certificate_can_have_is_refused_before_anything_is_sent(name: str) -> None:
    with pytest.raises(ValueError, match="host name"):
        a_client(name=name)


def test_a_config_is_used_for_its_own_role() -> None:
    with pytest.raises(ValueError, match="cannot serve"):
        client_config().create_machine(server_side=True, server_hostname=None, session=None)
    with pytest.raises(ValueError, match="server_hostname is for clients"):
        server_config().create_machine(server_side=True, server_hostname=HOST, session=None)
    with pytest.raises(ValueError, match="session is for clients"):
        server_config().create_machine(server_side=True, server_hostname=None, session=object())
    with pytest.raises(ValueError, match="server_hostname is needed"):
        a_client(name=None)
    with pytest.raises(TypeError, match="session must be"):
        a_client(session="yesterday's")  # type: ignore[arg-type]
    assert a_client(client_config(verify=accept_any_peer), name=None).server_hostname is None


def test_a_config_makes_machines_and_never_changes() -> None:
    for config in (client_config(), server_config()):
        assert isinstance(config, MachineFactory)
        with pytest.raises(dataclasses.FrozenInstanceError):
            config.alpn_protocols = ()  # type: ignore[misc]
    assert client_config().replace(alpn_protocols=["h2"]).alpn_protocols == (b"h2",)


def test_the_defaults_are_the_best_there_is() -> None:
    client, server = ClientConfig(verify=verifier()), ServerConfig(credentials=server_credential())
    for config in (client, server):
        assert tuple(config.cipher_suites) == tuple(SUITES)
        assert tuple(config.groups) == tuple(GROUPS)
        assert config.groups[0] == NamedGroup.X25519MLKEM768
        assert tuple(config.signature_schemes) == DEFAULT_SCHEMES
    shares = {
        groups: [
            entry.group
            for entry in hello_of(a_client(grease=False, groups=groups)).extensions.require(KeyShares).entries
        ]
        for groups in (tuple(GROUPS), (NamedGroup.secp384r1,), (NamedGroup.secp256r1, NamedGroup.x25519))
    }
    assert list(shares.values()) == [
        [NamedGroup.X25519MLKEM768, NamedGroup.x25519],
        [NamedGroup.secp384r1],
        [NamedGroup.x25519],
    ]
    assert client.session_cache is not None
    assert ClientConfig(verify=verifier()).session_cache is not client.session_cache


def test_the_private_key_shows_in_no_config() -> None:
    assert "PRIVATE" not in repr(server_config()) + repr(client_config(credentials=client_credential()))


# -- what is offered -------------------------------------------------------------------------------------------


def test_a_client_offers_what_its_config_says_in_its_order() -> None:
    suites = [CipherSuiteNumber.TLS_CHACHA20_POLY1305_SHA256, CipherSuiteNumber.TLS_AES_128_GCM_SHA256]
    schemes = [SignatureScheme.ed25519, SignatureScheme.ecdsa_secp256r1_sha256]
    hello = hello_of(
        a_client(
            cipher_suites=suites,
            groups=[NamedGroup.secp384r1, NamedGroup.x25519],
            key_shares=[NamedGroup.x25519],
            signature_schemes=schemes,
            alpn_protocols=["h2", b"http/1.1"],
            record_size_limit=1000,
            grease=False,
        )
    )
    assert hello.cipher_suites == tuple(suites)
    extensions = hello.extensions
    assert extensions.require(SupportedGroups).groups == (NamedGroup.secp384r1, NamedGroup.x25519)
    assert [entry.group for entry in extensions.require(KeyShares).entries] == [NamedGroup.x25519]
    assert extensions.require(SignatureAlgorithms).schemes == tuple(schemes)
    assert extensions.require(ApplicationProtocols).protocols == (b"h2", b"http/1.1")
    assert extensions.require(SupportedVersions).versions == (0x0304,)
    assert extensions.require(RecordSizeLimit).limit == 1000
    assert extensions.require(ServerName).host_name == HOST
    assert len(hello.session_id) == 32


def test_row_28_grease_is_sent_in_every_list_and_differs_from_hello_to_hello() -> None:
    config = client_config(primitives=primitives(seeded(1)))
    seen = set()
    for _ in range(10):
        hello = hello_of(a_client(config))
        values = [
            hello.cipher_suites[0],
            hello.extensions.require(SupportedGroups).groups[0],
            hello.extensions.require(SupportedVersions).versions[0],
            hello.extensions.types[0],
            hello.extensions.types[-1],
        ]
        assert all(map(is_grease, values))
        assert values[3] != values[4]
        assert hello.extensions.require(KeyShares).entries[0].group == values[1]
        seen.add(tuple(values))
    assert len(seen) == 10


def test_without_compatibility_mode_there_is_no_session_id() -> None:
    hello = hello_of(a_client(middlebox_compatibility=False))
    assert hello.session_id == b""
    client, server = connected(client_config(middlebox_compatibility=False), server_config())
    assert send(client, server, b"x") == b"x"


def test_row_49_no_key_share_is_sent_twice() -> None:
    config = client_config()
    keys = {
        entry.key_exchange
        for _ in range(5)
        for entry in hello_of(a_client(config)).extensions.require(KeyShares).entries
        if not is_grease(entry.group)
    }
    assert len(keys) == 10


# -- what was agreed on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("suite", SUITES)
def test_both_ends_tell_what_was_agreed_on(group: int, suite: int) -> None:
    client, server = connected(
        client_config(
            groups=[group], cipher_suites=[suite], alpn_protocols=["a", "b"], credentials=client_credential()
        ),
        server_config(alpn_protocols=["b"], client_auth="required", verify=verifier()),
    )
    for end in (client, server):
        info = end.info
        assert info is not None
        assert (info.version, info.cipher_suite) == ("TLSv1.3", SUITES[suite].name)
        assert info.group == GROUPS[group].name
        assert info.alpn_protocol == "b"
        assert info.server_name == HOST
        assert not info.session_reused
        assert info.verified_certificates[0] == info.peer_certificates[0]
        told = end.introspection
        assert told.cipher() == (SUITES[suite].name, "TLSv1.3", SUITES[suite].secret_bits)
        assert (told.version(), told.compression(), told.selected_npn_protocol()) == ("TLSv1.3", None, None)
        assert told.selected_alpn_protocol() == "b"
        assert told.session_reused is False
        certificate = told.getpeercert()
        assert isinstance(certificate, dict)
        assert certificate["issuer"]
    assert client.info is not None
    assert server.info is not None
    assert client.info.peer_chain == server.info.local_chain == server_credential().der_chain
    assert server.info.peer_chain == client.info.local_chain == client_credential().der_chain
    assert client.introspection.shared_ciphers() is None
    shared = server.introspection.shared_ciphers()
    assert shared is not None
    assert shared[0][0] == SUITES[suite].name
    for kind in ("tls-exporter", "tls-server-end-point"):
        assert client.introspection.get_channel_binding(kind) == server.introspection.get_channel_binding(kind)
    assert (client.server_side, server.server_side) == (False, True)
    assert (client.server_hostname, server.server_hostname) == (HOST, None)


def test_nothing_is_told_before_the_handshake_is_done() -> None:
    for end in (a_client(), a_server()):
        assert end.info is None
        assert end.session is None
        assert not end.handshake_done
        assert end.buffered == 0


def test_the_key_log_is_told_the_secrets_of_both_ends() -> None:
    logs: list[dict[str, tuple[bytes, bytes]]] = [{}, {}]

    def keylog(log: dict[str, tuple[bytes, bytes]]) -> Callable[[str, bytes, bytes], None]:
        return lambda label, random, secret: log.__setitem__(label, (random, secret))

    connected(client_config(keylog=keylog(logs[0])), server_config(keylog=keylog(logs[1])))
    assert logs[0] == logs[1]
    assert set(logs[0]) == {
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
        "EXPORTER_SECRET",
    }
    assert len({random for random, _secret in logs[0].values()}) == 1


class Watching:
    """A tracer that keeps all it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def message(self, *, sent: bool, name: str, size: int, epoch: str) -> None:
        assert size >= 4
        self.told.append(("sent" if sent else "received", name, epoch))

    def key_change(self, *, sent: bool, epoch: str) -> None:
        self.told.append(("key", "write" if sent else "read", epoch))

    def alert(self, *, sent: bool, name: str) -> None:
        self.told.append(("alert sent" if sent else "alert received", name))

    def want(self, name: str) -> None:
        pass


def test_the_tracer_is_told_the_handshake_as_it_happens() -> None:
    client_saw, server_saw = Watching(), Watching()
    client, server = connected(client_config(tracer=client_saw), server_config(tracer=server_saw, tickets=1))
    send(server, client, b"x")
    client.shutdown()
    send_side = [each for each in client_saw.told if each[0] in {"sent", "received"}]
    assert send_side == [
        ("sent", "client_hello", "plaintext"),
        ("received", "server_hello", "plaintext"),
        ("received", "encrypted_extensions", "handshake"),
        ("received", "certificate", "handshake"),
        ("received", "certificate_verify", "handshake"),
        ("received", "finished", "handshake"),
        ("sent", "finished", "handshake"),
        ("received", "new_session_ticket", "application"),
    ]
    assert ("alert sent", "close_notify") in client_saw.told
    keys = [each[1:] for each in server_saw.told if each[0] == "key"]
    assert keys == [("read", "handshake"), ("write", "handshake"), ("write", "application"), ("read", "application")]


def test_the_session_of_a_client_is_there_once_a_ticket_has_come() -> None:
    client, server = connected()
    assert client.session is None
    send(server, client, b"x")
    assert isinstance(client.session, Session)
    assert "psk" not in repr(client.session)


def test_credentials_may_be_one_several_or_a_function() -> None:
    one: Credential = server_credential()
    for credentials in (one, [one], (one, one), lambda need: one):
        client, _server = connected(client_config(), server_config(credentials=credentials))
        assert client.info is not None
        assert client.info.peer_chain == one.der_chain
