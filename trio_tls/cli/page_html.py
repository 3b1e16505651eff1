"""The page of ``trio-tls serve --www``: one visit as HTML, without scripts, and without anything from elsewhere.

How this works. Every piece is a function that returns a string of HTML, and each text passes through `html.escape`
where it enters one. The pieces have no styles of their own: the one style sheet is ``page.css``, with that of the
ladder behind it, and by `STYLE_HASH` the page's Content-Security-Policy knows it.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
import sys
from collections.abc import Callable, Iterable, Iterator
from html import escape
from importlib.resources import files
from typing import TypeVar

from .. import __version__
from ..machine.tls13.registry import is_grease
from . import ladder, ladder_svg
from .ladder_svg import NARROW, WIDE, picture
from .printable import printable
from .registered import (
    extension_name,
    extension_purpose,
    group_name,
    is_post_quantum,
    scheme_name,
    suite_name,
    version_name,
)
from .trace import Connection, Kind
from .visit import Visit

__all__ = ["STYLE_HASH", "html_of"]

T = TypeVar("T")

STYLE = files("trio_tls.cli").joinpath("page.css").read_text(encoding="utf-8") + ladder_svg.STYLE

#: As a Content-Security-Policy names a style that is in the page.
STYLE_HASH = "sha256-" + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

#: A padlock. In the page, so that no browser asks for it.
ICON = "data:image/svg+xml," + (
    "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Cpath d='M4.5 7V5a3.5 3.5 0 0 1 7 0v2' fill='none' stroke='%231a7f37' stroke-width='2'/%3E"
    "%3Crect x='2.5' y='7' width='11' height='8' rx='2' fill='%231a7f37'/%3E%3C/svg%3E"
)

NOT_TOLD = f"not told by Python {sys.version_info[0]}.{sys.version_info[1]}"


def html_of(visit: Visit) -> str:
    """The whole page."""
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            "<title>Your TLS handshake</title>",
            f'<link rel="icon" href="{ICON}">',
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            "<header>",
            '<p class="about">Your TLS handshake, as the server has seen it</p>',
            f"<h1>{escape(_headline(visit))}</h1>",
            _tags(visit),
            f"<p>{escape(_key_exchange(visit))}</p>",
            "</header>",
            "<main>",
            _facts(visit),
            _messages(visit.ladder),
            _offers(visit),
            "</main>",
            "<footer>",
            f'<p>trio-tls {escape(__version__)}. The same <a href="/json">as JSON</a>. A reload is a new connection, '
            "which resumes this session if your client keeps sessions.</p>",
            "</footer>",
            "</body>",
            "</html>",
            "",
        )
    )


# -- what was agreed -----------------------------------------------------------------------------------------


def _version(visit: Visit) -> str:
    return visit.facts.version.replace("TLSv", "TLS ")


def _headline(visit: Visit) -> str:
    group = visit.facts.group
    if group is None:
        return f"You speak {_version(visit)}"
    return f"You speak {_version(visit)}, {'' if is_post_quantum(group) else 'not '}post-quantum"


def _key_exchange(visit: Visit) -> str:
    """The sentence below the headline."""
    group = visit.facts.group
    if group is None:
        offered = [name for name in map(group_name, visit.hello.groups) if is_post_quantum(name)]
        theirs = offered[0] if offered else "no group that would be"
        return (
            "Whether the key exchange was post-quantum cannot be told: Python's ssl module does not say by which group "
            f"it was made (Python 3.15 is the first that does). Your client has offered {theirs}."
        )
    if is_post_quantum(group):
        return (
            f"The keys were agreed by {group}. Who records this connection today cannot read it with the quantum "
            "computer of tomorrow, as far as anybody knows."
        )
    return (
        f"The keys were agreed by {group}. That is safe today; but who records this connection could read it one day, "
        "with a large quantum computer."
    )


def _tags(visit: Visit) -> str:
    facts = visit.facts
    tags = [(_version(visit), "good" if facts.version == "TLSv1.3" else "warn")]
    if facts.group is None:
        tags.append(("group not told", ""))
    else:
        tags.append(("post-quantum", "good") if is_post_quantum(facts.group) else ("not post-quantum", "warn"))
    tags.append(("session resumed", "good") if facts.session_reused else ("new session", ""))
    if any(map(is_grease, visit.hello.extension_types)):
        tags.append(("GREASE", ""))
    items = "".join(f'<li class="tag {style}">{escape(text)}</li>' for text, style in tags)
    return f'<ul class="tags" aria-label="In short">{items}</ul>'


def _facts(visit: Visit) -> str:
    rows = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(fact)}{f'<small>{escape(more)}</small>' if more else ''}</dd></div>"
        for name, fact, more in _told(visit)
    )
    return f'<dl class="facts">\n{rows}\n</dl>'


def _told(visit: Visit) -> Iterator[tuple[str, str, str]]:
    """What each fact is called, the fact, and a word about it."""
    facts, hello = visit.facts, visit.hello
    yield "Version", _version(visit), "" if facts.version == "TLSv1.3" else "TLS 1.3 is the current one"
    yield "Cipher suite", visit.suite, f"{facts.cipher_bits}-bit keys" if facts.cipher_bits else ""
    if facts.group is None:
        yield "Key exchange group", NOT_TOLD, "3.15 is the first that does"
    else:
        hybrid = "a hybrid: post-quantum ML-KEM beside a classical curve"
        yield "Key exchange group", facts.group, hybrid if is_post_quantum(facts.group) else "classical"
    signature, about_it = _signature(visit)
    yield "Our signature", signature, about_it
    why = "" if facts.alpn else "none of yours is served here" if hello.alpn_protocols else "your client offers none"
    yield "Application protocol (ALPN)", facts.alpn or "none", why
    name = hello.server_name
    yield "Server name (SNI)", printable(name) if name else "none", "" if name else "an address is never sent"
    if facts.session_reused:
        yield "Session", "resumed", "no certificate and no signature was needed this time"
    else:
        yield "Session", "new", "reload to see if it is resumed"
    chain = facts.presented_chain
    yield "Your certificate", chain[0].subject if chain else "none", "verified" if facts.verified_chain else ""
    if facts.local_chain:
        yield "Our certificate", facts.local_chain[0].subject, facts.local_chain[0].key()
    yield "Your address", visit.peer, ""
    if visit.ladder is not None:
        retried = any(rung.name == "hello_retry_request" for rung in visit.ladder.rungs)
        done = max(rung.at for rung in visit.ladder.rungs if rung.name == "finished") - visit.ladder.rungs[0].at
        yield "The handshake took", f"{1000 * done:.1f} ms", "two round trips" if retried else "one round trip"
    if visit.ladder is None:
        yield "Our TLS", " ".join(ssl.OPENSSL_VERSION.split()[:2]), "by Python's ssl module"
    else:
        yield "Our TLS", "trio_tls", "our own TLS 1.3"


def _signature(visit: Visit) -> tuple[str, str]:
    if visit.signature is not None:
        return visit.signature, "made with our certificate's key"
    if visit.facts.session_reused:
        return "none", "a resumed session is authenticated by its secret"
    return NOT_TOLD, "OpenSSL knows, but Python's ssl module has no way to ask"


# -- the messages --------------------------------------------------------------------------------------------

#: What each message is for, in the order of its first appearance.
MEANINGS = {
    "client_hello": "Your client says what it knows, and sends its half of the key exchange.",
    "hello_retry_request": "The server wants another key share than those that came: the client begins again.",
    "server_hello": "The server has chosen, and sends its half. From here on all is encrypted.",
    "encrypted_extensions": "The other choices, such as the application protocol.",
    "certificate_request": "The server asks for a certificate of the client.",
    "certificate": "Who one is, vouched for by an authority.",
    "certificate_verify": "Proof that the key of that certificate is at hand: a signature over all messages so far.",
    "finished": "A checksum over all messages so far, under the new keys: nobody in between has changed one.",
    "new_session_ticket": "With this the client can resume the session, without certificates.",
}


def _messages(connection: Connection | None) -> str:
    if connection is None:
        return (
            '<section aria-labelledby="messages">\n<h2 id="messages">The handshake</h2>\n'
            "<p>It cannot be drawn here: Python's ssl module does not tell of single messages. Without --openssl, "
            "trio-tls serve speaks TLS by its own machine, which does.</p>\n</section>"
        )
    wide = picture([connection], WIDE, name="ladder-wide")
    narrow = picture([connection], NARROW, name="ladder-narrow")
    rows = "\n".join(_rung(connection, number) for number in range(len(connection.rungs)))
    names = dict.fromkeys(rung.name for rung in connection.rungs if rung.name in MEANINGS)
    meanings = "\n".join(f"<dt>{escape(ladder.title(name))}</dt><dd>{MEANINGS[name]}</dd>" for name in names)
    return f"""<section aria-labelledby="messages">
<h2 id="messages">The handshake</h2>
<p class="soft">Message by message, with the milliseconds since you connected.</p>
<div class="side">
<figure>
<div class="wide">{wide}</div>
<div class="narrow">{narrow}</div>
</figure>
<dl class="meanings">
{meanings}
</dl>
</div>
<details>
<summary>The same as a table</summary>
<div class="table">
<table>
<thead><tr><th scope="col">ms</th><th scope="col">from</th><th scope="col">what</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
</details>
</section>"""


def _rung(connection: Connection, number: int) -> str:
    rung = connection.rungs[number]
    if rung.kind in (Kind.MESSAGE, Kind.ALERT):
        whose, text = ("server" if rung.sent is connection.server_side else "client"), ladder.label(rung)
    else:
        whose, text = "", f"server {ladder.note(connection, number)}"
    return f'<tr><td class="number">{1000 * rung.at:.2f}</td><td>{whose}</td><td>{escape(text)}</td></tr>'


# -- what was offered ----------------------------------------------------------------------------------------


def _offers(visit: Visit) -> str:
    hello, facts = visit.hello, visit.facts
    rows = "\n".join(_extension(place, number) for place, number in enumerate(hello.extension_types, 1))
    alpn = [printable(each.decode(errors="backslashreplace")) for each in hello.alpn_protocols]
    lists = "\n".join(
        (
            _listed("TLS versions", hello.versions, version_name, _version(visit)),
            _listed("Application protocols (ALPN)", alpn, str, facts.alpn),
            _listed("Key exchange groups", hello.groups, group_name, facts.group),
            _listed("Signature schemes", hello.signature_schemes, scheme_name, visit.signature),
            _listed("Cipher suites", hello.cipher_suites, suite_name, visit.suite, "double"),
        )
    )
    return f"""<section aria-labelledby="offers">
<h2 id="offers">What your client has offered</h2>
<p class="soft">Its ClientHello, in its own order. {_about_grease(visit)}</p>
<div class="card table">
<table class="offers">
<thead><tr><th scope="col">place</th><th scope="col">extension</th><th scope="col">number</th>
<th scope="col">what it says</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
<div class="columns">
{lists}
</div>
</section>"""


def _about_grease(visit: Visit) -> str:
    hello = visit.hello
    offers = (hello.extension_types, hello.cipher_suites, hello.groups, hello.signature_schemes, hello.versions)
    count = sum(is_grease(number) for numbers in offers for number in numbers)
    if not count:
        return "None of its values is GREASE: without a meaning, to keep servers used to what is new (RFC 8701)."
    are = "is" if count == 1 else "are"
    return f"{count} of its values {are} GREASE: without a meaning, to keep servers used to what is new (RFC 8701)."


def _extension(place: int, number: int) -> str:
    style = ' class="grease"' if is_grease(number) else ""
    value = f"0x{number:04x}" if is_grease(number) else str(number)
    return (
        f'<tr{style}><td class="number">{place}</td><th scope="row">{escape(extension_name(number))}</th>'
        f'<td class="number">{value}</td><td class="why">{escape(extension_purpose(number))}</td></tr>'
    )


def _listed(title: str, values: Iterable[T], name: Callable[[T], str], agreed: str | None, style: str = "") -> str:
    """A list of offers, in their order; the one that was agreed on is marked."""
    items = "".join(_offer(name(value), agreed) for value in values)
    return f'<div class="card {style}"><h3>{escape(title)}</h3>{f"<ol>{items}</ol>" if items else "<p>none</p>"}</div>'


def _offer(text: str, agreed: str | None) -> str:
    if text == agreed:
        return f'<li class="agreed">{escape(text)} (agreed)</li>'
    return '<li class="grease">GREASE</li>' if text == "GREASE" else f"<li>{escape(text)}</li>"
