"""A peer is its key, as in libp2p: no CA, no host names, no files."""

from collections.abc import Callable, Sequence

from trio_tls import (
    CertificateVerificationError,
    ClientConfig,
    Credential,
    KeyLog,
    NeedServerConfig,
    NeedVerification,
    ServerConfig,
)

PROTOCOLS = [b"/yamux/1.0.0", b"libp2p"]
PeerID = Callable[[Sequence[bytes]], str]  # of a chain; raises if it has none


def verifying(peer_id: PeerID, expected: str | None) -> Callable[..., None]:
    def verify(need: NeedVerification) -> None:
        if (found := peer_id(need.chain)) != (expected or found):
            raise CertificateVerificationError(f"{found} is not {expected}")

    return verify


def listening(identity: Credential, peer_id: PeerID) -> ServerConfig:
    verify = verifying(peer_id, None)
    config = ServerConfig(
        credentials=identity, client_auth="required", verify=verify
    )
    chosen = {each: config.replace(alpn_protocols=[each]) for each in PROTOCOLS}

    def choose(need: NeedServerConfig) -> ServerConfig:
        offered = need.hello.alpn_protocols  # the client's order counts
        return next(
            (chosen[each] for each in offered if each in chosen), config
        )

    return config.replace(choose=choose, alpn_protocols=PROTOCOLS)


def dialing(
    identity: Credential, peer_id: PeerID, expected: str, keylog: KeyLog
) -> ClientConfig:
    return ClientConfig(
        credentials=identity,
        verify=verifying(peer_id, expected),
        alpn_protocols=PROTOCOLS,
        keylog=keylog,
    )
