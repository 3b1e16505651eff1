"""A transport for ``httpx``: its client, with a `TLSStream` below.

How this works. httpx has transports, and its own one is a pool of httpcore's. `TLSTransport` is that one, with our
network backend (`trio_tls.httpcore`) given to the pool. It needs httpx: ``pip install trio_tls[httpx]``.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable

import httpcore
import httpx

from .config import ClientConfig
from .config_context import ConfigContext
from .httpcore import TLSBackend

__all__ = ["TLSTransport"]


class TLSTransport(httpx.AsyncHTTPTransport):
    """The transport of an ``httpx.AsyncClient`` whose TLS is a `TLSStream`. For Trio alone.

    ::

        async with httpx.AsyncClient(transport=TLSTransport(ClientConfig(), http2=True)) as client:
            response = await client.get("https://example.org/")

    A client that is given a transport leaves the settings below to it; those of ``httpx.AsyncClient`` have no effect.

    Args:
      verify: an `ssl.SSLContext`; or a `ClientConfig`, our own TLS 1.3; or True (the default): a context with the
        certificate authorities that httpx takes; or False: anybody may be the server!
      trust_env: whether ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` in the environment count, where ``verify`` is True.
      http1: whether to speak HTTP/1.1.
      http2: whether to speak HTTP/2 with servers that do; it needs ``httpx[http2]``.
      limits: how many connections to have, and to keep.
      proxy: the proxy to connect through, HTTP, HTTPS or SOCKS 5. For one that is spoken to with TLS,
        ``httpx.Proxy(url, ssl_context=...)`` takes a context, or ``ConfigContext(ClientConfig(...))``.
      uds: the path of a Unix socket to connect to.
      local_address: the address to connect from.
      retries: how often to try again if a connection cannot be made.
      socket_options: arguments of ``setsockopt``.
      backend: the network backend, if not one with the default settings.

    Raises:
      TypeError: ``verify`` is no configuration.
    """

    def __init__(
        self,
        verify: ssl.SSLContext | ClientConfig | bool = True,
        *,
        trust_env: bool = True,
        http1: bool = True,
        http2: bool = False,
        limits: httpx.Limits | None = None,
        proxy: httpx.Proxy | httpx.URL | str | None = None,
        uds: str | None = None,
        local_address: str | None = None,
        retries: int = 0,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
        backend: TLSBackend | None = None,
    ) -> None:
        if isinstance(verify, ClientConfig):
            verify = ConfigContext(verify)
        elif not isinstance(verify, ssl.SSLContext | bool):
            raise TypeError(f"verify must be an ssl.SSLContext, a ClientConfig or a bool, not {type(verify).__name__}")
        super().__init__(
            verify=verify,
            trust_env=trust_env,
            http1=http1,
            http2=http2,
            limits=httpx.Limits(max_connections=100, max_keepalive_connections=20) if limits is None else limits,
            proxy=proxy,
            uds=uds,
            local_address=local_address,
            retries=retries,
            socket_options=socket_options,
        )
        # httpx has no argument for it. If a later version has other names inside, say so: its own backend would not
        # cancel as ours does.
        pool: object = getattr(self, "_pool", None)
        if not isinstance(pool, httpcore.AsyncConnectionPool) or not hasattr(pool, "_network_backend"):
            raise RuntimeError(
                f"trio_tls.httpx does not know httpx {httpx.__version__} with httpcore {httpcore.__version__}: "
                "use httpx 0.28 and httpcore 1.0, or httpcore itself with network_backend=TLSBackend()"
            )
        pool._network_backend = TLSBackend() if backend is None else backend  # noqa: SLF001
