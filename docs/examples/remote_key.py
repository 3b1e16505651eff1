"""A server whose key is in another place."""

from collections.abc import Awaitable, Callable

from cryptography import x509

from trio_tls import Credential, ServerConfig, SignatureScheme


def server_config(
    chain_pem: bytes, ask_service: Callable[[bytes], Awaitable[bytes]]
) -> ServerConfig:
    async def sign(scheme: int, message: bytes) -> bytes:
        # ECDSA on P-256 over the SHA-256 of the message, in DER
        return await ask_service(message)

    credential = Credential.remote(
        x509.load_pem_x509_certificates(chain_pem),
        sign,
        schemes=[SignatureScheme.ecdsa_secp256r1_sha256],
    )
    return ServerConfig(credentials=credential)
