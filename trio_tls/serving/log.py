"""ServerLog: what a server says, so that somebody can still read it while the server is attacked.

How this works. Each line is of a kind: what happened, and the class of the exception. Of each kind so many lines are
written in so many seconds; the rest is counted, and told in one line when the seconds are over. An attacker may
choose how he fails, but there are few classes, so all he can make the server write is bounded.
"""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import dataclass

import trio

from ..alerts import Alert
from ..errors import CertificateVerificationError, TLSError
from ..metrics import ServerMetrics

__all__ = ["LOGGER", "ServerLog"]

LOGGER = logging.getLogger("trio_tls")

#: Of each kind, so many lines in so many seconds.
MOST_LINES, WINDOW = 10, 10.0


@dataclass(slots=True)
class _Window:
    """The lines of one kind."""

    begin: float
    error: str | None
    lines: int = 0
    suppressed: int = 0


class ServerLog:
    """The log of one server."""

    def __init__(self, metrics: ServerMetrics) -> None:
        self._metrics = metrics
        self._windows: dict[tuple[str, str | None], _Window] = {}
        self._news = trio.lowlevel.ParkingLot()

    def handshake_failed(self, peer: str, error: Exception, seconds: float) -> None:
        """One handshake; an exception that nobody expects here comes with its traceback, also if it is the cause."""
        expected = isinstance(error, (TLSError, trio.TooSlowError)) and not _is_ours(error)
        self._failed("handshake_failed", "TLS handshake", peer, error, seconds, trace=not expected)

    def connection_failed(self, peer: str, error: BaseException, seconds: float) -> None:
        """One connection, after its handshake."""
        self._failed("connection_failed", "TLS connection", peer, error, seconds, trace=False)

    def refused(self, peer: str, error: Exception) -> None:
        """One client, because a limit was reached."""
        self._failed("connection_refused", "TLS connection", peer, error, 0.0, trace=False)

    def callback_failed(self, peer: str, error: Exception) -> None:
        """The application's ``on_handshake_error``, which is not the peer's affair."""
        name = type(error).__name__
        if self._may("callback_failed", name):
            fields = _fields("callback_failed", peer, error)
            LOGGER.error("on_handshake_error failed for %s", peer, exc_info=error, extra=fields)

    def accept_failed(self, error: OSError, seconds: float) -> None:
        """The system has no room for another connection; it is tried again after so many seconds."""
        if self._may("accept_failed", type(error).__name__):
            number = error.errno or 0
            LOGGER.error(
                "cannot accept connections: %s (%s); again every %g seconds. Set max_connections below the limit",
                *(errno.errorcode.get(number, "no errno"), os.strerror(number), seconds),
                extra=_fields("accept_failed", None, error),
            )

    def flush(self) -> None:
        """Tell of everything that was suppressed."""
        for kind in list(self._windows):
            self._close(kind)

    async def tell_suppressed(self) -> None:
        """Tell of what was suppressed, in good time. Runs until it is cancelled."""
        while True:
            begun = [window.begin for window in self._windows.values() if window.suppressed]
            if not begun:
                await self._news.park()
                continue
            await trio.sleep_until(min(begun) + WINDOW)
            now = trio.current_time()
            for kind, window in list(self._windows.items()):
                if window.begin + WINDOW <= now:
                    self._close(kind)

    def _failed(self, event: str, what: str, peer: str, error: BaseException, seconds: float, *, trace: bool) -> None:
        name = type(error).__name__
        if self._may(event, name):
            words = " ".join(f"{name}: {error}".split())
            outcome = "refused" if event == "connection_refused" else "failed"
            fields = _fields(event, peer, error) | {"seconds": seconds}
            LOGGER.warning(
                "%s with %s %s: %s", what, peer, outcome, words, exc_info=error if trace else None, extra=fields
            )

    def _may(self, event: str, error: str) -> bool:
        """Whether another line of this kind may be written now."""
        kind, now = (event, error), trio.current_time()
        window = self._windows.get(kind)
        if window is None or window.begin + WINDOW <= now:
            if window is not None:
                self._close(kind)
            window = self._windows[kind] = _Window(now, error)
        if window.lines < MOST_LINES:
            window.lines += 1
            return True
        window.suppressed += 1
        self._metrics.log_lines_suppressed += 1
        if window.suppressed == 1:
            self._news.unpark_all()
        return False

    def _close(self, kind: tuple[str, str | None]) -> None:
        window = self._windows.pop(kind)
        if window.suppressed:
            seconds = trio.current_time() - window.begin
            fields = {"event": "suppressed", "peer": None, "error": window.error, "alert": None, "sent_by_peer": None}
            LOGGER.warning(
                "%d more of %s with %s in %.0f seconds were not logged one by one",
                window.suppressed,
                kind[0].replace("_", " "),
                window.error,
                seconds,
                extra=fields | {"of": kind[0], "suppressed": window.suppressed, "seconds": seconds},
            )


def _is_ours(error: Exception) -> bool:
    """Whether the application has failed: in a function that was asked for a configuration or a certificate, say.

    A cause that was never raised has no traceback: it is there for code that looks for an `ssl.SSLError`.
    """
    if not isinstance(error, TLSError) or isinstance(error, CertificateVerificationError) or error.sent_by_peer:
        return False
    cause = error.__cause__
    return error.alert is Alert.internal_error and cause is not None and cause.__traceback__ is not None


def _fields(event: str, peer: str | None, error: BaseException) -> dict[str, object]:
    """The attributes that a `logging.LogRecord` gets beside its text."""
    alert = error.alert if isinstance(error, TLSError) else None
    return {
        "event": event,
        "peer": peer,
        "error": type(error).__name__,
        "alert": None if alert is None else alert.name,
        "sent_by_peer": error.sent_by_peer if isinstance(error, TLSError) and alert is not None else None,
    }
