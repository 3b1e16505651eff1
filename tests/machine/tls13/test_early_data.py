"""Early data for a server that takes none (RFC 9846 section 4.3.10): it is skipped, within a budget."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from trio_tls.alerts import Alert
from trio_tls.machine.tls13.extensions import EarlyData, Extension
from trio_tls.machine.tls13.key_schedule import Secret
from trio_tls.machine.tls13.record import ReceivedAlert, RecordKey
from trio_tls.machine.tls13.record_reader import MOST_EARLY_DATA
from trio_tls.machine.tls13.registry import NamedGroup
from trio_tls.machine.tls13.suites import CipherSuite

from .ends import a_server
from .records import (
    ALERT,
    APPLICATION,
    CCS,
    FINISHED,
    HANDSHAKE,
    SUITE,
    a_reader,
    give,
    message,
    plain,
    read,
    refused,
    seal_inner,
    sealed,
)
from .scripted_peer import Meeting, ScriptedClient, meet

UNEXPECTED = Alert.unexpected_message
BAD_MAC = Alert.bad_record_mac
P256 = NamedGroup.secp256r1

BOTH = pytest.mark.parametrize("suite", [None, SUITE], ids=["after-a-retry", "under-the-handshake-key"])


def early(*sizes: int) -> bytes:
    """Early data: records under a key that the server does not have."""
    key = RecordKey(SUITE, Secret(b"\xea" * 32))
    return b"".join(seal_inner(key, b"e" * size + b"\x17") for size in sizes)


def flight(suite: CipherSuite | None, content: bytes = FINISHED) -> bytes:
    """What follows early data: the client's second hello, in plain, or what its handshake key protects."""
    return plain(HANDSHAKE, content) if suite is None else sealed((HANDSHAKE, content))


def a_skipping_reader(suite: CipherSuite | None, wire: bytes = b"") -> Any:
    reader = a_reader(wire, suite, established=False)
    reader.skip_early_data()
    reader.ccs_allowed = True
    return reader


# -- the reader ------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("sizes", [[0], [1], [100, 200], [16384], [256] * 64])
def test_row_60_early_data_is_skipped_until_the_clients_flight_goes_on(
    suite: CipherSuite | None, sizes: list[int]
) -> None:
    reader = a_skipping_reader(suite, early(*sizes) + flight(suite))
    assert message(reader) == (20, FINISHED)
    assert message(reader) is None


@BOTH
def test_early_data_is_skipped_however_it_is_cut(suite: CipherSuite | None) -> None:
    reader = a_skipping_reader(suite)
    wire = early(30, 40) + flight(suite)
    for index in range(len(wire)):
        assert message(reader) is None
        give(reader, wire[index : index + 1])
    assert message(reader) == (20, FINISHED)


def test_row_60_skipped_records_take_no_numbers() -> None:
    reader = a_skipping_reader(SUITE, early(10) * 5 + sealed((HANDSHAKE, FINISHED), (HANDSHAKE, FINISHED)))
    assert [message(reader), message(reader)] == [(20, FINISHED)] * 2


@BOTH
def test_a_change_cipher_spec_among_early_data_is_dropped(suite: CipherSuite | None) -> None:
    ccs = plain(CCS, b"\1")
    reader = a_skipping_reader(suite, ccs + early(10) + ccs + early(10) + flight(suite))
    assert message(reader) == (20, FINISHED)


@BOTH
def test_an_alert_after_early_data_is_heard(suite: CipherSuite | None) -> None:
    reader = a_skipping_reader(suite, early(10) + plain(ALERT, b"\2\x28"))
    assert message(reader) == ReceivedAlert(2, Alert.handshake_failure)


@BOTH
def test_row_60_more_early_data_than_the_budget_is_an_unexpected_message(suite: CipherSuite | None) -> None:
    record = early(1000)
    fits = MOST_EARLY_DATA // len(record)
    assert message(a_skipping_reader(suite, record * fits + flight(suite))) == (20, FINISHED)
    assert refused(a_skipping_reader(suite, record * (fits + 1) + flight(suite))) is UNEXPECTED


@BOTH
def test_row_60_empty_records_use_the_budget_up_as_well(suite: CipherSuite | None) -> None:
    record = early(0)
    assert refused(a_skipping_reader(suite, record * (MOST_EARLY_DATA // len(record) + 1))) is UNEXPECTED


@BOTH
def test_a_record_that_is_longer_than_any_may_be_is_not_waited_for(suite: CipherSuite | None) -> None:
    header = b"\x17\3\3" + (2**14 + 257).to_bytes(2, "big")
    assert refused(a_skipping_reader(suite, header)) is Alert.record_overflow


@BOTH
def test_row_60_after_the_flight_has_gone_on_nothing_is_skipped(suite: CipherSuite | None) -> None:
    reader = a_skipping_reader(suite, flight(suite) + early(10))
    assert message(reader) == (20, FINISHED)
    assert refused(reader) is (UNEXPECTED if suite is None else BAD_MAC)


@BOTH
def test_nothing_is_skipped_in_the_middle_of_a_message(suite: CipherSuite | None) -> None:
    reader = a_skipping_reader(suite, flight(suite, FINISHED[:9]) + early(10) + plain(HANDSHAKE, FINISHED[9:]))
    assert refused(reader) is (UNEXPECTED if suite is None else BAD_MAC)


def test_what_was_advertised_is_no_limit_for_early_data_but_for_the_flight() -> None:
    # A client sends early data by the limits of the connection that its ticket comes from.
    for finished, fits in ((FINISHED, True), (b"\x14\0\1\0" + bytes(256), False)):
        reader = a_skipping_reader(SUITE, early(1000) + sealed((HANDSHAKE, finished)))
        reader.record_size_limit = 100
        if fits:
            assert message(reader) == (20, finished)
        else:
            assert refused(reader) is Alert.record_overflow


def test_application_data_under_the_handshake_key_is_not_taken_for_early_data() -> None:
    reader = a_skipping_reader(SUITE, early(10) + sealed((APPLICATION, b"data")))
    assert refused(reader) is UNEXPECTED
    assert read(a_skipping_reader(SUITE, early(10))) == b""


@BOTH
def test_nothing_is_skipped_of_a_client_that_offered_no_early_data(suite: CipherSuite | None) -> None:
    reader = a_reader(early(10) + flight(suite), suite, established=False)
    assert refused(reader) is (UNEXPECTED if suite is None else BAD_MAC)


# -- the server ------------------------------------------------------------------------------------------------


class EarlyClient(ScriptedClient):
    """Offers early data, or does not, and sends it right behind its first hello."""

    def __init__(self, data: bytes, *, offered: bool = True, behind: Iterable[str] = ("client_hello",)) -> None:
        self._data, self._offered, self._behind = data, offered, behind
        super().__init__(hello=self._with_early_data)

    def _with_early_data(self, extensions: list[Extension]) -> list[Extension]:
        first, self._offered = self._offered, False  # "A client MUST NOT include ... in its followup ClientHello."
        return [*extensions, EarlyData()] if first else extensions

    def _send_hello(self, name: str) -> None:
        super()._send_hello(name)
        if name in self._behind:
            self.record(CCS, b"\1")
            self.raw(self._data)


def ask(data: bytes, *, retry: bool = False, **how: Any) -> Meeting:
    groups = [P256, NamedGroup.x25519] if retry else [NamedGroup.x25519]
    return meet(a_server(groups=groups), EarlyClient(data, **how))


RETRY = pytest.mark.parametrize("retry", [False, True], ids=["at-once", "retried"])


@RETRY
def test_row_60_a_client_with_early_data_is_served_without(retry: bool) -> None:
    meeting = ask(early(300, 16000), retry=retry).succeeded()
    meeting.peer.record(APPLICATION, b"once more, then")
    meeting.go_on()
    assert meeting.data == b"once more, then"


@RETRY
def test_row_60_a_client_with_too_much_early_data_is_refused(retry: bool) -> None:
    ask(early(*[1000] * 20), retry=retry).refused(UNEXPECTED, "more early data than is skipped")


def test_a_client_that_did_not_offer_it_sends_no_early_data() -> None:
    ask(early(10), offered=False).refused(BAD_MAC)
    ask(early(10), offered=False, retry=True).refused(UNEXPECTED, "before there are keys")


def test_row_60_early_data_behind_the_second_hello_is_not_skipped() -> None:
    ask(early(10), retry=True, behind=["second_client_hello"]).refused(BAD_MAC)
