"""Where we accept and OpenSSL refuses, or the other way round, a section of an RFC says why.

How this works. Every mutation of `tests.differential.mutations` is sent to our machine and to OpenSSL's. Whether they
accept is compared, and not by which alert they refuse. A difference without a row in `tests.differential.table` fails
the test, and so does a row that is met no more. Nothing is random but the keys and the signatures: a failure names
the mutations that lead to it.
"""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from .fields import parse
from .mutations import Mutation, combined, mutations_of
from .newest import version as newest_version
from .subjects import KINDS, Kind, judge, messages_of
from .table import DIFFERENCES, Difference, as_rst, explained

# The library that parses certificates warns of some that it will refuse in future.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a .*:cryptography.utils.CryptographyDeprecationWarning")

EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)

#: Of the bytes without a meaning of their own, every so manieth is changed in the quick suite.
STRIDE = 40

#: The versions of OpenSSL that the table was made with, Python's and cryptography's: others may meet other rows.
VERSIONS = {False: (3, 0), True: (4, 0)}
PRESENT = {False: ssl.OPENSSL_VERSION_INFO[:2], True: newest_version()}

EITHER_OPENSSL = pytest.mark.parametrize(
    "newest",
    [
        pytest.param(False, id="openssl-of-python"),
        pytest.param(True, id="openssl-of-cryptography", marks=pytest.mark.slow),
    ],
)


def differences(kind: Kind, cases: Iterable[tuple[Mutation, ...]], *, newest: bool = False) -> Counter[Difference]:
    """How often each row was met; fails at a difference that has none."""
    met: Counter[Difference] = Counter()
    unexplained = []
    for mutations in cases:
        ours, theirs = judge(kind, mutations, newest=newest)
        if ours.accepted == theirs.accepted:
            continue
        refuses, error = ("OpenSSL", theirs.error) if ours.accepted else ("we", ours.error)
        row = explained(kind.role, refuses, error, [each.name for each in mutations])
        if row is None:
            unexplained.append(f"{kind.name}, {[each.name for each in mutations]}: {refuses} refuse: {error}")
        else:
            met[row] += 1
    assert not unexplained, "\n".join(unexplained)
    return met


@EITHER_OPENSSL
def test_every_difference_has_a_row_and_every_row_is_met(newest: bool) -> None:
    met: Counter[Difference] = Counter()
    for kind in KINDS:
        met += differences(kind, ((each,) for each in mutations_of(messages_of(kind), STRIDE)), newest=newest)
    if PRESENT[newest] == VERSIONS[newest]:
        # Whether a signature ends with a bit that may be unused is chance.
        expected = {row for row in DIFFERENCES if (row.still or not newest) and not row.mutation}
        assert expected - set(met) == set()


@EITHER_OPENSSL
@EVERY_KIND
def test_two_or_three_mutations_at_once_make_no_other_differences(kind: Kind, newest: bool) -> None:
    mutations = list(mutations_of(messages_of(kind), STRIDE))
    differences(kind, (combined(mutations, seed) for seed in range(60)), newest=newest)


@pytest.mark.slow
@EITHER_OPENSSL
@EVERY_KIND
def test_any_byte_of_any_message_makes_no_other_differences(kind: Kind, newest: bool) -> None:
    stride = 9 if newest else 1
    differences(kind, ((each,) for each in mutations_of(messages_of(kind), stride)), newest=newest)


@pytest.mark.slow
@EITHER_OPENSSL
@EVERY_KIND
def test_very_many_mutations_at_once_make_no_other_differences(kind: Kind, newest: bool) -> None:
    mutations = list(mutations_of(messages_of(kind), stride=7))
    differences(kind, (combined(mutations, seed) for seed in range(1000, 1120)), newest=newest)


@EVERY_KIND
def test_a_message_is_put_together_as_it_was_taken_apart(kind: Kind) -> None:
    for name, raw in messages_of(kind).items():
        assert parse(name, raw).encode() == raw


@EVERY_KIND
def test_every_mutation_but_a_few_changes_what_is_sent(kind: Kind) -> None:
    sent = messages_of(kind)
    mutations = list(mutations_of(sent, STRIDE))
    assert len(mutations) > 250
    assert len({each.name for each in mutations}) == len(mutations)
    idle = [each.name for each in mutations if list(each.edit(sent[each.message])) == [sent[each.message]]]
    assert all(each.endswith((": emptied", ": length 0", ": one byte less")) for each in idle), "what was empty before"


def test_a_difference_without_a_row_is_told_with_the_mutation_that_leads_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.differential.table.DIFFERENCES", ())
    kind = KINDS[0]
    version = next(
        each for each in mutations_of(messages_of(kind), STRIDE) if each.name.endswith("legacy_version: = 0301")
    )
    with pytest.raises(
        AssertionError, match=r"client_hello\.legacy_version: = 0301.*we refuse.*legacy_version is 0x0301"
    ):
        differences(kind, [(version,)])


def test_the_manual_has_the_table_as_it_is() -> None:
    page = Path(__file__).parents[2] / "docs" / "differential.rst"
    assert as_rst() in page.read_text(encoding="utf-8"), "run python -m tests.differential, and put it there"
