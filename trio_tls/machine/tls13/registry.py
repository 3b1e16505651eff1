"""The registered numbers of TLS 1.3, under the names that the registries give them.

How this works. The enums name what this library has heard of. Messages do not hold enum members but plain
integers, so a value that nobody here knows survives a decode and an encode unharmed: "Implementations need to be
able to parse and ignore unknown values" (RFC 9846 section 3.5). A member equals its integer, so comparisons and
look-ups take both; `name_of` finds the name for a text.

Sources: RFC 9846 appendix B, and where a value is from elsewhere its own RFC.
"""

from __future__ import annotations

import enum
from functools import lru_cache

__all__ = [
    "GREASE",
    "GREASE_PSK_MODES",
    "TLS_1_2",
    "TLS_1_3",
    "CipherSuiteNumber",
    "ContentType",
    "ExtensionType",
    "HandshakeType",
    "KeyUpdateRequest",
    "NamedGroup",
    "PskKeyExchangeMode",
    "SignatureScheme",
    "is_grease",
    "name_of",
]

#: ProtocolVersion of TLS 1.2, which legacy version fields hold for ever (RFC 9846 section 4.2.2).
TLS_1_2 = 0x0303
#: ProtocolVersion of TLS 1.3, as supported_versions names it.
TLS_1_3 = 0x0304


class ContentType(enum.IntEnum):
    """What a record holds (RFC 9846 appendix B.1)."""

    invalid = 0
    change_cipher_spec = 20
    alert = 21
    handshake = 22
    application_data = 23


class HandshakeType(enum.IntEnum):
    """The handshake messages of TLS 1.3 (RFC 9846 appendix B.3); those of older versions have no place in it."""

    client_hello = 1
    server_hello = 2
    new_session_ticket = 4
    end_of_early_data = 5
    encrypted_extensions = 8
    certificate = 11
    certificate_request = 13
    certificate_verify = 15
    finished = 20
    key_update = 24
    message_hash = 254


class ExtensionType(enum.IntEnum):
    """The extensions of RFC 9846 section 4.3, and signed_certificate_timestamp (RFC 6962), which RFC 8446 listed."""

    server_name = 0
    status_request = 5
    supported_groups = 10
    signature_algorithms = 13
    use_srtp = 14
    heartbeat = 15
    application_layer_protocol_negotiation = 16
    signed_certificate_timestamp = 18
    client_certificate_type = 19
    server_certificate_type = 20
    padding = 21
    compress_certificate = 27
    record_size_limit = 28
    delegated_credential = 34
    supported_ekt_ciphers = 39
    pre_shared_key = 41
    early_data = 42
    supported_versions = 43
    cookie = 44
    psk_key_exchange_modes = 45
    certificate_authorities = 47
    oid_filters = 48
    post_handshake_auth = 49
    signature_algorithms_cert = 50
    key_share = 51
    transparency_info = 52
    external_id_hash = 55
    external_session_id = 56
    quic_transport_parameters = 57
    ticket_request = 58
    ech_outer_extensions = 64768
    encrypted_client_hello = 65037


class NamedGroup(enum.IntEnum):
    """Groups for key_share (RFC 9846 section 4.3.7); the hybrids are of draft-ietf-tls-ecdhe-mlkem."""

    secp256r1 = 0x0017
    secp384r1 = 0x0018
    secp521r1 = 0x0019
    x25519 = 0x001D
    x448 = 0x001E
    ffdhe2048 = 0x0100
    ffdhe3072 = 0x0101
    ffdhe4096 = 0x0102
    ffdhe6144 = 0x0103
    ffdhe8192 = 0x0104
    SecP256r1MLKEM768 = 0x11EB
    X25519MLKEM768 = 0x11EC
    SecP384r1MLKEM1024 = 0x11ED


class SignatureScheme(enum.IntEnum):
    """Signature schemes (RFC 9846 section 4.3.3); ML-DSA is of draft-ietf-tls-mldsa, the legacy RSA of RFC 9963."""

    rsa_pkcs1_sha1 = 0x0201
    ecdsa_sha1 = 0x0203
    rsa_pkcs1_sha256 = 0x0401
    ecdsa_secp256r1_sha256 = 0x0403
    rsa_pkcs1_sha256_legacy = 0x0420
    rsa_pkcs1_sha384 = 0x0501
    ecdsa_secp384r1_sha384 = 0x0503
    rsa_pkcs1_sha384_legacy = 0x0520
    rsa_pkcs1_sha512 = 0x0601
    ecdsa_secp521r1_sha512 = 0x0603
    rsa_pkcs1_sha512_legacy = 0x0620
    rsa_pss_rsae_sha256 = 0x0804
    rsa_pss_rsae_sha384 = 0x0805
    rsa_pss_rsae_sha512 = 0x0806
    ed25519 = 0x0807
    ed448 = 0x0808
    rsa_pss_pss_sha256 = 0x0809
    rsa_pss_pss_sha384 = 0x080A
    rsa_pss_pss_sha512 = 0x080B
    mldsa44 = 0x0904
    mldsa65 = 0x0905
    mldsa87 = 0x0906


class CipherSuiteNumber(enum.IntEnum):
    """The cipher suites of TLS 1.3 (RFC 9846 appendix B.4)."""

    TLS_AES_128_GCM_SHA256 = 0x1301
    TLS_AES_256_GCM_SHA384 = 0x1302
    TLS_CHACHA20_POLY1305_SHA256 = 0x1303
    TLS_AES_128_CCM_SHA256 = 0x1304
    TLS_AES_128_CCM_8_SHA256 = 0x1305


class PskKeyExchangeMode(enum.IntEnum):
    """How a pre-shared key may be used (RFC 9846 section 4.3.9)."""

    psk_ke = 0
    psk_dhe_ke = 1


class KeyUpdateRequest(enum.IntEnum):
    """Whether a KeyUpdate asks for one in return (RFC 9846 section 4.7.3)."""

    update_not_requested = 0
    update_requested = 1


#: Values of 16 bits that mean nothing and must be ignored: for suites, extensions, groups, schemes and versions
#: (RFC 8701 section 2).
GREASE: tuple[int, ...] = tuple(n << 8 | n for n in range(0x0A, 0x100, 0x10))
#: The same for PskKeyExchangeMode.
GREASE_PSK_MODES: tuple[int, ...] = tuple(range(0x0B, 0x100, 0x1F))


def is_grease(n: int) -> bool:
    """Whether the 16-bit value ``n`` is one that RFC 8701 reserved to mean nothing."""
    return n & 0x0F0F == 0x0A0A and n >> 8 == n & 0xFF


@lru_cache(maxsize=256)
def name_of(registry: type[enum.IntEnum], n: int) -> str:
    """The registered name of ``n``, for a text: ``"x25519"``, or ``"unknown 0x1234"``."""
    try:
        return registry(n).name
    except ValueError:
        return f"unknown 0x{n:04x}"
