"""Peers out of the ordinary: that distrust or demand, that record, that write TLS 1.3 records by hand.

How this works. No Python API makes OpenSSL send a KeyUpdate. But with the traffic secrets that a context writes
to its ``keylog_filename``, the record layer of RFC 9846 section 5 is short: after an ordinary handshake,
a `RecordLayerStream` takes over the peer's transport and goes on with records of its own, KeyUpdates included.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import trio
import trustme
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from trio_tls import (
    ClientConfig,
    PrivatePolicy,
    ServerConfig,
    Session,
    TLSStream,
    TrustAnchors,
    Verifier,
    accept_any_peer,
)

from .support import (
    HOST,
    ForeignStream,
    Machines,
    authority,
    client_certificate,
    client_config,
    client_context,
    credential_of,
    server_config,
    server_context,
    tls_pair,
    transport_pair,
    verifier,
)

#: What a TLSStream is configured by.
Config: TypeAlias = "ssl.SSLContext | ClientConfig | ServerConfig"

APPLICATION_DATA, HANDSHAKE, ALERT = 23, 22, 21

#: The suite that both ends prefer, and the only one that `RecordLayerStream` writes.
SUITE = "TLS_AES_256_GCM_SHA384"


def client_of(machines: Machines) -> ssl.SSLContext:
    """A client context of its own, of the version of ``machines``, for a test to change."""
    return client_context(None if machines.is_own("client") else machines.client.minimum_version)


def server_of(machines: Machines) -> ssl.SSLContext:
    """A server context of its own, of the version of ``machines``, for a test to change."""
    return server_context(None if machines.is_own("server") else machines.server.minimum_version)


def distrustful_client(machines: Machines) -> Config:
    """A client that does not trust the test CA."""
    if machines.is_own("client"):
        strange = TrustAnchors.from_pem(trustme.CA().cert_pem.bytes())
        return client_config().replace(verify=Verifier(strange, PrivatePolicy()))
    context = ssl.create_default_context()
    context.minimum_version = context.maximum_version = machines.client.minimum_version
    return context


def demanding_server(machines: Machines) -> Config:
    """A server that requires a client certificate of the test CA."""
    if machines.is_own("server"):
        return server_config().replace(client_auth="required", verify=verifier())
    context = server_of(machines)
    authority().configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def certified_client(machines: Machines) -> Config:
    """A client that has a certificate to show."""
    if machines.is_own("client"):
        return client_config().replace(credentials=credential_of(client_certificate()))
    context = client_of(machines)
    client_certificate().configure_cert(context)
    return context


def trusting_client(machines: Machines) -> Config:
    """A client that takes anybody for the server."""
    if machines.is_own("client"):
        return client_config().replace(verify=accept_any_peer)
    context = client_of(machines)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def has_ticket(session: ssl.SSLSession | Session | None) -> bool:
    """Whether there is a session to resume. `ssl` has one without a ticket, too; ours are tickets."""
    return session.has_ticket if isinstance(session, ssl.SSLSession) else session is not None


def speaking(machines: Machines, *, client: list[str], server: list[str]) -> Machines:
    """The same, with these ALPN protocols."""
    if machines.is_own("client"):
        of_client: Config = client_config().replace(alpn_protocols=client)
    else:
        of_client = client_of(machines)
        of_client.set_alpn_protocols(client)
    if machines.is_own("server"):
        of_server: Config = server_config().replace(alpn_protocols=server)
    else:
        of_server = server_of(machines)
        of_server.set_alpn_protocols(server)
    return Machines(machines.name, of_client, of_server, machines.version)


def strict_server(machines: Machines, transport: trio.abc.Stream) -> trio.SSLStream[trio.abc.Stream]:
    """Trio's own server, which insists on close_notify; `trio.SSLStream` knows contexts alone."""
    context = server_of(machines) if machines.is_own("server") else machines.server
    return trio.SSLStream(transport, context, server_side=True)


@asynccontextmanager
async def ends_of(
    machines: Machines, tier: str = "1-socket", *, client: Config | None = None, server: Config | None = None
) -> AsyncIterator[tuple[TLSStream[Any], TLSStream[Any]]]:
    """As `tests.support.tls_pair` before the handshake, with configurations of the test's own above the transport."""
    async with transport_pair(tier, machines) as transports, AsyncExitStack() as stack:
        ends = (
            TLSStream(transports[0], client or machines.client, server_hostname=HOST),
            TLSStream(transports[1], server or machines.server, server_side=True),
        )
        for end in ends:
            if tier.startswith("4"):
                await stack.enter_async_context(end)
            else:
                stack.push_async_callback(trio.aclose_forcefully, end)
        yield ends


class RecordingStream(ForeignStream):
    """A foreign stream that keeps each piece of ciphertext it was given to send, and counts its closes."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__(stream)
        self.sent: list[bytes] = []
        self.closes = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))
        await super().send_all(data)

    async def aclose(self) -> None:
        self.closes += 1
        await super().aclose()


def record_types(ciphertext: bytes) -> list[int]:
    """The outer content type of every record."""
    types = []
    while ciphertext:
        types.append(ciphertext[0])
        ciphertext = ciphertext[5 + int.from_bytes(ciphertext[3:5], "big") :]
    return types


def _expand_label(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label with an empty context (RFC 9846 section 7.1)."""
    full = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes([len(full)]) + full + b"\x00"
    return HKDFExpand(SHA384(), length, info).derive(secret)


@dataclass
class _Direction:
    """The keys of one direction, and how many records they have protected."""

    secret: bytes
    sequence: int = 0
    aead: AESGCM = field(init=False)
    iv: bytes = field(init=False)

    def __post_init__(self) -> None:
        self._derive()

    def _derive(self) -> None:
        self.aead = AESGCM(_expand_label(self.secret, b"key", 32))
        self.iv = _expand_label(self.secret, b"iv", 12)
        self.sequence = 0

    def update(self) -> None:
        """Go to the next generation, as a KeyUpdate says (RFC 9846 section 7.2)."""
        self.secret = _expand_label(self.secret, b"traffic upd", hashlib.sha384().digest_size)
        self._derive()

    def nonce(self) -> bytes:
        number = self.sequence.to_bytes(12, "big")
        self.sequence += 1
        return bytes(a ^ b for a, b in zip(self.iv, number, strict=True))


class RecordLayerStream(trio.abc.Stream):
    """A peer's end of a TLS 1.3 connection after the handshake, record by record.

    Takes tickets and answers no KeyUpdate request; that is all the protocol it knows.
    """

    def __init__(
        self,
        transport: trio.abc.Stream,
        sending: bytes,
        receiving: bytes,
        *,
        update_before_each_record: bool = False,
    ) -> None:
        self.transport = transport
        self.key_updates_received = 0
        self.update_before_each_record = update_before_each_record
        self._sending = _Direction(sending)
        self._receiving = _Direction(receiving)
        self._ciphertext = bytearray()
        self._plaintext = bytearray()

    def record(self, content_type: int, content: bytes) -> bytes:
        """One protected record."""
        header = b"\x17\x03\x03" + (len(content) + 17).to_bytes(2, "big")
        inner = content + bytes([content_type])
        return header + self._sending.aead.encrypt(self._sending.nonce(), inner, header)

    def key_update(self, *, request: bool) -> bytes:
        """A KeyUpdate record; what comes after it is under the next keys."""
        record = self.record(HANDSHAKE, bytes((24, 0, 0, 1, request)))
        self._sending.update()
        return record

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), 16384):
            update = self.key_update(request=True) if self.update_before_each_record else b""
            await self.transport.send_all(update + self.record(APPLICATION_DATA, bytes(view[start : start + 16384])))

    async def wait_send_all_might_not_block(self) -> None:
        await self.transport.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while not self._plaintext:
            content_type, content = await self._receive_record()
            if content_type == ALERT:
                return b""
            if content_type == APPLICATION_DATA:
                self._plaintext += content
            elif content[0] == 24:  # else a NewSessionTicket
                self._receiving.update()
                self.key_updates_received += 1
        taken = bytes(self._plaintext[:max_bytes])
        del self._plaintext[: len(taken)]
        return taken

    async def _receive_record(self) -> tuple[int, bytes]:
        buffer = self._ciphertext
        while len(buffer) < 5 or len(buffer) < 5 + int.from_bytes(buffer[3:5], "big"):
            # A cancel here loses nothing: what came is in the buffer.
            part = await self.transport.receive_some()
            if not part:
                return ALERT, b""
            buffer += part
        length = 5 + int.from_bytes(buffer[3:5], "big")
        record = bytes(buffer[:length])
        del buffer[:length]
        inner = self._receiving.aead.decrypt(self._receiving.nonce(), record[5:], record[:5]).rstrip(b"\x00")
        return inner[-1], inner[:-1]

    async def aclose(self) -> None:
        await self.transport.aclose()


@asynccontextmanager
async def peer_by_hand(
    directory: Path, *, server_side: bool = False, buffer: int | None = None, **options: bool
) -> AsyncIterator[tuple[TLSStream[Any], RecordLayerStream]]:
    """Our end of a TLS 1.3 connection, and its peer, which writes its records by hand from now on.

    Args:
      directory: for the file with the secrets.
      server_side: which end ours is.
      buffer: as for `tests.support.socket_pair`.
      options: of `RecordLayerStream`.
    """
    version = ssl.TLSVersion.TLSv1_3
    machines = Machines("by hand", client_context(version), server_context(version), "TLSv1.3")
    log = directory / "secrets.log"
    machines.client.keylog_filename = str(log)
    # The peer has sent no application data, and as a server no tickets (they wait for its first write): so the
    # record that it writes next is the first under its traffic secret.
    async with tls_pair(machines, buffer=buffer) as (client, server):
        assert client.cipher() == (SUITE, "TLSv1.3", 256)
        lines = [line.split() for line in log.read_text().splitlines() if not line.startswith("#")]
        secrets = {label: bytes.fromhex(secret) for label, _, secret in lines}
        of_client, of_server = secrets["CLIENT_TRAFFIC_SECRET_0"], secrets["SERVER_TRAFFIC_SECRET_0"]
        if server_side:
            assert client.transport_stream is not None
            yield server, RecordLayerStream(client.transport_stream, of_client, of_server, **options)
        else:
            assert server.transport_stream is not None
            yield client, RecordLayerStream(server.transport_stream, of_server, of_client, **options)
