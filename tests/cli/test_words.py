"""What the command makes of names, certificates and errors that are out of the ordinary."""

from __future__ import annotations

import datetime
import errno
import io
import os
import pty
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from trio_tls import (
    Alert,
    AlertReceived,
    CertificateVerificationError,
    HandshakeClosed,
    NoSharedParameters,
    PeerMisbehaved,
    TLSError,
    TLSStream,
    TransportError,
    UnexpectedEOF,
)
from trio_tls.cli import relay, verdict
from trio_tls.cli.address import address_of, host_and_port, joined, peer_address
from trio_tls.cli.client_failures import client_problem
from trio_tls.cli.events import Events
from trio_tls.cli.facts import certificate_facts
from trio_tls.cli.paper import Paper, Row
from trio_tls.cli.printable import TerminalText, printable
from trio_tls.cli.problem import ExitStatus, Problem, in_seconds, problem_of
from trio_tls.serving.inside import peer_of

from ..support import server_config

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

# -- text from a peer --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, with spaces: ü 東京", "plain, with spaces: ü 東京"),
        ("\x1b[2J", "\\x1b[2J"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("live\u202eevil\u200b\ufeff", "live\\u202eevil\\u200b\\ufeff"),
        ("\ud800\U000e0001", "\\ud800\\U000e0001"),
    ],
)
def test_what_is_not_plainly_visible_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_terminal_text_is_the_same_in_whatever_pieces_it_comes() -> None:
    data = "ünï\r\ncode\t\x1b[0m\rover\r\r\n".encode() + b"\xff\xc3"
    shown = "ünï\ncode\t\\x1b[0m\\rover\\r\n\\xff\\xc3"
    for size in range(1, len(data) + 1):
        text = TerminalText()
        pieces = [text.feed(data[start : start + size]) for start in range(0, len(data), size)]
        assert "".join(pieces) + text.feed(b"", final=True) == shown
    held = TerminalText()
    assert held.feed(b"end\r") + held.feed(b"", final=True) == "end\\r"


# -- addresses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("example.org", ("example.org", None)),
        ("example.org:443", ("example.org", 443)),
        ("[::1]", ("::1", None)),
        ("[fe80::1%eth0]:65535", ("fe80::1%eth0", 65535)),
        ("münchen.example:1", ("münchen.example", 1)),
    ],
)
def test_addresses_are_taken_apart(text: str, address: tuple[str, int | None]) -> None:
    assert host_and_port(text) == address


@pytest.mark.parametrize(
    "text", ["", ":1", "[]", "[::1", "[::1]x", "a b", "a:", "a:-1", "a:65536", "a:\u0661", "a:1:2"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        host_and_port(text)


def test_addresses_are_put_together() -> None:
    assert joined("::1", 443) == "[::1]:443"
    assert joined("127.0.0.1", 443) == "127.0.0.1:443"


async def test_a_peer_that_is_gone_has_no_address() -> None:
    assert peer_address(None) == "the peer"
    ours, theirs = socket.socketpair()
    theirs.close()
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    assert peer_address(stream) == "unix"
    await stream.aclose()
    assert peer_address(stream) == "a peer that is gone"


async def test_a_path_that_a_client_has_bound_cannot_harm_the_terminal_or_the_log(tmp_path: Path) -> None:
    listener, ours = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    with listener:
        listener.bind(str(tmp_path / "front"))
        listener.listen()
        ours.bind(f"{tmp_path}/a\n\x1b[31mforged")
        ours.connect(str(tmp_path / "front"))
        theirs, _ = listener.accept()
    async with trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as stream:
        assert peer_address(stream) == f"unix:{tmp_path}/a\\n\\x1b[31mforged"
        logged = peer_of(TLSStream(stream, server_config(), server_side=True))
        assert logged.startswith("unix:'") and logged.isprintable()
        assert address_of(socket.AF_UNIX, b"\0abstract") == "unix:\\x00abstract"
    ours.close()


# -- certificates ------------------------------------------------------------------------------------------

NOW = datetime.datetime(2026, 1, 15, 12, tzinfo=datetime.timezone.utc)


def certificate(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey,
    *,
    name: str = "name",
    alternatives: tuple[x509.GeneralName, ...] = (),
    begins: datetime.datetime = NOW - datetime.timedelta(days=3),
) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(255)
        .not_valid_before(begins)
        .not_valid_after(begins + datetime.timedelta(days=3, hours=5))
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    edwards = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    signed = builder.sign(key, None if edwards else hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def test_keys_are_told_with_their_size() -> None:
    assert certificate_facts(certificate(rsa.generate_private_key(65537, 2048))).key() == "RSA, 2048 bits"
    assert certificate_facts(certificate(ec.generate_private_key(ec.SECP384R1()))).key() == "EC secp384r1, 384 bits"
    assert certificate_facts(certificate(ed25519.Ed25519PrivateKey.generate())).key() == "Ed25519, 256 bits"
    assert certificate_facts(certificate(ed448.Ed448PrivateKey.generate())).key() == "Ed448, 456 bits"


def test_names_of_every_kind_are_told_and_harmless() -> None:
    facts = certificate_facts(
        certificate(
            ec.generate_private_key(ec.SECP256R1()),
            name="a\x1bb",
            alternatives=(
                x509.DNSName("a.example"),
                x509.RFC822Name("a@b.example"),
                x509.UniformResourceIdentifier("spiffe://x"),
                x509.DirectoryName(x509.Name([])),
            ),
        )
    )
    assert facts.subject == "CN=a\\x1bb"
    assert facts.common_name == "a\\x1bb"
    assert facts.issuer == "(empty)"
    assert facts.serial == "ff"
    assert facts.names == ("DNS:a.example", "email:a@b.example", "URI:spiffe://x", "DirectoryName")


@pytest.mark.parametrize(
    ("later", "words"),
    [
        ({"days": -4}, "(NOT YET VALID: 1 day to go)"),
        ({"days": -2}, "(2 days left)"),
        ({}, "(5 hours left)"),
        ({"hours": 4, "minutes": 59, "seconds": 30}, "(less than a minute left)"),
        ({"hours": 6}, "(EXPIRED 1 hour ago)"),
        ({"days": 30}, "(EXPIRED 29 days ago)"),
    ],
)
def test_dates_are_told_with_what_they_mean_now(later: dict[str, int], words: str) -> None:
    facts = certificate_facts(certificate(ec.generate_private_key(ec.SECP256R1())))
    told = facts.validity(NOW + datetime.timedelta(**later))
    assert told == f"2026-01-12 12:00 to 2026-01-15 17:00 UTC {words}"


def test_what_is_no_certificate_is_told_as_unreadable() -> None:
    facts = certificate_facts(b"\x30\x03\x02\x01\x01")
    assert facts.subject == facts.issuer == facts.key() == facts.validity(NOW) == "unreadable"
    assert facts.names == ()
    assert facts.as_json()["not_after"] is None


def test_a_field_that_cannot_be_read_leaves_the_others() -> None:
    der = certificate(ec.generate_private_key(ec.SECP256R1()), alternatives=(x509.DNSName("a.example"),))
    broken = der.replace(b"a.example", b"\xff.example")
    facts = certificate_facts(broken)
    assert facts.subject == "CN=name"
    assert facts.names == ()
    unknown_curve = der.replace(bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d03017f"))
    assert certificate_facts(unknown_curve).key() == "algorithm 1.2.840.10045.2.1"


def test_a_name_of_an_odd_kind_leaves_the_other_fields() -> None:
    der = certificate(ec.generate_private_key(ec.SECP256R1()), alternatives=(x509.DNSName("a.example"),))
    odd = der.replace(b"\x82\x09a.example", b"\xa5\x09a.example")  # ediPartyName, which cryptography does not read
    assert odd != der
    facts = certificate_facts(odd)
    assert (facts.subject, facts.names) == ("CN=name", ())


# -- events ------------------------------------------------------------------------------------------------


async def test_of_many_failures_of_a_kind_some_are_told_and_the_rest_is_a_number(
    capsys: pytest.CaptureFixture[str], autojump_clock: trio.testing.MockClock
) -> None:
    events = Events(as_json=False)

    def fail(count: int, error: TLSError | None = None) -> None:
        for _ in range(count):
            events.failure("[::1]:9", Problem(ExitStatus.TLS if error else ExitStatus.NETWORK, "gone", error=error))

    def told() -> list[str]:
        return capsys.readouterr().out.splitlines()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(events.watch)
        await trio.testing.wait_all_tasks_blocked()
        fail(1200)
        fail(3, PeerMisbehaved("babble", alert=None))
        assert told() == ["[::1]:9 failed: gone"] * 13
        await trio.sleep(10.5)
        assert told() == ["1,190 more failures of the kind network in 10 seconds were not told one by one"]
        fail(12)
        assert len(told()) == 10
        await trio.sleep(11)
        assert told()[0].startswith("2 more failures")
        fail(11)
        events.flush()
        assert told()[-1] == "1 more failures of the kind network in 0 seconds were not told one by one"
        nursery.cancel_scope.cancel()


# -- errors ------------------------------------------------------------------------------------------------


def test_an_error_of_the_system_without_words_of_ours_is_told_in_its_own() -> None:
    problem = problem_of(OSError(errno.ENOMEM, "Cannot allocate memory"), "x:1")
    assert problem is not None
    assert (problem.status, problem.sentence) == (ExitStatus.NETWORK, "x:1: Cannot allocate memory")
    assert "limits and memory" in problem.hint


def test_a_transport_that_failed_without_an_error_of_the_system_is_told_in_its_own_words() -> None:
    problem = problem_of(TransportError("the transport failed"))
    assert problem is not None
    assert (problem.status, problem.sentence) == (ExitStatus.NETWORK, "the transport failed")
    assert problem.hint == "Connect again; the peer's log may say why"


async def test_several_addresses_that_fail_are_told_by_the_last() -> None:
    error = OSError("all attempts to connect failed")
    group = ExceptionGroup("", [OSError(errno.ENETUNREACH, "no network"), OSError(errno.ECONNREFUSED, "refused")])
    error.__cause__ = group
    problem = problem_of(error, "x:1")
    assert problem is not None
    assert problem.sentence == "nobody listens on x:1 (Connection refused)"


def test_a_name_server_that_does_not_answer_is_told() -> None:
    problem = problem_of(socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "x.example:1")
    assert problem is not None
    assert problem.sentence == "the name x.example could not be looked up: Temporary failure"


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (NoSharedParameters("nothing"), "--tls-max, --group, --cipher and --alpn"),
        (HandshakeClosed("closed"), "see its log"),
        (PeerMisbehaved("it did", hint="the library's own"), "the library's own"),
        (AlertReceived("it said so", alert=Alert.protocol_version), "Without --openssl only TLS 1.3"),
    ],
)
def test_hints_speak_of_options(error: TLSError, hint: str) -> None:
    problem = problem_of(error)
    assert problem is not None
    assert problem.status is ExitStatus.TLS
    assert hint in problem.hint


@pytest.mark.parametrize(
    "error",
    [
        NoSharedParameters("nothing"),
        AlertReceived("it said so", alert=Alert.protocol_version),
        AlertReceived("it said so", alert=Alert.handshake_failure),
    ],
)
def test_no_hint_advises_what_was_given_already(error: TLSError) -> None:
    without, given = problem_of(error), problem_of(error, openssl=True)
    assert without is not None
    assert given is not None
    assert "--openssl" in without.hint
    assert "--openssl" not in given.hint
    assert "--tls-min" in given.hint
    assert "nothing newer" not in given.hint or "if they were given" in given.hint, "these two may exclude what it has"


def reset() -> TransportError:
    error = TransportError("the transport failed")
    error.__cause__ = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    return error


@pytest.mark.parametrize("openssl", [False, True])
@pytest.mark.parametrize(
    ("error", "sentence", "hint"),
    [
        (PeerMisbehaved("the peer does not speak TLS but HTTP", hint="Check the port"), "HTTP", "https://"),
        (UnexpectedEOF("the peer closed the connection without answering the handshake"), "closed", "Port scans"),
        (reset(), "the client reset the connection (Connection reset by peer)", "Port scans"),
        (trio.TooSlowError("the handshake was not done after 2 seconds"), "was not done after 2 seconds", "--timeout"),
        (
            CertificateVerificationError("the client presented no certificate"),
            "no certificate",
            "--client-cert request",
        ),
        (CertificateVerificationError("no", presented_chain=(b"?",), verify_code=23), "no", "another certificate"),
        (UnexpectedEOF("the connection ended without close_notify"), "without close_notify", "may be cut short"),
        (RuntimeError("our own fault"), "RuntimeError: our own fault", "report it"),
    ],
)
def test_of_a_client_the_hint_is_for_the_one_who_serves(
    error: Exception, sentence: str, hint: str, openssl: bool
) -> None:
    problem = client_problem(error, openssl=openssl)
    assert sentence in problem.sentence
    assert hint in problem.hint
    assert "--starttls" not in problem.hint


def test_a_time_has_its_plural() -> None:
    assert [in_seconds(each) for each in (1, 1.0, 0.5, 2, 30)] == [
        "1 second",
        "1 second",
        "0.5 seconds",
        "2 seconds",
        "30 seconds",
    ]


def test_a_verification_failure_without_certificates_is_told_in_the_words_of_the_error() -> None:
    problem = verdict.rejected(CertificateVerificationError("the server sent none"), (), "x")
    assert problem.sentence == "verification failed: the server sent none"


def test_our_own_verifier_speaks_of_rules_and_the_command_of_options() -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    leaf = certificate(ec.generate_private_key(ec.SECP256R1()), begins=now)
    error = CertificateVerificationError(
        "it was not accepted", verify_message="EE keyUsage must not assert keyCertSign"
    )
    problem = verdict.rejected(error, (certificate_facts(leaf),), "x")
    assert problem.sentence == "verification failed: it was not accepted"
    assert problem.hint == "If the CA is your own, give its certificate with --ca-file: the rules are others then"
    other = CertificateVerificationError("it was not accepted", hint="of the library", verify_message="odd")
    assert verdict.rejected(other, (certificate_facts(leaf),), "x").hint == ""


def test_a_certificate_above_those_presented_may_be_out_of_date() -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    current = certificate(ec.generate_private_key(ec.SECP256R1()), begins=now - datetime.timedelta(days=1))
    error = CertificateVerificationError("no", verify_code=10, verify_message="certificate has expired")
    problem = verdict.rejected(error, (certificate_facts(current),), "x")
    assert problem.sentence == "verification failed: certificate has expired"
    assert "above those presented" in problem.hint


def test_a_defect_is_no_problem_of_the_network() -> None:
    assert problem_of(ZeroDivisionError()) is None


# -- the conversation --------------------------------------------------------------------------------------


class Deaf:
    """A peer that takes nothing, and says nothing."""

    async def send_all(self, data: bytes) -> None:
        raise TransportError("it is deaf")

    def __aiter__(self) -> Deaf:
        return self

    async def __anext__(self) -> bytes:
        return await trio.sleep_forever()


async def test_a_peer_that_takes_nothing_more_may_talk_for_a_while_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay, "LAST_WORDS", 0.01)
    reading, writing = os.pipe()
    try:
        os.write(writing, b"hello")
        deaf: Any = Deaf()
        with pytest.raises(TransportError, match="deaf"):
            await relay.relay(deaf, relay.StandardOutput(writing, raw=False), input_descriptor=reading)
    finally:
        os.close(reading)
        os.close(writing)


def test_a_terminal_that_is_gone_is_the_end_of_the_input() -> None:
    ours, theirs = pty.openpty()
    os.close(ours)
    try:
        assert relay._read(theirs) == b""
    finally:
        os.close(theirs)


# -- paper -------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


ROWS = (Row("label", "text", "bold"), Row("", "more"), Row("deep", "deeper " * 20, depth=1))


def test_rows_are_plain_where_nobody_looks() -> None:
    output = io.StringIO()
    Paper(output).rows(ROWS)
    assert output.getvalue().splitlines()[:2] == ["label        text", "             more"]
    assert output.getvalue().count("\n") == 3, "a line for each row, for grep"


def test_rows_are_wrapped_in_their_column_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TERM", "xterm"), ("NO_COLOR", ""), ("COLUMNS", "60")):
        monkeypatch.setenv(name, value)
    output = Terminal()
    Paper(output).rows(ROWS)
    lines = output.getvalue().splitlines()
    assert "\x1b[1m" in lines[0]
    assert len(lines) > 3
    assert lines[-1].startswith(" " * 13)


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_may_want_it_plain(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv(name, value)
    output = Terminal()
    Paper(output).line("words", "bold")
    assert output.getvalue() == "words\n"


def test_a_terminal_without_rich_gets_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    output = Terminal()
    Paper(output).line("words", "bold")
    assert output.getvalue() == "words\n"
