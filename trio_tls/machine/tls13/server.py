"""The server's handshake (RFC 9846 section 2 and 4).

How this works. `ServerHandshake.run` is the handshake from top to bottom, one step for each part of a flight::

        ClientHello             ──▶
                                ◀──   ServerHello, {EncryptedExtensions}, {CertificateRequest*},
                                      {Certificate*}, {CertificateVerify*}, {Finished}
        {Certificate*}, {CertificateVerify*}, {Finished}  ──▶

Everything that the two ends have in common is chosen at once, from one ClientHello (`_negotiate`): policy first, then
what is there. A client that sent no share of the chosen group is asked for one (HelloRetryRequest), and may change
nothing else in its second hello.

We can send application data from our Finished on, and read none before the client's: the write key changes at our own
Finished, the read key at the client's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.constant_time import bytes_eq

from ...alerts import Alert
from ...errors import CertificateVerificationError, NoSharedParameters
from ..interface import NeedServerConfig, NeedSession, Want
from .certificates import accept_peer, chain_of, choose_scheme, credential_of, leaf_of, present, sign_transcript
from .established import Anonymous, Established, PeerIdentity, verified
from .exchange import Exchange, Steps, ask, nobody
from .extensions import (
    ApplicationProtocols,
    Cookie,
    EarlyData,
    Extension,
    Extensions,
    KeyShareEntry,
    KeyShares,
    Padding,
    PreSharedKeys,
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
    encode_extension,
    encoded,
)
from .groups import GROUPS
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
    encode_encrypted_extensions,
    encode_server_hello,
)
from .misbehaviour import (
    decrypt_error,
    handshake_failure,
    illegal_parameter,
    missing_extension,
    no_application_protocol,
    protocol_version,
)
from .parameters import ServerParameters
from .record import RecordKey
from .registry import TLS_1_2, TLS_1_3, NamedGroup, PskKeyExchangeMode, name_of
from .resumption import store_session
from .sessions import ServerSession
from .signatures import CERTIFICATE_SCHEMES, certificate_verify_content, verify
from .suites import SUITES, CipherSuite
from .wire import vector

if TYPE_CHECKING:
    from .key_schedule import TrafficSecrets

__all__ = ["ServerHandshake"]

#: PSK identities of one ClientHello that are looked at; clients offer one or two.
MOST_IDENTITIES = 4


class ServerHandshake:
    """One server's handshake.

    Args:
      exchange: what it reads from and writes to.
      parameters: what to accept; another's take their place if `ServerConfig.choose` says so.
    """

    def __init__(self, exchange: Exchange, parameters: ServerParameters) -> None:
        self._exchange = exchange
        self.parameters: ServerParameters = parameters
        self._hello: ClientHello
        self.secrets: TrafficSecrets
        """Of the application data, generation 0; once our Finished was sent."""
        self._suite: CipherSuite
        self._group: int
        self._share: KeyShareEntry | None = None
        self._server_name: str | None = None
        self._alpn_protocol: bytes | None = None
        self._session: ServerSession | None = None
        self._session_index = 0
        self._client: PeerIdentity | Anonymous = Anonymous()
        self._local_chain: tuple[bytes, ...] = ()

    def run(self) -> Steps[Established]:
        """The handshake."""
        yield from self._receive_client_hello()
        self._send_server_hello()
        self._send_server_parameters()
        if self._session is None:
            yield from self._send_server_certificate()
        self._send_finished()
        yield from self._exchange.let_flight_leave(Want.READ)
        self._establish_application_keys()
        self._exchange.prepare = GROUPS[self._group].answered_by
        peer = yield from self._receive_client_certificate()
        # What the client's Finished has to be is known by now, and so is all that follows from it: the client is still
        # at work on it.
        transcript = self._exchange.transcript
        before_finished = transcript.digest()
        expected = finished_verify_data(self._suite, self._handshake_secrets.client, before_finished)
        resumption = self._schedule.resumption_secret(transcript.digest_with(Finished(expected).encode()))
        read_key = RecordKey(self._suite, self.secrets.client)
        finished = yield from self._exchange.expect(Finished)
        proof = verified(finished, expected, before_finished)
        self._exchange.reader.ccs_allowed = False
        self._exchange.change_read_key(read_key, "application")
        return Established(
            suite=self._suite,
            group=self._group,
            peer=peer,
            finished=proof,
            exporter=self._schedule.exporter,
            resumption=resumption,
            alpn_protocol=self._alpn_protocol,
            server_name=self._server_name,
            local_chain=self._local_chain,
            resumed=self._session is not None,
        )

    @property
    def session(self) -> ServerSession | None:
        """The session that was resumed."""
        return self._session

    @property
    def tickets_wanted(self) -> bool:
        """Whether the client can resume in a way that we offer (section 4.3.9)."""
        modes = self._hello.extensions.get(PskKeyExchangeModes)
        return modes is not None and PskKeyExchangeMode.psk_dhe_ke in modes.modes

    @property
    def shared_suites(self) -> tuple[int, ...]:
        """The cipher suites that both ends know, in the client's order."""
        return tuple(suite for suite in self._hello.cipher_suites if suite in self.parameters.cipher_suites)

    # -- ClientHello -------------------------------------------------------------------------------------------

    def _receive_client_hello(self) -> Steps[None]:
        exchange = self._exchange
        hello = yield from exchange.expect(ClientHello, hashed=False)
        self._judge_hello(hello)
        exchange.client_random = hello.random
        exchange.reader.ccs_allowed = True
        if hello.extensions.get(EarlyData) is not None:
            exchange.reader.skip_early_data()
        if self.parameters.choose is not None:
            need = NeedServerConfig(nobody, exchange.received)
            chosen = yield from ask(need, self.parameters.choose, _is_server_config, "a ServerConfig")
            self.parameters = chosen.parameters
            exchange.adopt(self.parameters)
        self._hello, raw = hello, exchange.received
        self._negotiate(hello)
        if self._share is None:
            hello, raw = yield from self._ask_again(hello, raw)
        exchange.transcript.choose(self._suite.hash)
        yield from self._find_session(hello, raw)
        exchange.transcript.add(raw)

    def _judge_hello(self, hello: ClientHello) -> None:
        versions = hello.extensions.get(SupportedVersions)
        if versions is None or TLS_1_3 not in versions.versions:
            raise protocol_version("the client does not speak TLS 1.3; an ssl.SSLContext can serve it", "4.3.1")
        if hello.legacy_version != TLS_1_2:
            raise protocol_version(f"the client's legacy_version is {hello.legacy_version:#06x}", "4.2.2")
        if hello.compression_methods != b"\0":
            raise illegal_parameter("the client offers compression", "4.2.2")
        shares = hello.extensions.get(KeyShares)
        groups = hello.extensions.get(SupportedGroups)
        if shares is None and groups is None and hello.extensions.get(PreSharedKeys) is not None:
            hello.extensions.require(PskKeyExchangeModes)
            # That lacks nothing: it is for a PSK without a key exchange (psk_ke), which is never used here.
            raise handshake_failure("the client offers no key exchange", "4.3.9")
        # "If containing a "supported_groups" extension, it MUST also contain a "key_share" extension, and vice versa."
        if shares is None or groups is None:
            raise missing_extension("the client's hello lacks supported_groups or key_share", "9.2")
        named = [entry.group for entry in shares.entries]
        if len(set(named)) != len(named):
            raise illegal_parameter("the client sent two key shares of one group", "4.3.8")
        if not set(named) <= set(groups.groups):
            raise illegal_parameter("the client sent a key share of a group that it does not list", "4.3.8")
        listed = iter(groups.groups)
        if not all(group in listed for group in named):
            raise illegal_parameter("the client's key shares are in another order than its groups", "4.3.8")
        psk = hello.extensions.get(PreSharedKeys)
        if psk is None and hello.extensions.get(SignatureAlgorithms) is None:
            raise missing_extension("the client's hello has no signature_algorithms", "9.2")
        if psk is not None and hello.extensions.get(PskKeyExchangeModes) is None:
            # "If clients offer "pre_shared_key" without a "psk_key_exchange_modes" extension, servers MUST abort"
            raise missing_extension("the client offers a PSK and no psk_key_exchange_modes", "4.3.9")

    def _negotiate(self, hello: ClientHello) -> None:
        """Choose by our preference what both ends can do."""
        parameters = self.parameters
        suite = next((number for number in parameters.cipher_suites if number in hello.cipher_suites), None)
        if suite is None:
            raise handshake_failure("the client offers none of our cipher suites", "4.2.1")
        self._suite = SUITES[suite]
        groups = hello.extensions.require(SupportedGroups).groups
        group = next((number for number in parameters.groups if number in groups), None)
        if group is None:
            raise handshake_failure("the client supports none of our key exchange groups", "4.2.1")
        self._group = group
        # The group is chosen by policy alone: that a share of a weaker one is here already counts for nothing.
        entries = hello.extensions.require(KeyShares).entries
        self._share = next((entry for entry in entries if entry.group == group), None)
        name = hello.extensions.get(ServerName)
        self._server_name = name.host_name if name is not None else None
        self._alpn_protocol = self._choose_application_protocol(hello.extensions.get(ApplicationProtocols))

    def _choose_application_protocol(self, offered: ApplicationProtocols | None) -> bytes | None:
        ours = self.parameters.alpn_protocols
        if offered is None or not ours:
            return None
        for protocol in ours:
            if protocol in offered.protocols:
                return protocol
        # "the server SHALL respond with a fatal "no_application_protocol" alert."
        raise no_application_protocol("the client offers none of our ALPN protocols")

    # -- HelloRetryRequest -------------------------------------------------------------------------------------

    def _ask_again(self, first: ClientHello, raw: bytes) -> Steps[tuple[ClientHello, bytes]]:
        """Ask for a share of the group that was chosen; the second ClientHello."""
        exchange = self._exchange
        transcript = exchange.transcript
        transcript.add(raw)
        transcript.choose(self._suite.hash)
        transcript.replace_by_message_hash()
        extensions = Extensions([SelectedVersion(TLS_1_3), RetryGroup(self._group)])
        exchange.emit(HelloRetryRequest(first.session_id, self._suite.number, extensions))
        if first.session_id:
            exchange.send_change_cipher_spec()
        second = yield from exchange.expect(ClientHello, hashed=False)
        self._judge_hello(second)
        self._compare_hellos(first, second)
        entries = second.extensions.require(KeyShares).entries
        if len(entries) != 1 or entries[0].group != self._group:
            wanted = name_of(NamedGroup, self._group)
            raise illegal_parameter(f"the client's second hello does not have the share of {wanted} alone", "4.2.2")
        self._hello, self._share = second, entries[0]
        return second, exchange.received

    def _compare_hellos(self, first: ClientHello, second: ClientHello) -> None:
        """The second hello may differ from the first only in what section 4.2.2 lists."""
        if second.extensions.get(EarlyData) is not None:
            raise illegal_parameter("the client's second hello has early_data", "4.2.2")
        if second.extensions.get(Cookie) is not None:
            raise illegal_parameter("the client's second hello has a cookie that we did not send", "4.3.2")
        if second.extensions.get(PreSharedKeys) is not None and first.extensions.get(PreSharedKeys) is None:
            raise illegal_parameter("the client's second hello adds pre_shared_key", "4.2.2")
        if (
            first.random != second.random
            or first.session_id != second.session_id
            or first.cipher_suites != second.cipher_suites
            or _fixed_extensions(first) != _fixed_extensions(second)
        ):
            raise illegal_parameter("the client's second hello changes what may not change", "4.2.2")

    # -- resumption --------------------------------------------------------------------------------------------

    def _find_session(self, hello: ClientHello, raw: bytes) -> Steps[None]:
        """The first session offered that we know and that fits; the binder proves that the client has its PSK."""
        offered = hello.extensions.get(PreSharedKeys)
        if offered is None or not self.tickets_wanted:
            return
        for index, identity in enumerate(offered.identities[:MOST_IDENTITIES]):
            session = yield from self._session_of(identity.identity)
            if session is None:
                continue
            if not self._fits(session):
                self._put_back(identity.identity, session)
                continue
            schedule = KeySchedule(self._suite, session.psk)
            digest = self._exchange.transcript.digest_with(hello.truncated(raw), self._suite.hash)
            if not bytes_eq(schedule.binder(digest), offered.binders[index]):
                self._put_back(identity.identity, session)  # somebody else has seen its name
                # "the server MUST validate the corresponding binder value ... If this value is not present or does
                # not validate, the server MUST abort the handshake." Only of the PSK that is chosen.
                raise decrypt_error("the client does not have the PSK of the session that it offers", "4.3.11")
            if session.client_chain and not (yield from self._accepts_again(session)):
                continue
            self._session, self._session_index, self._schedule = session, index, schedule
            return
        if hello.extensions.get(SignatureAlgorithms) is None:
            raise missing_extension("the client's hello has no signature_algorithms, and no PSK that we know", "9.2")

    def _accepts_again(self, session: ServerSession) -> Steps[bool]:
        """Whether the client's certificate would still be accepted; it is what the session stands for."""
        parameters, chain = self.parameters, session.client_chain
        if parameters.verifier is None:
            return False
        try:
            accepted = yield from accept_peer(
                parameters.verifier, chain, server=False, server_name=None, now=self._exchange.primitives.now()
            )
        except CertificateVerificationError:
            return False  # in the full handshake that follows, the client may present another one
        self._client = PeerIdentity(chain, accepted.chain, accepted.not_after, None)
        return True

    def _session_of(self, ticket: bytes) -> Steps[ServerSession | None]:
        parameters = self.parameters
        state: bytes | None = None
        if not parameters.tickets:
            return None  # nothing is resumed here, whoever else seals tickets with our keys
        if parameters.session_store is not None:
            store = parameters.session_store
            need = NeedSession(nobody, ticket)
            state = yield from ask(need, lambda asked: store.take(asked.ticket), _is_state, "bytes or None")
        elif parameters.ticket_keys is not None:
            state = parameters.ticket_keys.open(ticket, self._exchange.primitives.now())
        if state is None:
            return None
        try:
            return ServerSession.from_bytes(state)
        except ValueError:  # made by another version of this library: a full handshake follows
            return None

    def _put_back(self, identity: bytes, session: ServerSession) -> None:
        """A session that was taken from the store and not used stays its client's."""
        expired = session.expired(self._exchange.primitives.now())
        if self.parameters.session_store is not None and not expired:
            store_session(self.parameters.session_store, identity, session)

    def _fits(self, session: ServerSession) -> bool:
        """Whether a session may be resumed here and now: nothing that it was made for may have changed."""
        parameters = self.parameters
        return (
            not session.expired(self._exchange.primitives.now())
            and SUITES[session.cipher_suite].hash.name == self._suite.hash.name
            and session.fits(
                fingerprint=parameters.fingerprint,
                server_name=self._server_name,
                alpn_protocol=self._alpn_protocol,
            )
            and (parameters.client_auth != "required" or bool(session.client_chain))
        )

    # -- our flight --------------------------------------------------------------------------------------------

    def _send_server_hello(self) -> None:
        exchange, suite, share = self._exchange, self._suite, self._share
        assert share is not None  # either it was there, or it was asked for
        group = GROUPS[self._group]
        answer, secret = group.respond(share.key_exchange, exchange.primitives.generate)
        extensions = encoded(SelectedVersion, TLS_1_3) + encode_extension(
            SelectedKeyShare(KeyShareEntry(self._group, answer))
        )
        if self._session is not None:
            extensions += encoded(SelectedPsk, self._session_index)
        random = exchange.primitives.random(32)
        hello = encode_server_hello(random, self._hello.session_id, suite.number, vector(2, extensions))
        exchange.emit_encoded(ServerHello, hello)
        if self._hello.session_id:
            exchange.send_change_cipher_spec()
        if self._session is None:
            self._schedule = KeySchedule(suite)
        secrets = self._schedule.handshake_secrets(secret, exchange.transcript.digest())
        self._handshake_secrets = secrets
        exchange.log_secret("CLIENT_HANDSHAKE_TRAFFIC_SECRET", secrets.client)
        exchange.log_secret("SERVER_HANDSHAKE_TRAFFIC_SECRET", secrets.server)
        exchange.change_read_key(RecordKey(suite, secrets.client), "handshake")
        exchange.change_write_key(RecordKey(suite, secrets.server), "handshake")

    def _send_server_parameters(self) -> None:
        exchange, parameters = self._exchange, self.parameters
        extensions = []
        if self._server_name is not None and self._session is None:
            extensions.append(encoded(ServerName, None))
        if self._alpn_protocol is not None:
            extensions.append(encoded(ApplicationProtocols, (self._alpn_protocol,)))
        limit = self._hello.extensions.get(RecordSizeLimit)
        if limit is not None:
            exchange.writer.record_size_limit = limit.limit
            if parameters.record_size_limit is not None:
                extensions.append(encoded(RecordSizeLimit, parameters.record_size_limit))
                exchange.reader.record_size_limit = parameters.record_size_limit
        exchange.emit_encoded(EncryptedExtensions, encode_encrypted_extensions(vector(2, b"".join(extensions))))

    def _send_server_certificate(self) -> Steps[None]:
        exchange, parameters = self._exchange, self.parameters
        schemes = self._hello.extensions.require(SignatureAlgorithms).schemes
        credential = yield from credential_of(parameters.credential_for, self._server_name, schemes)
        if credential is None:
            raise NoSharedParameters(
                "the client asks for a name that we have no certificate for",
                hint="Add a credential for the name, or give CredentialsByName a default",
                alert=Alert.unrecognized_name,
            )
        scheme = choose_scheme(credential, schemes, parameters.signature_schemes)
        if scheme is None:
            raise handshake_failure("the client accepts no signature scheme of our certificate's key", "4.3.3")
        if parameters.client_auth != "none":
            exchange.emit(
                CertificateRequest(
                    b"",
                    Extensions(
                        [
                            SignatureAlgorithms(parameters.signature_schemes),
                            SignatureAlgorithmsCert(CERTIFICATE_SCHEMES),
                        ]
                    ),
                )
            )
        present(exchange, credential, b"")
        yield from sign_transcript(exchange, credential, scheme, server=True)
        self._local_chain = credential.der_chain

    def _send_finished(self) -> None:
        exchange = self._exchange
        secret = self._handshake_secrets.server
        exchange.emit(Finished(finished_verify_data(self._suite, secret, exchange.transcript.digest())))

    def _establish_application_keys(self) -> None:
        exchange = self._exchange
        self.secrets = self._schedule.application_secrets(exchange.transcript.digest())
        exchange.change_write_key(RecordKey(self._suite, self.secrets.server), "application")
        # Last: what the application raises there becomes an alert, and the peer expects the new key.
        exchange.log_secret("CLIENT_TRAFFIC_SECRET_0", self.secrets.client)
        exchange.log_secret("SERVER_TRAFFIC_SECRET_0", self.secrets.server)
        exchange.log_secret("EXPORTER_SECRET", self._schedule.exporter)

    # -- the client's second flight ------------------------------------------------------------------------------

    def _receive_client_certificate(self) -> Steps[PeerIdentity | Anonymous]:
        exchange, parameters, session = self._exchange, self.parameters, self._session
        if session is not None:
            return self._client if session.client_chain else Anonymous()
        if parameters.client_auth == "none":
            return Anonymous()
        message = yield from exchange.expect(Certificate)
        if message.context:
            raise illegal_parameter("the client's Certificate has another request context", "4.5.1")
        leaf = leaf_of(message, who="client")
        if leaf is None:
            if parameters.client_auth == "required":
                raise CertificateVerificationError(
                    "the client presented no certificate, and one is required",
                    hint="Give the client a certificate of a CA that this server trusts",
                    alert=Alert.certificate_required,
                )
            return Anonymous()
        chain = chain_of(message)
        content = certificate_verify_content(server=False, transcript_hash=exchange.transcript.digest())
        proof = yield from exchange.expect(CertificateVerify)
        if proof.scheme not in parameters.signature_schemes:
            raise illegal_parameter("the client signed by a scheme that was not offered", "4.5.2")
        signature = verify(leaf, proof.scheme, proof.signature, content)
        assert parameters.verifier is not None  # the config has seen to that: it wants client certificates
        accepted = yield from accept_peer(
            parameters.verifier, chain, server=False, server_name=None, now=exchange.primitives.now()
        )
        return PeerIdentity(chain, accepted.chain, accepted.not_after, signature)


def _is_server_config(answer: object) -> bool:
    return isinstance(getattr(answer, "parameters", None), ServerParameters)


def _is_state(answer: object) -> bool:
    return answer is None or isinstance(answer, bytes)


def _fixed_extensions(hello: ClientHello) -> list[Extension]:
    """What a client has to repeat in its second hello."""
    free = (KeyShares, EarlyData, Cookie, PreSharedKeys, Padding)
    return [extension for extension in hello.extensions if not isinstance(extension, free)]
