"""Alert descriptions by their RFC names (RFC 9846 section 6, and the TLS 1.2 ones still met).

A leaf: it imports nothing of the package, so errors and machines can both speak of alerts.
"""

from __future__ import annotations

import enum

__all__ = ["Alert"]


class Alert(enum.IntEnum):
    """One AlertDescription; ``alert.name`` is the RFC's name, ``int(alert)`` its number.

    Numbers that no RFC names survive: ``Alert(200).name`` is ``"unknown_200"``.
    """

    close_notify = 0
    unexpected_message = 10
    bad_record_mac = 20
    decryption_failed_RESERVED = 21
    record_overflow = 22
    decompression_failure_RESERVED = 30
    handshake_failure = 40
    no_certificate_RESERVED = 41
    bad_certificate = 42
    unsupported_certificate = 43
    certificate_revoked = 44
    certificate_expired = 45
    certificate_unknown = 46
    illegal_parameter = 47
    unknown_ca = 48
    access_denied = 49
    decode_error = 50
    decrypt_error = 51
    export_restriction_RESERVED = 60
    protocol_version = 70
    insufficient_security = 71
    internal_error = 80
    inappropriate_fallback = 86
    user_canceled = 90
    no_renegotiation_RESERVED = 100
    missing_extension = 109
    unsupported_extension = 110
    certificate_unobtainable_RESERVED = 111
    unrecognized_name = 112
    bad_certificate_status_response = 113
    bad_certificate_hash_value_RESERVED = 114
    unknown_psk_identity = 115
    certificate_required = 116
    no_application_protocol = 120

    @classmethod
    def _missing_(cls, value: object) -> Alert | None:
        if not isinstance(value, int) or not 0 <= value <= 255:
            return None
        unknown = int.__new__(cls, value)
        unknown._name_ = f"unknown_{value}"
        unknown._value_ = value
        return unknown

    def __str__(self) -> str:
        return f"{self.name} ({self.value})"
