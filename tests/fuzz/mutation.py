"""Mutations of inputs where there is no fuzzer: hypothesis chooses the seed and the damage, and shrinks both."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

#: Bytes at which parsers break.
AWKWARD = (b"\0", b"\xff", b"\0\0", b"\xff\xff", b"\0\1", b"\x7f\xff", b"\x80", bytes(40))

Damage = tuple[int, int, bytes]


def _damages() -> st.SearchStrategy[list[Damage]]:
    added = st.sampled_from(AWKWARD) | st.binary(max_size=24)
    return st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 8), added), min_size=1, max_size=4)


def mutations(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """One of the seeds with a few bytes replaced, removed or put in; or bytes that have nothing to do with them."""

    def damaged(seed: bytes, damages: list[Damage]) -> bytes:
        for position, removed, added in damages:
            at = position % (len(seed) + 1)
            seed = seed[:at] + added + seed[at + removed :]
        return seed

    return st.builds(damaged, st.sampled_from(list(seeds)), _damages()) | st.binary(max_size=100)
