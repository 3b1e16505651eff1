"""MemoryBIO: what it shares with `ssl.MemoryBIO`, views that stay put, and a limit that only counts."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trio_tls.machine.bio import SMALL, MemoryBIO

#: Lengths on both sides of the border between copied and queued writes.
LENGTHS = (1, 10, SMALL - 1, SMALL, SMALL + 1, 3 * SMALL)


# -- as ssl.MemoryBIO --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MemoryBIO, ssl.MemoryBIO])
def test_reads_writes_and_ends_as_ssl_memorybio_does(kind: Any) -> None:
    bio = kind()
    assert (bio.pending, bio.eof, bio.read()) == (0, False, b"")
    assert bio.write(b"hello ") == 6
    assert bio.write(bytearray(b"wor")) == 3
    assert bio.write(memoryview(b"ld")) == 2
    assert bio.write(b"") == 0
    assert bio.pending == 11
    assert bio.read(5) == b"hello"
    assert bio.read(0) == b""
    bio.write_eof()
    assert not bio.eof, "there are bytes to read before the end"
    assert bio.read(100) == b" world"
    assert bio.eof
    assert bio.read() == b""


def test_nothing_can_be_added_after_write_eof() -> None:
    bio = MemoryBIO()
    bio.write_eof()
    assert bio.eof and bio.eof_written
    with pytest.raises(ValueError, match="write_eof"):
        bio.write(b"x")
    with pytest.raises(ValueError, match="write_eof"):
        bio.reserve(1)


def test_a_view_of_wider_items_is_written_byte_by_byte() -> None:
    import array

    for count in (3, SMALL):
        numbers = array.array("I", range(count))
        bio = MemoryBIO()
        assert bio.write(memoryview(numbers)) == 4 * count
        assert bio.read() == numbers.tobytes()


@pytest.mark.parametrize("length", LENGTHS)
def test_what_was_written_does_not_change_with_the_writers_buffer(length: int) -> None:
    bio = MemoryBIO()
    buffer = bytearray(b"a" * length)
    bio.write(buffer)
    bio.write(memoryview(buffer))
    buffer[:] = b"z" * length
    assert bio.read() == b"a" * (2 * length)


# -- reserve and commit ------------------------------------------------------------------------------------


def test_only_what_was_committed_of_a_reservation_is_pending() -> None:
    bio = MemoryBIO()
    view = bio.reserve(10)
    assert len(view) == 10 and not view.readonly
    view[:4] = b"abcd"
    assert bio.pending == 0
    bio.commit(4)
    assert bio.read() == b"abcd"


def test_a_reservation_given_up_leaves_nothing() -> None:
    bio = MemoryBIO()
    bio.write(b"before")
    bio.reserve(10)[:3] = b"xxx"
    bio.commit(0)
    bio.write(b" after")
    assert bio.read() == b"before after"


def test_a_second_reservation_replaces_the_first() -> None:
    bio = MemoryBIO()
    bio.reserve(4)[:] = b"lost"
    bio.reserve(4)[:] = b"kept"
    bio.commit(4)
    assert bio.read() == b"kept"


@pytest.mark.parametrize(("size", "committed"), [(4, 5), (4, -1)])
def test_commit_checks_its_size(size: int, committed: int) -> None:
    bio = MemoryBIO()
    bio.reserve(size)
    with pytest.raises(ValueError, match="commit"):
        bio.commit(committed)


def test_misuse_is_a_value_error() -> None:
    bio = MemoryBIO()
    with pytest.raises(ValueError, match="without reserve"):
        bio.commit(1)
    with pytest.raises(ValueError, match="at least one byte"):
        bio.reserve(0)
    with pytest.raises(ValueError, match="consume"):
        bio.consume(1)
    bio.write(b"ab")
    with pytest.raises(ValueError, match="consume"):
        bio.consume(-1)
    assert bio.read() == b"ab"


# -- views that stay put -----------------------------------------------------------------------------------


@pytest.mark.parametrize("held", LENGTHS)
@pytest.mark.parametrize("added", LENGTHS)
def test_a_view_from_peek_stays_as_it_is_while_others_write_commit_and_consume(held: int, added: int) -> None:
    bio = MemoryBIO()
    for _ in range(held):
        bio.write(b"h")
    view = bio.peek()
    seen = bytes(view)
    bio.write(b"w" * added)
    assert bytes(view) == seen, "after a write"
    bio.reserve(added)[:] = b"c" * added
    bio.commit(added)
    assert bytes(view) == seen, "after a commit"
    bio.consume(len(view))
    assert bytes(view) == seen, "after its own bytes were consumed"
    bio.write(b"later")
    assert bytes(view) == seen, "and what comes next does not take their place"
    assert bio.read() == b"h" * (held - len(seen)) + b"w" * added + b"c" * added + b"later"


@pytest.mark.parametrize("held", [0, *LENGTHS])
@pytest.mark.parametrize("added", LENGTHS)
def test_a_view_from_reserve_stays_writable_while_others_write_and_consume(held: int, added: int) -> None:
    bio = MemoryBIO()
    for _ in range(held):
        bio.write(b"h")
    view = bio.reserve(100)
    view[:50] = b"1" * 50
    bio.write(b"w" * added)
    bio.write(b"W")
    bio.consume(held)
    view[50:] = b"2" * 50
    bio.commit(100)
    # The reservation is appended when it is committed: behind what was written meanwhile.
    assert bio.read() == b"w" * added + b"W" + b"1" * 50 + b"2" * 50


def test_a_reservation_survives_the_reading_of_all_that_stood_before_it() -> None:
    bio = MemoryBIO()
    bio.reserve(100)[:10] = b"0123456789"
    bio.commit(10)
    view = bio.reserve(50)
    assert bio.read() == b"0123456789"
    bio.write(b"while it was lent")
    view[:] = b"r" * 50
    bio.commit(50)
    assert bio.read() == b"while it was lent" + b"r" * 50


def test_long_immutable_bytes_are_queued_without_a_copy() -> None:
    data = b"d" * SMALL
    bio = MemoryBIO()
    bio.write(data)
    assert bio.peek().obj is data


def test_peek_of_an_empty_queue_is_empty() -> None:
    assert bytes(MemoryBIO().peek()) == b""


# -- the limit ---------------------------------------------------------------------------------------------


def test_room_counts_down_to_zero_but_write_never_refuses() -> None:
    bio = MemoryBIO(limit=10)
    assert bio.room == 10
    bio.write(b"1234567")
    assert bio.room == 3
    bio.write(b"an alert always has room")
    assert bio.room == 0
    bio.consume(bio.pending - 9)
    assert bio.room == 1


def test_a_bio_without_a_limit_has_no_room_to_tell() -> None:
    with pytest.raises(ValueError, match="no limit"):
        MemoryBIO().room  # noqa: B018  # the property raises


def test_total_consumed_tells_when_a_given_byte_has_left() -> None:
    bio = MemoryBIO()
    bio.write(b"flight")
    end = bio.total_consumed + bio.pending
    bio.write(b"data behind it")
    bio.consume(5)
    assert bio.total_consumed < end
    bio.read(1)
    assert bio.total_consumed == end


def test_an_adopted_buffer_is_queued_as_it_is() -> None:
    bio = MemoryBIO()
    first, second = bytearray(b"a" * 3 * SMALL), bytearray(b"b" * SMALL)
    bio.adopt(first)
    assert bio.peek().obj is first
    bio.adopt(second)
    bio.adopt(bytearray())
    assert bio.pending == 4 * SMALL
    bio.consume(3 * SMALL)
    assert bio.peek().obj is second


def test_an_adopted_buffer_leaves_in_one_send_with_a_few_bytes_before_it() -> None:
    bio = MemoryBIO()
    bio.write(b"finished")
    bio.adopt(bytearray(b"r" * 3 * SMALL))
    bio.adopt(bytearray(b"t"))
    assert bytes(bio.peek()) == b"finished" + b"r" * 3 * SMALL
    assert bio.read() == b"finished" + b"r" * 3 * SMALL + b"t"
    bio.write_eof()
    with pytest.raises(ValueError, match="write_eof"):
        bio.adopt(bytearray(b"x"))


# -- against a bytearray -----------------------------------------------------------------------------------


class BIOModel(RuleBasedStateMachine):
    """Any sequence of calls leaves the bytes that a plain bytearray would hold, and no view ever changes."""

    def __init__(self) -> None:
        super().__init__()
        self.bio = MemoryBIO(limit=5000)
        self.model = bytearray()
        self.consumed = 0
        self.lent: memoryview | None = None
        self.peeked: list[tuple[memoryview, bytes]] = []
        self.count = 0

    def fresh(self, length: int) -> bytes:
        """Bytes that tell their place."""
        self.count += 1
        return (self.count.to_bytes(3, "big") * (length // 3 + 1))[:length]

    lengths = st.one_of(st.integers(0, 40), st.integers(SMALL - 3, SMALL + 3))

    @rule(length=lengths, kind=st.sampled_from([bytes, bytearray, memoryview]))
    def write(self, length: int, kind: Any) -> None:
        data = self.fresh(length)
        assert self.bio.write(kind(data)) == length
        self.model += data

    @rule(length=lengths)
    def adopt(self, length: int) -> None:
        data = self.fresh(length)
        self.bio.adopt(bytearray(data))
        self.model += data

    @rule(length=st.one_of(st.integers(1, 40), st.integers(SMALL - 3, SMALL + 3)))
    def reserve(self, length: int) -> None:
        self.lent = self.bio.reserve(length)
        assert len(self.lent) == length

    @precondition(lambda self: self.lent is not None)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        assert self.lent is not None
        size = data.draw(st.integers(0, len(self.lent)))
        filled = self.fresh(size)
        self.lent[:size] = filled
        self.bio.commit(size)
        self.model += filled
        self.lent = None

    @rule()
    def peek(self) -> None:
        view = self.bio.peek()
        assert bytes(view) == self.model[: len(view)]
        assert len(view) or not self.model
        self.peeked.append((view, bytes(view)))

    @rule(data=st.data())
    def consume(self, data: st.DataObject) -> None:
        size = data.draw(st.integers(0, len(self.model)))
        self.bio.consume(size)
        del self.model[:size]
        self.consumed += size

    @rule(size=st.integers(-1, 60))
    def read(self, size: int) -> None:
        expected = bytes(self.model if size < 0 else self.model[:size])
        assert self.bio.read(size) == expected
        del self.model[: len(expected)]
        self.consumed += len(expected)

    @invariant()
    def the_counts_fit(self) -> None:
        assert self.bio.pending == len(self.model)
        assert self.bio.room == max(0, 5000 - len(self.model))
        assert self.bio.total_consumed == self.consumed

    @invariant()
    def no_view_has_changed(self) -> None:
        for view, seen in self.peeked:
            assert bytes(view) == seen

    def teardown(self) -> None:
        assert self.bio.read() == self.model


BIOModel.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestModel = BIOModel.TestCase
