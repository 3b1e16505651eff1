"""The machine behind an ``ssl.SSLContext`` whose handshake may block.

How this works. Some contexts do more in a handshake than OpenSSL does: they ask the operating system whether to trust
a chain, load its trust store first, take a lock. This machine calls into such a context only in *steps*, and makes
no step itself: `BlockingMachine.do_handshake` returns a need for one, and what it was given as ``resolve`` has the
step run where blocking is allowed. A step keeps its own outcome, for the next `do_handshake`. So a caller that is
cancelled leaves the need open while the step goes on, whoever comes next waits for that same step, and there are
never two steps at once in one SSL object.

Making the SSL object is part of the first step. Until then an `UnmadeSSLObject` stands in for it.

After the handshake this is an `OpenSSLMachine` like any other.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn, cast

from ..errors import CertificateVerificationError, TLSError
from .interface import Need, Want
from .openssl import OpenSSLMachine

__all__ = ["BlockingMachine", "NeedBlockingStep"]


@dataclass(eq=False, slots=True)
class NeedBlockingStep(Need):
    """Call `step` once, where it may block. The answer means that it has returned.

    Attributes:
      step: a step of the handshake. It raises nothing: what came of it, it keeps for the machine.
    """

    step: Callable[[], None]


@dataclass(slots=True)
class UnmadeSSLObject:
    """What an SSL object will be made of: the part of `ssl.SSLObject` that may be used before a handshake."""

    context: ssl.SSLContext
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    server_side: bool
    server_hostname: str | None
    session: ssl.SSLSession | None

    def make(self) -> ssl.SSLObject:
        """May block."""
        return self.context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=self.server_side,
            server_hostname=self.server_hostname,
            session=self.session,
        )


@dataclass(frozen=True, slots=True)
class _PostponingContext:
    """Stands in for a context when the machine is made."""

    context: ssl.SSLContext

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        *,
        server_side: bool,
        server_hostname: str | None,
        session: ssl.SSLSession | None,
    ) -> UnmadeSSLObject:
        return UnmadeSSLObject(self.context, incoming, outgoing, server_side, server_hostname, session)


class BlockingMachine(OpenSSLMachine):
    """As `OpenSSLMachine`, for a context whose handshake may block.

    Args:
      resolve: has the step of a `NeedBlockingStep` run. It is never called while a step that it was given runs,
        unless for that step.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None,
        session: ssl.SSLSession | None,
        resolve: Callable[[Need], Awaitable[object]],
    ) -> None:
        super().__init__(
            cast("ssl.SSLContext", _PostponingContext(context)),
            server_side=server_side,
            server_hostname=server_hostname,
            session=session,
        )
        self._resolve = resolve
        self._need: NeedBlockingStep | None = None
        self._made: ssl.SSLObject | None = None
        self._given = self._inner = context
        self._outcome: BaseException | None = None
        self._wants_read = False  # the step before this one found nothing more to read
        self._unusable = ""

    @property
    def context(self) -> ssl.SSLContext:
        """The context as it was given, where the SSL object's is one that lies inside it (as in truststore's)."""
        context = self.ssl_object.context
        return self._given if context is self._inner else context

    @property
    def buffered(self) -> int:
        return super().buffered if self.handshake_done else 0  # before that, a step may be at work in there

    def do_handshake(self) -> Want | Need | None:
        if self.handshake_done:
            return None
        self._raise_failure()
        if self._unusable:
            raise ValueError(self._unusable)
        while True:
            if self._wants_read:
                if not self._go_on():
                    return Want.READ
                self._wants_read = False
            if self._need is None:
                self._need = NeedBlockingStep(self._resolve, self._step)
            if not self._need.settled:
                return self._need
            need, self._need = self._need, None
            if self._made is not None and self.ssl_object is not self._made:
                self._given, self._inner = self.ssl_object.context, self._made.context
                self.ssl_object: ssl.SSLObject = self._made
            if need.error is not None:
                self._fail_by_context(need.error)
            outcome, self._outcome = self._outcome, None
            if outcome is None:
                self._finish_handshake()
                return None
            if isinstance(outcome, ssl.SSLWantReadError):
                self._wants_read = True
            elif self._made is None:
                self._unusable = (
                    f"this SSLContext cannot be used with server_side={self.server_side}: {_words(outcome)}"
                )
                raise ValueError(self._unusable) from outcome
            elif isinstance(outcome, ssl.SSLError) and self._is_of_openssl(outcome):
                self._fail(outcome)
            else:
                self._fail_by_context(outcome)

    def _step(self) -> None:
        """Runs where it may block; nothing else touches the SSL object meanwhile."""
        try:
            if self._made is None:
                self._made = cast("UnmadeSSLObject", self.ssl_object).make()
            self._made.do_handshake()
        except BaseException as error:
            self._outcome = error

    def _is_of_openssl(self, error: ssl.SSLError) -> bool:
        """Whether OpenSSL failed: its errors have a ``reason``, and it does not think that the handshake is done."""
        return hasattr(error, "reason") and self.ssl_object.version() is None

    def _fail_by_context(self, cause: BaseException) -> NoReturn:
        """The handshake failed by the context's own doing, and not by OpenSSL's.

        OpenSSL's part is done by then. What it has queued would tell the peer that all is well, so that must not
        leave; and `ssl` has no way to send an alert instead.
        """
        self._ssl_out.read()
        words = _words(cause)
        not_told = "The peer was told nothing: Python's ssl cannot send an alert of a context's own"
        if isinstance(cause, ssl.SSLCertVerificationError):
            whose = "client" if self.server_side else "server"
            self._failure = CertificateVerificationError(
                f"the {whose}'s certificate was not accepted: {words}",
                hint=not_told,
                presented_chain=tuple(self.introspection.get_unverified_chain()),
                verify_code=getattr(cause, "verify_code", 0),
                verify_message=str(getattr(cause, "verify_message", words)),
            )
        else:
            self._failure = TLSError(
                f"the SSLContext raised {type(cause).__name__} in the handshake: {words}", hint=not_told
            )
        self._failure.__cause__ = cause
        raise self._failure.again()


def _words(error: BaseException) -> str:
    """What the error says. An `ssl.SSLError` that Python code has made has a text like that of a tuple."""
    return str(error.args[-1] if error.args else "").rstrip(".") or type(error).__name__
