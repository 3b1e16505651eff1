"""The extensions of TLS 1.3: what is inside each, and where each may appear (RFC 9846 section 4.3).

How this works. One frozen dataclass stands for one body in one kind of message; where the standard has one type
with several bodies (``key_share`` in ClientHello, ServerHello and HelloRetryRequest), there are several classes.
They are in modules by what they are about; `Extensions` in ``block.py`` holds the extensions of one message, and the
one table that says which class reads which type in which message.

Classes do not check what they are made with, so a test can play a peer that breaks the rules; ``decode`` checks
everything that the structure in the standard says, and nothing that depends on a policy or on another message.
"""

from __future__ import annotations

from .application import ApplicationProtocols, Padding, RecordSizeLimit, ServerName
from .authentication import (
    CertificateAuthorities,
    PostHandshakeAuth,
    SignatureAlgorithms,
    SignatureAlgorithmsCert,
)
from .block import Extensions, MessageContext, encode_extension, encoded
from .body import Extension, KnownExtension, UnknownExtension
from .key_share import KeyShareEntry, KeyShares, RetryGroup, SelectedKeyShare, SupportedGroups
from .pre_shared_key import (
    EarlyData,
    EarlyDataLimit,
    PreSharedKeys,
    PskIdentity,
    PskKeyExchangeModes,
    SelectedPsk,
)
from .supported_versions import Cookie, SelectedVersion, SupportedVersions

__all__ = [
    "ApplicationProtocols",
    "CertificateAuthorities",
    "Cookie",
    "EarlyData",
    "EarlyDataLimit",
    "Extension",
    "Extensions",
    "KeyShareEntry",
    "KeyShares",
    "KnownExtension",
    "MessageContext",
    "Padding",
    "PostHandshakeAuth",
    "PreSharedKeys",
    "PskIdentity",
    "PskKeyExchangeModes",
    "RecordSizeLimit",
    "RetryGroup",
    "SelectedKeyShare",
    "SelectedPsk",
    "SelectedVersion",
    "ServerName",
    "SignatureAlgorithms",
    "SignatureAlgorithmsCert",
    "SupportedGroups",
    "SupportedVersions",
    "UnknownExtension",
    "encode_extension",
    "encoded",
]
