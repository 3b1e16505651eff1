"""TLSListener: a listener whose connections are TLSStreams."""

from __future__ import annotations

import ssl
from typing import Generic, TypeVar

import trio

from .blocking_contexts import off_the_loop
from .machine.factory import create_machine
from .machine.interface import MachineFactory
from .nodelay import TCPNoDelay, apply_tcp_nodelay
from .stream import TLSStream

__all__ = ["TLSListener"]

T_Stream = TypeVar("T_Stream", bound=trio.abc.Stream)


class TLSListener(trio.abc.Listener[TLSStream[T_Stream]], Generic[T_Stream]):
    """Wraps another listener; each connection that it accepts becomes a server's `TLSStream`.

    `accept` starts no handshake, so a slow client does not hold up the others.

    Args:
      transport_listener: the listener to wrap; closed with this one.
      config: as for `TLSStream` (``ssl_context=`` is an alias). May be replaced at any time by setting
        `config`; connections accepted from then on use the new one.
      https_compatible: as for `TLSStream`.
      tcp_nodelay: as for `TLSStream`.
      grace: as for `TLSStream`.

    Raises:
      ValueError: the configuration cannot be used by a server, or ``tcp_nodelay`` not on this listener's socket. It
        is tried here, and whenever `config` is set, so that a mistake does not wait for the first client.
      TypeError: ``config`` is no configuration.
    """

    def __init__(
        self,
        transport_listener: trio.abc.Listener[T_Stream],
        config: ssl.SSLContext | MachineFactory | None = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
        https_compatible: bool = False,
        tcp_nodelay: TCPNoDelay = "always",
        grace: float = 1.0,
    ) -> None:
        chosen = config if config is not None else ssl_context
        if chosen is None or (config is not None and ssl_context is not None):
            raise TypeError("TLSListener needs one configuration: config, or its alias ssl_context")
        self.transport_listener = transport_listener
        if isinstance(transport_listener, trio.SocketListener):
            apply_tcp_nodelay(transport_listener, tcp_nodelay)  # raises if its connections would
        self.config = chosen
        self._https_compatible = https_compatible
        self._tcp_nodelay: TCPNoDelay = tcp_nodelay
        self._grace = grace

    @property
    def config(self) -> ssl.SSLContext | MachineFactory:
        """The configuration of the connections to come. Setting it replaces certificates without a restart."""
        return self._config

    @config.setter
    def config(self, config: ssl.SSLContext | MachineFactory) -> None:
        # Raises if it cannot serve.
        create_machine(off_the_loop(config), server_side=True, server_hostname=None, session=None)
        self._config = config

    async def accept(self) -> TLSStream[T_Stream]:
        """Accept the next connection, without doing its handshake.

        Cancelled: no connection is lost, as far as the wrapped listener promises that.

        Raises: as the wrapped listener's ``accept``.
        """
        transport_stream = await self.transport_listener.accept()
        try:
            return TLSStream(
                transport_stream,
                self.config,
                server_side=True,
                https_compatible=self._https_compatible,
                tcp_nodelay=self._tcp_nodelay,
                grace=self._grace,
            )
        except BaseException:
            await trio.aclose_forcefully(transport_stream)
            raise

    async def aclose(self) -> None:
        """Close the wrapped listener."""
        await self.transport_listener.aclose()
