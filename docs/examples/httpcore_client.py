"""httpcore, through a proxy that is itself spoken to over TLS."""

import ssl

import httpcore

from trio_tls.httpcore import TLSBackend


async def get(url: str, proxy_url: str, context: ssl.SSLContext) -> bytes:
    proxy = httpcore.AsyncHTTPProxy(
        proxy_url,
        ssl_context=context,
        proxy_ssl_context=context,
        network_backend=TLSBackend(),
    )
    async with proxy:
        response = await proxy.request("GET", url)
        return response.content
