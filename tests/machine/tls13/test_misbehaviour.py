"""The errors that a peer's misbehaviour becomes: each carries the alert that answers it (RFC 9846 section 6.2)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trio_tls import NoSharedParameters, PeerMisbehaved, TLSError
from trio_tls.alerts import Alert
from trio_tls.machine.tls13 import misbehaviour
from trio_tls.machine.tls13.misbehaviour import excerpt, not_tls

NEGOTIATION = {"protocol_version", "handshake_failure", "no_application_protocol"}


def constructor(name: str) -> Callable[..., TLSError]:
    made: Callable[..., TLSError] = getattr(misbehaviour, name)
    return made


@pytest.mark.parametrize("name", sorted(set(misbehaviour.__all__) - {"excerpt", "not_tls"}))
def test_an_error_carries_the_alert_of_its_name_and_names_the_rule(name: str) -> None:
    error = constructor(name)("something happened", "4.2.2")
    assert type(error) is (NoSharedParameters if name in NEGOTIATION else PeerMisbehaved)
    assert error.alert is Alert[name]
    assert not error.sent_by_peer
    assert str(error) == f"something happened (RFC 9846 section 4.2.2). {error.hint}"
    assert error.hint


def test_a_rule_of_another_standard_is_named_in_full_and_none_is_left_out() -> None:
    assert constructor("decode_error")("x", "RFC 8449 section 4").args == ("x (RFC 8449 section 4)",)
    assert constructor("decode_error")("x").args == ("x",)


def test_an_excerpt_is_printable_and_short() -> None:
    assert excerpt(b"\x1b[2J") == r"b'\x1b[2J'"
    assert excerpt("h\n") == r"'h\n'"
    assert excerpt(bytes(100), 2) == r"b'\x00\x00'..."


@pytest.mark.parametrize("first_bytes", [b"GET /", b"CONN", b"HTTP/1.1 400 Bad "])
def test_http_is_told_as_http_by_however_few_bytes(first_bytes: bytes) -> None:
    error = not_tls(first_bytes, server_side=True)
    assert "not speak TLS but HTTP" in error.message and repr(first_bytes) in error.message
    assert "http://" in error.hint and error.alert is Alert.unexpected_message


def test_anything_else_is_shown_as_it_came() -> None:
    error = not_tls(b"220 mail.example", server_side=False)
    assert "something else" in error.message and "b'220 mail.example'" in error.message
    assert "STARTTLS" in error.hint
