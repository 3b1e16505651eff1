"""Sessions of both ends: their form in bytes, when they are of use, and the caches that hold them.

``row_N`` in a name numbers a known pitfall of TLS implementations.
"""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_tls.machine.tls13.registry import CipherSuiteNumber
from trio_tls.machine.tls13.session_cache import (
    ClientSessionCache,
    MemorySessionStore,
    ServerSessionStore,
    SessionCache,
)
from trio_tls.machine.tls13.sessions import FARTHEST, MOST_LIFETIME, ServerSession, Session
from trio_tls.machine.tls13.suites import SUITES

DAY = 24 * 3600
THEN = 1_700_000_000.25

SESSION = Session(
    cipher_suite=CipherSuiteNumber.TLS_AES_128_GCM_SHA256,
    psk=b"secret key of a session".ljust(32, b"!"),
    ticket=b"the ticket",
    age_add=0xFFFF_FFF0,
    lifetime=DAY,
    received_at=THEN,
    authenticated_at=THEN,
    server_name="server.example.org",
    alpn_protocol=b"h2",
    fingerprint=b"client config",
    peer_chain=(b"leaf", b"intermediate"),
    verified_chain=(b"leaf", b"intermediate", b"root"),
    not_after=THEN + 90 * DAY,
)
SERVER_SESSION = ServerSession(
    cipher_suite=CipherSuiteNumber.TLS_AES_256_GCM_SHA384,
    psk=b"secret key of a session".ljust(48, b"!"),
    server_name="server.example.org",
    alpn_protocol=b"h2",
    fingerprint=b"server config",
    client_chain=(b"leaf",),
    issued_at=THEN,
    authenticated_at=THEN,
    lifetime=DAY,
    age_add=1,
    not_after=THEN + 90 * DAY,
    server_end_point=b"hash",
)
BOTH = pytest.mark.parametrize("session", [SESSION, SERVER_SESSION], ids=["client", "server"])

uint32 = st.integers(0, 2**32 - 1)
times = st.floats(-FARTHEST, FARTHEST)
chains = st.lists(st.binary(min_size=1, max_size=40), max_size=3).map(tuple)
names = st.none() | st.text(st.characters(codec="utf-8"), max_size=20)
protocols = st.none() | st.binary(min_size=1, max_size=10)


def of_suite(make: Callable[..., st.SearchStrategy[Session | ServerSession]]) -> st.SearchStrategy[object]:
    return st.sampled_from(list(SUITES.values())).flatmap(
        lambda suite: make(int(suite.number), st.binary(min_size=suite.hash_length, max_size=suite.hash_length))
    )


client_sessions = of_suite(
    lambda number, psks: st.builds(
        Session,
        cipher_suite=st.just(number),
        psk=psks,
        ticket=st.binary(min_size=1, max_size=80),
        age_add=uint32,
        lifetime=uint32,
        received_at=times,
        authenticated_at=times,
        server_name=names,
        alpn_protocol=protocols,
        fingerprint=st.binary(max_size=40),
        peer_chain=chains,
        verified_chain=chains,
        not_after=st.none() | times,
    )
)
server_sessions = of_suite(
    lambda number, psks: st.builds(
        ServerSession,
        cipher_suite=st.just(number),
        psk=psks,
        server_name=names,
        alpn_protocol=protocols,
        fingerprint=st.binary(max_size=40),
        client_chain=chains,
        issued_at=times,
        authenticated_at=times,
        lifetime=uint32,
        age_add=uint32,
        not_after=st.none() | times,
        server_end_point=st.none() | st.binary(max_size=64),
    )
)


# -- the form in bytes -----------------------------------------------------------------------------------------------


@given(client_sessions | server_sessions)
def test_a_session_comes_back_from_its_bytes(session: object) -> None:
    assert isinstance(session, Session | ServerSession)
    assert type(session).from_bytes(session.to_bytes()) == session


@BOTH
def test_a_session_is_pickled_and_copied(session: Session | ServerSession) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(session, protocol)) == session
    assert copy.deepcopy(session) == session


@BOTH
def test_every_session_that_is_cut_short_is_a_value_error(session: Session | ServerSession) -> None:
    data = session.to_bytes()
    for size in range(len(data)):
        with pytest.raises(ValueError, match="these bytes are"):
            type(session).from_bytes(data[:size])
    with pytest.raises(ValueError, match="1 bytes too many"):
        type(session).from_bytes(data + b"\0")


@BOTH
@given(place=st.integers(0, 300), flip=st.integers(1, 255))
def test_a_damaged_session_is_a_value_error_or_another_session(
    session: Session | ServerSession, place: int, flip: int
) -> None:
    data = bytearray(session.to_bytes())
    data[place % len(data)] ^= flip
    try:
        found = type(session).from_bytes(bytes(data))
    except ValueError:
        return
    assert found.to_bytes() == bytes(data)


@given(st.binary(max_size=200), st.sampled_from([Session, ServerSession]), st.booleans())
def test_bytes_of_no_session_are_a_value_error(
    data: bytes, kind: type[Session] | type[ServerSession], begun: bool
) -> None:
    if begun:  # with the right beginning, so that the fields are looked at
        data = (SESSION if kind is Session else SERVER_SESSION).to_bytes()[:7] + data
    with pytest.raises(ValueError, match="these bytes are"):
        kind.from_bytes(data)


def test_the_error_tells_another_kind_from_another_version() -> None:
    with pytest.raises(ValueError, match="not a client's session: give what its to_bytes"):
        Session.from_bytes(SERVER_SESSION.to_bytes())
    data = bytearray(SESSION.to_bytes())
    data[4] += 1
    with pytest.raises(ValueError, match="another version of trio_tls: drop it"):
        Session.from_bytes(bytes(data))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cipher_suite": CipherSuiteNumber.TLS_AES_128_CCM_SHA256}, "TLS_AES_128_CCM_SHA256, which is not known"),
        ({"cipher_suite": CipherSuiteNumber.TLS_AES_256_GCM_SHA384}, "does not go with the hash"),
        ({"psk": b""}, "does not go with the hash"),
        ({"ticket": b""}, "its bounds do not allow"),
        ({"received_at": float("nan")}, "a time that no clock tells"),
        ({"received_at": -1e300}, "a time that no clock tells"),
        ({"not_after": float("inf")}, "a time that no clock tells"),
        ({"peer_chain": (b"",)}, "its bounds do not allow"),
    ],
)
def test_what_no_handshake_could_have_made_is_a_value_error(change: dict[str, object], words: str) -> None:
    data = replace(SESSION, **change).to_bytes()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=words):
        Session.from_bytes(data)


@BOTH
def test_row_84_a_session_does_not_show_its_secrets(session: Session | ServerSession) -> None:
    shown = f"{session!r} {session} {[session]}"
    assert "secret key" not in shown
    assert "the ticket" not in shown
    assert "server.example.org" in shown


# -- age -------------------------------------------------------------------------------------------------------------


def test_the_obfuscated_age_is_in_milliseconds_and_wraps() -> None:
    assert SESSION.obfuscated_age(THEN) == 0xFFFF_FFF0
    assert SESSION.obfuscated_age(THEN + 1 / 32) == 31 - 16
    assert SESSION.obfuscated_age(THEN + 1) == 1000 - 16


@BOTH
def test_a_session_is_good_until_its_lifetime_ends(session: Session | ServerSession) -> None:
    assert not session.expired(THEN)
    assert not session.expired(THEN + DAY - 1)
    assert session.expired(THEN + DAY)


@BOTH
def test_row_57_no_session_is_good_for_more_than_seven_days(session: Session | ServerSession) -> None:
    eternal = replace(session, lifetime=2**32 - 1)
    assert not eternal.expired(THEN + MOST_LIFETIME - 1)
    assert eternal.expired(THEN + MOST_LIFETIME)


@BOTH
def test_a_lifetime_of_zero_is_over_at_once(session: Session | ServerSession) -> None:
    assert replace(session, lifetime=0).expired(THEN)


def test_a_clock_that_went_back_ends_a_clients_session() -> None:
    assert SESSION.expired(THEN - 0.1)


def test_a_server_takes_a_ticket_of_a_host_whose_clock_is_somewhat_ahead() -> None:
    assert not SERVER_SESSION.expired(THEN - 30)
    assert SERVER_SESSION.expired(THEN - 3600)


@BOTH
def test_row_55_a_session_ends_with_the_certificates_that_it_rests_on(session: Session | ServerSession) -> None:
    short = replace(session, not_after=THEN + 10)
    assert not short.expired(THEN + 10)
    assert short.expired(THEN + 11)
    assert not replace(session, not_after=None).expired(THEN + 11)


@BOTH
def test_resuming_again_and_again_does_not_put_off_the_next_full_handshake(session: Session | ServerSession) -> None:
    renewed = replace(session, authenticated_at=THEN - MOST_LIFETIME + 10)
    assert not renewed.expired(THEN + 9)
    assert renewed.expired(THEN + 10)


# -- what a session is bound to --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": b"another config"},
        {"server_name": "other.example.org"},
        {"server_name": None},
    ],
)
def test_row_55_a_client_resumes_only_what_it_asked_for_in_the_same_way(change: dict[str, object]) -> None:
    asked: dict[str, object] = {"fingerprint": b"client config", "server_name": "server.example.org"}
    assert SESSION.fits(**asked)  # type: ignore[arg-type]
    assert not SESSION.fits(**(asked | change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": b"another config"},
        {"server_name": "other.example.org"},
        {"server_name": None},
        {"alpn_protocol": b"http/1.1"},
        {"alpn_protocol": None},
    ],
)
def test_row_55_a_server_resumes_only_what_is_asked_of_it_in_the_same_way(change: dict[str, object]) -> None:
    asked: dict[str, object] = {
        "fingerprint": b"server config",
        "server_name": "server.example.org",
        "alpn_protocol": b"h2",
    }
    assert SERVER_SESSION.fits(**asked)  # type: ignore[arg-type]
    assert not SERVER_SESSION.fits(**(asked | change))  # type: ignore[arg-type]


# -- the client's cache ----------------------------------------------------------------------------------------------


def numbered(number: int) -> Session:
    return replace(SESSION, ticket=b"%d" % number)


def test_row_57_a_session_is_taken_once() -> None:
    cache: ClientSessionCache = SessionCache()
    cache.put(b"key", SESSION)
    assert cache.take(b"other key") is None
    assert cache.take(b"key") is SESSION
    assert cache.take(b"key") is None


def test_the_newest_session_of_a_server_is_taken_first() -> None:
    cache = SessionCache()
    for number in range(3):
        cache.put(b"key", numbered(number))
    assert [session and session.ticket for session in (cache.take(b"key") for _ in range(4))] == [
        b"2",
        b"1",
        b"0",
        None,
    ]


def test_row_58_a_flood_of_tickets_stays_within_the_bounds() -> None:
    cache = SessionCache(maxsize=3, per_server=2)
    for number in range(1000):
        cache.put(b"flood", numbered(number))
    assert len(cache) == 2
    for number in range(1000):
        cache.put(b"key %d" % number, SESSION)
    assert len(cache) == 3
    assert cache.take(b"flood") is None
    assert cache.take(b"key 999") is SESSION


def test_the_server_that_gave_none_for_the_longest_time_is_dropped_first() -> None:
    cache = SessionCache(maxsize=2)
    for key in (b"a", b"b", b"a", b"c"):
        cache.put(key, SESSION)
    assert cache.take(b"b") is None
    assert cache.take(b"a") is SESSION
    assert cache.take(b"c") is SESSION


def test_a_cleared_cache_has_nothing() -> None:
    cache = SessionCache()
    cache.put(b"key", SESSION)
    cache.clear()
    assert len(cache) == 0
    assert cache.take(b"key") is None


def test_row_57_no_session_is_taken_by_two_threads() -> None:
    cache = SessionCache(per_server=2000)
    for number in range(2000):
        cache.put(b"key", numbered(number))
    taken: list[bytes] = []

    def take() -> None:
        while (session := cache.take(b"key")) is not None:
            taken.append(session.ticket)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 2000


@pytest.mark.parametrize("bounds", [{"maxsize": 0}, {"per_server": 0}])
def test_a_cache_of_no_size_is_a_value_error(bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        SessionCache(**bounds)


def test_row_84_a_cache_shows_how_many_sessions_it_has_and_no_more() -> None:
    cache = SessionCache()
    cache.put(b"key", SESSION)
    assert repr(cache) == "<SessionCache with 1 sessions>"


# -- the server's store ----------------------------------------------------------------------------------------------


def test_row_57_a_stored_session_is_taken_once() -> None:
    store: ServerSessionStore = MemorySessionStore()
    store.put(b"identity", b"state", THEN)
    assert store.take(b"anything") is None
    assert store.take(b"identity") == b"state"
    assert store.take(b"identity") is None


def test_row_58_a_store_drops_the_oldest_when_it_is_full() -> None:
    store = MemorySessionStore(maxsize=2)
    for number in range(100):
        store.put(b"%d" % number, b"state", THEN)
    assert len(store) == 2
    assert store.take(b"97") is None
    assert store.take(b"98") == b"state"
    store.clear()
    assert store.take(b"99") is None
    assert repr(store) == "<MemorySessionStore with 0 sessions>"


def test_a_store_keeps_no_session_of_a_client_that_presents_a_lot() -> None:
    store = MemorySessionStore(maxsize=2)
    for size in (2**14 - 1, 2**14, 2**14 + 1):
        store.put(b"%d" % size, bytes(size), THEN)
    assert store.take(b"16385") is None
    assert store.take(b"16384") == bytes(2**14)
    assert store.take(b"16383") == bytes(2**14 - 1), "and nothing was dropped for it"


def test_a_store_of_no_size_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        MemorySessionStore(0)
