"""The matrix: which peer is to show which behaviour in which role, and what a peer cannot.

How this works. `cells` makes the parameters of a test: one for each peer and role that can. What a peer cannot stands
in `CANNOT`, with the reason, and nowhere else: a peer that could and does not is a failure. `Collected` gathers the
outcomes of the tests, from all the processes that run them, and writes them as a table.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import pytest

from trio_tls import CipherSuiteNumber, ClientConfig, NamedGroup

from .gnutls import GnuTLS
from .identities import KEY_OF
from .nss import NSS
from .openssl import OpenSSLCommand
from .peer import Peer
from .pyopenssl import PyOpenSSL
from .python_ssl import PythonSSL
from .tlslite_ng import Tlslite

Role = Literal["server", "client"]

PEERS: tuple[Peer, ...] = (OpenSSLCommand(), GnuTLS(), NSS(), Tlslite(), PythonSSL(), PyOpenSSL())
ROLES: tuple[Role, ...] = ("server", "client")


@dataclass(frozen=True)
class Lack:
    """Something that a peer does not have.

    Attributes:
      peer: its name.
      features: what it lacks; a pattern for the whole name of a feature.
      reason: why.
      role: in which role; both by default.
      until: the version of the peer that has it, if one is known.
    """

    peer: str
    features: str
    reason: str
    role: Role | None = None
    until: tuple[int, ...] | None = None

    def applies(self, peer: Peer, role: Role, feature: str) -> bool:
        return (
            self.peer == peer.name
            and self.role in {None, role}
            and re.fullmatch(self.features, feature) is not None
            and (self.until is None or version_of(self.peer) < self.until)
        )


SUITES = tuple(CipherSuiteNumber(number) for number in ClientConfig().cipher_suites)
GROUPS = tuple(NamedGroup(number) for number in ClientConfig().groups)
SCHEMES = tuple(KEY_OF)

#: The rows, in the order of the table.
FEATURES = (
    "handshake",
    *(f"suite {suite.name}" for suite in SUITES),
    *(f"group {group.name}" for group in GROUPS),
    *(f"signature {scheme.name}" for scheme in SCHEMES),
    *(f"client signature {scheme.name}" for scheme in SCHEMES),
    "hello retry request",
    "record size limit",
    "application protocol",
    "resumption",
    "resumption after a hello retry request",
    "client certificate accepted",
    "client certificate missing",
    "client certificate rejected",
    "server certificate rejected",
    "key update by the peer",
    "key update by the peer, asking for ours",
    "key update by us, asking for the peer's",
    "a megabyte each way",
    "our end first",
    "the peer's end first",
)

ML_DSA = "(client )?signature mldsa.*"
PQ = "group X25519MLKEM768"

#: The reasons are facts about the peers, or about their programs, and not about us.
CANNOT: tuple[Lack, ...] = (
    Lack("openssl", PQ, "OpenSSL has ML-KEM from 3.5 on", until=(3, 5)),
    Lack("openssl", ML_DSA, "OpenSSL has ML-DSA from 3.5 on", until=(3, 5)),
    Lack("ssl", PQ, "OpenSSL has ML-KEM from 3.5 on", until=(3, 5)),
    Lack("ssl", ML_DSA, "OpenSSL has ML-DSA from 3.5 on", until=(3, 5)),
    Lack("ssl", "key update by the peer.*", "the ssl module has no call for it"),
    Lack("pyopenssl", "key update by the peer.*", "pyOpenSSL has no call for it"),
    Lack("gnutls", PQ, "GnuTLS 3.7 has no ML-KEM"),
    Lack("gnutls", ML_DSA, "GnuTLS 3.7 has no ML-DSA"),
    Lack("gnutls", "key update by the peer", "gnutls-serv always asks for ours in return", "server"),
    Lack("gnutls", "record size limit", "gnutls-cli loses what it reads beyond one record", "client"),
    Lack("nss", PQ, "NSS 3.87 has no ML-KEM, and the tools have no name for it"),
    Lack("nss", ML_DSA, "NSS 3.87 has no ML-DSA"),
    Lack("nss", "(client )?signature ed.*", "NSS has no EdDSA in TLS"),
    Lack("nss", "key update by the peer.*", "the tools have no command for it"),
    Lack("nss", "application protocol", "tstclnt has no option for it", "client"),
    Lack("nss", "a megabyte each way", "selfserv keeps 10 kB of a request, and sends back no more", "server"),
    Lack("tlslite-ng", PQ, "tlslite-ng needs another package for ML-KEM"),
    Lack("tlslite-ng", ML_DSA, "tlslite-ng has no ML-DSA"),
    Lack("tlslite-ng", "client certificate missing", "tlslite-ng requires none of a client", "server"),
    Lack("tlslite-ng", "client certificate rejected", "tlslite-ng does not verify chains", "server"),
    Lack("tlslite-ng", "server certificate rejected", "tlslite-ng does not verify chains", "client"),
)


@cache
def version_of(peer: str) -> tuple[int, ...]:
    """The version of OpenSSL that a peer is; of one that is missing a high one, so that its tests tell of it."""
    if peer == "ssl":
        import ssl

        return ssl.OPENSSL_VERSION_INFO[:3]
    assert peer == "openssl"
    try:
        shown = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True).stdout
    except OSError:
        return (999,)
    found = re.search(r" (\d+)\.(\d+)\.(\d+)", shown)
    assert found is not None, shown
    return tuple(map(int, found.groups()))


def lack_of(peer: Peer, role: Role, feature: str) -> Lack | None:
    """Why the peer cannot, or None if it can."""
    return next((lack for lack in CANNOT if lack.applies(peer, role, feature)), None)


@dataclass(frozen=True)
class Cell:
    """One peer in one role, and what it is to show.

    Attributes:
      peer: the other implementation.
      role: the peer's.
      feature: the row of the matrix.
      value: what the row is about, where there are several of a kind.
    """

    peer: Peer
    role: Role
    feature: str
    value: Any = None


def cells(feature: str, values: Iterable[Any] = (None,), *, slow: bool = True) -> Callable[[Any], Any]:
    """Run a test for each peer that can, in each role, as the parameter ``cell``.

    Args:
      feature: the name of the row; the name of the value is added to it, if there are several.
      values: one row for each of them.
      slow: False: the test belongs to the quick suite.
    """
    parameters = []
    for value in values:
        row = feature if value is None else f"{feature} {value.name}"
        assert row in FEATURES
        for peer in PEERS:
            for role in ROLES:
                if lack_of(peer, role, row) is None:
                    marks = [pytest.mark.slow] if slow else []
                    identity = f"{row.replace(' ', '-')}-{peer.name}-{role}"
                    parameters.append(pytest.param(Cell(peer, role, row, value), id=identity, marks=marks))
    return pytest.mark.parametrize("cell", parameters)


#: What a test tells about itself: the row, the peer's name and its role.
PROPERTY = "interop"


class Collected:
    """The outcomes of the tests, as a table."""

    def __init__(self) -> None:
        self._outcomes: dict[tuple[str, str, str], str] = {}

    def add(self, report: pytest.TestReport) -> None:
        """Take what a test's report says, if it is one of the matrix."""
        for name, value in report.user_properties:
            if name == PROPERTY:
                feature, peer, role = str(value).split("|")
                key = (feature, peer, role)
                if report.failed or report.skipped:
                    self._outcomes[key] = "FAILED" if report.failed else "skipped"
                elif report.when == "call":
                    self._outcomes.setdefault(key, "ok")

    def lines(self) -> list[str]:
        """The table, and why a peer cannot; no lines if no test of the matrix ran."""
        if not self._outcomes:
            return []
        columns = [(peer, role) for peer in PEERS for role in ROLES]
        reasons: dict[str, int] = {}
        rows = [["", *(peer.name for peer, _ in columns)], ["the peer is the", *(role for _, role in columns)]]
        for feature in FEATURES:
            if any(row == feature for row, _, _ in self._outcomes):
                rows.append([feature, *(self._entry(feature, peer, role, reasons) for peer, role in columns)])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        table = ["  ".join(entry.ljust(width) for entry, width in zip(row, widths, strict=True)) for row in rows]
        notes = [f"  -{number}: the peer cannot: {reason}" for reason, number in reasons.items()]
        counted = [list(self._outcomes.values()).count(outcome) for outcome in ("ok", "FAILED", "skipped")]
        return [*table, *notes, f"{counted[0]} ok, {counted[1]} failed, {counted[2]} skipped"]

    def _entry(self, feature: str, peer: Peer, role: Role, reasons: dict[str, int]) -> str:
        lack = lack_of(peer, role, feature)
        if lack is not None:
            return f"-{reasons.setdefault(lack.reason, len(reasons) + 1)}"
        return self._outcomes.get((feature, peer.name, role), "not run")
