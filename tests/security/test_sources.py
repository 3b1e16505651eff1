"""What the sources must not have: asserts that a peer can reach, and secrets that are compared byte by byte.

How this works. The sources are parsed. Every ``assert`` is listed here with the reason why it holds whatever a peer
sends, and every comparison with ``==`` of what is named like a secret. A new one fails, until somebody has argued it.
The library does not depend on its asserts: a handshake and its refusals are the same under ``python -O``.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trio_tls

PACKAGE = Path(trio_tls.__file__).parent

#: What no peer of an application gets to: measuring, and what tests of applications are made of.
APART = {"bench", "testing"}
EXPOSED = sorted(path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in APART)

_DONE = "it is set when the handshake is done, and what was called before raises NeedHandshakeError"
_OPTIONS = "the options of the command decide it before it connects or listens"

#: Every assert of those modules, and why it holds.
ASSERTS: dict[str, str] = {
    "ending: transport is not None": "`_check_usable` has seen it, and the guards keep other calls out",
    "ending: self._background is not None": "the nursery and what runs in it are made together",
    "accessors: self._machine.info is not None": "it is set with handshake_done, which has been asked for",
    "blocking_contexts: isinstance(need, NeedBlockingStep)": "it is the only need that this machine makes",
    "machine.client_hello: isinstance(hello, ClientHello)": "its class is chosen by the type, which was compared",
    "machine.tls13.resumption: sealed is not None": "a ticket that is too long was found before, with the first one",
    "machine.tls13.connection: self._steps is not None": "it is None after a failure or the end: both return",
    "machine.tls13.connection: handshake is not None": "it is the handshake whose end is being dealt with",
    "machine.tls13.certificates: isinstance(answer, bytes)": "the key is here: only remote signers may be awaited",
    "machine.tls13.server: share is not None": "it was in the first ClientHello, or the second was refused without it",
    "machine.choosing: self._steps is not None": "it is None after a failure or the choice",
    "machine.choosing: self.chosen is not None": "the stream asks for it once the handshake is done",
    "machine.tls13.connection: isinstance(handshake, ServerHandshake)": "a ClientHello chooses servers",
    "serving.connections: info is not None": _DONE,
    "machine.tls13.server: parameters.verifier is not None": "the config refuses client_auth without a verifier",
    "asgi: info is not None": _DONE,
    "identity: der is not None": "getpeercert() of the same stream has just told of a certificate that was verified",
    "redis.client: patience.cancelled_caught": "what is before returns or raises, unless it took too long",
    "from_context: hello is not None": "no peer is there: it is what our own OpenSSL begins with",
    "from_context: found is not None": "no peer is there: `_unfit_trust` has refused such a context",
    "cli.__init__: isinstance(status, int)": "no peer is there: each command returns its ExitStatus",
    "cli.backend: problem is not None": "a stream raises TLSError alone, and each of these has its Problem",
    "cli.configs: credential is not None": _OPTIONS,
    "cli.connect: isinstance(config, ClientConfig)": _OPTIONS,
    "cli.connect: options.host is not None": _OPTIONS,
    "cli.connect: self._options.server_name is not None": _OPTIONS,
    "cli.connect: stream.info is not None": _DONE,
    "cli.contexts: tls.certificate is not None": _OPTIONS,
    "cli.facts: info is not None": _DONE,
    "cli.proxy: error is not None": "a SpliceBroken is raised from what has broken, and from nothing else",
    "cli.serve: isinstance(stream, VisitStream)": "with --www the listeners make no others",
    "cli.visit: hello is not None": "the hello chooses the config, and is kept then: no handshake without it",
    "cli.visit: self.info is not None": _DONE,
}

#: Names of what an attacker must not guess byte by byte.
SECRET = re.compile(r"secret|psk|binder|verify_data|\bmac\b|\btag\b|password|private|expected", re.IGNORECASE)

#: Comparisons of what only looks like one, and what is compared there.
COMPARED: dict[str, str] = {"machine.tls13.certificate_dict: name.value[0] != tag": "a tag of DER, in a certificate"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def asserts() -> Iterator[str]:
    for path in EXPOSED:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assert):
                yield f"{name_of(path)}: {ast.unparse(node.test)}"


def test_every_assert_has_its_reason_why_no_peer_can_reach_it() -> None:
    found = set(asserts())
    assert not found - set(ASSERTS), "why can no peer reach these? Argue it in ASSERTS, or raise an error"
    assert not set(ASSERTS) - found, "these are gone: take them out of ASSERTS"


def comparisons() -> Iterator[str]:
    for path in EXPOSED:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare) and any(isinstance(each, ast.Eq | ast.NotEq) for each in node.ops):
                sides = [ast.unparse(side) for side in (node.left, *node.comparators)]
                if any(SECRET.search(side) and not side.startswith(("len(", "type(")) for side in sides):
                    yield f"{name_of(path)}: {ast.unparse(node)}"


def test_no_secret_is_compared_byte_by_byte() -> None:
    assert set(comparisons()) == set(COMPARED)


def test_what_is_compared_in_constant_time_is_the_finished_and_the_binder() -> None:
    """A tag is compared by `cryptography`; so is a MAC nowhere else. The list in docs/security.rst is this one."""
    found = {
        name_of(path)
        for path in EXPOSED
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("bytes_eq")
    }
    assert found == {"machine.tls13.established", "machine.tls13.server"}


@pytest.mark.parametrize("path", EXPOSED, ids=name_of)
def test_randomness_comes_from_the_system(path: Path) -> None:
    """``random`` is for tests; secrets come from ``os.urandom`` or `cryptography`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        assert "random" not in names


OPTIMIZED = """
from tests.machine.tls13 import ends
from tests.fuzz.targets import TARGETS
ends.connected()
for name in ("to-client", "to-server", "server-by-hand", "client-by-hand", "messages"):
    for seed in TARGETS[name].seeds()[:20]:
        for at in range(3, len(seed), max(1, len(seed) // 8)):
            TARGETS[name].run(seed[:at] + bytes((seed[at] ^ 1,)) + seed[at + 1:])
if __debug__:
    raise SystemExit("this has to run under -O")
"""


def test_a_handshake_and_its_refusals_need_no_assert() -> None:
    done = subprocess.run(
        [sys.executable, "-O", "-c", OPTIMIZED], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
