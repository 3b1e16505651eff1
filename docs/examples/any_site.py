"""Several sites on one port, by their names, with either TLS."""

import ssl
from collections.abc import Awaitable, Callable

from trio_tls import (
    ConfigByHello,
    ConfigsByName,
    Credential,
    NeedServerConfig,
    ServerConfig,
)


def openssl_site(certificate: str, *alpn: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(alpn)
    return context


def own_site(certificate: str, *alpn: str) -> ServerConfig:
    credential = Credential.from_files(certificate)
    return ServerConfig(credentials=credential, alpn_protocols=alpn)


def table(www: str, api: str) -> ConfigsByName:
    """Whoever asks for another name gets unrecognized_name."""
    return ConfigsByName(
        {
            "www.example.org": own_site(www, "h2", "http/1.1"),
            # its clients are old, and speak TLS 1.2
            "*.api.example.org": openssl_site(api, "http/1.1"),
        }
    )


def by_function(
    certificate_for: Callable[[str], Awaitable[str | None]],
) -> ConfigByHello:
    """A database knows the certificates, or somebody issues them now."""

    async def choose(need: NeedServerConfig) -> ssl.SSLContext | None:
        name = need.hello.server_name
        if name is None:
            return None
        certificate = await certificate_for(name)
        return None if certificate is None else openssl_site(certificate)

    return ConfigByHello(choose)
