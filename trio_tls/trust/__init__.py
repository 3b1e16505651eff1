"""Whom to believe: trust anchors, policies, and the verifier of certificate chains.

How this works. `TrustAnchors` are the certificates that are believed as they are; a policy (`WebPolicy`,
`PrivatePolicy`) says what the other certificates have to look like; a `Verifier` puts both together with limits and
pins, and turns a chain that a peer presented into a `VerifiedPeer`, or raises. Signatures, names, validity and path
building are `cryptography.x509.verification`'s.
"""

from __future__ import annotations

from .anchors import TrustAnchors
from .policies import Policy, PrivatePolicy, WebPolicy
from .verifier import VerifiedPeer, Verifier

__all__ = ["Policy", "PrivatePolicy", "TrustAnchors", "VerifiedPeer", "Verifier", "WebPolicy"]
