"""Numbers and vectors of the presentation language (RFC 9846 section 3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_tls import PeerMisbehaved
from trio_tls.alerts import Alert
from trio_tls.machine.tls13 import wire
from trio_tls.machine.tls13.wire import Reader


def reader_of(text: str) -> Reader:
    return Reader(bytes.fromhex(text), "Example")


def test_numbers_are_big_endian_and_taken_in_order() -> None:
    reader = reader_of("01 0203 040506 0708090a ff")
    assert (reader.uint8(), reader.uint16(), reader.uint24(), reader.uint32()) == (1, 0x0203, 0x040506, 0x0708090A)
    assert (reader.offset, reader.remaining) == (10, 1)
    assert reader.take(1) == b"\xff"
    reader.finish()


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@given(data=st.data())
def test_a_number_reads_as_it_was_written(size: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 256**size - 1))
    name = f"uint{8 * size}"
    written = getattr(wire, name)(n)
    assert len(written) == size
    assert getattr(Reader(written), name)() == n


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_number_that_ends_too_early_is_a_decode_error(size: int) -> None:
    reader = Reader(bytes(size - 1), "Example")
    with pytest.raises(PeerMisbehaved, match="^Example ends inside a field") as caught:
        getattr(reader, f"uint{8 * size}")()
    assert caught.value.alert is Alert.decode_error
    assert not caught.value.sent_by_peer
    assert reader.offset == 0


def test_a_vector_is_its_length_and_its_contents() -> None:
    assert wire.vector(2, b"abc") == b"\0\3abc"
    reader = Reader(wire.vector(1, b"abc") + wire.vector(3, b""))
    assert reader.vector(1) == b"abc"
    assert reader.vector(3) == b""
    reader.finish()


@pytest.mark.parametrize("size", [1, 5])
def test_a_vector_outside_of_its_bounds_is_a_decode_error(size: int) -> None:
    for read in (Reader.vector, Reader.sub, Reader.uint8_vector, Reader.uint16_vector):
        with pytest.raises(PeerMisbehaved, match=r"bounds do not allow \(RFC 9846 section 3\.4\)") as caught:
            read(Reader(wire.vector(1, bytes(size))), 1, low=2, high=4)
        assert caught.value.alert is Alert.decode_error


def test_a_vector_at_its_bounds_is_read() -> None:
    for size in (2, 4):
        assert Reader(wire.vector(1, bytes(size))).vector(1, low=2, high=4) == bytes(size)


@pytest.mark.parametrize("text", ["", "00", "0003 0102", "ffff 00"])
def test_a_vector_that_is_longer_than_what_is_there_is_a_decode_error(text: str) -> None:
    for read in (Reader.vector, Reader.sub, Reader.uint8_vector, Reader.uint16_vector):
        with pytest.raises(PeerMisbehaved, match="ends inside a field") as caught:
            read(reader_of(text), 2)
        assert caught.value.alert is Alert.decode_error


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_what_is_inside_a_vector_cannot_reach_out_of_it(size: int) -> None:
    def inner() -> Reader:
        return Reader(wire.vector(1, bytes(size - 1)) + bytes(8), "Example").sub(1)

    with pytest.raises(PeerMisbehaved, match="ends inside a field"):
        getattr(inner(), f"uint{8 * size}")()
    with pytest.raises(PeerMisbehaved, match="ends inside a field"):
        inner().take(size)
    with pytest.raises(PeerMisbehaved, match="ends inside a field"):
        inner().vector(size)
    with pytest.raises(PeerMisbehaved, match="ends inside a field of 2 bytes"):
        reader_of("0002 02ff aabb").sub(2).vector(1)


def test_an_odd_vector_of_two_byte_numbers_is_a_decode_error() -> None:
    with pytest.raises(PeerMisbehaved, match="3 bytes long") as caught:
        reader_of("03 010203").uint16_vector(1)
    assert caught.value.alert is Alert.decode_error


@given(st.lists(st.integers(0, 0xFFFF), max_size=100))
def test_a_vector_of_numbers_reads_as_it_was_written(numbers: list[int]) -> None:
    assert Reader(wire.uint16_vector(2, numbers)).uint16_vector(2) == tuple(numbers)
    small = [n & 0xFF for n in numbers]
    assert Reader(wire.uint8_vector(1, small)).uint8_vector(1) == tuple(small)


def test_a_sub_reader_shares_offsets_with_its_parent_which_goes_on_behind_it() -> None:
    reader = reader_of("aa 02 0102 bb")
    reader.uint8()
    inner = reader.sub(1)
    assert (inner.offset, inner.remaining, inner.what) == (2, 2, "Example")
    assert reader.uint8() == 0xBB
    assert inner.rest() == b"\1\2"
    inner.finish()
    reader.finish()


def test_bytes_too_many_are_a_decode_error() -> None:
    reader = reader_of("01 02 03")
    reader.uint8()
    with pytest.raises(PeerMisbehaved, match="Example has 2 bytes too many") as caught:
        reader.finish()
    assert caught.value.alert is Alert.decode_error


def test_what_was_taken_stays_when_the_buffer_below_changes() -> None:
    buffer = bytearray(b"\2ab")
    reader = Reader(memoryview(buffer))
    buffer[1:] = b"zz"
    assert reader.vector(1) == b"ab"


def test_what_does_not_fit_is_our_own_mistake_and_no_tls_error() -> None:
    with pytest.raises(OverflowError):
        wire.vector(1, bytes(256))
    with pytest.raises(OverflowError):
        wire.uint16(65536)
