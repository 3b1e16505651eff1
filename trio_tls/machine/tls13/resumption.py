"""Resumption: tickets that a server issues, and what a client keeps of them (RFC 9846 section 4.7.1).

How this works. A ticket names a secret that both ends have made of the handshake. The server puts all that it has to
know again into a `ServerSession`, and seals it into the ticket itself or stores it under a random name. The client
keeps a `Session` in its cache. Both are bound to what the first handshake was about: config, name, certificates.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

from ...errors import application_failed
from ...names import normalised
from .channel_binding import server_end_point
from .established import Established, PeerIdentity
from .extensions import Extensions
from .key_schedule import resumption_psk
from .messages import NewSessionTicket
from .misbehaviour import illegal_parameter
from .sessions import MOST_LIFETIME, Origin, ServerSession, Session
from .tickets import MOST_TICKET

if TYPE_CHECKING:
    from .parameters import ClientParameters, ServerParameters
    from .primitives import Primitives
    from .session_cache import ServerSessionStore

__all__ = ["find_session", "issue_tickets", "keep_session", "session_from", "session_key", "store_session"]

#: Bytes in the name of a session that is stored, and not sealed into its ticket.
IDENTITY_LENGTH = 32


def issue_tickets(
    parameters: ServerParameters, established: Established, primitives: Primitives, *, resumed: Origin | None
) -> tuple[bytes, ...]:
    """The NewSessionTicket messages that a server owes its client; none if it does not resume.

    Args:
      parameters: where sessions are kept, and how many tickets there are.
      established: the handshake that they come from.
      primitives: randomness and time.
      resumed: where the session that was resumed goes back to; None after a full handshake.
    """
    now = primitives.now()
    sealed = parameters.ticket_keys
    if sealed is None and parameters.session_store is None:
        return ()
    lifetime = min(parameters.ticket_lifetime if sealed is None else sealed.lifetime, MOST_LIFETIME)
    peer = established.peer if isinstance(established.peer, PeerIdentity) else None
    end_point = resumed.server_end_point if resumed is not None else None
    if established.local_chain:
        end_point = server_end_point(established.local_chain[0])
    # A client that resumes has used up one ticket, and gets one; the others of its first connection are still good.
    wanted = parameters.tickets if resumed is None else min(1, parameters.tickets)
    messages = []
    for number in range(wanted):
        nonce = bytes((number,))
        age_add = int.from_bytes(primitives.random(4), "big")
        session = ServerSession(
            cipher_suite=established.suite.number,
            psk=resumption_psk(established.suite, established.resumption, nonce),
            server_name=established.server_name,
            alpn_protocol=established.alpn_protocol,
            fingerprint=parameters.fingerprint,
            client_chain=peer.presented if peer else (),
            issued_at=now,
            authenticated_at=resumed.authenticated_at if resumed is not None else now,
            lifetime=lifetime,
            age_add=age_add,
            not_after=None if peer is None else peer.not_after,
            server_end_point=end_point,
        )
        if session.expired(now):
            break
        ticket: bytes | None
        if parameters.session_store is not None:
            ticket = primitives.random(IDENTITY_LENGTH)
            store_session(parameters.session_store, ticket, session)
        else:
            assert sealed is not None  # or there were no tickets at all
            ticket = sealed.seal(session.to_bytes(), now)
        if ticket is not None:
            messages.append(NewSessionTicket(lifetime, age_add, nonce, ticket, Extensions()).encode())
    return tuple(messages)


def store_session(store: ServerSessionStore, identity: bytes, session: ServerSession) -> None:
    """Give a session to the application's store.

    Raises:
      TLSError: the store failed.
    """
    try:
        store.put(identity, session.to_bytes(), session.issued_at + session.lifetime)
    except Exception as error:
        raise application_failed("session store", error) from error


def keep_session(parameters: ClientParameters, server_name: str | None, session: Session) -> None:
    """Give a session to the cache, if there is one.

    Raises:
      TLSError: the cache failed.
    """
    if parameters.session_cache is not None:
        try:
            parameters.session_cache.put(session_key(parameters, server_name), session)
        except Exception as error:
            raise application_failed("session cache", error) from error


def session_key(parameters: ClientParameters, server_name: str | None) -> bytes:
    """Under what a session with this server is kept in the cache: another config never finds it."""
    return _session_key(parameters.fingerprint, server_name)


@lru_cache(maxsize=256)
def _session_key(fingerprint: bytes, server_name: str | None) -> bytes:
    name = "" if server_name is None else normalised(server_name)
    return hashlib.sha256(fingerprint + name.encode()).digest()


def find_session(parameters: ClientParameters, server_name: str | None, given: Session | None) -> Session | None:
    """The session to offer: the one that the application gives, or one of the cache, if it is good for this server."""
    now = parameters.primitives.now()
    cache = parameters.session_cache
    session = given
    if session is None and cache is not None:
        session = cache.take(session_key(parameters, server_name))
        while session is not None and session.expired(now):
            session = cache.take(session_key(parameters, server_name))
    if session is None or session.expired(now) or session.cipher_suite not in parameters.cipher_suites:
        return None
    if len(session.ticket) > MOST_TICKET:
        return None  # an extension ends at 64 KiB, and so do all extensions of a ClientHello together
    name = None if server_name is None else normalised(server_name)
    return session if session.fits(fingerprint=parameters.fingerprint, server_name=name) else None


def session_from(
    ticket: NewSessionTicket,
    parameters: ClientParameters,
    authenticated_at: float | None,
    established: Established,
) -> Session | None:
    """What a client keeps of a ticket; None if it is of no use.

    Raises:
      PeerMisbehaved: its lifetime is longer than any may be.
    """
    if ticket.lifetime > MOST_LIFETIME:
        # "Servers MUST NOT use any value greater than 604800 seconds (7 days)", the RFC says.
        raise illegal_parameter(f"the server's ticket has a lifetime of {ticket.lifetime} seconds", "4.7.1")
    peer = established.peer
    if not ticket.lifetime or not isinstance(peer, PeerIdentity):
        return None  # "The value of zero indicates that the ticket should be discarded immediately."
    if len(ticket.ticket) > MOST_TICKET:
        return None  # nor is it kept: `find_session` would not offer it
    now = parameters.primitives.now()
    return Session(
        cipher_suite=established.suite.number,
        psk=resumption_psk(established.suite, established.resumption, ticket.nonce),
        ticket=ticket.ticket,
        age_add=ticket.age_add,
        lifetime=ticket.lifetime,
        received_at=now,
        authenticated_at=now if authenticated_at is None else authenticated_at,
        server_name=None if established.server_name is None else normalised(established.server_name),
        alpn_protocol=established.alpn_protocol,
        fingerprint=parameters.fingerprint,
        peer_chain=peer.presented,
        verified_chain=peer.chain,
        not_after=peer.not_after,
    )
