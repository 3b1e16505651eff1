"""Mutants that nobody can tell from the code as it is, each with the reason."""

# ruff: noqa: E501  # a name is as long as the check that it is about

from __future__ import annotations

_ODD = "the bound is even and the most that the length field can say is odd: an odd length is refused as odd"
_LIBRARY = "`cryptography` refuses it as well, with an exception that is told in the same words"

#: By name, as `python -m tests.mutants` prints it.
EQUIVALENT: dict[str, str] = {
    # -- the record layer
    "machine.tls13.record_reader.RecordReader._decrypt: without raise _not_authentic(target)": (
        "a body that is shorter than a tag is an InvalidTag to `cryptography` too"
    ),
    "machine.tls13.record_reader.RecordReader._judge: without raise _empty(kind)": (
        "`_sort` refuses the same record by the same words when its body, which is empty, is taken"
    ),
    "machine.tls13.record_reader.RecordReader._read_record: no (kind == ALERT) in kind == ALERT and "
    "self._key is not None and (body[1] in {Alert.close_notify, Alert.user_canceled})": (
        "the only other kind that gets there is a handshake record, which `_judge` refuses once there is a key"
    ),
    # -- codecs
    "machine.tls13.extensions.application.ServerName.decode: no low in reader.sub(2, low=1)": (
        "an empty list has no first entry either: the same decode_error, one field later"
    ),
    **{
        f"machine.tls13.{where}.decode: no high in reader.uint16_vector({bound})": _ODD
        for where, bound in (
            ("extensions.authentication.SignatureAlgorithms", "2, low=2, high=65534"),
            ("extensions.authentication.SignatureAlgorithmsCert", "2, low=2, high=65534"),
            ("extensions.supported_versions.SupportedVersions", "1, low=2, high=254"),
            ("messages.ClientHello", "2, low=2, high=65534"),
        )
    },
    "machine.tls13.wire.Reader._vector_end: without raise self._too_short(prefix_bytes)": (
        "what follows a length that is cut off is cut off as well: the same decode_error, about the contents"
    ),
    # -- keys and signatures
    "machine.tls13.groups._HybridHalf.exchange: without raise ValueError('not a ciphertext and an X25519 key')": _LIBRARY,
    "machine.tls13.groups._X25519MLKEM768.respond: without raise _no_share(self.number, peer)": _LIBRARY,
    "machine.tls13.groups._PointHalf.exchange: no (peer[0] != UNCOMPRESSED) in "
    "len(peer) != 1 + 2 * ((curve.key_size + 7) // 8) or peer[0] != UNCOMPRESSED": (
        "of this length the library takes uncompressed points alone"
    ),
    "machine.tls13.signatures.verify: no (key is None) in "
    "algorithm is None or key is None or (not algorithm.fits(key, pss_oid=pss_oid))": (
        "no algorithm fits None: `fits` asks for the class of the key"
    ),
    # -- the handshake and after it
    "machine.tls13.client.ClientHandshake._establish_handshake_keys: no (self._session is None) in "
    "self._session is None or selected.index != 0": (
        "without a session no PSK was offered, and `_refuse_unsolicited` has refused the answer to one"
    ),
    "machine.tls13.server.ServerHandshake._fits: no (parameters.client_auth != 'required' or bool(session.client_chain)) in "
    "not session.expired(self._exchange.primitives.now()) and "
    "SUITES[session.cipher_suite].hash.name == self._suite.hash.name and session.fits(fingerprint=parameters.fingerprint, "
    "server_name=self._server_name, alpn_protocol=self._alpn_protocol) and "
    "(parameters.client_auth != 'required' or bool(session.client_chain))": (
        "the fingerprint has client_auth in it: where certificates are required now they were when the session was made"
    ),
    "machine.tls13.connection.TLS13Machine.read_into: no (not self._close_notify_received) in "
    "self._failure is not None and (not self._close_notify_received)": (
        "who has read close_notify reads no more, and so fails no more; who has failed reads no close_notify"
    ),
    "machine.tls13.connection.TLS13Machine.read_into: without raise self._read_failure.again()": (
        "the end is still there when it is looked for again, and told by the same words"
    ),
    # -- the streams
    "pump.Pump.pull: without await trio.lowlevel.checkpoint()": (
        "every machine raises at its next look after the end of the transport; one that did not would hang its task with "
        "this await, and all tasks without it"
    ),
}
