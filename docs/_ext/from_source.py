"""Parts of the manual that are made from the source: the command's options, the alerts, the reasons of a refusal.

How this works. Each function returns reStructuredText; `setup` makes a directive of each, so that nothing here needs
Sphinx before Sphinx asks for it, and the tests can look at the text alone. What has a row in the source and no words
here stops the build.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from trio_tls import Alert, ClientConfig, ServerConfig
from trio_tls.cli import parser
from trio_tls.errors import ALERT_HINTS
from trio_tls.trust.failures import Reason

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["alerts", "brief_signature", "command", "commands", "exit_status", "reasons", "setup"]

#: Characters of a default, with what stands before it, that a signature still shows.
LONGEST_DEFAULT = 24

#: What was found wrong with a certificate, for people.
REASONS = {
    Reason.NAME: "it is not valid for the name that was asked for",
    Reason.NO_NAMES: "it has no names",
    Reason.VALIDITY: "it, or one above it, has expired or is not yet valid",
    Reason.NO_PATH: "no path leads from it to a trust anchor",
    Reason.SIGNATURE: "a signature in the chain is wrong",
    Reason.PURPOSE: "it was not issued for this purpose",
    Reason.NOT_AN_ISSUER: "one above it may not issue certificates",
    Reason.NAME_CONSTRAINTS: "one above it may not issue certificates for such names",
    Reason.WEAK_KEY: "an RSA key in the chain is too small",
    Reason.KEY_TYPE: "a key in the chain is of a kind that is not allowed",
    Reason.SIGNATURE_ALGORITHM: "a signature in the chain is of a kind that is not allowed",
    Reason.MALFORMED: "it cannot be parsed",
    Reason.PROFILE: "its extensions do not suit the policy",
    Reason.LIMIT: "the chain is too long, or too much work",
    Reason.PIN: "it is verified, but no pinned key is in the chain",
    Reason.ABSENT: "none was presented",
    Reason.OTHER: "anything else",
}

#: Hints that are written for each case: they name the certificates.
WRITTEN_HINTS = {
    Reason.NO_PATH: "If the issuer is a CA to trust, add it to the TrustAnchors; "
    "if it is an intermediate, the peer has to send it with its certificate"
}


def alerts() -> str:
    """The alerts that a peer may send, and what to do about each."""
    rows = [(f"``{alert.name}`` ({alert.value})", _text(hint)) for alert, hint in ALERT_HINTS.items()]
    return _table(("the peer sent", "what to do"), (35, 65), rows)


def reasons() -> str:
    """Why our own verifier does not accept a certificate, the alert that it sends, and what to do."""
    rows = [
        (_text(REASONS[reason]), _alert(reason.alert), _text(WRITTEN_HINTS.get(reason) or reason.hint))
        for reason in Reason
    ]
    return _table(("what is wrong", "the alert", "what to do"), (35, 25, 40), rows)


def command(name: str) -> str:
    """One subcommand of ``trio-tls``: what it does, and every option."""
    found = commands()[name]
    blocks = [f".. program:: {found.prog}", _text(" ".join((found.description or "").split()))]
    for group in found._action_groups:  # noqa: SLF001  # argparse has no other way to look
        actions = [action for action in group._group_actions if not isinstance(action, argparse._HelpAction)]  # noqa: SLF001
        if not actions:
            continue
        if group.title not in (None, "options", "optional arguments", "positional arguments"):
            blocks.append(f".. rubric:: {_text(group.title.capitalize())}")
        blocks += [f".. option:: {_signature(action)}\n\n   {_text(_help(action))}" for action in actions]
    return "\n\n".join(blocks) + "\n"


def commands() -> dict[str, argparse.ArgumentParser]:
    """Every subcommand's parser, by name."""
    for action in parser()._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return dict(action.choices)
    raise LookupError("trio-tls has no subcommands")


def exit_status() -> str:
    """The exit statuses, from what ``--help`` says at the end."""
    epilog = next(each.epilog for each in commands().values() if each.epilog)
    title, *lines = epilog.splitlines()
    if title != "exit status:":
        raise LookupError(f"the end of --help is no list of exit statuses, but {title!r}")
    rows = [line.split(maxsplit=1) for line in lines]
    table = _table(("status", "meaning"), (15, 85), [(f"``{number}``", _text(words)) for number, words in rows])
    return table.replace("   :header-rows: 1", "   :header-rows: 1\n   :class: narrow")


def _signature(action: argparse.Action) -> str:
    metavar = action.metavar
    if action.choices is not None and metavar is None:
        metavar = "|".join(map(str, action.choices))
    takes_value = action.nargs != 0
    value = "" if not takes_value else str(metavar or action.dest.upper())
    if action.nargs == "*":
        value = f"[{value} ...]"
    return ", ".join(f"{option} {value}".strip() for option in action.option_strings) or value


def _help(action: argparse.Action) -> str:
    return (action.help or "") % {**vars(action), "prog": "trio-tls"}


def _alert(alert: Alert) -> str:
    return f"``{alert.name}``"


def _table(header: Sequence[str], widths: Sequence[int], rows: Iterable[Sequence[str]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {' '.join(map(str, widths))}", ""]
    for row in (header, *rows):
        for number, cell in enumerate(row):
            lines.append(f"   {' ' if number else '*'} - {cell}")
    return "\n".join(lines) + "\n"


def _text(words: str) -> str:
    """Plain words as reStructuredText; names of options and files keep their looks."""
    escaped = re.sub(r"([\\*`|_])", r"\\\1", words)
    return re.sub(r"(?<![\w-])(--[a-z][a-z-]*)", r"``\1``", escaped)


def brief_signature(config: type) -> str:
    """The signature of a config: its own fields first, as its docstring has them, and long defaults left out."""
    parameters = inspect.signature(config).parameters
    own = [name for name in config.__annotations__ if name in parameters]
    parts = ["*"]
    for name in (*own, *(name for name in parameters if name not in own)):
        default = parameters[name].default
        shown = "" if default is inspect.Parameter.empty else f" = {default!r}"
        if len(shown) > LONGEST_DEFAULT or "<" in shown:
            shown = " = ..."
        parts.append(f"{name}: {parameters[name].annotation}{shown}")
    return f"({', '.join(parts)})"


def setup(app: Sphinx) -> dict[str, bool]:
    """For Sphinx: a directive for each."""
    from docutils import nodes  # noqa: PLC0415  # the tests have no Sphinx
    from sphinx.util.docutils import SphinxDirective  # noqa: PLC0415

    def directive(render: Callable[..., str], arguments: int) -> type[SphinxDirective]:
        class FromSource(SphinxDirective):
            required_arguments = arguments

            def run(self) -> list[nodes.Node]:
                return self.parse_text_to_nodes(render(*self.arguments))

        return FromSource

    # Of a property's "The chain: DER." napoleon makes a property of the type "The chain". So what it was given is put
    # back: of the docstrings of properties and attributes it reads nothing else.
    given: list[str] = []

    def remember(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
        given[:] = lines

    def put_back(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
        if what in {"attribute", "property"}:
            lines[:] = given

    def shorten(
        app: Sphinx, what: str, name: str, obj: Any, options: object, signature: str | None, returned: str | None
    ) -> tuple[str | None, str | None] | None:
        return (brief_signature(obj), returned) if obj is ClientConfig or obj is ServerConfig else None

    app.connect("autodoc-process-signature", shorten)
    app.connect("autodoc-process-docstring", remember, priority=400)
    app.connect("autodoc-process-docstring", put_back, priority=600)
    app.add_directive("alerts", directive(alerts, 0))
    app.add_directive("reasons", directive(reasons, 0))
    app.add_directive("command", directive(command, 1))
    app.add_directive("exit-status", directive(exit_status, 0))
    return {"parallel_read_safe": True}
