"""What OpenSSL's error strings mean: from an ``ssl.SSLError``'s facts to a `TLSError`.

How this works. `ssl` tells of a failure by a reason (``"NO_SHARED_CIPHER"``), sometimes by words alone, and
for certificates by an ``X509_V_ERR`` code. A received alert is a reason of its own, or, where this OpenSSL
has no name for it, only words. The tables here turn those into the exceptions of `trio_tls.errors`.

An alert that we *sent* is plain on the wire until keys are on, and the machine reads it there. After that
(TLS 1.3) it is encrypted; then it is derived from the verify code by `alert_for_verify_code`, or is None:
it is never guessed. This module imports no `ssl`: it sees strings and numbers only.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..alerts import Alert
from ..errors import (
    CertificateVerificationError,
    NoSharedParameters,
    PeerMisbehaved,
    TLSError,
    alert_received,
)

__all__ = ["Failure", "alert_for_verify_code", "error_for"]


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known of one failed OpenSSL call.

    Attributes:
      reason: ``SSLError.reason``, ``""`` where this OpenSSL has no name for it.
      words: OpenSSL's own words, without the place in the C source.
      alert_sent: the alert found in plain in what OpenSSL left to send, if any.
      alert_seen: the alert that the peer sent in plain, if any.
      first_bytes: the first bytes that ever came from the peer.
      verify_code: the ``X509_V_ERR`` number, 0 unless verification failed.
      verify_message: the verifier's words.
      presented_chain: what the peer presented, DER, leaf first.
      server_side: which end we are.
      handshake_done: whether this happened after the handshake.
    """

    reason: str
    words: str
    alert_sent: Alert | None = None
    alert_seen: Alert | None = None
    first_bytes: bytes = b""
    verify_code: int = 0
    verify_message: str = ""
    presented_chain: tuple[bytes, ...] = ()
    server_side: bool = False
    handshake_done: bool = False


#: OpenSSL's reasons and words for received alerts whose text is not the RFC's name in capitals.
_ALERT_WORDS = {
    "close notify": Alert.close_notify,
    "decryption failed": Alert.decryption_failed_RESERVED,
    "decompression failure": Alert.decompression_failure_RESERVED,
    "no certificate": Alert.no_certificate_RESERVED,
    "export restriction": Alert.export_restriction_RESERVED,
    "user cancelled": Alert.user_canceled,
    "no renegotiation": Alert.no_renegotiation_RESERVED,
    "certificate unobtainable": Alert.certificate_unobtainable_RESERVED,
    "bad certificate hash value": Alert.bad_certificate_hash_value_RESERVED,
} | {alert.name.replace("_", " "): alert for alert in Alert if not alert.name.endswith("_RESERVED")}

#: Alerts of TLS extensions: OpenSSL leaves the word "alert" out of these reasons.
_UNMARKED = {
    "tlsv1 unsupported extension",
    "tlsv1 certificate unobtainable",
    "tlsv1 unrecognized name",
    "tlsv1 bad certificate status response",
    "tlsv1 bad certificate hash value",
}


def _received_alert(failure: Failure) -> Alert | None:
    """The alert that the peer sent, if this failure is one."""
    words = (failure.reason.replace("_", " ") or failure.words).lower()
    for prefix in ("sslv3 alert ", "tlsv1 alert ", "tlsv13 alert "):
        if words.startswith(prefix):
            return _ALERT_WORDS.get(words[len(prefix) :], failure.alert_seen)
    if words in _UNMARKED:
        return _ALERT_WORDS[words[len("tlsv1 ") :]]
    if not failure.reason:
        # OpenSSL names no reason for this alert; the record was plain, though, so we saw its number.
        return failure.alert_seen
    return None


# X509_V_ERR_* to alert, as OpenSSL's own ssl_x509err2alert maps them (a test compares them on the wire).
_VERIFY_ALERTS: dict[Alert, frozenset[int]] = {
    Alert.handshake_failure: frozenset({50}),
    Alert.bad_certificate: frozenset({4, 5, 6, 9, 11, 13, 14, 15, 16, 27, 28, 62, 63, 64, 65, 66, 67, 68, 94}),
    Alert.unknown_ca: frozenset({2, 3, 18, 19, 20, 21, 22, 24, 25, 33, 79}),  # INVALID_CA: 79, 24 before OpenSSL 3
    Alert.certificate_expired: frozenset({10, 12}),
    Alert.certificate_revoked: frozenset({23}),
    Alert.decrypt_error: frozenset({7, 8}),
    Alert.unsupported_certificate: frozenset({26}),
    Alert.internal_error: frozenset({1, 17, 69, 70}),
}

_HOW_TO_VERIFY = {
    Alert.unknown_ca: (
        "If the peer is yours, load its CA with context.load_verify_locations(); "
        "if it is public, it may not send its intermediate certificates"
    ),
    Alert.certificate_expired: "Renew the certificate, or check this machine's clock",
    Alert.certificate_revoked: "The peer has to replace its certificate",
    Alert.unsupported_certificate: (
        "The certificate is not meant for this use; issue one with the right extended key usage"
    ),
    Alert.decrypt_error: "A signature in the chain is wrong: the chain was altered or is not one",
}


def alert_for_verify_code(verify_code: int) -> Alert:
    """The alert that OpenSSL sends when verification fails with this ``X509_V_ERR``."""
    for alert, codes in _VERIFY_ALERTS.items():
        if verify_code in codes:
            return alert
    return Alert.certificate_unknown


def _verification_error(failure: Failure) -> TLSError:
    alert = failure.alert_sent or alert_for_verify_code(failure.verify_code)
    whose = "client" if failure.server_side else "server"
    said = failure.verify_message.rstrip(".") or "no reason given"
    if failure.verify_code in (62, 64):  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
        hint = "Connect by a name that the certificate has, or pass that name as server_hostname"
    elif failure.verify_code == 9:  # X509_V_ERR_CERT_NOT_YET_VALID
        hint = "Check this machine's clock"
    else:
        hint = _HOW_TO_VERIFY.get(alert, "Error.presented_chain holds what the peer presented")
    return CertificateVerificationError(
        f"the {whose}'s certificate was not accepted: {said}",
        hint=hint,
        alert=alert,
        presented_chain=failure.presented_chain,
        verify_code=failure.verify_code,
        verify_message=failure.verify_message,
    )


#: Reasons that mean "nothing in common", with what the ends lack.
_NOTHING_SHARED = {
    "NO_SHARED_CIPHER": "cipher suite (or this server has no certificate loaded)",
    "UNSUPPORTED_PROTOCOL": "TLS version",
    "UNSUPPORTED_SSL_VERSION": "TLS version",
    "VERSION_TOO_LOW": "TLS version",
    "VERSION_TOO_HIGH": "TLS version",
    "WRONG_SSL_VERSION": "TLS version",
    "NO_PROTOCOLS_AVAILABLE": "TLS version: the context allows none",
    "INAPPROPRIATE_FALLBACK": "TLS version without a fallback",
    "NO_SUITABLE_KEY_SHARE": "key exchange group",
    "NO_SUITABLE_GROUPS": "key exchange group",
    "NO_SHARED_GROUPS": "key exchange group",
    "NO_SHARED_SIGNATURE_ALGORITHMS": "signature algorithm",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "signature algorithm that fits the certificate",
    "NO_APPLICATION_PROTOCOL": "ALPN protocol",
}

#: Reasons that mean "those bytes are not TLS at all".
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL"})

#: How HTTP begins, from either end.
_HTTP = (b"GET ", b"POST ", b"HEAD ", b"PUT ", b"CONNECT ", b"OPTIONS ", b"DELETE ", b"PATCH ", b"HTTP/")

#: Protocol violations whose rule can be named; the others are told in OpenSSL's words.
_RULES = {
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": (
        "a record failed authentication (RFC 9846 section 5.2): bytes were altered, lost or repeated on the way"
    ),
    "UNEXPECTED_MESSAGE": "a handshake message came out of order (RFC 9846 section 4)",
    "UNEXPECTED_RECORD": "a record of a type that is not allowed here came (RFC 9846 section 5)",
    "DIGEST_CHECK_FAILED": "its Finished does not match the transcript (RFC 9846 section 4.5.3)",
    "BAD_SIGNATURE": "its CertificateVerify signature is wrong (RFC 9846 section 4.5.2)",
    "PACKET_LENGTH_TOO_LONG": "a record is longer than allowed (RFC 9846 section 5.1)",
    "DATA_LENGTH_TOO_LONG": "a record is longer than allowed (RFC 9846 section 5.1)",
    "ENCRYPTED_LENGTH_TOO_LONG": "an encrypted record is longer than allowed (RFC 9846 section 5.2)",
    "EXCESSIVE_MESSAGE_SIZE": "a handshake message is longer than allowed (RFC 9846 section 4)",
    "LENGTH_MISMATCH": "a length field does not fit its message (RFC 9846 section 3.4)",
    "BAD_EXTENSION": "an extension cannot be parsed (RFC 9846 section 4.3)",
    "NO_CHANGE_FOLLOWING_HRR": "it repeated its ClientHello after a HelloRetryRequest (RFC 9846 section 4.2.4)",
    "BAD_KEY_SHARE": "its key share is malformed (RFC 9846 section 4.3.8)",
    "MISSING_SIGALGS_EXTENSION": "it sent no signature_algorithms (RFC 9846 section 9.2)",
    "TOO_MANY_KEY_UPDATES": "it sends KeyUpdates without end (RFC 9846 section 4.7.3)",
    "TOO_MANY_WARN_ALERTS": "it sends warning alerts without end (RFC 9846 section 6)",
    "RECORD_TOO_SMALL": "it sends empty records without end (RFC 9846 section 5.1)",
    "BAD_CHANGE_CIPHER_SPEC": "a change_cipher_spec record came where none may (RFC 9846 section 5)",
    "CCS_RECEIVED_EARLY": "a change_cipher_spec record came where none may (RFC 9846 section 5)",
    "INVALID_CCS_MESSAGE": "a change_cipher_spec record has another content than 1 (RFC 9846 section 5)",
    "BAD_RECORD_TYPE": "a record of a type that is not allowed here came (RFC 9846 section 5)",
    "INVALID_ALERT": "an alert is not two bytes, or has no level (RFC 9846 section 6)",
    "NOT_ON_RECORD_BOUNDARY": "a message does not end with its record where the keys change (RFC 9846 section 5.1)",
    "BAD_LENGTH": "a length field does not fit its message (RFC 9846 section 3.4)",
    "CERT_LENGTH_MISMATCH": "a length field does not fit its message (RFC 9846 section 3.4)",
    "SSL3_SESSION_ID_TOO_LONG": "its session ID has more than 32 bytes (RFC 9846 section 4.2.2)",
    "INVALID_SESSION_ID": "it did not send back the session ID that it was given (RFC 9846 section 4.2.3)",
    "BAD_LEGACY_VERSION": "its legacy_version is not 0x0303 (RFC 9846 section 4.2.2)",
    "BAD_PROTOCOL_VERSION_NUMBER": "it chose a version that it was not offered (RFC 9846 section 4.3.1)",
    "UNKNOWN_CIPHER_RETURNED": "it chose a cipher suite that nobody knows (RFC 9846 section 4.2.3)",
    "WRONG_CIPHER_RETURNED": "it chose a cipher suite that it was not offered (RFC 9846 section 4.2.3)",
    "NO_COMPRESSION_SPECIFIED": "it does not offer to leave the data uncompressed (RFC 9846 section 4.2.2)",
    "INVALID_COMPRESSION_ALGORITHM": "it offers or chose a compression (RFC 9846 section 4.2.2)",
    "BAD_ECPOINT": "its key share is no point of the curve (RFC 9846 section 4.3.8)",
    "BINDER_DOES_NOT_VERIFY": "the binder of its pre_shared_key is wrong (RFC 9846 section 4.3.11)",
    "BAD_PSK_IDENTITY": "it chose a pre_shared_key that it was not offered (RFC 9846 section 4.3.11)",
    "MISSING_SUPPORTED_GROUPS_EXTENSION": "it sent no supported_groups (RFC 9846 section 9.2)",
    "MISSING_PSK_KEX_MODES_EXTENSION": "it sent no psk_key_exchange_modes (RFC 9846 section 4.3.9)",
    "WRONG_SIGNATURE_TYPE": "its signature is of a scheme that it was not offered (RFC 9846 section 4.5.2)",
    "WRONG_CURVE": "its certificate's key is on another curve than its signature scheme (RFC 9846 section 4.3.3)",
}

_ALTERED = "Check what sits between the ends; if nothing does, one of them has a defect"


def error_for(failure: Failure) -> TLSError:
    """The exception for one failed OpenSSL call. Its ``__cause__`` is the caller's to set."""
    received = _received_alert(failure)
    if received is not None:
        return alert_received(received)
    reason, sent = failure.reason, failure.alert_sent
    if reason == "CERTIFICATE_VERIFY_FAILED":
        return _verification_error(failure)
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return CertificateVerificationError(
            "the client sent no certificate, and this server requires one",
            hint="Load a certificate into the client's context with load_cert_chain()",
            # TLS 1.2 tells handshake_failure, in plain; TLS 1.3 has an alert for this, encrypted.
            alert=sent or Alert.certificate_required,
        )
    if reason in _NOTHING_SHARED:
        return NoSharedParameters(
            f"the peer and this end have no common {_NOTHING_SHARED[reason]}",
            hint=(
                "Compare what both ends allow: minimum_version, maximum_version, set_ciphers() and the certificates "
                "of their contexts decide it"
            ),
            alert=sent,
        )
    if reason in _NOT_TLS and not failure.handshake_done:
        http = reason.startswith("HTTP") or failure.first_bytes.startswith(_HTTP)
        spoken = "HTTP" if http else "something else"
        return PeerMisbehaved(
            f"the peer does not speak TLS but {spoken}: its first bytes are {failure.first_bytes!r}",
            hint=(
                "The client probably used http:// on a TLS port"
                if failure.server_side
                else "This port is probably a plaintext one, or needs STARTTLS first"
            ),
            alert=sent,
        )
    if reason in _NOT_TLS:
        return PeerMisbehaved(
            "the peer broke the protocol: what it sent is no TLS record (RFC 9846 section 5.1)",
            hint="Check that nothing but TLS is written to the transport, and that nothing in between alters it",
            alert=sent,
        )
    if reason in _RULES:
        return PeerMisbehaved(f"the peer broke the protocol: {_RULES[reason]}", hint=_ALTERED, alert=sent)
    if reason == "CALLBACK_FAILED":
        return TLSError(
            "a callback of the SSLContext raised an exception (Python printed it as ignored)",
            hint="Mend the callback; the peer was told handshake_failure or internal_error",
            alert=sent,
        )
    words = failure.words or reason.replace("_", " ").lower() or "an error without a reason"
    return TLSError(
        f"OpenSSL failed the connection: {words}",
        hint="Search for these words in OpenSSL's documentation; they may come from this end's configuration",
        alert=sent,
    )
