"""The matrix itself: what is missing, what failed and what a peer cannot are told apart."""

from __future__ import annotations

import sys

import pytest

from .matrix import CANNOT, FEATURES, PEERS, PROPERTY, ROLES, Collected, lack_of
from .peer import Peer
from .threads import ThreadPeer


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_missing_peer_is_skipped_but_fails_in_continuous_integration(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(peer, ThreadPeer):
        monkeypatch.setitem(sys.modules, peer.module, None)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="install"):
        peer.require()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="install"):
        peer.require()


def test_every_lack_is_of_a_row_and_a_peer_that_there_are() -> None:
    for lack in CANNOT:
        always = type(lack)(lack.peer, lack.features, lack.reason, lack.role)
        assert any(always.applies(peer, role, feature) for peer in PEERS for role in ROLES for feature in FEATURES), (
            lack
        )


def test_the_table_tells_a_failure_from_what_a_peer_cannot() -> None:
    feature = "key update by the peer"
    openssl, nss = PEERS[0], PEERS[2]
    lack = lack_of(nss, "client", feature)
    assert lack is not None and lack_of(openssl, "client", feature) is None
    collected = Collected()
    assert collected.lines() == []
    collected.add(report(feature, openssl, "server", "passed"))
    collected.add(report(feature, openssl, "client", "failed"))
    lines = collected.lines()
    (row,) = [line.removeprefix(feature).split() for line in lines if line.startswith(feature)]
    assert row[:2] == ["ok", "FAILED"] and row[5].startswith("-")
    assert any(lack.reason in line for line in lines)
    assert lines[-1] == "1 ok, 1 failed, 0 skipped"


def report(feature: str, peer: Peer, role: str, outcome: str) -> pytest.TestReport:
    """What pytest reports of a test."""
    return pytest.TestReport(
        "a test",
        ("a file", 1, "a test"),
        {},
        outcome,  # type: ignore[arg-type]  # one of its literals
        None,
        "call",
        user_properties=[(PROPERTY, f"{feature}|{peer.name}|{role}")],
    )
