"""Several sites on one port, each with its own certificate."""

from collections.abc import Awaitable, Callable

from trio_tls import (
    Credential,
    CredentialsByName,
    NeedCredential,
    ServerConfig,
)


def known_sites(*certificates: str) -> ServerConfig:
    """Whoever asks for another name gets the alert unrecognized_name."""
    credentials = map(Credential.from_files, certificates)
    return ServerConfig(
        credentials=CredentialsByName(credentials, default=None)
    )


def sites_on_demand(
    load: Callable[[str], Awaitable[bytes | None]],
) -> ServerConfig:
    """The certificates are in a database, and there are many of them."""
    known: dict[str, Credential] = {}

    async def credential(need: NeedCredential) -> Credential | None:
        name = need.server_name
        if name is None:
            return None
        if name not in known:
            pem = await load(name)  # cancelled here: asked again
            if pem is None:
                return None  # again unrecognized_name
            known[name] = Credential.from_pem(pem)
        return known[name]

    return ServerConfig(credentials=credential)
