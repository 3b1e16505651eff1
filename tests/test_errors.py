"""What every exception of the library promises, whatever raised it."""

from __future__ import annotations

import copy
import pickle
import ssl
from typing import Any

import pytest
import trio

from trio_tls import (
    Alert,
    AlertReceived,
    CertificateVerificationError,
    HandshakeClosed,
    NeedHandshakeError,
    NoSharedParameters,
    PeerMisbehaved,
    TLSError,
    TransportError,
    UnexpectedEOF,
)
from trio_tls.errors import alert_received

KINDS: tuple[type[TLSError], ...] = (
    TLSError,
    AlertReceived,
    CertificateVerificationError,
    HandshakeClosed,
    NoSharedParameters,
    PeerMisbehaved,
    TransportError,
    UnexpectedEOF,
)


def an_error(kind: type[TLSError]) -> TLSError:
    """An error of this kind with every fact set."""
    facts: dict[str, Any] = {}
    if kind is CertificateVerificationError:
        facts = {"presented_chain": (b"leaf", b"issuer"), "verify_code": 10, "verify_message": "has expired"}
    error = kind("it went wrong", hint="Mend it", alert=Alert.bad_certificate, sent_by_peer=True, **facts)
    error.__cause__ = ssl.SSLError(1, "the words of OpenSSL")
    return error


def facts_of(error: TLSError) -> dict[str, object]:
    """All that an error tells."""
    names = ["message", "hint", "alert", "sent_by_peer", "presented_chain", "verify_code", "verify_message"]
    names += ["reason", "library", "strerror", "args"]
    return {"type": type(error), "str": str(error)} | {name: getattr(error, name, None) for name in names}


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_a_broken_resource_and_says_what_to_do(kind: type[TLSError]) -> None:
    error = an_error(kind)
    assert isinstance(error, trio.BrokenResourceError)
    assert str(error) == "it went wrong. Mend it"
    assert str(kind("it went wrong")) == "it went wrong"
    assert (error.alert, error.sent_by_peer) == (Alert.bad_certificate, True)


@pytest.mark.parametrize("kind", KINDS)
def test_again_is_a_new_object_with_the_same_facts_and_cause(kind: type[TLSError]) -> None:
    error = an_error(kind)
    twin = error.again()
    assert twin is not error
    assert facts_of(twin) == facts_of(error)
    assert twin.__cause__ is error.__cause__
    assert twin.__traceback__ is None


@pytest.mark.parametrize("kind", KINDS)
def test_raising_the_twin_leaves_the_kept_error_without_a_traceback(kind: type[TLSError]) -> None:
    kept = an_error(kind)
    for _ in range(3):
        with pytest.raises(kind) as caught:
            raise kept.again()
        assert caught.value is not kept
    assert kept.__traceback__ is None and kept.__context__ is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_errors_survive_pickling(kind: type[TLSError], protocol: int) -> None:
    error = an_error(kind)
    assert facts_of(pickle.loads(pickle.dumps(error, protocol))) == facts_of(error)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_survive_copying(kind: type[TLSError]) -> None:
    error = an_error(kind)
    assert facts_of(copy.copy(error)) == facts_of(error)
    assert facts_of(copy.deepcopy(error)) == facts_of(error)


def test_a_verification_error_is_what_the_standard_library_would_raise() -> None:
    error = an_error(CertificateVerificationError)
    assert isinstance(error, ssl.CertificateError)
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert error.reason == "CERTIFICATE_VERIFY_FAILED"
    assert error.strerror == "it went wrong", "others search it for words; None has broken them"


@pytest.mark.parametrize("number", [0, 40, 116, 200, 255])
def test_a_received_alert_is_named_and_its_error_survives_pickling(number: int) -> None:
    error = alert_received(Alert(number))
    assert f"{Alert(number).name} ({number})" in str(error)
    assert error.sent_by_peer and error.hint
    twin = pickle.loads(pickle.dumps(error))
    assert facts_of(twin) == facts_of(error)


# -- alerts ------------------------------------------------------------------------------------------------


def test_alerts_without_a_name_keep_their_number() -> None:
    alert = Alert(200)
    assert (alert.name, alert.value, int(alert), str(alert)) == ("unknown_200", 200, 200, "unknown_200 (200)")
    assert alert == Alert(200) == 200 and hash(alert) == hash(Alert(200))
    assert alert != Alert(201)
    assert pickle.loads(pickle.dumps(alert)) == alert and copy.deepcopy(alert).name == "unknown_200"
    assert alert not in list(Alert), "the registered ones are as they were"


@pytest.mark.parametrize("number", [-1, 256, "40", None])
def test_what_is_no_byte_is_no_alert(number: object) -> None:
    with pytest.raises(ValueError, match="is not a valid Alert"):
        Alert(number)  # type: ignore[arg-type]  # that is what is tested


def test_every_byte_is_an_alert() -> None:
    for number in range(256):
        assert int(Alert(number)) == number and Alert(number).name


def test_need_handshake_error_is_trios_own() -> None:
    assert NeedHandshakeError is trio.NeedHandshakeError
    assert not issubclass(NeedHandshakeError, TLSError), "it is misuse, and nothing is broken"
