"""`ClientConfig.from_ssl_context`: what is carried over is exact, and what cannot be is refused by name."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio.testing
import truststore

from trio_tls import (
    CertificateVerificationError,
    ClientConfig,
    ClientHelloInfo,
    ConfigContext,
    KeyLog,
    NamedGroup,
    PrivatePolicy,
    ServerConfig,
    TLSError,
    TLSStream,
    TrustAnchors,
    Verifier,
    WebPolicy,
    accept_any_peer,
    from_context,
)

from . import certificates
from .support import HOST, authority, credential_of, server_certificate
from .trust_chains import intermediate

ONLY_1_3 = ssl.TLSVersion.TLSv1_3


def context(*, trusting: bool = True) -> ssl.SSLContext:
    """A client's context that speaks TLS 1.3 alone and trusts the test's CA."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ONLY_1_3
    made.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    if trusting:
        authority().configure_trust(made)
    return made


def anchors() -> TrustAnchors:
    return TrustAnchors.from_pem(authority().cert_pem.bytes())


async def handshake(client: Any, server: Any, hostname: str = HOST) -> TLSStream[Any]:
    """One handshake in memory: the client's stream, or its error."""
    a, b = trio.testing.memory_stream_pair()
    ours, theirs = TLSStream(a, client, server_hostname=hostname), TLSStream(b, server, server_side=True)
    failures: list[TLSError] = []

    async def shake(stream: TLSStream[Any]) -> None:
        try:
            await stream.do_handshake()
        except TLSError as error:
            if stream is ours:
                failures.append(error)
            await trio.aclose_forcefully(stream)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shake, ours)
            nursery.start_soon(shake, theirs)
    if failures:
        raise failures[0]
    return ours


def test_a_context_that_has_nothing_else_is_carried_over(tmp_path: Path) -> None:
    given = context()
    given.set_alpn_protocols(["h2", "http/1.1"])
    given.keylog_filename = str(tmp_path / "keys")
    config = ClientConfig.from_ssl_context(given)
    assert config.alpn_protocols == (b"h2", b"http/1.1")
    assert isinstance(config.verify, Verifier)
    assert config.verify.anchors == anchors()
    assert config.verify.policy == PrivatePolicy()
    assert isinstance(config.keylog, KeyLog)
    assert str(tmp_path / "keys") in repr(config.keylog)
    assert list(config.groups) == list(ClientConfig.groups), "nobody has chosen any"
    assert config.middlebox_compatibility


async def test_the_config_connects_where_the_context_does() -> None:
    given = context()
    given.set_alpn_protocols(["b"])
    config = ClientConfig.from_ssl_context(given)
    server = ServerConfig(credentials=credential_of(server_certificate()), alpn_protocols=["a", "b"])
    for client in (given, config):
        stream = await handshake(client, server)
        assert stream.info is not None
        assert (stream.info.version, stream.info.alpn_protocol) == ("TLSv1.3", "b")


def test_each_setting_that_can_be_read_or_seen_is_kept() -> None:
    given = context()
    given.set_ecdh_curve("secp384r1")
    given.options &= ~ssl.OP_ENABLE_MIDDLEBOX_COMPAT
    given.verify_flags |= ssl.VERIFY_X509_STRICT
    config = ClientConfig.from_ssl_context(given)
    assert list(config.groups) == [NamedGroup.secp384r1]
    assert not config.middlebox_compatibility
    assert isinstance(config.verify, Verifier)
    assert config.verify.policy == WebPolicy()
    assert (config.keylog, config.alpn_protocols) == (None, ())


def test_no_verification_stays_none() -> None:
    given = context(trusting=False)
    given.check_hostname, given.verify_mode = False, ssl.CERT_NONE
    assert ClientConfig.from_ssl_context(given).verify is accept_any_peer


def test_arguments_of_the_call_go_before_what_the_context_has() -> None:
    client = credential_of(server_certificate())
    config = ClientConfig.from_ssl_context(
        context(), policy=WebPolicy(), credentials=client, alpn_protocols=["x"], grease=False
    )
    assert isinstance(config.verify, Verifier)
    assert (config.verify.policy, config.credentials) == (WebPolicy(), client)
    assert (config.alpn_protocols, config.grease) == ((b"x",), False)


def changed(change: Callable[[ssl.SSLContext], object]) -> ssl.SSLContext:
    given = context()
    change(given)
    return given


def speak_only(given: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    given.minimum_version = version
    given.maximum_version = version


def with_crl(given: ssl.SSLContext) -> None:
    given.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


#: What a context may have, what is told, and the name of it; None: there is no going without it.
LOSSES: dict[str, tuple[Callable[[ssl.SSLContext], object], str, Any]] = {
    "TLS 1.2 too": (
        lambda given: setattr(given, "minimum_version", ssl.TLSVersion.TLSv1_2),
        "it speaks TLS 1.2, too",
        "TLS 1.2",
    ),
    "TLS 1.2 alone": (
        lambda given: speak_only(given, ssl.TLSVersion.TLSv1_2),
        "it speaks no TLS 1.3",
        None,
    ),
    "CRLs": (with_crl, "it has revocation lists, or demands them", "CRLs"),
    "an intermediate as the anchor": (
        lambda given: given.load_verify_locations(cadata=intermediate().pem.decode()),
        "CA certificates that are no roots",
        "chains that end before a root",
    ),
    "a group that is not here": (
        lambda given: given.set_ecdh_curve("secp521r1"),
        "it offers only groups that are not here: 0x0019",
        None,
    ),
    "post-handshake authentication": (
        lambda given: setattr(given, "post_handshake_auth", True),
        "it presents certificates after the handshake",
        "post-handshake authentication",
    ),
    "truncation": (
        lambda given: setattr(given, "options", given.options | getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 1 << 7)),
        "it takes a truncated connection for a complete one: pass require_close_notify=False",
        "truncation",
    ),
    "no names": (lambda given: setattr(given, "check_hostname", False), "but not its name", None),
    "proxy certificates": (
        lambda given: setattr(given, "verify_flags", given.verify_flags | ssl.VerifyFlags.VERIFY_ALLOW_PROXY_CERTS),
        "verify_flags that are not known here: ",
        "unknown verify flags",
    ),
    "a high security level": (
        lambda given: given.set_ciphers("DEFAULT:@SECLEVEL=3"),
        "its security level is 3",
        "security level",
    ),
}


@pytest.mark.parametrize("case", LOSSES)
def test_what_a_config_cannot_have_is_refused_by_name_and_can_be_gone_without(case: str) -> None:
    change, told, name = LOSSES[case]
    given = changed(change)
    with pytest.raises(ValueError, match="this SSLContext has what a ClientConfig cannot have") as caught:
        ClientConfig.from_ssl_context(given)
    assert told in str(caught.value)
    if name is None:
        assert "without=" not in str(caught.value)
    else:
        assert f"without=[{name!r}])" in str(caught.value)
        assert isinstance(ClientConfig.from_ssl_context(given, without=[name]).verify, Verifier)


#: What is in a hello, which some OpenSSL or a later Python lets a context offer; what is told, and its name.
OFFERS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "a cipher suite that is not here": (
        {"cipher_suites": (0x1301, 0x1304, 0xC02B)},
        "not here: 0x1304",
        "cipher suites",
    ),
    "a group that is not here": ({"groups": (29, 30)}, "it offers groups that are not here: 0x001e", "groups"),
    "chosen signature schemes": ({"signature_schemes": (0x0403,)}, "schemes were chosen", "signature schemes"),
    "pre-shared keys": ({"extension_types": (43, 41)}, "it has pre-shared keys", "pre-shared keys"),
}


@pytest.mark.parametrize("case", OFFERS)
def test_what_a_hello_offers_beyond_ours_is_refused_by_name(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, told, name = OFFERS[case]
    given, look = context(), from_context._hello

    def hello(asked: ssl.SSLContext) -> ClientHelloInfo:
        return replace(look(asked), **changes) if asked is given else look(asked)

    monkeypatch.setattr(from_context, "_hello", hello)
    with pytest.raises(ValueError, match=told):
        ClientConfig.from_ssl_context(given)
    config = ClientConfig.from_ssl_context(given, without=[name])
    if name == "groups":
        assert list(config.groups) == [NamedGroup.x25519]
    if name == "cipher suites":
        assert list(config.cipher_suites) == [0x1301]


def test_all_that_is_lost_is_told_at_once() -> None:
    given = context()
    given.minimum_version, given.post_handshake_auth = ssl.TLSVersion.TLSv1_2, True
    with pytest.raises(ValueError, match="cannot have") as caught:
        ClientConfig.from_ssl_context(given)
    assert "without=['TLS 1.2', 'post-handshake authentication'])" in str(caught.value)
    with pytest.raises(ValueError, match="cannot have") as caught:
        ClientConfig.from_ssl_context(given, without=["TLS 1.2"])
    assert "TLS 1.2" not in str(caught.value)


def test_what_the_call_gives_is_not_looked_for_in_the_context() -> None:
    given = context(trusting=False)
    given.check_hostname = False
    given.set_ecdh_curve("secp521r1")
    config = ClientConfig.from_ssl_context(
        given,
        verify=accept_any_peer,
        groups=[NamedGroup.x25519],
        signature_schemes=ClientConfig.signature_schemes,
        cipher_suites=ClientConfig.cipher_suites,
    )
    assert (config.verify, list(config.groups)) == (accept_any_peer, [NamedGroup.x25519])


def test_a_name_that_is_no_loss_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="without= takes some of 'TLS 1.2', 'CRLs', .*, not 'everything'"):
        ClientConfig.from_ssl_context(context(), without=["everything"])  # type: ignore[list-item]


def test_trust_that_cannot_be_seen_is_asked_for(tmp_path: Path) -> None:
    given = context(trusting=False)
    given.load_verify_locations(capath=str(tmp_path))
    with pytest.raises(ValueError, match="none of the certificates that it trusts can be read"):
        ClientConfig.from_ssl_context(given)
    config = ClientConfig.from_ssl_context(given, anchors=anchors())
    assert isinstance(config.verify, Verifier)
    assert config.verify.anchors == anchors()


def test_a_context_of_another_kind_is_refused() -> None:
    config = ClientConfig(verify=accept_any_peer)
    for given in (truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ConfigContext(config)):
        with pytest.raises(TypeError, match="may decide by itself whom it trusts"):
            ClientConfig.from_ssl_context(given)
    with pytest.raises(TypeError, match="context must be an ssl.SSLContext, not ClientConfig"):
        ClientConfig.from_ssl_context(config)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is not for clients"):
        ClientConfig.from_ssl_context(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


@pytest.mark.filterwarnings("ignore:ssl.OP_NO:DeprecationWarning")
def test_a_context_that_cannot_begin_is_refused() -> None:
    given = context()
    given.options |= ssl.OP_NO_TLSv1_3
    with pytest.raises(ValueError, match="cannot begin a handshake"):
        ClientConfig.from_ssl_context(given)


def test_the_context_is_not_changed_and_system_trust_is_carried_over() -> None:
    given = ssl.create_default_context()
    if not given.get_ca_certs():
        pytest.skip(
            "this system has its CA certificates in a directory alone, which a context reads when it needs them"
        )
    before = (given.verify_mode, given.options, given.verify_flags, given.cert_store_stats())
    losses: Any = ["TLS 1.2", "truncation", "chains that end before a root"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = ClientConfig.from_ssl_context(given, without=losses)
    assert isinstance(config.verify, Verifier)
    assert len(config.verify.anchors) == len(given.get_ca_certs())
    assert (given.verify_mode, given.options, given.verify_flags, given.cert_store_stats()) == before


@pytest.mark.parametrize(
    "presented",
    [
        certificates.good,
        certificates.expired,
        certificates.not_yet_valid,
        certificates.of_strange_authority,
        certificates.self_signed,
        certificates.for_clients_only,
        certificates.wrongly_signed,
        certificates.with_strange_root,
        certificates.below_a_leaf,
        certificates.below_too_many,
    ],
)
@pytest.mark.parametrize("hostname", [HOST, "another.example.org"])
async def test_what_the_context_refuses_the_config_refuses(presented: Callable[[], Any], hostname: str) -> None:
    server = certificates.presenting(presented(), ONLY_1_3)
    accepted = []
    for client in (context(), ClientConfig.from_ssl_context(context())):
        try:
            await handshake(client, server, hostname)
        except CertificateVerificationError:
            accepted.append(False)
        else:
            accepted.append(True)
    assert accepted in ([True, True], [False, False])
    assert accepted[0] is (presented is certificates.good and hostname == HOST)
