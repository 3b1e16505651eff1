"""What a server gives a client to send back has to fit into a ClientHello: its extensions have 64 KiB at the most."""

from __future__ import annotations

import dataclasses

import pytest

from trio_tls import ClientConfig, Session, SessionCache
from trio_tls.alerts import Alert
from trio_tls.machine.tls13.extensions import Cookie, Extensions, PreSharedKeys
from trio_tls.machine.tls13.messages import ClientHello, NewSessionTicket

from .ends import a_client, client_config, server_credential
from .scripted_peer import DATA, HANDSHAKE, Meeting, ScriptedServer, meet, whole

#: As much as a client takes, and as a ClientHello has room for beside each other.
MOST_COOKIE, MOST_TICKET = 2**15, 2**14


def given_a_ticket(config: ClientConfig, length: int) -> Meeting:
    """A connection on which the server has sent a ticket of this length."""
    peer = ScriptedServer(credential=server_credential())
    meeting = meet(a_client(config), peer).succeeded()
    for fragment in whole(NewSessionTicket(3600, 7, b"", b"t" * length, Extensions()).encode()):
        peer.record(HANDSHAKE, fragment)
    peer.record(DATA, b"goes on")
    meeting.go_on()
    assert meeting.succeeded().data == b"goes on"
    return meeting


@pytest.mark.parametrize("length", [1, MOST_COOKIE])
def test_row_46_a_cookie_that_fits_is_echoed(length: int) -> None:
    peer = ScriptedServer(retry=[Cookie(b"c" * length)], credential=server_credential())
    meet(a_client(), peer).succeeded()
    assert peer.got(ClientHello).extensions.require(Cookie).cookie == b"c" * length


@pytest.mark.parametrize("length", [MOST_COOKIE + 1, 2**16 - 150])
def test_row_83_a_cookie_that_is_too_long_to_be_echoed_is_refused(length: int) -> None:
    peer = ScriptedServer(retry=[Cookie(b"c" * length)], credential=server_credential())
    meet(a_client(), peer).refused(Alert.illegal_parameter, "too long to be sent back")


@pytest.mark.parametrize(("length", "kept"), [(MOST_TICKET, True), (MOST_TICKET + 1, False), (2**16 - 1, False)])
def test_row_83_a_ticket_that_is_too_long_to_be_offered_is_not_kept(length: int, kept: bool) -> None:
    config = client_config(session_cache=SessionCache())
    assert (given_a_ticket(config, length).machine.session is not None) == kept
    peer = ScriptedServer(credential=server_credential())
    meeting = meet(a_client(config), peer)
    assert (peer.got(ClientHello).extensions.get(PreSharedKeys) is not None) == kept
    meeting.succeeded()


def test_a_session_with_a_ticket_that_is_too_long_is_not_offered_wherever_it_comes_from() -> None:
    config = client_config()
    session = given_a_ticket(config, 100).machine.session
    assert isinstance(session, Session)
    restored = Session.from_bytes(dataclasses.replace(session, ticket=b"t" * (MOST_TICKET + 1)).to_bytes())
    peer = ScriptedServer(credential=server_credential())
    meet(a_client(config, session=restored), peer).succeeded()
    assert peer.got(ClientHello).extensions.get(PreSharedKeys) is None


def test_the_longest_of_everything_fits_together() -> None:
    protocols = [f"{number:0254}" for number in range(32)]
    config = client_config(session_cache=SessionCache(), alpn_protocols=protocols)
    config = config.replace(key_shares=config.groups)
    given_a_ticket(config, MOST_TICKET)
    peer = ScriptedServer(retry=[Cookie(b"c" * MOST_COOKIE)], credential=server_credential())
    meet(a_client(config), peer).succeeded()
    second = peer.got(ClientHello)
    assert second.extensions.require(PreSharedKeys).identities[0].identity == b"t" * MOST_TICKET
    assert len(second.extensions.encode()) > 2**15 + 2**14 + 2**13
