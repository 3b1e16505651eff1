"""The machine behind an ``ssl.SSLContext``, driven in memory: no Trio, no sockets, no waiting."""

from __future__ import annotations

import ssl
import struct

import OpenSSL.SSL
import pytest
from cryptography import x509

from trio_tls import Alert, HandshakeClosed, PeerMisbehaved, UnexpectedEOF
from trio_tls.machine.interface import Want
from trio_tls.machine.openssl import OUTGOING_LIMIT, OpenSSLMachine, create_machine

from ..support import HOST, Machines, client_context, pattern, server_context
from .drive import VERSIONS, carry, machine_pair, raised, read, records, shake_hands, write_all

pytestmark = pytest.mark.ssl_alone("drives OpenSSLMachine; our own machine's tests are in tests/machine/tls13")

#: A whole plaintext alert record: warning, close_notify.
PLAIN_CLOSE_NOTIFY = bytes((21, 3, 3, 0, 2, 1, 0))

#: ``SSL_OP_ALLOW_CLIENT_RENEGOTIATION`` of OpenSSL 3, which Python has no name for.
ALLOW_CLIENT_RENEGOTIATION = 1 << 8


def connected(machines: Machines) -> tuple[OpenSSLMachine, OpenSSLMachine]:
    """Both ends, after the handshake: (client, server)."""
    client, server = machine_pair(machines.client, machines.server)
    shake_hands(client, server)
    return client, server


# -- the handshake -----------------------------------------------------------------------------------------


def test_the_handshake_agrees_on_the_facts(machines: Machines) -> None:
    client, server = machine_pair(machines.client, machines.server)
    assert (client.info, client.handshake_done) == (None, False)
    shake_hands(client, server)
    assert client.info is not None and server.info is not None
    assert client.info.version == server.info.version == machines.version
    assert client.info.cipher_suite == server.info.cipher_suite
    assert client.info.server_name == HOST and server.info.server_name is None
    assert not client.info.session_reused
    leaf = x509.load_der_x509_certificate(client.info.peer_chain[0])
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert HOST in names.get_values_for_type(x509.DNSName)
    assert server.info.peer_chain == ()
    assert (client.server_side, server.server_side) == (False, True)
    assert (client.server_hostname, server.server_hostname) == (HOST, None)


def test_repeating_a_handshake_step_that_wants_is_free(machines: Machines) -> None:
    client, server = machine_pair(machines.client, machines.server)
    assert client.do_handshake() is Want.READ
    flight = client.outgoing.read()
    for _ in range(100):
        assert client.do_handshake() is Want.READ
        assert server.do_handshake() is Want.READ
    assert not client.outgoing.pending and not server.outgoing.pending
    server.incoming.write(flight)
    shake_hands(client, server)


def test_the_handshake_goes_on_from_any_byte(machines: Machines) -> None:
    client, server = machine_pair(machines.client, machines.server)
    while not (client.handshake_done and server.handshake_done):
        for end, peer in ((client, server), (server, client)):
            end.do_handshake()
            while end.outgoing.pending:
                peer.incoming.write(end.outgoing.read(1))
                peer.do_handshake()
    assert client.do_handshake() is None and server.do_handshake() is None, "and it stays complete"


def test_the_certificate_chain_is_der_that_cryptography_parses(machines: Machines) -> None:
    client, _server = connected(machines)
    verified = [x509.load_der_x509_certificate(der) for der in client.introspection.get_verified_chain()]
    presented = [x509.load_der_x509_certificate(der) for der in client.introspection.get_unverified_chain()]
    assert presented == verified[:1] and len(verified) == 2
    assert verified[0].issuer == verified[1].subject


def test_misuse_is_told_when_the_machine_is_made() -> None:
    with pytest.raises(TypeError, match=r"must be an ssl\.SSLContext"):
        create_machine("context", server_side=False, server_hostname=HOST, session=None)
    with pytest.raises(TypeError, match="session must be"):
        create_machine(client_context(), server_side=False, server_hostname=HOST, session="session")
    with pytest.raises(ValueError, match="server_side=True"):
        create_machine(client_context(), server_side=True, server_hostname=None, session=None)
    with pytest.raises(ValueError, match="server_hostname"):
        create_machine(client_context(), server_side=False, server_hostname=None, session=None)


# -- reading -----------------------------------------------------------------------------------------------


def test_one_read_takes_every_whole_record_that_is_here(machines: Machines) -> None:
    client, server = connected(machines)
    sent = pattern(100_000)
    write_all(client, server, sent)
    assert read(server) == sent
    assert read(server) is Want.READ


def test_a_part_of_a_record_waits_for_its_rest(machines: Machines) -> None:
    client, server = connected(machines)
    client.write(memoryview(b"first"))
    client.write(memoryview(b"second"))
    ciphertext = client.outgoing.read()
    server.incoming.write(ciphertext[:-1])
    assert read(server) == b"first"
    assert read(server) is Want.READ
    server.incoming.write(ciphertext[-1:])
    assert read(server) == b"second"


def test_a_small_buffer_leaves_the_rest_for_the_next_read(machines: Machines) -> None:
    client, server = connected(machines)
    write_all(client, server, b"0123456789")
    assert [read(server, 4) for _ in range(3)] == [b"0123", b"4567", b"89"]
    assert read(server, 4) is Want.READ


def test_buffered_counts_what_is_decrypted(machines: Machines) -> None:
    client, server = connected(machines)
    assert server.buffered == 0
    write_all(client, server, b"0123456789")
    assert server.buffered == 0
    assert read(server, 4) == b"0123"
    assert server.buffered == 6


def test_reading_never_needs_the_outgoing_side(machines: Machines) -> None:
    client, server = connected(machines)
    while isinstance(server.write(memoryview(bytes(OUTGOING_LIMIT))), int):
        pass
    write_all(client, server, b"still read")
    assert read(server) == b"still read"


# -- writing -----------------------------------------------------------------------------------------------


def test_writing_stops_when_outgoing_is_full_and_goes_on_when_it_drains(machines: Machines) -> None:
    client, server = connected(machines)
    sent, position, received = pattern(2_000_000), 0, bytearray()
    while position < len(sent):
        accepted = client.write(memoryview(sent)[position:])
        if accepted is Want.WRITE:
            assert client.outgoing.pending <= OUTGOING_LIMIT + 10_000, "nothing but record overhead goes beyond"
            assert client.write(memoryview(sent)[position:]) is Want.WRITE, "asking again is free"
            carry(client, server)
            got = read(server)
            assert isinstance(got, bytes)
            received += got
        else:
            assert isinstance(accepted, int) and accepted > 0
            position += accepted
    carry(client, server)
    last = read(server)
    assert isinstance(last, bytes)
    assert bytes(received + last) == sent


def test_close_notify_has_room_when_outgoing_is_full(machines: Machines) -> None:
    client, server = connected(machines)
    total = 0
    while isinstance(accepted := client.write(memoryview(bytes(OUTGOING_LIMIT))), int):
        total += accepted
    client.shutdown()
    carry(client, server)
    assert read(server) == bytes(total)
    assert read(server) == b""


def test_an_empty_write_accepts_nothing_and_sends_no_record(machines: Machines) -> None:
    client, _server = connected(machines)
    assert client.write(memoryview(b"")) == 0
    assert not client.outgoing.pending


# -- tickets -----------------------------------------------------------------------------------------------


def resumes(machines: Machines, session: ssl.SSLSession | None) -> bool:
    """Whether a new connection with ``session`` is a resumption, and works."""
    client, server = machine_pair(machines.client, machines.server, session=session)
    shake_hands(client, server)
    write_all(client, server, b"resumed")
    assert read(server) == b"resumed"
    assert client.info is not None and server.info is not None
    assert client.info.session_reused == server.info.session_reused
    return client.info.session_reused


@pytest.mark.parametrize("release", ["write", "empty write", "shutdown"])
def test_session_tickets_leave_with_the_first_write_or_close(machines: Machines, release: str) -> None:
    client, server = connected(machines)
    assert not server.outgoing.pending, "the handshake ends without them"
    if release == "write":
        server.write(memoryview(b"data"))
        carry(server, client)
        assert read(client) == b"data"
    elif release == "empty write":
        server.write(memoryview(b""))
        carry(server, client)
        assert read(client) is Want.READ, "tickets are no data"
    else:
        server.shutdown()
        carry(server, client)
        assert read(client) == b""
    assert resumes(machines, client.ssl_object.session)


# -- closing -----------------------------------------------------------------------------------------------


def test_close_notify_is_queued_once(machines: Machines) -> None:
    client, server = connected(machines)
    client.shutdown()
    once = carry(client, server)
    assert len(records(once)) == 1
    client.shutdown()
    assert not client.outgoing.pending
    assert read(server) == b""
    assert read(server) == b"", "the end is sticky"


def test_shutdown_before_the_handshake_is_done_does_nothing(machines: Machines) -> None:
    client, server = machine_pair(machines.client, machines.server)
    client.do_handshake()
    pending = client.outgoing.pending
    client.shutdown()
    assert client.outgoing.pending == pending
    shake_hands(client, server)


@pytest.mark.parametrize("where", ["not received", "incoming", "inside OpenSSL", "half decrypted", "half a record"])
def test_data_that_was_not_read_survives_our_shutdown(machines: Machines, where: str) -> None:
    client, server = connected(machines)
    sent = pattern(50_000)
    with memoryview(sent) as view:
        assert client.write(view) == len(sent)
    ciphertext = client.outgoing.read()
    got: list[bytes | Want] = []
    if where == "incoming":
        server.incoming.write(ciphertext)
    elif where == "inside OpenSSL":
        server.incoming.write(ciphertext)
        got.append(read(server, 16384))  # one record; the others went into OpenSSL's BIO with it
    elif where == "half decrypted":
        server.incoming.write(ciphertext)
        got.append(read(server, 10))
        assert server.buffered
    elif where == "half a record":
        server.incoming.write(ciphertext[:30_000])
        got.append(read(server, 20_000))
    server.shutdown()
    if where == "not received":
        server.incoming.write(ciphertext)
    elif where == "half a record":
        server.incoming.write(ciphertext[30_000:])
    close_notify = carry(server, client)
    assert len(records(close_notify)) == (3 if machines.version == "TLSv1.3" else 1)  # two are tickets
    got.append(read(server))
    while got[-1] not in (Want.READ, b""):
        got.append(read(server))
    assert b"".join(part for part in got if isinstance(part, bytes)) == sent
    assert read(client) == b"", "the peer sees our end"
    client.shutdown()
    carry(client, server)
    assert read(server) == b"", "and we see the peer's"


def test_after_our_shutdown_the_peer_goes_on_and_we_read_on(machines: Machines) -> None:
    client, server = connected(machines)
    client.shutdown()
    carry(client, server)
    assert read(server) == b""
    for part in (b"half-closed", b"but not deaf"):
        write_all(server, client, part)
        assert read(client) == part
    assert read(client) is Want.READ
    server.shutdown()
    carry(server, client)
    assert read(client) == b""


def test_after_the_peers_close_notify_we_may_still_write(machines: Machines) -> None:
    client, server = connected(machines)
    server.shutdown()
    carry(server, client)
    assert read(client) == b""
    write_all(client, server, b"still said")
    assert read(server) == b"still said"


def test_write_after_shutdown_is_misuse(machines: Machines) -> None:
    client, _server = connected(machines)
    client.shutdown()
    with pytest.raises(ValueError, match=r"after shutdown"):
        client.write(memoryview(b"too late"))


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("pieces", ["whole", "split", "byte by byte"])
def test_what_follows_close_notify_is_trailing_data(machines: Machines, pieces: str, ours_first: bool) -> None:
    client, server = connected(machines)
    if ours_first:
        server.shutdown()
        carry(server, client)
    client.write(memoryview(b"last words"))
    client.shutdown()
    tls, plain = client.outgoing.read(), b"\x17\x03\x03 plain text that looks like a record"
    received = []
    if pieces == "whole":
        server.incoming.write(tls + plain)
    elif pieces == "split":
        server.incoming.write(tls)
        received.append(read(server, 4))
        server.incoming.write(plain)
    else:
        for index in range(len(tls)):
            server.incoming.write(tls[index : index + 1])
            received.append(read(server))
        server.incoming.write(plain)
    received += [read(server), read(server)]
    assert b"".join(part for part in received if isinstance(part, bytes)) == b"last words"
    assert read(server) == b""
    assert server.trailing_data() == plain
    assert server.trailing_data() == b"", "they are handed over once"


# -- the end of the bytes ----------------------------------------------------------------------------------


def test_eof_without_close_notify_comes_after_the_data_and_is_sticky(machines: Machines) -> None:
    client, server = connected(machines)
    write_all(client, server, b"all that came")
    server.incoming.write_eof()
    assert read(server) == b"all that came"
    first, second = (raised(lambda: read(server)) for _ in range(2))
    for error in (first, second):
        assert isinstance(error, UnexpectedEOF)
        assert "truncated" in str(error) and "https_compatible" in str(error)
        assert isinstance(error.__cause__, ssl.SSLEOFError)
        assert "UNEXPECTED_EOF_WHILE_READING" in str(error.__cause__.reason)
    assert first is not second
    assert not server.sent_fatal_alert and server.write(memoryview(b"writing is another matter")) == 25


def test_eof_in_the_middle_of_a_record_is_not_its_end(machines: Machines) -> None:
    client, server = connected(machines)
    client.write(memoryview(b"cut off"))
    server.incoming.write(client.outgoing.read()[:-3])
    server.incoming.write_eof()
    assert isinstance(raised(lambda: read(server)), UnexpectedEOF)


def test_eof_after_close_notify_is_an_ordinary_end(machines: Machines) -> None:
    client, server = connected(machines)
    client.shutdown()
    carry(client, server)
    server.incoming.write_eof()
    assert read(server) == b"" and read(server) == b""


@pytest.mark.skipif(not hasattr(ssl, "OP_IGNORE_UNEXPECTED_EOF"), reason="this OpenSSL is older than the option")
def test_a_context_that_ignores_unexpected_eof_is_obeyed(machines: Machines) -> None:
    context = server_context()
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    client, server = machine_pair(machines.client, context)
    shake_hands(client, server)
    write_all(client, server, b"data")
    server.incoming.write_eof()
    assert [read(server) for _ in range(3)] == [b"data", b"", b""]


@pytest.mark.parametrize("after", [0, 1, 20])
def test_eof_in_the_handshake_tells_whether_the_peer_had_answered(machines: Machines, after: int) -> None:
    client, server = machine_pair(machines.client, machines.server)
    client.do_handshake()
    carry(client, server)
    server.do_handshake()
    client.incoming.write(server.outgoing.read(after))
    client.incoming.write_eof()
    errors = [raised(client.do_handshake), raised(client.do_handshake), raised(lambda: read(client))]
    for error in errors:
        assert isinstance(error, UnexpectedEOF)
        assert ("in the middle of" if after else "without answering") in str(error)
        assert isinstance(error.__cause__, ssl.SSLEOFError)
    assert len(set(map(id, errors))) == 3


def test_close_notify_in_the_handshake_is_handshake_closed(machines: Machines) -> None:
    client, _server = machine_pair(machines.client, machines.server)
    client.do_handshake()
    client.incoming.write(PLAIN_CLOSE_NOTIFY)
    error = raised(client.do_handshake)
    assert isinstance(error, HandshakeClosed)
    assert (error.alert, error.sent_by_peer) == (Alert.close_notify, True)
    assert isinstance(error.__cause__, ssl.SSLError)
    assert isinstance(raised(client.do_handshake), HandshakeClosed)


# -- failures ----------------------------------------------------------------------------------------------


def flipped(ciphertext: bytes, index: int) -> bytes:
    """One bit of ``ciphertext`` altered."""
    altered = bytearray(ciphertext)
    altered[index] ^= 1
    return bytes(altered)


def test_an_altered_record_fails_both_directions_for_good(machines: Machines) -> None:
    client, server = connected(machines)
    client.write(memoryview(b"good"))
    good = client.outgoing.read()
    client.write(memoryview(b"evil"))
    server.incoming.write(good + flipped(client.outgoing.read(), -1))
    assert read(server) == b"good", "what came before it was authenticated"
    errors = [
        raised(lambda: read(server)),
        raised(lambda: read(server)),
        raised(lambda: server.write(memoryview(b"x"))),
    ]
    for error in errors:
        assert isinstance(error, PeerMisbehaved)
        assert "RFC 9846" in str(error) and "authentication" in str(error)
        assert isinstance(error.__cause__, ssl.SSLError) and not error.sent_by_peer
    assert len(set(map(id, errors))) == 3
    assert server.sent_fatal_alert
    pending = server.outgoing.pending
    server.shutdown()
    assert server.outgoing.pending == pending, "no close_notify follows a fatal alert"
    carry(server, client)
    received = raised(lambda: read(client))
    assert (received.alert, received.sent_by_peer) == (Alert.bad_record_mac, True)


def test_an_alert_has_room_when_outgoing_is_full(machines: Machines) -> None:
    client, server = connected(machines)
    while isinstance(server.write(memoryview(bytes(OUTGOING_LIMIT))), int):
        pass
    before = server.outgoing.pending
    client.write(memoryview(b"evil"))
    server.incoming.write(flipped(client.outgoing.read(), -1))
    raised(lambda: read(server))
    assert server.outgoing.pending > before


def test_no_alert_follows_our_close_notify(machines: Machines) -> None:
    client, server = connected(machines)
    server.shutdown()
    carry(server, client)
    client.write(memoryview(b"evil"))
    server.incoming.write(flipped(client.outgoing.read(), -1))
    raised(lambda: read(server))
    assert not server.outgoing.pending


# -- TLS 1.2 renegotiation ---------------------------------------------------------------------------------


class RenegotiatingClient:
    """A TLS 1.2 client on pyOpenSSL, which can renegotiate; ours, and `ssl`, cannot start that."""

    def __init__(self) -> None:
        context = OpenSSL.SSL.Context(OpenSSL.SSL.TLSv1_2_METHOD)
        self.connection = OpenSSL.SSL.Connection(context, None)
        self.connection.set_connect_state()

    def step(self, server: OpenSSLMachine) -> None:
        """Go on with a handshake, and move what waits either way."""
        if server.outgoing.pending:
            self.connection.bio_write(server.outgoing.read())
        try:
            self.connection.do_handshake()
        except OpenSSL.SSL.WantReadError:
            pass
        self.carry(server)

    def carry(self, server: OpenSSLMachine) -> None:
        try:
            server.incoming.write(self.connection.bio_read(1 << 20))
        except OpenSSL.SSL.WantReadError:
            pass


def connected_to_renegotiating_client(*, allowed: bool) -> tuple[RenegotiatingClient, OpenSSLMachine]:
    context = server_context(ssl.TLSVersion.TLSv1_2)
    if allowed:
        context.options |= ALLOW_CLIENT_RENEGOTIATION
    server = OpenSSLMachine(context, server_side=True, server_hostname=None)
    client = RenegotiatingClient()
    while not server.handshake_done or server.outgoing.pending:
        client.step(server)
        server.do_handshake()
    client.step(server)
    return client, server


def test_a_renegotiation_happens_inside_reads_where_the_context_allows_it() -> None:
    client, server = connected_to_renegotiating_client(allowed=True)
    assert client.connection.renegotiate()
    wants = []
    for _ in range(4):
        client.step(server)
        wants.append(read(server))
    assert Want.WRITE in wants, "the peer waits for our flight, so a reader has to see it leave"
    assert not client.connection.renegotiate_pending() and client.connection.total_renegotiations() == 1
    client.connection.send(b"after it")
    client.carry(server)
    assert read(server) == b"after it"


def test_after_a_renegotiation_reading_does_not_wait_for_what_is_sent_later() -> None:
    client, server = connected_to_renegotiating_client(allowed=True)
    assert client.connection.renegotiate()
    for _ in range(4):
        client.step(server)
        read(server)
    assert client.connection.total_renegotiations() == 1
    assert not server.outgoing.pending
    assert server.write(memoryview(b"application data")) == 16
    assert server.outgoing.pending
    assert read(server) is Want.READ


def test_a_write_during_a_renegotiation_waits_for_the_peer() -> None:
    client, server = connected_to_renegotiating_client(allowed=True)
    assert client.connection.renegotiate()
    client.step(server)
    wanted = read(server)
    assert wanted is Want.WRITE
    assert server.write(memoryview(b"x")) is Want.READ
    for _ in range(3):
        client.step(server)
        if (accepted := server.write(memoryview(b"x"))) == 1:
            break
    assert accepted == 1


def test_a_renegotiation_that_the_context_forbids_is_refused_and_the_connection_lives() -> None:
    client, server = connected_to_renegotiating_client(allowed=False)
    assert client.connection.renegotiate()
    client.step(server)
    assert isinstance(read(server), Want)
    with pytest.raises(OpenSSL.SSL.Error, match="no renegotiation"):
        client.step(server)
    assert server.write(memoryview(b"still here")) == len(b"still here")


# -- malformed records -------------------------------------------------------------------------------------


def test_a_record_longer_than_allowed_names_the_rule(machines: Machines) -> None:
    _client, server = machine_pair(machines.client, machines.server)
    server.incoming.write(struct.pack("!BHH", 22, 0x0301, 0xFFFF) + bytes(1000))
    error = raised(server.do_handshake)
    assert isinstance(error, PeerMisbehaved)
    assert "longer than allowed" in str(error)
    assert error.alert is Alert.record_overflow
    assert server.outgoing.read()[-2:] == bytes((2, Alert.record_overflow))


@pytest.mark.parametrize("tail", [1, 100, 2000, 4000])
def test_the_end_of_a_long_record_that_comes_by_itself_takes_the_whole_record_along(
    machines: Machines, tail: int
) -> None:
    client, server = connected(machines)
    client.write(memoryview(b"r" * 16384))
    record = client.outgoing.read()
    server.incoming.write(record[:-tail])
    assert server.read_short(1 << 20) is None and server.read_into(memoryview(bytearray(1 << 16))) is Want.READ
    server.incoming.write(record[-tail:])
    assert server.read_short(1 << 20) is None  # not short at all
    assert server.read_into(memoryview(bytearray(1 << 16))) == 16384
    assert server.read_into(memoryview(bytearray(1 << 16))) is Want.READ


def test_a_short_read_takes_every_short_record_that_is_here_and_respects_its_limit(machines: Machines) -> None:
    client, server = connected(machines)
    for letter in b"abc":
        client.write(memoryview(bytes((letter,)) * 100))
    server.incoming.write(client.outgoing.read())
    assert server.read_short(150) == b"a" * 100 + b"b" * 50
    assert server.read_into(memoryview(bytearray(1000))) == 150


@pytest.mark.parametrize("version", VERSIONS)
def test_the_session_can_be_asked_for_at_every_byte_of_a_handshake(version: str) -> None:
    client, server = machine_pair(client_context(VERSIONS[version]), server_context(VERSIONS[version]))
    half_made = 0
    while not client.handshake_done:
        client.do_handshake()
        carry(client, server)
        server.do_handshake()
        for byte in server.outgoing.read():
            client.incoming.write(bytes((byte,)))
            client.do_handshake()
            half_made += client.session is None
    assert half_made
    assert client.session is not None
