"""The tables that turn OpenSSL's strings into our errors, held against the OpenSSL that is here."""

from __future__ import annotations

import ctypes
import ssl
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import trustme

import trio_tls
from trio_tls import Alert, AlertReceived, CertificateVerificationError, NoSharedParameters, PeerMisbehaved, TLSError
from trio_tls.errors import ALERT_HINTS, alert_received
from trio_tls.machine import openssl_errors
from trio_tls.machine.openssl_errors import Failure, alert_for_verify_code, error_for

from .. import certificates
from ..support import HOST, authority, client_context, server_context
from .drive import VERSIONS, carry, fail_handshake, machine_pair, raised, records

#: OpenSSL's number for the library "SSL" in its error codes, and where it stands in them.
ERR_LIB_SSL, LIBRARY_SHIFT = 20, 23


@cache
def words_of_this_openssl() -> frozenset[str]:
    """All that this OpenSSL can say of a TLS failure.

    Python 3.12 and later no longer expose the table of reasons (``_ssl.err_names_to_codes``), so OpenSSL is
    asked itself. A reason is these words in capitals, with underscores.
    """
    import _ssl

    ssl.create_default_context()  # OpenSSL loads the strings with its first context
    ask = ctypes.CDLL(_ssl.__file__).ERR_reason_error_string
    ask.restype = ctypes.c_char_p
    ask.argtypes = [ctypes.c_ulong]
    said = (ask(ERR_LIB_SSL << LIBRARY_SHIFT | reason) for reason in range(1, 2000))
    return frozenset(words.decode() for words in said if words)


REASONS = sorted(
    {*openssl_errors._NOTHING_SHARED, *openssl_errors._NOT_TLS, *openssl_errors._RULES}
    | {"CERTIFICATE_VERIFY_FAILED", "PEER_DID_NOT_RETURN_A_CERTIFICATE", "CALLBACK_FAILED"}
)


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_in_the_tables_is_one_that_openssl_has(reason: str) -> None:
    assert reason.replace("_", " ").lower() in words_of_this_openssl()


def test_every_alert_that_openssl_has_words_for_is_named() -> None:
    marked = [
        words for words in words_of_this_openssl() if words.startswith(("sslv3 alert", "tlsv1 alert", "tlsv13 alert"))
    ]
    assert len(marked) > 25
    unmarked = openssl_errors._UNMARKED
    assert unmarked <= words_of_this_openssl()
    for words in [*marked, *unmarked]:
        for failure in (Failure(reason=words.upper().replace(" ", "_"), words=words), Failure(reason="", words=words)):
            if words in unmarked and not failure.reason:
                continue  # without a reason nothing marks these as alerts
            error = error_for(failure)
            assert isinstance(error, AlertReceived) and error.alert is not None and error.sent_by_peer
            assert error.hint


# -- alerts that the peer sends ----------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_every_fatal_alert_in_plain_is_received_by_its_number(version: str) -> None:
    contexts = client_context(VERSIONS[version]), server_context()
    for number in set(range(256)) - {Alert.close_notify}:
        client, _server = machine_pair(*contexts)
        client.do_handshake()
        client.incoming.write(bytes((21, 3, 3, 0, 2, 2, number)))
        error = raised(client.do_handshake)
        assert isinstance(error, AlertReceived)
        assert error.alert is Alert(number) or (error.alert == number and error.alert.name == f"unknown_{number}")
        assert error.sent_by_peer and str(number) in str(error) and error.hint
        assert isinstance(error.__cause__, ssl.SSLError)
        assert len(records(client.outgoing.read())) == 1, "our ClientHello: a fatal alert is not answered"


def test_every_alert_of_the_rfcs_has_a_hint_of_its_own_or_the_general_one() -> None:
    for alert in Alert:
        hint = alert_received(alert).hint
        assert hint == ALERT_HINTS.get(alert, "See the peer's log for the reason")


# -- certificate verification: the alert we name is the alert that OpenSSL sends ---------------------------


def no_change(_context: ssl.SSLContext) -> None:
    pass


def checks_revocation(**facts: Any) -> Callable[[ssl.SSLContext], None]:
    """A change of a context: it checks revocation, by a list with these facts."""

    def change(context: ssl.SSLContext) -> None:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        if facts:
            with trustme.Blob(certificates.revocation_list(**facts)).tempfile() as path:
                context.load_verify_locations(path)

    return change


def demands_large_keys(context: ssl.SSLContext) -> None:
    context.set_ciphers("DEFAULT:@SECLEVEL=2")


LATER, EARLIER = certificates.DAY / 2, -certificates.DAY / 2

#: What is wrong: (the server's certificate, the name asked for, a change of the client's context, the code).
UNACCEPTABLE: dict[str, tuple[Callable[[], Any], str, Callable[[ssl.SSLContext], None], int]] = {
    "untrusted CA": (certificates.of_strange_authority, HOST, no_change, 20),
    "untrusted CA that is presented": (certificates.with_strange_root, HOST, no_change, 19),
    "self-signed": (certificates.self_signed, HOST, no_change, 18),
    "issued by a leaf": (certificates.below_a_leaf, HOST, no_change, 79),
    "chain too long for its CA": (certificates.below_too_many, HOST, no_change, 25),
    "expired": (certificates.expired, HOST, no_change, 10),
    "not yet valid": (certificates.not_yet_valid, HOST, no_change, 9),
    "wrong purpose": (certificates.for_clients_only, HOST, no_change, 26),
    "wrong signature": (certificates.wrongly_signed, HOST, no_change, 7),
    "small key": (certificates.with_small_key, HOST, demands_large_keys, 66),
    "wrong host": (certificates.good, "other.example.org", no_change, 62),
    "wrong address": (certificates.good, "192.0.2.1", no_change, 64),
    "no revocation list": (certificates.good, HOST, checks_revocation(), 3),
    "revoked": (certificates.good, HOST, checks_revocation(revoked=True), 23),
    "revocation list too old": (certificates.good, HOST, checks_revocation(ends=EARLIER), 12),
    "revocation list too new": (certificates.good, HOST, checks_revocation(begins=LATER), 11),
    "revocation list forged": (certificates.good, HOST, checks_revocation(forged=True), 8),
}


def test_a_certificate_with_nothing_wrong_is_accepted() -> None:
    context = client_context()
    checks_revocation(revoked=False, begins=EARLIER)(context)
    client, server = machine_pair(context, certificates.presenting(certificates.good(), ssl.TLSVersion.TLSv1_3))
    assert fail_handshake(client, server) == {}
    assert client.handshake_done and server.handshake_done


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("wrong", UNACCEPTABLE)
def test_the_alert_for_a_verify_code_is_what_openssl_sends(wrong: str, version: str) -> None:
    certificate, host, change, code = UNACCEPTABLE[wrong]
    context = client_context(VERSIONS[version])
    change(context)
    client, server = machine_pair(context, certificates.presenting(certificate(), VERSIONS[version]), host=host)
    failures = fail_handshake(client, server)
    error = failures["client"]
    assert isinstance(error, CertificateVerificationError)
    assert error.verify_code == code
    assert error.verify_message and error.verify_message.rstrip(".") in str(error)
    assert error.alert is alert_for_verify_code(code), "derived from the code alone"
    received = failures["server"]
    assert isinstance(received, AlertReceived)
    assert received.alert is error.alert, "and it is what crossed the wire"


@pytest.mark.parametrize("wrong", UNACCEPTABLE)
def test_in_tls_1_2_the_alert_for_a_verify_code_is_plain_on_the_wire(wrong: str) -> None:
    certificate, host, change, code = UNACCEPTABLE[wrong]
    context = client_context(ssl.TLSVersion.TLSv1_2)
    change(context)
    server_side = certificates.presenting(certificate(), ssl.TLSVersion.TLSv1_2)
    client, server = machine_pair(context, server_side, host=host)
    client.do_handshake()
    carry(client, server)
    server.do_handshake()
    carry(server, client)
    raised(client.do_handshake)
    assert client.outgoing.read() == bytes((21, 3, 3, 0, 2, 2, alert_for_verify_code(code)))


def test_a_code_that_no_table_has_is_certificate_unknown() -> None:
    assert alert_for_verify_code(12345) is Alert.certificate_unknown


@pytest.mark.parametrize("version", VERSIONS)
def test_a_missing_client_certificate_is_told_by_the_alert_of_its_version(version: str) -> None:
    context = server_context(VERSIONS[version])
    authority().configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    client, server = machine_pair(client_context(VERSIONS[version]), context)
    failures = fail_handshake(client, server)
    expected = Alert.certificate_required if version == "1.3" else Alert.handshake_failure
    assert isinstance(failures["server"], CertificateVerificationError)
    assert (failures["server"].alert, failures["server"].sent_by_peer) == (expected, False)
    assert (failures["client"].alert, failures["client"].sent_by_peer) == (expected, True)


# -- texts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [*REASONS, "", "A_REASON_OF_THE_FUTURE"])
@pytest.mark.parametrize("server_side", [True, False])
def test_every_failure_has_a_text_and_a_hint(reason: str, server_side: bool) -> None:
    error = error_for(Failure(reason=reason, words="", server_side=server_side))
    assert isinstance(error, TLSError)
    assert error.message and error.hint
    assert str(error) == f"{error.message}. {error.hint}"
    assert not error.sent_by_peer


def test_each_table_has_its_own_exception() -> None:
    for table, kind in (
        (openssl_errors._NOTHING_SHARED, NoSharedParameters),
        (openssl_errors._NOT_TLS, PeerMisbehaved),
        (openssl_errors._RULES, PeerMisbehaved),
    ):
        for reason in table:
            assert type(error_for(Failure(reason=reason, words=""))) is kind


@pytest.mark.parametrize(
    ("first_bytes", "spoken"),
    [
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"OPTIONS * HTTP/1.", "HTTP"),
        (b"HTTP/1.1 400 Bad ", "HTTP"),
        (b"220 mail.example.", "something else"),
        (b"SSH-2.0-OpenSSH_9", "something else"),
    ],
)
@pytest.mark.parametrize("server_side", [True, False])
def test_first_bytes_that_are_not_tls_are_shown_and_guessed(first_bytes: bytes, spoken: str, server_side: bool) -> None:
    client, server = machine_pair(client_context(), server_context())
    end = server if server_side else client
    if not server_side:
        client.do_handshake()
        client.outgoing.read()
    end.incoming.write(first_bytes * 100)
    error = raised(end.do_handshake)
    assert isinstance(error, PeerMisbehaved)
    assert f"does not speak TLS but {spoken}" in error.message
    assert repr(first_bytes[:16]) in error.message, "sixteen bytes, and no more of what a stranger sent"
    assert len(str(error)) < 250
    assert ("http://" if server_side else "STARTTLS") in error.hint
    assert error.alert is not None
    assert [record[5:] for record in records(end.outgoing.read())] == [bytes((2, error.alert))], "on the wire"


def test_the_words_without_a_reason_are_told() -> None:
    error = error_for(Failure(reason="", words="something quite new"))
    assert type(error) is TLSError
    assert "something quite new" in str(error)


def test_a_failing_callback_is_told_as_one() -> None:
    error = error_for(Failure(reason="CALLBACK_FAILED", words="callback failed"))
    assert "callback of the SSLContext" in str(error)


def test_every_public_error_is_exported() -> None:
    for kind in (AlertReceived, CertificateVerificationError, NoSharedParameters, PeerMisbehaved, TLSError):
        assert getattr(trio_tls, kind.__name__) is kind
