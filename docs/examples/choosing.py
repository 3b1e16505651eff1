"""The same client and the same server, with either TLS."""

import ssl

from trio_tls import (
    ClientConfig,
    Credential,
    PrivatePolicy,
    ServerConfig,
    TrustAnchors,
    Verifier,
)

# The interpreter's OpenSSL: TLS 1.2 and 1.3.


def openssl_client(ca_file: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)


def openssl_server(certificate: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


# Our own machine: TLS 1.3.


def own_client(ca_file: str) -> ClientConfig:
    anchors = TrustAnchors.from_files(ca_file)
    return ClientConfig(verify=Verifier(anchors, PrivatePolicy()))


def own_server(certificate: str) -> ServerConfig:
    return ServerConfig(credentials=Credential.from_files(certificate))
