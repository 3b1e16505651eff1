"""Ticket keys: what they seal, what they open, and how they change.

``row_N`` in a name numbers a known pitfall of TLS implementations.
"""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_tls.machine.tls13.tickets import TicketKeys

HOUR = 3600
DAY = 24 * HOUR
SECRET = bytes(range(32))

#: The beginning of a period of twelve hours.
START = 12 * HOUR * 40_000.0


def randomness(seed: bytes = b"") -> Callable[[int], bytes]:
    """Bytes that look random, the same in every run."""
    drawn = 0

    def random(size: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.shake_128(b"%b %d" % (seed, drawn)).digest(size)

    return random


def own() -> TicketKeys:
    return TicketKeys(randomness())


def shared() -> TicketKeys:
    return TicketKeys.from_secret(SECRET, randomness())


BOTH = pytest.mark.parametrize("make", [own, shared])


def sealed(keys: TicketKeys, state: bytes, now: float) -> bytes:
    ticket = keys.seal(state, now)
    assert ticket is not None
    return ticket


@BOTH
@given(st.binary(max_size=500))
def test_a_ticket_is_opened_to_what_was_sealed(make: Callable[[], TicketKeys], state: bytes) -> None:
    keys = make()
    ticket = sealed(keys, state, START)
    assert keys.open(ticket, START + 1) == state
    assert len(ticket) == 16 + 12 + len(state) + 16


@BOTH
def test_a_ticket_shows_nothing_of_what_it_holds(make: Callable[[], TicketKeys]) -> None:
    keys = make()
    state = b"a state of many bytes, which a client must not read"
    first, second = sealed(keys, state, START), sealed(keys, state, START)
    assert state[:8] not in first
    assert first[16:] != second[16:]  # each has its own nonce


@BOTH
def test_a_ticket_with_any_byte_changed_is_none(make: Callable[[], TicketKeys]) -> None:
    keys = make()
    ticket = sealed(keys, b"state", START)
    for place in range(len(ticket)):
        for flip in (1, 0x80):
            changed = bytearray(ticket)
            changed[place] ^= flip
            assert keys.open(bytes(changed), START) is None
    for size in range(len(ticket)):
        assert keys.open(ticket[:size], START) is None
    assert keys.open(ticket + b"\0", START) is None


@BOTH
@given(st.binary(max_size=100), st.booleans())
def test_garbage_is_none(make: Callable[[], TicketKeys], garbage: bytes, named: bool) -> None:
    keys = make()
    name = sealed(keys, b"state", START)[:16]
    assert keys.open(name + garbage if named else garbage, START) is None


@BOTH
def test_row_56_the_key_changes_with_the_period(make: Callable[[], TicketKeys]) -> None:
    keys = make()
    names = {sealed(keys, b"state", START + 12 * HOUR * period)[:16] for period in range(10)}
    assert len(names) == 10
    assert sealed(keys, b"", START)[:16] == sealed(keys, b"", START + 12 * HOUR - 1)[:16]


@BOTH
def test_row_56_a_key_is_kept_as_long_as_its_tickets_live_and_then_gone(make: Callable[[], TicketKeys]) -> None:
    keys = make()
    late = sealed(keys, b"late", START + 12 * HOUR - 1)
    for hours in range(12, 36):
        assert keys.open(late, START + hours * HOUR - 2) == b"late"
    assert keys.open(late, START + 12 * HOUR - 1 + DAY) == b"late"  # its session tells that it has expired
    assert keys.open(late, START + 12 * HOUR + DAY) is None


@BOTH
def test_the_number_of_keys_stays_bounded_however_long_a_server_runs(make: Callable[[], TicketKeys]) -> None:
    keys = make()
    tickets = [sealed(keys, b"state", START + period * 12 * HOUR) for period in range(200)]
    now = START + 199 * 12 * HOUR
    assert [keys.open(ticket, now) for ticket in tickets[-3:]] == [b"state"] * 3
    assert not any(keys.open(ticket, now) for ticket in tickets[:-3])


@BOTH
def test_a_clock_that_goes_back_over_the_border_of_a_period_loses_no_ticket(make: Callable[[], TicketKeys]) -> None:
    keys = make()
    before = sealed(keys, b"before", START - 1)
    after = sealed(keys, b"after", START)
    for now in (START - 1, START, START - 1):
        assert keys.open(before, now) == b"before"
        assert keys.open(after, now) == b"after"


def test_keys_of_two_processes_do_not_open_each_others_tickets() -> None:
    ours, theirs = TicketKeys(randomness(b"1")), TicketKeys(randomness(b"2"))
    assert theirs.open(sealed(ours, b"state", START), START) is None


def test_hosts_with_one_secret_open_each_others_tickets() -> None:
    ours = TicketKeys.from_secret(SECRET, randomness(b"1"))
    theirs = TicketKeys.from_secret(SECRET, randomness(b"2"))
    for offset in (-12 * HOUR, -1, 0, 1, 12 * HOUR, DAY):
        ticket = sealed(ours, b"state", START)
        assert theirs.open(ticket, START + offset) == b"state", offset
    restarted = TicketKeys.from_secret(SECRET, randomness(b"3"))
    assert restarted.open(ticket, START + 1) == b"state"


def test_another_secret_or_another_rotation_makes_other_keys() -> None:
    ticket = sealed(shared(), b"state", START)
    assert TicketKeys.from_secret(SECRET[::-1], randomness()).open(ticket, START) is None
    assert TicketKeys.from_secret(SECRET, randomness(), rotation=DAY).open(ticket, START) is None


def test_row_56_there_is_no_secret_by_default_and_none_of_zeros() -> None:
    with pytest.raises(ValueError, match="all zero"):
        TicketKeys.from_secret(bytes(32), randomness())
    with pytest.raises(ValueError, match="31 bytes: at least 32"):
        TicketKeys.from_secret(SECRET[1:], randomness())
    with pytest.raises(TypeError):
        TicketKeys.from_secret()  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "numbers",
    [{"lifetime": 0}, {"lifetime": 7 * DAY + 1}, {"rotation": 0}, {"rotation": 59 * 60}, {"rotation": 7 * DAY + 1}],
)
def test_row_77_numbers_out_of_range_are_a_value_error(numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="seconds"):
        TicketKeys(randomness(), **numbers)
    with pytest.raises(ValueError, match="seconds"):
        TicketKeys.from_secret(SECRET, randomness(), **numbers)


def test_keys_that_change_seldom_or_often_work_too() -> None:
    for lifetime, rotation in ((1, 7 * DAY), (7 * DAY, HOUR), (7 * DAY, 7 * DAY)):
        keys = TicketKeys.from_secret(SECRET, randomness(), lifetime=lifetime, rotation=rotation)
        ticket = sealed(keys, b"state", START)
        assert keys.open(ticket, START + lifetime - 0.5) == b"state"
        assert keys.open(ticket, START + lifetime + 2 * rotation) is None


def test_a_state_too_large_for_a_ticket_makes_none() -> None:
    keys = own()
    assert len(sealed(keys, bytes(2**14 - 44), START)) == 2**14
    assert keys.seal(bytes(2**14 - 43), START) is None


@BOTH
def test_row_84_ticket_keys_do_not_show_themselves(make: Callable[[], TicketKeys]) -> None:
    keys = make()
    assert repr(keys) in (
        "<TicketKeys, random, lifetime=86400, rotation=43200>",
        "<TicketKeys, from a secret, lifetime=86400, rotation=43200>",
    )
    with pytest.raises(TypeError, match="from_secret"):
        pickle.dumps(keys)
    with pytest.raises(TypeError, match="from_secret"):
        copy.copy(keys)
