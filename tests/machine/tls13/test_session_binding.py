"""What a session is bound to where the application decides by code of its own (RFC 9846 section 4.7.1).

How this works. A function, and a class derived from `Verifier` or from a policy, may decide in any way at all. So a
session that was made under one is never offered under another: what the first has accepted, the second may refuse.
The functions here say "lax" or "strict"; a session that gets around "strict" is the defect that these tests are about.
"""

from __future__ import annotations

import gc
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pytest

from trio_tls import (
    ClientConfig,
    Credential,
    PrivatePolicy,
    ServerConfig,
    SessionCache,
    TicketKeys,
    VerifiedPeer,
    Verifier,
)
from trio_tls.errors import CertificateVerificationError
from trio_tls.machine.interface import NeedCredential, NeedVerification
from trio_tls.machine.tls13.extensions import PreSharedKeys
from trio_tls.machine.tls13.messages import ClientHello

from ...support import verifier
from .ends import a_client, a_server, client_config, client_credential, connected, fail, server_config
from .scripted_peer import ScriptedServer, meet
from .test_resumption import deliver, resumed, session_of


def accepting(need: NeedVerification) -> None:
    """Accepts whoever it is."""


def refusing(need: NeedVerification) -> None:
    raise CertificateVerificationError("not the one that is pinned")


def a_function() -> Callable[[NeedVerification], None]:
    """One of many that are made at one place in the program, as a pin for each user is."""

    def verify(need: NeedVerification) -> None:
        pass

    return verify


def presenting(credential: Credential | None) -> Callable[[NeedCredential], Credential | None]:
    return lambda need: credential


def offers(config: ClientConfig, **how: Any) -> bool:
    """Whether a client of this config offers a session."""
    peer = ScriptedServer(credential=None)
    meet(a_client(config, **how), peer)
    return peer.got(ClientHello).extensions.get(PreSharedKeys) is not None


# -- functions of a client -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [{"verify": accepting}, {"verify": verifier(), "credentials": presenting(client_credential())}],
    ids=["verify", "credentials"],
)
def test_a_session_made_under_a_function_is_good_for_its_config_alone(function: dict[str, Any]) -> None:
    cache, server = SessionCache(), server_config()
    config = ClientConfig(session_cache=cache, **function)
    session = session_of(config, server)
    equal = config.replace()
    assert equal == config
    assert not offers(equal, session=session), "given"
    assert not offers(equal), "from the cache"
    assert not offers(ClientConfig(session_cache=cache, **function), session=session)
    assert offers(config, session=session)
    assert resumed(config, server, None)


def test_a_config_with_a_function_keeps_its_fingerprint() -> None:
    config = client_config(verify=accepting)
    assert config.parameters.fingerprint == config.parameters.fingerprint
    assert config.parameters.fingerprint != config.replace().parameters.fingerprint


def test_equal_configs_without_functions_share_their_sessions() -> None:
    cache, server = SessionCache(), server_config()
    session = session_of(client_config(session_cache=cache), server)
    assert resumed(client_config(session_cache=cache), server, session)
    assert resumed(client_config(session_cache=cache), server, None)


@pytest.mark.parametrize("field", ["verify", "credentials"])
def test_a_function_in_the_place_of_one_that_is_gone_is_another_one(field: str) -> None:
    """Python reuses the addresses of objects, and with them what `id` and `repr` say."""
    seen: list[bytes] = []
    for _ in range(100):
        config = client_config(**{field: a_function()})
        seen.append(config.parameters.fingerprint)
        del config
    gc.collect()
    for _ in range(100):
        seen.append(client_config(**{field: a_function()}).parameters.fingerprint)
    assert len(set(seen)) == len(seen)


def test_a_strict_function_is_asked_whatever_a_lax_one_before_it_has_accepted() -> None:
    cache, server = SessionCache(), server_config()
    deliver(*connected(ClientConfig(verify=accepting, session_cache=cache), server))
    strict = ClientConfig(verify=refusing, session_cache=cache)
    failures = fail(a_client(strict), a_server(server))
    assert isinstance(failures["client"], CertificateVerificationError)


def test_a_client_that_presents_nothing_does_not_resume_as_somebody_else() -> None:
    cache = SessionCache()
    server = server_config(client_auth="optional", verify=verifier())
    named, named_server = connected(
        client_config(credentials=presenting(client_credential()), session_cache=cache), server
    )
    deliver(named, named_server)
    assert named_server.info is not None
    assert named_server.info.peer_chain
    _nobody, server_of_nobody = connected(client_config(credentials=presenting(None), session_cache=cache), server)
    assert server_of_nobody.info is not None
    assert not server_of_nobody.info.session_reused
    assert not server_of_nobody.info.peer_chain


# -- functions of a server -------------------------------------------------------------------------------------


def test_a_server_with_a_function_resumes_its_own_sessions_and_no_others() -> None:
    keys = TicketKeys.from_secret(b"k" * 32, secrets.token_bytes)
    client = client_config(credentials=client_credential())
    server = server_config(client_auth="required", verify=accepting, ticket_keys=keys)
    session = session_of(client, server)
    equal = server.replace()
    assert equal == server
    assert not resumed(client, equal, session)
    assert not resumed(client, server.replace(verify=verifier()), session)
    assert resumed(client, server, session)


def test_servers_with_one_verifier_take_each_others_sessions() -> None:
    keys = TicketKeys.from_secret(b"k" * 32, secrets.token_bytes)
    client = client_config(credentials=client_credential())
    how: dict[str, Any] = {"client_auth": "required", "verify": verifier(), "ticket_keys": keys}
    session = session_of(client, server_config(**how))
    assert resumed(client, server_config(**how), session)


# -- derived verifiers and policies ----------------------------------------------------------------------------


class Strict(Verifier):
    """Refuses every server, and every client."""

    def verify_server(self, chain: Sequence[bytes], server_name: str, at: datetime) -> VerifiedPeer:
        raise CertificateVerificationError("strict")

    def verify_client(self, chain: Sequence[bytes], at: datetime) -> VerifiedPeer:
        raise CertificateVerificationError("strict")


class Asked(Verifier):
    """A verifier that is a function as well."""

    def __call__(self, need: NeedVerification) -> None:
        raise CertificateVerificationError("strict, as a function")

    def verify_server(self, chain: Sequence[bytes], server_name: str, at: datetime) -> VerifiedPeer:
        raise CertificateVerificationError("strict, as a verifier")


class NobodyPolicy(PrivatePolicy):
    """Refuses everybody, and inherits the name of what it is derived from."""

    def for_peers(self, *, server: bool) -> Any:
        raise CertificateVerificationError("a strict policy")


def derived() -> list[Verifier]:
    anchors, policy = verifier().anchors, verifier().policy
    return [Strict(anchors, policy), Asked(anchors, policy), Verifier(anchors, NobodyPolicy())]


DERIVED = pytest.mark.parametrize("strict", derived(), ids=["verifier", "callable", "policy"])


@DERIVED
def test_a_derived_verifier_or_policy_is_asked_whatever_its_parent_has_accepted(strict: Verifier) -> None:
    cache, server = SessionCache(), server_config()
    lax = ClientConfig(verify=verifier(), session_cache=cache)
    session = session_of(lax, server)
    config = ClientConfig(verify=strict, session_cache=cache)
    for given in (None, session):
        assert not offers(config, session=given)
        failures = fail(a_client(config, session=given), a_server(server))
        assert isinstance(failures["client"], CertificateVerificationError)
        assert "strict" in str(failures["client"])
    assert resumed(lax, server, session)


@DERIVED
def test_a_config_with_a_derived_verifier_or_policy_has_a_fingerprint_of_its_own(strict: Verifier) -> None:
    lax = client_config(verify=verifier())
    assert lax.parameters.fingerprint == lax.replace().parameters.fingerprint
    assert lax.replace(verify=strict).parameters.fingerprint != lax.parameters.fingerprint


def test_a_server_with_a_derived_verifier_does_not_resume_what_its_parent_has_accepted() -> None:
    keys = TicketKeys.from_secret(b"k" * 32, secrets.token_bytes)
    client = client_config(credentials=client_credential())
    lax = server_config(client_auth="optional", verify=verifier(), ticket_keys=keys)
    session = session_of(client, lax)
    strict = lax.replace(verify=Strict(verifier().anchors, verifier().policy))
    assert isinstance(fail(a_client(client, session=session), a_server(strict))["server"], CertificateVerificationError)


def pinned(allowed: str) -> type[Verifier]:
    """One of many classes with one name."""

    class Pinned(Verifier):
        def verify_server(self, chain: Sequence[bytes], server_name: str, at: datetime) -> VerifiedPeer:
            if allowed not in {server_name, "anybody"}:
                raise CertificateVerificationError(f"only {allowed}")
            return super().verify_server(chain, server_name, at)

    return Pinned


def test_classes_of_one_name_are_not_taken_for_each_other() -> None:
    cache, server = SessionCache(), server_config()
    anchors, policy = verifier().anchors, verifier().policy
    lax, strict = pinned("anybody")(anchors, policy), pinned("other.example.org")(anchors, policy)
    deliver(*connected(ClientConfig(verify=lax, session_cache=cache), server))
    assert not offers(ClientConfig(verify=strict, session_cache=cache))


def test_a_derived_verifier_still_resumes_under_its_own_config() -> None:
    server: ServerConfig = server_config()
    anchors, policy = verifier().anchors, verifier().policy
    config = ClientConfig(verify=pinned("anybody")(anchors, policy))
    assert resumed(config, server, session_of(config, server))
