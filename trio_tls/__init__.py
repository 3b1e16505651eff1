"""TLS for Trio whose operations can be cancelled at any point, and simply called again."""

from __future__ import annotations

import trio as _trio

from .alerts import Alert
from .blocking_contexts import HandshakeInThread
from .by_hello import ConfigByHello, ConfigsByName
from .config import ClientConfig, ServerConfig, accept_any_peer
from .config_context import ConfigContext
from .credentials import Credential, CredentialsByName
from .errors import (
    AlertReceived,
    CertificateVerificationError,
    HandshakeClosed,
    NeedHandshakeError,
    NoSharedParameters,
    PeerMisbehaved,
    ServerFull,
    TLSError,
    TransportError,
    UnexpectedEOF,
    UnreadDataError,
)
from .identity import Identity, identity_of
from .keylog import KeyLog
from .listener import TLSListener
from .machine.client_hello import ClientHelloInfo
from .machine.interface import (
    ConnectionInfo,
    MachineFactory,
    Need,
    NeedCredential,
    NeedServerConfig,
    NeedSession,
    NeedSignature,
    NeedVerification,
    Want,
)
from .machine.tls13.registry import CipherSuiteNumber, NamedGroup, SignatureScheme
from .machine.tls13.session_cache import ClientSessionCache, MemorySessionStore, ServerSessionStore, SessionCache
from .machine.tls13.sessions import Session
from .machine.tls13.tickets import TicketKeys
from .machine.tls13.tracer import Tracer
from .metrics import AgreedParameters, FailureKind, Histogram, ServerMetrics
from .nodelay import set_tcp_nodelay
from .peek import ClientHelloPeek, peek_client_hello
from .reloading import ReloadingConfig
from .sending import ResumableSend
from .serve import serve_tls
from .ssl_sessions import SSLSessionCache
from .stream import TLSStream
from .tcp import open_tls_over_tcp_listeners, open_tls_over_tcp_stream, serve_tls_over_tcp
from .ticket_secrets import SharedTicketKeys, TicketSecret, TicketSecretFile, TicketSecretStore
from .trust import PrivatePolicy, TrustAnchors, VerifiedPeer, Verifier, WebPolicy
from .unix import open_tls_over_unix_socket
from .workers import Worker, WorkerEvent, run_workers

__all__ = [
    "AgreedParameters",
    "Alert",
    "AlertReceived",
    "CertificateVerificationError",
    "CipherSuiteNumber",
    "ClientConfig",
    "ClientHelloInfo",
    "ClientHelloPeek",
    "ClientSessionCache",
    "ConfigByHello",
    "ConfigContext",
    "ConfigsByName",
    "ConnectionInfo",
    "Credential",
    "CredentialsByName",
    "FailureKind",
    "HandshakeClosed",
    "HandshakeInThread",
    "Histogram",
    "Identity",
    "KeyLog",
    "MachineFactory",
    "MemorySessionStore",
    "NamedGroup",
    "Need",
    "NeedCredential",
    "NeedHandshakeError",
    "NeedServerConfig",
    "NeedSession",
    "NeedSignature",
    "NeedVerification",
    "NoSharedParameters",
    "PeerMisbehaved",
    "PrivatePolicy",
    "ReloadingConfig",
    "ResumableSend",
    "SSLSessionCache",
    "ServerConfig",
    "ServerFull",
    "ServerMetrics",
    "ServerSessionStore",
    "Session",
    "SessionCache",
    "SharedTicketKeys",
    "SignatureScheme",
    "TLSError",
    "TLSListener",
    "TLSStream",
    "TicketKeys",
    "TicketSecret",
    "TicketSecretFile",
    "TicketSecretStore",
    "Tracer",
    "TransportError",
    "TrustAnchors",
    "UnexpectedEOF",
    "UnreadDataError",
    "VerifiedPeer",
    "Verifier",
    "Want",
    "WebPolicy",
    "Worker",
    "WorkerEvent",
    "accept_any_peer",
    "identity_of",
    "open_tls_over_tcp_listeners",
    "open_tls_over_tcp_stream",
    "open_tls_over_unix_socket",
    "peek_client_hello",
    "run_workers",
    "serve_tls",
    "serve_tls_over_tcp",
    "set_tcp_nodelay",
]

__version__ = "0.1.0.dev0"

# Code in the wild asks isinstance(stream, trio.SSLStream) to find out that a stream is TLS, and how to reach the
# socket below it. The answer for ours is yes.
_trio.SSLStream.register(TLSStream)
_trio.SSLListener.register(TLSListener)
