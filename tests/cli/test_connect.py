"""``trio-tls connect``: what it says of a server, in words and in JSON, and the exit status that goes with it."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_tls import TLSStream

from .. import certificates
from ..support import HOST, authority, client_certificate, server_context
from .conftest import Files
from .driving import VERSIONS, Said, on_both_machines, plain_server, said, serving, spoken

Capture = pytest.CaptureFixture[str]


def trusting(files: Files) -> tuple[str | Path, ...]:
    return ("--ca-file", files.ca, "--server-name", HOST)


def rows(text: str) -> dict[str, str]:
    """The report's rows that are not indented."""
    lines = [line for line in text.splitlines() if line[:1].strip()]
    return {line[:13].strip(): line[13:] for line in lines}


# -- what was agreed ---------------------------------------------------------------------------------------


@spoken
async def test_the_report_tells_what_was_agreed(
    capsys: Capture, files: Files, options: tuple[str, ...], version: str
) -> None:
    context = server_context()
    context.set_alpn_protocols(["h2"])
    async with serving(context) as port:
        arguments = (*options, "--alpn", "http/1.1,h2", "--check")
        result = await said(capsys, "connect", f"127.0.0.1:{port}", *trusting(files), *arguments)
    assert result.status == 0
    assert result.out == ""
    told = rows(result.err)
    assert told["connecting"] == f"to 127.0.0.1:{port}"
    assert told["connected"].startswith(f"to 127.0.0.1:{port} in ")
    assert told["version"] == f"TLSv{version}"
    assert told["cipher suite"].endswith("256 bits")
    assert told["group"] == "x25519" if not options else told["group"]
    assert told.get("signed with") == (None if options else "ecdsa_secp256r1_sha256")
    assert told["ALPN"] == "h2"
    assert told["server name"] == HOST
    assert told["session"] == "new"
    assert told["presented"] == "1 certificate"
    assert told["verified"] == "2 certificates"
    assert told["verification"].startswith(f"passed: the certificate is valid for {HOST} and leads to ")


@on_both_machines
async def test_each_certificate_is_told_with_names_dates_and_key(
    capsys: Capture, files: Files, options: tuple[str, ...]
) -> None:
    async with serving(certificates.presenting(certificates.good(), ssl.TLSVersion.TLSv1_3)) as port:
        result = await said(capsys, "connect", f"127.0.0.1:{port}", *trusting(files), "--check", *options)
    assert f"  0          CN={HOST}\n" in result.err
    assert f"    names    DNS:{HOST}\n" in result.err
    assert "    key      EC secp256r1, 256 bits; signed with ecdsa-with-SHA256\n" in result.err
    assert " UTC (23 hours left)\n" in result.err
    assert "  0          CN=server.example.org (presented, above)\n" in result.err


async def test_json_is_one_object_with_all_facts(capsys: Capture, files: Files) -> None:
    async with serving(server_context()) as port:
        result = await said(capsys, "connect", f"127.0.0.1:{port}", *trusting(files), "--json")
    assert result.status == 0
    assert result.err == ""
    facts = json.loads(result.out)
    assert facts["ok"] is True
    assert facts["exit_status"] == 0
    assert facts["error"] is None
    assert facts["address"] == facts["target"] == f"127.0.0.1:{port}"
    assert facts["version"] == "TLSv1.3"
    assert facts["cipher_bits"] == 256
    assert facts["group"] == "x25519"
    assert facts["signature_scheme"] == "ecdsa_secp256r1_sha256"
    assert facts["local_chain"] == []
    assert facts["session_reused"] is False
    assert facts["verification"]["status"] == "passed"
    assert facts["seconds"]["handshake"] > 0
    assert len(facts["presented_chain"]) == 1
    assert len(facts["verified_chain"]) == 2
    leaf = facts["presented_chain"][0]
    assert f"DNS:{HOST}" in leaf["names"]
    assert leaf["not_after"] > leaf["not_before"]
    assert len(bytes.fromhex(leaf["sha256"])) == 32


async def test_a_refused_alpn_offer_is_told(capsys: Capture, files: Files) -> None:
    async with serving(server_context()) as port:
        result = await said(capsys, "connect", f"127.0.0.1:{port}", *trusting(files), "--check", "--alpn", "h2")
    assert rows(result.err)["ALPN"] == "none; the server took none of h2"


@spoken
async def test_reconnect_shows_resumption(
    capsys: Capture, files: Files, options: tuple[str, ...], version: str
) -> None:
    async with serving(server_context(VERSIONS[version])) as port:
        where = ("connect", f"127.0.0.1:{port}", *trusting(files), *options, "--reconnect", 2)
        words = await said(capsys, *where)
        facts = json.loads((await said(capsys, *where, "--json")).out)
    assert words.status == 0
    assert words.err.count("\nsession      resumed\n") == 2
    assert [each["session_reused"] for each in facts["reconnects"]] == [True, True]


async def serve_one(listener: trio.SocketListener) -> None:
    async with TLSStream(await listener.accept(), server_context(), server_side=True) as stream:
        await stream.do_handshake()
        await stream.receive_some()


async def test_a_unix_socket_is_connected_to(capsys: Capture, files: Files, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(str(path))
    sock.listen()
    async with trio.SocketListener(sock) as listener, trio.open_nursery() as nursery:
        nursery.start_soon(serve_one, listener)
        result = await said(capsys, "connect", "--unix", path, *trusting(files), "--json")
    facts = json.loads(result.out)
    assert result.status == 0
    assert facts["address"] == facts["target"] == f"unix:{path}"


@on_both_machines
async def test_the_key_log_gets_the_secrets(
    capsys: Capture, files: Files, tmp_path: Path, options: tuple[str, ...]
) -> None:
    log = tmp_path / "keys.log"
    async with serving(server_context()) as port:
        await said(capsys, "connect", f"127.0.0.1:{port}", *trusting(files), "--check", "--keylog", log, *options)
    assert "CLIENT_TRAFFIC_SECRET_0 " in log.read_text()


async def test_a_key_log_that_lacks_secrets_is_a_failure_at_the_end(capsys: Capture, files: Files) -> None:
    async with serving(server_context()) as port:
        where = ("connect", f"127.0.0.1:{port}", *trusting(files), "--check")
        result = await said(capsys, *where, "--keylog", "/dev/full")
        as_json = await said(capsys, *where, "--keylog", "/dev/full", "--json")
    assert result.status == as_json.status == 2
    assert "verification passed" in result.err, "the connection itself went well"
    assert "trio-tls: --keylog /dev/full: No space left on device" in result.err
    assert json.loads(as_json.out)["error"]["message"].startswith("--keylog /dev/full")


@pytest.mark.parametrize("name", ["a..b", f"{'x' * 64}.example", "☃.example"])
async def test_a_name_that_no_host_can_have_is_told_in_our_words(capsys: Capture, name: str) -> None:
    async with plain_server(trio.aclose_forcefully) as port:
        for where in ((f"{name}:1",), (f"127.0.0.1:{port}", "--server-name", name)):
            result = await said(capsys, "connect", *where, "-q")
            assert result.status == 2
            assert result.err.startswith(f"trio-tls: {name} is no name that a host could have\n")


# -- verification ------------------------------------------------------------------------------------------


async def judged(
    capsys: Capture,
    files: Files,
    certificate: Any,
    *options: str,
    trust: tuple[str | Path, ...] = (),
    version: str = "1.3",
) -> tuple[Said, dict[str, Any]]:
    """What is said of a server with this certificate, and the same as JSON."""
    async with serving(certificates.presenting(certificate, VERSIONS[version])) as port:
        command = ("connect", f"127.0.0.1:{port}", *(trust or trusting(files)), "--check", *options)
        words = await said(capsys, *command)
        told = await said(capsys, *command, "--json")
    assert words.status == told.status
    return words, json.loads(told.out)


@spoken
async def test_an_expired_certificate_is_told_with_its_date(
    capsys: Capture, files: Files, options: tuple[str, ...], version: str
) -> None:
    words, facts = await judged(capsys, files, certificates.expired(), *options, version=version)
    assert words.status == 5
    assert "UTC (EXPIRED 1 day ago)\n" in words.err, "the presented chain is shown all the same"
    assert "\ntrio-tls: verification failed: the certificate " in words.err
    assert " expired on 20" in words.err
    assert words.err.endswith("\n  Renew it, or check this machine's clock\n")
    assert facts["exit_status"] == 5
    assert facts["error"]["kind"] == "verification"
    assert facts["error"]["alert"] == "certificate_expired"
    assert facts["verification"]["status"] == "failed"
    assert facts["presented_chain"][0]["names"] == [f"DNS:{HOST}"]


@on_both_machines
async def test_a_certificate_that_is_not_valid_yet_is_told_with_its_date(
    capsys: Capture, files: Files, options: tuple[str, ...]
) -> None:
    words, _ = await judged(capsys, files, certificates.not_yet_valid(), *options)
    assert words.status == 5
    assert "NOT YET VALID: " in words.err
    assert " is not valid before 20" in words.err


@on_both_machines
async def test_a_wrong_name_is_told_with_the_names_that_there_are(
    capsys: Capture, files: Files, options: tuple[str, ...]
) -> None:
    wrong = ("--ca-file", files.ca, "--server-name", "other.example.org")
    words, facts = await judged(capsys, files, certificates.good(), *options, trust=wrong)
    assert words.status == 5
    assert f"verification failed: the certificate is for {HOST}, not for other.example.org\n" in words.err
    assert "--server-name" in facts["error"]["hint"]


@on_both_machines
async def test_a_ca_that_is_not_trusted_is_named(capsys: Capture, files: Files, options: tuple[str, ...]) -> None:
    words, facts = await judged(capsys, files, certificates.of_strange_authority(), *options)
    assert words.status == 5
    assert 'the chain ends at a certificate issued by "' in words.err
    assert "which this machine does not know\n" in words.err
    assert "--ca-file" in words.err
    assert facts["error"]["alert"] == "unknown_ca"
    words, _ = await judged(capsys, files, certificates.with_strange_root(), *options)
    assert 'the chain leads to the CA "' in words.err
    assert "  1          " in words.err, "the root was presented"


@on_both_machines
async def test_a_self_signed_certificate_is_told_as_that(
    capsys: Capture, files: Files, options: tuple[str, ...]
) -> None:
    words, _ = await judged(capsys, files, certificates.self_signed(), *options)
    assert words.status == 5
    assert f'the certificate "{HOST}" is signed by itself, and this machine does not trust it' in words.err


@on_both_machines
async def test_a_reason_without_words_of_ours_is_told_in_those_of_the_verifier(
    capsys: Capture, files: Files, options: tuple[str, ...]
) -> None:
    words, _ = await judged(capsys, files, certificates.for_clients_only(), *options)
    assert words.status == 5
    assert "\ntrio-tls: verification failed: " in words.err
    assert "purpose" in words.err


async def test_a_system_without_ca_certificates_is_told(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    result = await said(capsys, "connect", "localhost", "-q")
    assert result.status == 2
    assert result.err.startswith("trio-tls: no trust anchors: ")
    assert "--ca-file" in result.err


@on_both_machines
async def test_insecure_warns_loudly_and_connects(capsys: Capture, files: Files, options: tuple[str, ...]) -> None:
    words, facts = await judged(capsys, files, certificates.expired(), "--insecure", *options)
    assert words.status == 0
    assert words.err.startswith("WARNING: --insecure: the server's certificate is NOT checked")
    assert rows(words.err)["verification"].startswith("NOT CHECKED: --insecure was given")
    assert "verified  " not in words.err, "a chain that was tried is not a verified one"
    assert facts["verification"]["status"] == "NOT CHECKED"
    assert facts["verified_chain"] == []
    quiet, _ = await judged(capsys, files, certificates.expired(), "--insecure", "-q", *options)
    assert quiet.err.startswith("WARNING: --insecure")
    assert len(quiet.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("certificate", "verdict"),
    [
        (certificates.good, f"passed: the certificate is valid for {HOST} and leads to "),
        (certificates.expired, "failed: the certificate "),
        (certificates.of_strange_authority, "failed: the chain ends at a certificate issued by "),
    ],
)
async def test_insecure_tells_whether_the_certificate_would_have_held(
    capsys: Capture, files: Files, certificate: Any, verdict: str
) -> None:
    words, _ = await judged(capsys, files, certificate(), "--insecure")
    told = rows(words.err)["verification"]
    assert told.startswith(f"NOT CHECKED: --insecure was given; it would have {verdict}")


async def test_insecure_on_a_unix_socket_has_no_name_to_check(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(str(path))
    sock.listen()
    async with trio.SocketListener(sock) as listener, trio.open_nursery() as nursery:
        nursery.start_soon(serve_one, listener)
        result = await said(capsys, "connect", "--unix", path, "--insecure", "--check")
    assert result.status == 0
    assert rows(result.err)["verification"] == "NOT CHECKED: --insecure was given"


async def test_quiet_leaves_the_error_and_the_hint(capsys: Capture, files: Files) -> None:
    words, _ = await judged(capsys, files, certificates.of_strange_authority(), "-q")
    assert words.status == 5
    assert len(words.err.splitlines()) == 2, "-q leaves the error and the hint"


@on_both_machines
async def test_a_trusted_certificate_of_its_own_is_told_as_that(
    capsys: Capture, files: Files, options: tuple[str, ...]
) -> None:
    trust = ("--ca-file", files.self_signed, "--server-name", HOST)
    words, _ = await judged(capsys, files, certificates.self_signed(), *options, trust=trust)
    assert words.status == 0
    assert rows(words.err)["verification"] == f"passed: the certificate is valid for {HOST} and is itself trusted"


async def test_a_server_that_is_rude_at_the_end_of_a_check_has_passed_it(capsys: Capture, files: Files) -> None:
    async def rude(stream: TLSStream[Any]) -> None:
        assert stream.transport_stream is not None
        await stream.receive_some()
        await trio.aclose_forcefully(stream.transport_stream)

    async with serving(server_context(), rude) as port:
        result = await said(capsys, "connect", f"127.0.0.1:{port}", *trusting(files), "--check", "-q")
    assert (result.status, result.err) == (0, "")


# -- client certificates -----------------------------------------------------------------------------------


def demanding(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = server_context(version)
    authority().configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@spoken
async def test_a_server_that_requires_a_certificate_is_heard(
    capsys: Capture, files: Files, options: tuple[str, ...], version: str
) -> None:
    async with serving(demanding(VERSIONS[version])) as port:
        result = await said(capsys, "connect", f"127.0.0.1:{port}", *trusting(files), "--check", *options)
    assert result.status == 4
    assert "trio-tls: the peer ended the connection with the alert " in result.err
    assert "--cert" in result.err.splitlines()[-1]


@spoken
async def test_a_client_certificate_is_presented(
    capsys: Capture, files: Files, options: tuple[str, ...], version: str
) -> None:
    async with serving(demanding(VERSIONS[version])) as port:
        result = await said(
            capsys, "connect", f"127.0.0.1:{port}", *trusting(files), "--check", *options, "--cert", files.client
        )
    assert result.status == 0


@on_both_machines
async def test_a_key_of_its_own_file_is_decrypted_with_a_password(
    capsys: Capture, files: Files, tmp_path: Path, options: tuple[str, ...]
) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(client_certificate().private_key_pem.bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"open sesame")
    key_file, password, wrong = tmp_path / "key.pem", tmp_path / "password", tmp_path / "wrong"
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    password.write_text("open sesame\n")
    wrong.write_text("open barley\n")
    async with serving(demanding(ssl.TLSVersion.TLSv1_3)) as port:
        command = ("connect", f"127.0.0.1:{port}", *trusting(files), "--check", "--cert", files.client)
        command = (*command, "--key", key_file, *options)
        assert (await said(capsys, *command, "--key-password-file", password)).status == 0
        mistaken = await said(capsys, *command, "--key-password-file", wrong)
        assert (mistaken.status, "decrypt" in mistaken.err) == (2, True)
        assert len(mistaken.err.splitlines()) == 2, "a sentence and a hint"
        nothing = await said(capsys, *command)
        assert (nothing.status, "--key-password-file" in nothing.err) == (2, True)
        missing = await said(
            capsys,
            "connect",
            f"127.0.0.1:{port}",
            "--cert",
            files.client,
            *options,
            "--key-password-file",
            "/no/such/file",
        )
        assert (missing.status, "--key-password-file /no/such/file: No such file" in missing.err) == (2, True)


# -- what can go wrong on the way --------------------------------------------------------------------------


def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_port_where_nobody_listens(capsys: Capture) -> None:
    port = unused_port()
    result = await said(capsys, "connect", f"127.0.0.1:{port}", "-q")
    assert result == Said(
        3,
        "",
        f"trio-tls: nobody listens on 127.0.0.1:{port} (Connection refused)\n"
        "  Check the port, and that the server is running\n",
    )


async def test_a_name_that_there_is_not(capsys: Capture) -> None:
    result = await said(capsys, "connect", "no-such-host.invalid", "-q")
    assert result.status == 3
    assert result.err.startswith("trio-tls: ")
    assert "no-such-host.invalid" in result.err


async def test_a_missing_unix_socket(capsys: Capture, tmp_path: Path) -> None:
    result = await said(capsys, "connect", "--unix", tmp_path / "none", "--insecure", "-q")
    assert result.status == 3
    assert f"there is no socket at unix:{tmp_path}/none" in result.err


async def silent(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def test_a_silent_port(capsys: Capture) -> None:
    async with plain_server(silent) as port:
        words = await said(capsys, "connect", f"127.0.0.1:{port}", "-q", "--timeout", "0.2")
        facts = json.loads((await said(capsys, "connect", f"127.0.0.1:{port}", "--json", "--timeout", "0.2")).out)
    assert words.status == 3
    assert words.err == (
        f"trio-tls: no TLS handshake with 127.0.0.1:{port} within 0.2 seconds\n"
        "  It may be another protocol's port, or overloaded\n"
    )
    assert facts["exit_status"] == 3
    assert facts["error"]["kind"] == "network"
    assert facts["address"] == f"127.0.0.1:{port}"


async def test_a_plaintext_port(capsys: Capture) -> None:
    async def http(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n\x1b[2J")

    async with plain_server(http) as port:
        result = await said(capsys, "connect", f"127.0.0.1:{port}", "-q")
    assert result.status == 4
    assert "trio-tls: the peer does not speak TLS but HTTP" in result.err
    assert "--starttls" in result.err
    assert "\x1b" not in result.err


async def test_a_port_that_resets(capsys: Capture) -> None:
    async def reset(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)  # what is left unread makes the close a reset

    async with plain_server(reset) as port:
        result = await said(capsys, "connect", f"127.0.0.1:{port}", "-q")
    assert result.status == 3
    assert f"127.0.0.1:{port} reset the connection" in result.err


async def test_a_port_that_hangs_up(capsys: Capture) -> None:
    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some()

    async with plain_server(hang_up) as port:
        result = await said(capsys, "connect", f"127.0.0.1:{port}", "-q")
    assert result.status == 4
    assert result.err.startswith("trio-tls: the peer closed the connection without answering the handshake\n")
    assert "cut short" not in result.err


async def test_no_common_version(capsys: Capture, files: Files) -> None:
    async with serving(server_context(ssl.TLSVersion.TLSv1_3)) as port:
        older = ("--openssl", "--tls-max", "1.2")
        result = await said(capsys, "connect", f"127.0.0.1:{port}", *trusting(files), *older, "-q")
    assert result.status == 4
    assert "alert protocol_version" in result.err
    assert "--tls-max" in result.err


async def test_a_server_without_tls_1_3_is_a_case_for_openssl(capsys: Capture, files: Files) -> None:
    async with serving(server_context(ssl.TLSVersion.TLSv1_2)) as port:
        where = ("connect", f"127.0.0.1:{port}", *trusting(files), "--check", "-q")
        refused = await said(capsys, *where)
        served = await said(capsys, *where, "--openssl")
    assert refused.status == 4
    assert "alert protocol_version" in refused.err
    assert "Without --openssl only TLS 1.3 is spoken" in refused.err
    assert served.status == 0


async def test_a_server_that_answers_with_tls_1_2_is_a_case_for_openssl(capsys: Capture, files: Files) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        # ServerHello: TLS 1.2, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, no extensions.
        hello = b"\x03\x03" + bytes(32) + b"\x00" + b"\xc0\x2f" + b"\x00"
        await stream.send_all(b"\x16\x03\x03\x00\x2a\x02\x00\x00\x26" + hello)
        await stream.receive_some()

    async with plain_server(answer) as port:
        result = await said(capsys, "connect", f"127.0.0.1:{port}", *trusting(files), "-q")
    assert result == Said(
        4,
        "",
        "trio-tls: the server does not speak TLS 1.3\n"
        "  Without --openssl only TLS 1.3 is spoken; with it, --tls-min and --tls-max decide\n",
    )


# -- mistakes of the one who types -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give either HOST[:PORT] or --unix PATH"),
        (["localhost", "--unix", "/x"], "give either HOST[:PORT] or --unix PATH"),
        (["--unix", "/x"], "--unix needs --server-name"),
        (["https://localhost/"], "is a URL; give HOST or HOST:PORT"),
        (["::1:443"], "write an IPv6 address in brackets"),
        (["localhost:https"], "a port is a number from 1 to 65535"),
        (["localhost:0"], "a port is a number from 1 to 65535"),
        ([":443"], "names no host"),
        (["localhost", "--timeout", "0"], "a number of seconds, more than 0"),
        (["localhost", "--timeout", "soon"], "a number of seconds, more than 0"),
        (["localhost", "--reconnect", "-1"], "a number from 0 to 1000"),
        (["localhost", "--reconnect", "x"], "a number from 0 to 1000"),
        (["localhost", "--tls-min", "1.3", "--tls-max", "1.2"], "--tls-min 1.3 is more than --tls-max 1.2"),
        (["localhost", "--tls-min", "1.1"], "invalid choice"),
        (["localhost", "--key", "x"], "--key needs --cert"),
        (["localhost", "--key-password-file", "x"], "--key-password-file needs --cert"),
        (["localhost", "--alpn", "h2,,h3"], "names of 1 to 255 ASCII characters"),
        (["localhost", "--openssl", "--tls-min", "1.3", "--tls-max", "1.2"], "--tls-min 1.3 is more than --tls-max"),
        (["localhost", "--ca-file", "/no/such/file"], "--ca-file /no/such/file: No such file or directory"),
        (["localhost", "--cert", "/no/such/file"], "--cert /no/such/file: No such file or directory"),
        (["localhost", "--keylog", "/no/such/file"], "--keylog /no/such/file: No such file or directory"),
        (["localhost", "--tls-min", "1.2"], "--tls-min 1.2 needs --openssl"),
        (["localhost", "--tls-max", "1.2"], "--tls-max 1.2 needs --openssl"),
        (["localhost", "--openssl", "--session-in", "x"], "Python's ssl module cannot export a session"),
        (["localhost", "--openssl", "--session-out", "x"], "Python's ssl module cannot export a session"),
        (["localhost", "--openssl", "--trace"], "--trace goes without --openssl"),
        (["localhost", "--openssl", "--trace-svg", "x"], "--trace-svg goes without --openssl"),
        (["localhost", "--openssl", "--group", "x25519"], "--group goes without --openssl"),
        (["localhost", "--openssl", "--cipher", "x"], "--cipher goes without --openssl"),
        (["localhost", "--openssl", "--keylog", "/no/such/file"], "--keylog /no/such/file: No such file or directory"),
        (["localhost", "--group", "x25519,x"], "--group: x is not known here"),
        (["localhost", "--cipher", "x"], "--cipher: x is not known here"),
        (["localhost", "--alpn", "h2,h2"], "an ALPN protocol is listed twice"),
        (["localhost", "--insecure", "--session-out", "x"], "--session-in and --session-out go without --insecure"),
        (["localhost", "--session-in", "/no/such/file"], "--session-in /no/such/file: No such file or directory"),
        (["localhost", "--session-out", "/no/such/place/x"], "--session-out /no/such/place/x: there is no such"),
        (["localhost", "--time", "3"], "unrecognized arguments"),
        (["localhost", "--server-name", "a..b"], "a..b is no name that a host could have"),
        (["a..b"], "a..b is no name that a host could have"),
    ],
)
async def test_a_mistake_is_one_sentence_and_status_2(capsys: Capture, arguments: list[str], sentence: str) -> None:
    async with serving(server_context()) as port:
        arguments = [f"127.0.0.1:{port}" if each == "localhost" and len(arguments) > 1 else each for each in arguments]
        words = await said(capsys, "connect", "-q", *arguments)
        told = await said(capsys, "connect", *arguments, "--json")
    assert words.status == told.status == 2
    assert words.out == told.err == ""
    assert words.err.startswith("trio-tls: ")
    assert sentence in words.err
    assert len(words.err.splitlines()) == 2, "a sentence and a hint"
    facts = json.loads(told.out)
    assert (facts["ok"], facts["exit_status"], facts["error"]["kind"]) == (False, 2, "usage")
    assert sentence in facts["error"]["message"]


async def test_files_that_are_not_what_they_should_be(capsys: Capture, files: Files, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("nonsense")
    for arguments, ours, of_openssl in (
        (("--ca-file", nonsense), f"--ca-file {nonsense} holds no CA certificate in PEM", None),
        (("--ca-file", files.ca, "--ca-file", nonsense), f"--ca-file {nonsense} holds no CA certificate in PEM", None),
        (("--cert", nonsense), f"{nonsense} is not PEM", f"{nonsense} cannot be used as certificate and key"),
        (
            ("--cert", files.client, "--key", files.server),
            f"{files.client} and {files.server}: the private key does not fit ",
            "does not belong to the certificate",
        ),
        (("--session-in", nonsense), f"--session-in {nonsense}: ", "--session-in goes without --openssl"),
    ):
        for options, sentence in (((), ours), (("--openssl",), of_openssl or ours)):
            result = await said(capsys, "connect", "localhost", "-q", *arguments, *options)
            assert result.status == 2
            assert sentence in result.err
            assert len(result.err.splitlines()) == 2, "a sentence and a hint"


def test_the_help_tells_every_exit_status(capsys: Capture) -> None:
    from trio_tls.cli import main

    for command in ("connect", "serve"):
        with pytest.raises(SystemExit) as caught:
            main([command, "--help"])
        assert caught.value.code == 0
        text = capsys.readouterr().out
        for status in ("2    usage", "3    network", "4    TLS", "5    verification", "130  Ctrl-C"):
            assert status in text
