"""ConfigContext: a configuration of our own TLS 1.3, for code that insists on an ``ssl.SSLContext``.

How this works. HTTP and WebSocket libraries take a context from their user, set its ALPN protocols, and hand it to the
TLS stream that they make. A `ConfigContext` passes for one. It makes our machines, as the config in it does, and never
a connection of OpenSSL's: a library whose TLS is not a `TLSStream` is told so, and does not quietly get other settings.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, NoReturn

from .config import ClientConfig, ServerConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Self

    from .machine.interface import Machine

__all__ = ["ConfigContext"]

#: Sets of ALPN protocols that are kept, each with its config. A library uses one or two.
MOST_ALPN = 8


class ConfigContext(ssl.SSLContext):
    """A `ClientConfig` or `ServerConfig` that can be passed where a library takes an `ssl.SSLContext` and nothing else.

    ::

        context = ConfigContext(ClientConfig())
        pool = httpcore.AsyncConnectionPool(ssl_context=context, network_backend=TLSBackend())

    The library may set its ALPN protocols, which take the place of those in the config. Nothing else can be set: the
    settings are the config's. It works wherever the library's TLS is a `TLSStream`: through a backend of ours, or where
    ``trio_tls.compat`` has replaced `trio.SSLStream`.

    Args:
      config: the configuration.

    Raises:
      TypeError: ``config`` is neither a ClientConfig nor a ServerConfig; or, later, the library has wrapped a
        connection by itself, or has tried to set something.
    """

    _config: ClientConfig | ServerConfig
    _by_protocols: dict[tuple[str, ...], ClientConfig | ServerConfig]

    def __new__(cls, config: ClientConfig | ServerConfig) -> Self:
        """An `ssl.SSLContext` is made here."""
        if not isinstance(config, ClientConfig | ServerConfig):
            raise TypeError(f"a ConfigContext is made of a ClientConfig or a ServerConfig, not {type(config).__name__}")
        server = isinstance(config, ServerConfig)
        context = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        object.__setattr__(context, "_config", config)
        object.__setattr__(context, "_by_protocols", {})
        return context

    def __init__(self, config: ClientConfig | ServerConfig) -> None:
        """All is done in ``__new__``. What took the place of `ssl.SSLContext`, as truststore can, has its own one."""

    @property
    def config(self) -> ClientConfig | ServerConfig:
        """The configuration, with the ALPN protocols that were set last."""
        return self._config

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Use these from now on: for new connections, not for those that are there."""
        protocols = tuple(alpn_protocols)
        config = self._by_protocols.get(protocols)
        if config is None:
            # A library says the same before each connection. A config that is kept keeps its sessions.
            config = self._config.replace(alpn_protocols=protocols)
            if len(self._by_protocols) < MOST_ALPN:
                self._by_protocols[protocols] = config
        object.__setattr__(self, "_config", config)

    def create_machine(self, *, server_side: bool, server_hostname: str | None, session: object | None) -> Machine:
        """A machine for one connection; see `~trio_tls.MachineFactory`."""
        return self._config.create_machine(server_side=server_side, server_hostname=server_hostname, session=session)

    def wrap_bio(self, *args: object, **options: object) -> NoReturn:
        """Refused: this is no configuration of OpenSSL's."""
        raise TypeError(
            "a ConfigContext is for a TLSStream, and something else has tried to use it as an ssl.SSLContext: "
            "pass the library a backend of trio_tls, or call trio_tls.compat.install() first"
        )

    def wrap_socket(self, *args: object, **options: object) -> NoReturn:
        """Refused, as `wrap_bio` is."""
        self.wrap_bio(*args, **options)

    def load_cert_chain(self, *args: object, **options: object) -> NoReturn:
        """Refused: credentials belong into the config."""
        self._refuse("load_cert_chain()")

    def load_verify_locations(self, *args: object, **options: object) -> NoReturn:
        """Refused: trust anchors belong into the config."""
        self._refuse("load_verify_locations()")

    def load_default_certs(self, *args: object, **options: object) -> NoReturn:
        """Refused: trust anchors belong into the config."""
        self._refuse("load_default_certs()")

    def set_ciphers(self, *args: object, **options: object) -> NoReturn:
        """Refused: cipher suites belong into the config."""
        self._refuse("set_ciphers()")

    def __setattr__(self, name: str, value: object) -> None:
        self._refuse(name)

    def _refuse(self, what: str) -> NoReturn:
        kind = type(self._config).__name__
        raise TypeError(f"{what} has no effect on a ConfigContext: set it in the {kind} that it is made of")

    def __repr__(self) -> str:
        return f"<ConfigContext of {self._config!r}>"
