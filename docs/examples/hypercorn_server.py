"""quart-trio under hypercorn: who is the client, by its certificate?"""

import sys
from typing import Any

import hypercorn.trio
import trio
from hypercorn import Config
from quart import request
from quart_trio import QuartTrio

from trio_tls import (
    ConfigContext,
    Credential,
    PrivatePolicy,
    ServerConfig,
    TrustAnchors,
    Verifier,
    compat,
)
from trio_tls.asgi import TLSExtension

app = QuartTrio(__name__)


@app.get("/")
async def whoami() -> str:
    return f"{request.scope['extensions']['tls']['client_cert_name']}\n"


class OwnTLS(Config):
    """hypercorn asks these two for its TLS."""

    tls: ServerConfig

    @property
    def ssl_enabled(self) -> bool:
        return True

    def create_ssl_context(self) -> Any:
        return ConfigContext(self.tls)


async def main(bind: str, server_pem: str, ca_file: str) -> None:
    clients = Verifier(TrustAnchors.from_files(ca_file), PrivatePolicy())
    config = OwnTLS()
    config.bind = [bind]
    config.tls = ServerConfig(
        credentials=Credential.from_files(server_pem),
        client_auth="required",
        verify=clients,
        alpn_protocols=["h2", "http/1.1"],
    )
    with compat.installed():  # hypercorn makes trio.SSLListener by itself
        await hypercorn.trio.serve(TLSExtension(app), config)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
