"""Why a client's handshake or connection failed, as a server of the command tells it.

How this works. The sentences are those of `problem_of`; but its hints are for somebody who connects, and here it is the
other end that has to do something.
"""

from __future__ import annotations

import errno

import trio

from ..errors import CertificateVerificationError, PeerMisbehaved, ServerFull, TransportError, UnexpectedEOF
from .facts import certificate_facts
from .problem import ExitStatus, Problem, leaves, problem_of
from .verdict import refusal

__all__ = ["client_problem"]

_PASSER_BY = "Port scans, health checks and clients that have given up do so"


def client_problem(error: Exception, *, openssl: bool) -> Problem:
    """What went wrong with a client, with a hint for the one who runs the server.

    Args:
      error: what its handshake or its connection failed with; of a `trio.TooSlowError`, the text is told.
      openssl: whether ``--openssl`` was given.
    """
    if isinstance(error, ServerFull):
        sentence = f"refused, as there are as many {error.limit} as --max-{error.limit} allows"
        return Problem(ExitStatus.NETWORK, sentence, f"Raise --max-{error.limit}, or take --when-full wait")
    if isinstance(error, trio.TooSlowError):
        return Problem(ExitStatus.NETWORK, str(error), "The client may speak another protocol, or none; see --timeout")
    problem = problem_of(error, "the client", openssl=openssl)
    if problem is None:
        return Problem(ExitStatus.NETWORK, f"{type(error).__name__}: {error}", "This may be a defect; please report it")
    return Problem(problem.status, problem.sentence, _hint_for(error) or problem.hint, error=problem.error)


def _hint_for(error: Exception) -> str:
    """What to do, where it is not what a client would do; ``""`` where it is."""
    if isinstance(error, CertificateVerificationError):
        presented = tuple(map(certificate_facts, error.presented_chain))
        if not presented:
            return "Have the client present one; --client-cert request lets in clients without"
        return refusal(error, presented, None)[1] or "The client needs another certificate"
    if isinstance(error, PeerMisbehaved) and "does not speak TLS" in error.message:
        return "Clients begin with TLS here; browsers do, for https://"
    if isinstance(error, UnexpectedEOF) and "the handshake" in error.message:
        return _PASSER_BY
    if isinstance(error, TransportError):
        causes = [cause.errno for cause in leaves(error.__cause__) if isinstance(cause, OSError)]
        if errno.ECONNRESET in causes or errno.EPIPE in causes:
            return _PASSER_BY
    return ""
