"""TLS for Trio whose operations can be cancelled at any point, and simply called again."""

from __future__ import annotations

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
from .stream import TLSStream

__version__ = "0.1.0.dev0"
