"""A server that knows its clients by their certificates."""

from typing import Any

from trio_tls import (
    ClientConfig,
    Credential,
    PrivatePolicy,
    ServerConfig,
    TLSStream,
    TrustAnchors,
    Verifier,
)


def server_config(certificate: str, clients_ca: str) -> ServerConfig:
    anchors = TrustAnchors.from_files(clients_ca)
    return ServerConfig(
        credentials=Credential.from_files(certificate),
        client_auth="required",
        verify=Verifier(anchors, PrivatePolicy()),
    )


async def greet(stream: TLSStream[Any]) -> None:
    await stream.do_handshake()
    assert stream.info is not None
    client = stream.info.peer_certificates[0]
    name = client.subject.rfc4514_string()
    await stream.send_all(f"hello, {name}\n".encode())


def client_config(servers_ca: str, certificate: str) -> ClientConfig:
    anchors = TrustAnchors.from_files(servers_ca)
    return ClientConfig(
        verify=Verifier(anchors, PrivatePolicy()),
        credentials=Credential.from_files(certificate),
    )
