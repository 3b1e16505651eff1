"""Contexts whose handshake blocks, run in worker threads.

How this works. ``truststore.SSLContext`` asks the operating system whether it trusts the server, in the middle of
``SSLObject.do_handshake()``; that takes as long as it takes, the network included. Such a context is known by its
Python code: a plain `ssl.SSLContext` has none. Its handshake is made of steps (`trio_tls.machine.openssl_blocking`),
and each step runs in a worker thread, watched by a system task of Trio's. The task that waits for a step may be
cancelled; the step is not: it ends when it ends, and whoever goes on with the handshake waits for that end.
"""

from __future__ import annotations

import contextvars
import ssl
from typing import TYPE_CHECKING, cast

import trio

from .machine.openssl_blocking import BlockingMachine, NeedBlockingStep

if TYPE_CHECKING:
    from .machine.interface import Machine, Need

__all__ = ["HandshakeInThread", "off_the_loop"]


class HandshakeInThread:
    """A configuration: an `ssl.SSLContext` whose handshakes run in worker threads.

    A `TLSStream` does this by itself for a context that has Python code in its handshake, such as
    ``truststore.SSLContext``. Use it for a plain context whose own callbacks (``sni_callback``) take long, or to set
    a limiter of its own::

        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        config = HandshakeInThread(context, limiter=trio.CapacityLimiter(8))
        stream = await open_tls_over_tcp_stream("example.org", 443, config)

    The event loop goes on meanwhile. A cancelled handshake stops waiting and may be called again, as ever; the thread
    finishes what it has begun, even if the stream is closed. Callbacks of the context run in the thread. What is wrong
    with the context itself is told by the handshake, since even ``wrap_bio`` may block. A handshake that the context
    itself refuses, after OpenSSL's part is done, ends without an alert: `ssl` cannot send one.

    Args:
      context: the context.
      limiter: how many threads at once, as for `trio.to_thread.run_sync`. truststore takes a lock for each context, so
        that its handshakes wait for each other, each in its thread; a limiter keeps those from using up the threads
        that other parts of the program need. Default: Trio's own.
    """

    def __init__(self, context: ssl.SSLContext, *, limiter: trio.CapacityLimiter | None = None) -> None:
        self.context = context
        self.limiter = limiter

    def create_machine(self, *, server_side: bool, server_hostname: str | None, session: object | None) -> Machine:
        """A new machine for one connection; `TLSStream` calls this."""
        if session is not None and not isinstance(session, ssl.SSLSession):
            raise TypeError(f"session must be an ssl.SSLSession or None, not {type(session).__name__}")
        if not server_side and not server_hostname and self.context.check_hostname:
            raise ValueError("this SSLContext checks host names, so a client needs server_hostname")
        return cast(
            "Machine",
            BlockingMachine(
                self.context,
                server_side=server_side,
                server_hostname=server_hostname,
                session=session,
                resolve=_Thread(self.limiter),
            ),
        )


def off_the_loop(config: object) -> object:
    """``config`` as it is, or in a `HandshakeInThread` if it is a context that would block the event loop."""
    makes_machines = hasattr(config, "create_machine")  # such as a ConfigContext, which is a context by name alone
    if isinstance(config, ssl.SSLContext) and not makes_machines and _has_python_code(config):
        return HandshakeInThread(config)
    return config


def _has_python_code(context: ssl.SSLContext) -> bool:
    """Whether the handshake of ``context`` runs code that is not the `ssl` module's.

    The names are looked up where the code is: `ssl.SSLContext` itself may have been replaced (by
    ``truststore.inject_into_ssl()``).
    """
    functions = (context.wrap_bio, context.sslobject_class.do_handshake)
    return any(getattr(function, "__module__", None) != "ssl" for function in functions)


class _Thread:
    """Runs the steps of one connection, one at a time."""

    def __init__(self, limiter: trio.CapacityLimiter | None) -> None:
        self._limiter = limiter
        self._done: trio.Event | None = None
        self._failure: Exception | None = None

    async def __call__(self, need: Need) -> None:
        """Wait for the step of ``need``, which was begun here, or by a caller that was cancelled."""
        assert isinstance(need, NeedBlockingStep)  # the machine makes no others
        if self._done is None:
            self._done = trio.Event()
            # A task that no cancel of a caller's reaches. The end of the run does, and leaves the thread to itself.
            trio.lowlevel.spawn_system_task(
                self._run, need, self._done, name="TLS handshake step", context=contextvars.copy_context()
            )
        await self._done.wait()
        self._done = None
        if self._failure is not None:
            raise self._failure

    async def _run(self, need: NeedBlockingStep, done: trio.Event) -> None:
        try:
            await trio.to_thread.run_sync(need.step, abandon_on_cancel=True, limiter=self._limiter)
        except Exception as error:  # there was no thread to be had
            self._failure = error
        done.set()
