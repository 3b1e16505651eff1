"""The numbers of a ClientHello in words: extensions, cipher suites, groups, signature schemes, versions.

How this works. The machine's own registry (`trio_tls.machine.tls13.registry`) names what TLS 1.3 knows. Clients offer
more: what is left of TLS 1.2, and what browsers try. Those names are here, as the TLS registries of IANA have them,
beside one sentence for each extension. GREASE is named as such; what nobody here knows keeps its number.
"""

from __future__ import annotations

import enum

from ..machine.tls13.registry import CipherSuiteNumber, ExtensionType, NamedGroup, SignatureScheme, is_grease

__all__ = [
    "extension_name",
    "extension_purpose",
    "group_name",
    "is_post_quantum",
    "scheme_name",
    "suite_name",
    "version_name",
]

VERSIONS = {0x0300: "SSL 3.0", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}

#: Not in the registry of TLS 1.3.
EXTENSIONS = {
    1: "max_fragment_length",
    11: "ec_point_formats",
    17: "status_request_v2",
    22: "encrypt_then_mac",
    23: "extended_master_secret",
    24: "token_binding",
    35: "session_ticket",
    13172: "next_protocol_negotiation",
    17513: "application_settings (draft)",
    17613: "application_settings",
    51764: "trust_anchors (draft)",
    65281: "renegotiation_info",
}

#: What each is for, in the client's words.
PURPOSES = {
    0: "the name of the server that I want",
    1: "records no longer than this, please",
    5: "staple the revocation status to your certificate",
    10: "the key exchange groups that I know",
    11: "TLS 1.2: how I write points on a curve",
    13: "the signatures that I can check",
    16: "the protocols that I speak inside TLS (ALPN)",
    18: "send proof that your certificate is logged publicly",
    21: "nothing, to be longer",
    22: "TLS 1.2: a safer order of encryption and MAC",
    23: "TLS 1.2: bind the keys to the whole handshake",
    27: "I can decompress certificates",
    28: "records no longer than this, please",
    34: "I accept credentials that you delegate",
    35: "TLS 1.2: I can resume sessions by tickets",
    41: "the session that I want to resume; always the last",
    42: "data of mine follows before the handshake is done",
    43: "the versions of TLS that I speak",
    44: "what you told me to repeat",
    45: "how a session may be resumed",
    47: "the authorities that I trust",
    49: "you may ask for my certificate later",
    50: "the signatures that I can check in certificates",
    51: "my half of the key exchange",
    58: "how many session tickets I want",
    17513: "settings of the protocol inside, already now",
    17613: "settings of the protocol inside, already now",
    51764: "the trust anchors that I have, by their numbers",
    65037: "the real ClientHello, encrypted (ECH), or what looks like it",
    65281: "TLS 1.2: I renegotiate safely, if at all",
}

#: Those of TLS 1.2 that clients still offer, and the two signals that are no suites.
SUITES = {
    0x000A: "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    0x002F: "TLS_RSA_WITH_AES_128_CBC_SHA",
    0x0033: "TLS_DHE_RSA_WITH_AES_128_CBC_SHA",
    0x0035: "TLS_RSA_WITH_AES_256_CBC_SHA",
    0x0039: "TLS_DHE_RSA_WITH_AES_256_CBC_SHA",
    0x003C: "TLS_RSA_WITH_AES_128_CBC_SHA256",
    0x003D: "TLS_RSA_WITH_AES_256_CBC_SHA256",
    0x0067: "TLS_DHE_RSA_WITH_AES_128_CBC_SHA256",
    0x006B: "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256",
    0x009C: "TLS_RSA_WITH_AES_128_GCM_SHA256",
    0x009D: "TLS_RSA_WITH_AES_256_GCM_SHA384",
    0x009E: "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256",
    0x009F: "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384",
    0x00FF: "TLS_EMPTY_RENEGOTIATION_INFO_SCSV",
    0x5600: "TLS_FALLBACK_SCSV",
    0xC008: "TLS_ECDHE_ECDSA_WITH_3DES_EDE_CBC_SHA",
    0xC009: "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    0xC00A: "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    0xC012: "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    0xC013: "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    0xC014: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    0xC023: "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    0xC024: "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384",
    0xC027: "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    0xC028: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384",
    0xC02B: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    0xC02C: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    0xC02F: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    0xC030: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    0xCCA8: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    0xCCA9: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    0xCCAA: "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
}

GROUPS = {
    0x001A: "brainpoolP256r1",
    0x001B: "brainpoolP384r1",
    0x001C: "brainpoolP512r1",
    0x001F: "brainpoolP256r1tls13",
    0x0020: "brainpoolP384r1tls13",
    0x0021: "brainpoolP512r1tls13",
    0x0200: "MLKEM512",
    0x0201: "MLKEM768",
    0x0202: "MLKEM1024",
    0x11EE: "curveSM2MLKEM768",
    0x6399: "X25519Kyber768Draft00",
}

SCHEMES = {
    0x0202: "dsa_sha1",
    0x0301: "rsa_pkcs1_sha224",
    0x0302: "dsa_sha224",
    0x0303: "ecdsa_sha224",
    0x0402: "dsa_sha256",
    0x0502: "dsa_sha384",
    0x0602: "dsa_sha512",
    0x081A: "ecdsa_brainpoolP256r1tls13_sha256",
    0x081B: "ecdsa_brainpoolP384r1tls13_sha384",
    0x081C: "ecdsa_brainpoolP512r1tls13_sha512",
}


def extension_name(number: int) -> str:
    """An extension, such as ``"server_name"``."""
    return _name(number, EXTENSIONS, ExtensionType)


def extension_purpose(number: int) -> str:
    """What an extension is for, as the client would say it; ``""`` where nobody here knows."""
    return "nothing: it keeps servers used to what they do not know" if is_grease(number) else PURPOSES.get(number, "")


def suite_name(number: int) -> str:
    """A cipher suite."""
    return _name(number, SUITES, CipherSuiteNumber)


def group_name(number: int) -> str:
    """A key exchange group."""
    return _name(number, GROUPS, NamedGroup)


def scheme_name(number: int) -> str:
    """A signature scheme."""
    return _name(number, SCHEMES, SignatureScheme)


def version_name(number: int) -> str:
    """A version of TLS."""
    return "GREASE" if is_grease(number) else VERSIONS.get(number, f"0x{number:04x}")


def is_post_quantum(group: str) -> bool:
    """Whether a group of this name withstands a quantum computer, as far as is known: it has ML-KEM in it."""
    return "MLKEM" in group or "Kyber" in group


def _name(number: int, more: dict[int, str], registry: type[enum.IntEnum]) -> str:
    if is_grease(number):
        return "GREASE"
    try:
        return registry(number).name
    except ValueError:
        return more.get(number, f"0x{number:04x}")
