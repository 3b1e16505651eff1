"""TLS for Trio whose operations can be cancelled at any point, and simply called again."""

from __future__ import annotations

import trio as _trio

from .alerts import Alert
from .errors import (
    AlertReceived,
    CertificateVerificationError,
    HandshakeClosed,
    NeedHandshakeError,
    NoSharedParameters,
    PeerMisbehaved,
    TLSError,
    TransportError,
    UnexpectedEOF,
    UnreadDataError,
)
from .listener import TLSListener
from .machine.interface import ConnectionInfo, Need, Want
from .sending import ResumableSend
from .serve import serve_tls
from .stream import TLSStream
from .tcp import open_tls_over_tcp_listeners, open_tls_over_tcp_stream, serve_tls_over_tcp
from .unix import open_tls_over_unix_socket

__all__ = [
    "Alert",
    "AlertReceived",
    "CertificateVerificationError",
    "ConnectionInfo",
    "HandshakeClosed",
    "Need",
    "NeedHandshakeError",
    "NoSharedParameters",
    "PeerMisbehaved",
    "ResumableSend",
    "TLSError",
    "TLSListener",
    "TLSStream",
    "TransportError",
    "UnexpectedEOF",
    "UnreadDataError",
    "Want",
    "open_tls_over_tcp_listeners",
    "open_tls_over_tcp_stream",
    "open_tls_over_unix_socket",
    "serve_tls",
    "serve_tls_over_tcp",
]

__version__ = "0.1.0.dev0"

# Code in the wild asks isinstance(stream, trio.SSLStream) to find out that a stream is TLS, and how to reach the
# socket below it. The answer for ours is yes.
_trio.SSLStream.register(TLSStream)
_trio.SSLListener.register(TLSListener)
