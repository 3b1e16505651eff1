"""What remains of a transport's failure: errors that are kept, and raised again for whoever comes later.

How this works. An exception holds the frames that it came through, and those hold the stream. So what a stream keeps
has none: `twin_of` an exception is the same without them, and `without_frames` takes them off a `TransportError`.
"""

from __future__ import annotations

import copy

import trio

from ..errors import TLSError, TransportError

__all__ = ["transport_error", "twin_of", "without_frames"]


def twin_of(error: Exception) -> Exception:
    """The same error without the frames that it came through: to be kept, and raised again later."""
    try:
        return copy.copy(error)
    except Exception:  # it cannot be made again of what it tells
        return trio.BrokenResourceError(f"the transport failed before: {error!r}")


def transport_error(error: Exception, doing: str) -> TLSError:
    """What a failure of the transport is told as; ``error`` is its cause."""
    words = str(error) or repr(error)
    failure = TransportError(
        f"the transport failed while {doing}: {words}",
        hint="The connection is gone; open a new one",
    )
    failure.__cause__ = error
    return failure


def without_frames(failure: TLSError) -> TLSError:
    """A failure that is kept must not hold the frames that it came through: they hold the stream that keeps it.

    What rises unchanged to the caller that hit it (an exception of a transport that is no broken transport) keeps them:
    of that, a twin is kept.
    """
    if isinstance(failure.__cause__, Exception) and not isinstance(
        failure.__cause__, (OSError, trio.BrokenResourceError, TLSError)
    ):
        failure.__cause__ = twin_of(failure.__cause__)
    each: BaseException | None = failure
    while each is not None:
        if isinstance(each, (OSError, trio.BrokenResourceError)):
            each.__traceback__ = each.__context__ = None
        each = each.__cause__
    return failure
