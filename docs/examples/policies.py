"""Who may do what, by the client's certificate: policies by path."""

from collections.abc import Callable
from typing import Any

from trio_tls import (
    Credential,
    Identity,
    PrivatePolicy,
    ServerConfig,
    TLSStream,
    TrustAnchors,
    Verifier,
    identity_of,
)

Policy = Callable[[Identity | None], bool]


def anybody(client: Identity | None) -> bool:
    return True


def has_name(*names: str) -> Policy:
    def allows(client: Identity | None) -> bool:
        if client is None:
            return False
        return not {*client.dns_names, *client.uris}.isdisjoint(names)

    return allows


def is_of(unit: str) -> Policy:
    def allows(client: Identity | None) -> bool:
        return client is not None and unit in client.organizational_units

    return allows


#: The first prefix that fits decides.
POLICIES: list[tuple[str, Policy]] = [
    ("/health", anybody),
    ("/invoices/", has_name("spiffe://example.org/billing")),
    ("/admin/", is_of("operations")),
]


def allowed(path: str, client: Identity | None) -> bool:
    for prefix, policy in POLICIES:
        if path.startswith(prefix):
            return policy(client)
    return False


def server_config(certificate: str, clients_ca: str) -> ServerConfig:
    anchors = TrustAnchors.from_files(clients_ca)
    return ServerConfig(
        credentials=Credential.from_files(certificate),
        client_auth="optional",  # some paths are for anybody
        verify=Verifier(anchors, PrivatePolicy()),
    )


async def answer(stream: TLSStream[Any]) -> None:
    """Very little of HTTP/1.0."""
    await stream.do_handshake()
    client = identity_of(stream)
    request = b""
    while b"\r\n\r\n" not in request and len(request) < 10_000:
        data = await stream.receive_some()
        if not data:
            return
        request += data
    path = request.split(b" ")[1].decode("ascii", "replace")
    status = b"200 OK" if allowed(path, client) else b"403 Forbidden"
    await stream.send_all(b"HTTP/1.0 %s\r\n\r\n" % status)
