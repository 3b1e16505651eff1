"""The client's handshake (RFC 9846 section 2 and 4).

How this works. `ClientHandshake.run` is the handshake from top to bottom, one step for each part of a flight::

        ClientHello             ──▶
                                ◀──   ServerHello, {EncryptedExtensions}, {CertificateRequest*},
                                      {Certificate*}, {CertificateVerify*}, {Finished}
        {Certificate*}, {CertificateVerify*}, {Finished}  ──▶

What a step finds out becomes an attribute for the steps after it. What was offered in ClientHello is kept, since every
answer of the server is judged by it: it may only choose among that. Most of a ClientHello is the same for every
connection of a config, and so is encoded once (`extensions.encoded`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509

from ...names import is_address
from ..interface import Want
from .certificates import accept_peer, chain_of, choose_scheme, credential_of, leaf_of, present, sign_transcript
from .established import Established, PeerIdentity, verified
from .exchange import Exchange, Steps
from .extensions import (
    ApplicationProtocols,
    Cookie,
    Extensions,
    KeyShareEntry,
    KeyShares,
    PreSharedKeys,
    PskIdentity,
    PskKeyExchangeModes,
    RecordSizeLimit,
    RetryGroup,
    SelectedKeyShare,
    SelectedPsk,
    SelectedVersion,
    ServerName,
    SignatureAlgorithms,
    SignatureAlgorithmsCert,
    SupportedGroups,
    SupportedVersions,
    UnknownExtension,
    encode_extension,
    encoded,
)
from .groups import GROUPS, KeyShare
from .key_schedule import KeySchedule, finished_verify_data
from .messages import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    Finished,
    HelloRetryRequest,
    ServerHello,
    encode_client_hello,
)
from .misbehaviour import (
    decode_error,
    excerpt,
    illegal_parameter,
    missing_extension,
    protocol_version,
    unsupported_extension,
)
from .record import RecordKey
from .registry import (
    GREASE,
    TLS_1_2,
    TLS_1_3,
    CipherSuiteNumber,
    NamedGroup,
    PskKeyExchangeMode,
    name_of,
)
from .signatures import CERTIFICATE_SCHEMES, VerifiedSignature, certificate_verify_content, verify
from .suites import SUITES, CipherSuite
from .wire import uint16, vector

if TYPE_CHECKING:
    from .key_schedule import TrafficSecrets
    from .parameters import ClientParameters
    from .sessions import Session

__all__ = ["ClientHandshake"]

#: The last bytes of ServerHello.random by which a TLS 1.3 server says that it was made to speak an older version.
DOWNGRADE_SENTINELS = (b"DOWNGRD\x01", b"DOWNGRD\x00")

#: Bytes of a cookie. It has to go back beside all else in a ClientHello, whose extensions are 64 KiB at the most.
MOST_COOKIE = 2**15

#: The extensions that answer ours in a ServerHello, and in a HelloRetryRequest.
ANSWERS: frozenset[int] = frozenset((SelectedVersion.type, SelectedKeyShare.type, SelectedPsk.type))
WISHES: frozenset[int] = frozenset((SelectedVersion.type, RetryGroup.type, Cookie.type))


class ClientHandshake:
    """One client's handshake.

    Args:
      exchange: what it reads from and writes to.
      parameters: what to offer and to accept.
      server_name: whom to ask for, A-labels or an IP address; None: nobody in particular.
      session: a session to resume, or None.
    """

    def __init__(
        self, exchange: Exchange, parameters: ClientParameters, server_name: str | None, session: Session | None
    ) -> None:
        self._exchange = exchange
        self.parameters = parameters
        self._server_name = server_name
        self._session = session
        self._shares: dict[int, KeyShare] = {}
        self._cookie: Cookie | None = None
        self._offered: set[bytes] = set()  # the types of our extensions, as they are on the wire
        self._share_grease = parameters.grease
        # Sent without a PSK too: it says that tickets are welcome (section 4.3.9). And with both hellos, or neither.
        self._psk_modes = parameters.session_cache is not None or session is not None
        self._request: CertificateRequest | None = None
        self.secrets: TrafficSecrets
        """Of the application data, generation 0; once the handshake is done."""
        self._suite: CipherSuite
        self._group: int
        self._alpn_protocol: bytes | None = None

    def run(self) -> Steps[Established]:
        """The handshake."""
        self._send_client_hello()
        yield from self._exchange.let_flight_leave(Want.READ)
        self._exchange.prepare = GROUPS[self.parameters.key_shares[0]]
        yield from self._receive_server_hello()
        yield from self._receive_server_parameters()
        peer = yield from self._receive_server_certificate()
        before_finished = self._exchange.transcript.digest()
        expected = finished_verify_data(self._suite, self._handshake_secrets.server, before_finished)
        finished = yield from self._exchange.expect(Finished)
        proof = verified(finished, expected, before_finished)
        up_to_finished = self._exchange.transcript.digest()
        self._begin_second_flight()
        local_chain = yield from self._send_client_certificate()
        self._send_finished()
        yield from self._exchange.let_flight_leave(Want.WRITE)
        self._establish_application_keys(up_to_finished)
        return Established(
            suite=self._suite,
            group=self._group,
            peer=peer,
            finished=proof,
            exporter=self._schedule.exporter,
            resumption=self._schedule.resumption_secret(self._exchange.transcript.digest()),
            alpn_protocol=self._alpn_protocol,
            server_name=self._server_name,
            local_chain=local_chain,
            resumed=self._session is not None,
        )

    @property
    def session(self) -> Session | None:
        """The session that was resumed, once that is known."""
        return self._session

    # -- ClientHello -------------------------------------------------------------------------------------------

    def _send_client_hello(self) -> None:
        exchange, parameters = self._exchange, self.parameters
        random = exchange.primitives.random
        exchange.client_random = random(32)
        # "A client ... offering a pre-TLS 1.3 session, or in compatibility mode, MUST [make it] non-empty" (4.2.2)
        self._session_id = random(32) if parameters.middlebox_compatibility else b""
        self._grease = _Grease(random(8)) if parameters.grease else None
        for group in parameters.key_shares:
            self._shares[group] = exchange.primitives.generate(GROUPS[group])
        self._emit_client_hello()
        exchange.reader.ccs_allowed = True

    def _emit_client_hello(self) -> None:
        """Build the hello and emit it; with a PSK, the binder is made over the bytes before it (section 4.3.11.2)."""
        exchange = self._exchange
        if self._session is not None and self._session.expired(exchange.primitives.now()):
            self._session = None
        session = self._session
        suites = self.parameters.cipher_suites
        if self._grease is not None:
            suites = (self._grease.suite, *suites)
        extensions = self._extensions()
        if session is None:
            raw = self._encoded(suites, extensions)
        else:
            suite = SUITES[session.cipher_suite]
            identity = PskIdentity(session.ticket, session.obfuscated_age(exchange.primitives.now()))
            blank = PreSharedKeys((identity,), (bytes(suite.hash_length),))
            extensions.append(encode_extension(blank))
            prefix = self._encoded(suites, extensions)[: -blank.binders_length]
            self._schedule_with_psk = KeySchedule(suite, session.psk)
            binder = self._schedule_with_psk.binder(exchange.transcript.digest_with(prefix, suite.hash))
            raw = prefix + PreSharedKeys((identity,), (binder,)).encode_binders()
        self._offered = {extension[:2] for extension in extensions}
        exchange.emit_encoded(ClientHello, raw)

    def _encoded(self, suites: tuple[int, ...], extensions: list[bytes]) -> bytes:
        return encode_client_hello(
            self._exchange.client_random, self._session_id, suites, vector(2, b"".join(extensions))
        )

    def _extensions(self) -> list[bytes]:
        """All that is offered, but pre_shared_key, which comes last."""
        parameters, grease = self.parameters, self._grease
        offered: list[bytes] = []
        if grease is not None:
            offered.append(encoded(UnknownExtension, grease.first_extension, b""))
        if self._server_name is not None and not is_address(self._server_name):
            offered.append(encoded(ServerName, self._server_name.removesuffix(".")))
        groups = parameters.groups if grease is None else (grease.group, *parameters.groups)
        offered.append(encoded(SupportedGroups, groups))
        offered.append(encoded(SignatureAlgorithms, parameters.signature_schemes))
        offered.append(encoded(SignatureAlgorithmsCert, CERTIFICATE_SCHEMES))
        if parameters.alpn_protocols:
            offered.append(encoded(ApplicationProtocols, parameters.alpn_protocols))
        versions = (TLS_1_3,) if grease is None else (grease.version, TLS_1_3)
        offered.append(encoded(SupportedVersions, versions))
        if self._psk_modes:
            offered.append(encoded(PskKeyExchangeModes, (PskKeyExchangeMode.psk_dhe_ke,)))
        if self._cookie is not None:
            offered.append(encode_extension(self._cookie))
        entries = [KeyShareEntry(group, share.public) for group, share in self._shares.items()]
        if grease is not None and self._share_grease:
            entries.insert(0, KeyShareEntry(grease.group, b"\0"))
        offered.append(encode_extension(KeyShares(tuple(entries))))
        if parameters.record_size_limit is not None:
            offered.append(encoded(RecordSizeLimit, parameters.record_size_limit))
        if grease is not None:
            offered.append(encoded(UnknownExtension, grease.last_extension, b"\0"))
        return offered

    # -- ServerHello, or HelloRetryRequest first -----------------------------------------------------------------

    def _receive_server_hello(self) -> Steps[None]:
        exchange = self._exchange
        hello = yield from exchange.expect(ServerHello, HelloRetryRequest, hashed=False)
        self._judge_hello(hello)
        self._suite = SUITES[hello.cipher_suite]
        exchange.transcript.choose(self._suite.hash)
        if isinstance(hello, HelloRetryRequest):
            self._answer_retry(hello)
            # A second one is not expected: "the client MUST abort the handshake with "unexpected_message"" (4.2.4)
            hello = yield from exchange.expect(ServerHello, hashed=False)
            self._judge_hello(hello)
            if hello.cipher_suite != self._suite.number:
                raise illegal_parameter("the server changed the cipher suite after its HelloRetryRequest", "4.2.4")
        exchange.transcript.add(exchange.received)
        self._refuse_unsolicited("ServerHello", hello.extensions, ANSWERS)
        self._establish_handshake_keys(hello)

    def _judge_hello(self, hello: ServerHello | HelloRetryRequest) -> None:
        version = hello.extensions.get(SelectedVersion)
        if version is None:
            if hello.random[-8:] in DOWNGRADE_SENTINELS:
                # Somebody on the way took TLS 1.3 out of our offer (section 4.2.3).
                raise illegal_parameter("the server was made to speak an older version than it can", "4.2.3")
            raise protocol_version("the server does not speak TLS 1.3; connect with an ssl.SSLContext instead", "4.3.1")
        if hello.legacy_version != TLS_1_2:
            raise protocol_version(f"the server's legacy_version is {hello.legacy_version:#06x}", "4.2.3")
        if version.version != TLS_1_3:
            raise illegal_parameter(f"the server selected the version {version.version:#06x}, not offered", "4.3.1")
        if hello.session_id != self._session_id:
            raise illegal_parameter("the server does not echo our legacy_session_id", "4.2.3")
        if hello.compression_method:
            raise illegal_parameter("the server selected a compression method", "4.2.3")
        if hello.cipher_suite not in self.parameters.cipher_suites:
            suite = name_of(CipherSuiteNumber, hello.cipher_suite)
            raise illegal_parameter(f"the server selected {suite}, which was not offered", "4.2.3")

    def _answer_retry(self, retry: HelloRetryRequest) -> None:
        exchange = self._exchange
        # "A HelloRetryRequest extension MUST NOT contain any extensions that were not first offered by the client
        # in its ClientHello, with the exception of optionally the "cookie" extension" (section 4.2.4).
        self._refuse_unsolicited("HelloRetryRequest", retry.extensions, WISHES)
        group, self._cookie = retry.extensions.get(RetryGroup), retry.extensions.get(Cookie)
        if group is None and self._cookie is None:
            raise illegal_parameter("the server's HelloRetryRequest changes nothing", "4.2.4")
        if self._cookie is not None and len(self._cookie.cookie) > MOST_COOKIE:
            length = len(self._cookie.cookie)
            raise illegal_parameter(f"the server's cookie of {length} bytes is too long to be sent back", "4.3.2")
        if group is not None:
            if group.group not in self.parameters.groups:
                wanted = name_of(NamedGroup, group.group)
                raise illegal_parameter(f"the server asks for a share of {wanted}, which was not offered", "4.3.8")
            if group.group in self._shares:
                raise illegal_parameter("the server asks for a share that it has", "4.3.8")
            self._shares = {group.group: exchange.primitives.generate(GROUPS[group.group])}
            self._share_grease = False  # "replace the original "key_share" extension with one containing only" this
        if self._session is not None and SUITES[self._session.cipher_suite].hash.name != self._suite.hash.name:
            self._session = None  # a PSK that goes with another hash cannot be chosen any more (section 4.2.4)
        exchange.transcript.replace_by_message_hash()
        exchange.transcript.add(exchange.received)
        if self.parameters.middlebox_compatibility:
            exchange.send_change_cipher_spec()
        self._emit_client_hello()

    def _refuse_unsolicited(self, message: str, extensions: Extensions, known: frozenset[int]) -> None:
        for kind in extensions.types:
            if kind not in known or (uint16(kind) not in self._offered and kind != Cookie.type):
                # "Upon receiving such an extension, an endpoint MUST abort the handshake with an
                # "unsupported_extension" alert." (section 4.3)
                raise unsupported_extension(f"the server's {message} has an extension that was not offered", "4.3")

    def _establish_handshake_keys(self, hello: ServerHello) -> None:
        exchange, suite = self._exchange, self._suite
        selected = hello.extensions.get(SelectedPsk)
        if selected is None:
            self._session = None
            self._schedule = KeySchedule(suite)
        else:
            if self._session is None or selected.index != 0:
                raise illegal_parameter(f"the server selected the PSK {selected.index}, not offered", "4.3.11")
            if SUITES[self._session.cipher_suite].hash.name != suite.hash.name:
                raise illegal_parameter("the server selected a PSK and a cipher suite of another hash", "4.3.11")
            self._schedule = self._schedule_with_psk
        answer = hello.extensions.get(SelectedKeyShare)
        if answer is None:
            # psk_ke was not offered, so there is no handshake without a key exchange. With a PSK that is no lack, but
            # contradicts what was offered: "the client MUST abort the handshake with an "illegal_parameter" alert".
            if selected is not None:
                raise illegal_parameter("the server selected a PSK, and has no key_share", "4.3.11")
            raise missing_extension("the server's ServerHello has no key_share", "9.2")
        share = self._shares.get(answer.entry.group)
        if share is None:
            raise illegal_parameter("the server's key share is of a group that we sent no share of", "4.3.8")
        self._group = answer.entry.group
        secret = share.exchange(answer.entry.key_exchange)
        self._shares.clear()
        secrets = self._schedule.handshake_secrets(secret, exchange.transcript.digest())
        self._handshake_secrets = secrets
        exchange.log_secret("CLIENT_HANDSHAKE_TRAFFIC_SECRET", secrets.client)
        exchange.log_secret("SERVER_HANDSHAKE_TRAFFIC_SECRET", secrets.server)
        exchange.change_read_key(RecordKey(suite, secrets.server), "handshake")
        exchange.change_write_key(RecordKey(suite, secrets.client), "handshake")

    # -- the rest of the server's flight -------------------------------------------------------------------------

    def _receive_server_parameters(self) -> Steps[None]:
        message = yield from self._exchange.expect(EncryptedExtensions)
        for kind in message.extensions.types:
            if uint16(kind) not in self._offered or (self._grease is not None and kind in self._grease.extensions):
                raise unsupported_extension("the server's EncryptedExtensions has one that was not offered", "4.3")
        self._accept_application_protocol(message.extensions.get(ApplicationProtocols))
        limit = message.extensions.get(RecordSizeLimit)
        if limit is not None:
            self._exchange.writer.record_size_limit = limit.limit
            if self.parameters.record_size_limit is not None:  # a server that knows nothing of it cannot keep to it
                self._exchange.reader.record_size_limit = self.parameters.record_size_limit

    def _accept_application_protocol(self, answer: ApplicationProtocols | None) -> None:
        if answer is None:
            return
        if len(answer.protocols) != 1:
            raise illegal_parameter("the server selected several ALPN protocols", "RFC 7301 section 3.1")
        (protocol,) = answer.protocols
        if protocol not in self.parameters.alpn_protocols:
            raise illegal_parameter(
                f"the server selected the ALPN protocol {excerpt(protocol)}, which was not offered",
                "RFC 7301 section 3.2",
            )
        self._alpn_protocol = protocol

    def _receive_server_certificate(self) -> Steps[PeerIdentity]:
        """The server's identity: proven now, or when the session that is resumed was made."""
        exchange = self._exchange
        session = self._session
        if session is not None:
            # "Servers which are authenticating with a resumption PSK MUST NOT send the CertificateRequest message"
            return PeerIdentity(session.peer_chain, session.verified_chain, session.not_after, None)
        message = yield from exchange.expect(CertificateRequest, Certificate)
        if isinstance(message, CertificateRequest):
            self._accept_request(message)
            message = yield from exchange.expect(Certificate)
        if message.context:
            raise illegal_parameter("the server's Certificate has a request context", "4.5.1")
        leaf = leaf_of(message, who="server")
        if leaf is None:
            # "The server's certificate_list MUST always be non-empty." ... "decode_error" (section 4.5.1.2)
            raise decode_error("the server presented no certificate", "4.5.1.2")
        signature = yield from self._receive_certificate_verify(leaf)
        chain = chain_of(message)
        accepted = yield from accept_peer(
            self.parameters.verifier,
            chain,
            server=True,
            server_name=self._server_name,
            now=exchange.primitives.now(),
        )
        return PeerIdentity(chain, accepted.chain, accepted.not_after, signature)

    def _accept_request(self, request: CertificateRequest) -> None:
        if request.context:
            raise illegal_parameter("the server's CertificateRequest has a context", "4.4.2")
        request.extensions.require(SignatureAlgorithms)
        self._request = request

    def _receive_certificate_verify(self, leaf: x509.Certificate) -> Steps[VerifiedSignature]:
        exchange = self._exchange
        content = certificate_verify_content(server=True, transcript_hash=exchange.transcript.digest())
        message = yield from exchange.expect(CertificateVerify)
        if message.scheme not in self.parameters.signature_schemes:
            raise illegal_parameter("the server signed by a scheme that was not offered", "4.5.2")
        return verify(leaf, message.scheme, message.signature, content)

    # -- our second flight ---------------------------------------------------------------------------------------

    def _begin_second_flight(self) -> None:
        """The server's keys change here, and are made when ours are: nobody waits for them, but for our Finished."""
        exchange = self._exchange
        exchange.reader.ccs_allowed = False
        exchange.reader.must_be_aligned()
        if self.parameters.middlebox_compatibility:
            exchange.send_change_cipher_spec()

    def _establish_application_keys(self, transcript_hash: bytes) -> None:
        exchange = self._exchange
        self.secrets = self._schedule.application_secrets(transcript_hash)
        exchange.change_read_key(RecordKey(self._suite, self.secrets.server), "application")
        exchange.change_write_key(RecordKey(self._suite, self.secrets.client), "application")
        # Last: what the application raises there becomes an alert, and the peer expects the new key.
        exchange.log_secret("CLIENT_TRAFFIC_SECRET_0", self.secrets.client)
        exchange.log_secret("SERVER_TRAFFIC_SECRET_0", self.secrets.server)
        exchange.log_secret("EXPORTER_SECRET", self._schedule.exporter)

    def _send_client_certificate(self) -> Steps[tuple[bytes, ...]]:
        """Our certificate, if the server asked for one; the chain that was sent."""
        exchange, request = self._exchange, self._request
        if request is None:
            return ()
        schemes = request.extensions.require(SignatureAlgorithms).schemes
        credential = yield from credential_of(self.parameters.credential_for, None, schemes)
        scheme = choose_scheme(credential, schemes, self.parameters.signature_schemes)
        if credential is None or scheme is None:
            # "If the server requests client authentication but no suitable certificate is available, the client
            # MUST send a Certificate message containing no certificates" (section 4.5.1)
            exchange.emit(Certificate(request.context, ()))
            return ()
        present(exchange, credential, request.context)
        yield from sign_transcript(exchange, credential, scheme, server=False)
        return credential.der_chain

    def _send_finished(self) -> None:
        exchange = self._exchange
        secret = self._handshake_secrets.client
        exchange.emit(Finished(finished_verify_data(self._suite, secret, exchange.transcript.digest())))


class _Grease:
    """Values that no registry will ever have, sent so that peers keep ignoring what they do not know (RFC 8701).

    Args:
      random: eight random bytes.
    """

    def __init__(self, random: bytes) -> None:
        self.suite = GREASE[random[0] % 16]
        self.group = GREASE[random[1] % 16]
        self.version = GREASE[random[2] % 16]
        first = random[3] % 16
        self.first_extension = GREASE[first]
        self.last_extension = GREASE[(first + 1 + random[4] % 15) % 16]  # another one: none may come twice

    @property
    def extensions(self) -> tuple[int, int]:
        return self.first_extension, self.last_extension
