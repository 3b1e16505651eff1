"""The manual's pages say what the code says: the tables made from it, the command's options, the examples."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from trio_tls.errors import ALERT_HINTS
from trio_tls.trust.failures import Reason

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {path.stem: path.read_text() for path in DOCS.glob("*.rst")}


def from_source() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_from_source", DOCS / "_ext" / "from_source.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_alert_of_a_peer_is_in_the_manual_with_its_hint() -> None:
    table = from_source().alerts()
    for alert, hint in ALERT_HINTS.items():
        assert f"``{alert.name}`` ({alert.value})\n     - {hint.replace('_', chr(92) + '_')}\n" in table
    assert ".. alerts::" in PAGES["errors"]


def test_every_reason_of_a_refused_certificate_is_in_the_manual_with_its_alert() -> None:
    rows = from_source().reasons().split("   * - ")[2:]
    assert len(rows) == len(Reason)
    for reason, row in zip(Reason, rows, strict=True):
        words, alert, hint = row.splitlines()[:3]
        assert words
        assert alert == f"     - ``{reason.alert.name}``"
        assert len(hint) > len("     - ")
    assert ".. reasons::" in PAGES["errors"]


def test_every_error_has_a_row() -> None:
    from trio_tls import errors

    for name in errors.__all__:
        if isinstance(getattr(errors, name), type) and name not in {"TLSError", "NeedHandshakeError"}:
            assert f"`~trio_tls.{name}`" in PAGES["errors"], name


@pytest.mark.parametrize("name", from_source().commands())
def test_every_option_of_the_command_is_in_the_manual(name: str) -> None:
    page = from_source().command(name)
    told = set(re.findall(r"(?:^\.\. option:: |, )(--?[a-z-]+)", page, re.MULTILINE))
    listed = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", from_source().commands()[name].format_usage()))
    assert told >= listed - {"-h"}
    assert f".. command:: {name}\n" in PAGES["command"]
    assert "%(" not in page  # what argparse would have filled in


def test_the_exit_statuses_are_in_the_manual() -> None:
    from trio_tls.cli.problem import ExitStatus

    told = set(map(int, re.findall(r"``(\d+)``", from_source().exit_status())))
    assert {int(ExitStatus.USAGE), int(ExitStatus.INTERRUPTED)} <= told <= {0, *map(int, ExitStatus)}


def test_text_of_the_code_cannot_become_markup() -> None:
    text = from_source()._text
    assert text("a_b *c* `d` |e|") == r"a\_b \*c\* \`d\` \|e\|"
    assert text("see --ca-file") == "see ``--ca-file``"


def test_there_is_no_python_in_the_pages_but_the_examples() -> None:
    for name, page in PAGES.items():
        assert "code-block:: python" not in page, name


def test_what_is_not_in_this_version_is_said() -> None:
    _, _, missing = PAGES["own-tls13"].partition("What is not in this version")
    missing, _, _ = missing.partition("Constant time")
    for what in (
        *("TLS 1.2", "0-RTT", "Encrypted Client Hello", "pre-shared keys", "authentication after the handshake"),
        *("raw public keys", "certificate compression", "OCSP", "CRLs"),
    ):
        assert what in missing, what


def test_every_page_is_in_the_contents() -> None:
    contents = re.findall(r"^   ([a-z0-9-]+)$", PAGES["index"], re.MULTILINE)
    assert sorted(contents) == sorted(set(PAGES) - {"index"})
