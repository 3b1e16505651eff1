"""What code written for `trio.SSLStream` does with a stream: the names, the attributes, the exceptions."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import trio
import trio.testing

import trio_tls
from trio_tls import TLSListener, TLSStream

from .blocking import blocked, concurrently
from .peers import client_of, trusting_client
from .support import (
    HOST,
    Machines,
    client_config,
    client_context,
    machines_named,
    server_certificate,
    server_config,
    server_context,
    socket_pair,
    tls_pair,
)

#: What `trio.SSLStream` forwards to its SSLObject, but not before the handshake.
AFTER_HANDSHAKE = (
    "getpeercert",
    "selected_npn_protocol",
    "selected_alpn_protocol",
    "cipher",
    "shared_ciphers",
    "compression",
    "get_channel_binding",
    "version",
)

#: What TLSStream has beside them.
ALSO_AFTER_HANDSHAKE = ("get_verified_chain", "get_unverified_chain", "group", "verify_client_post_handshake")


@pytest.fixture
def transport() -> trio.abc.Stream:
    """A transport that no byte is sent on."""
    return trio.testing.memory_stream_pair()[0]


# -- names ---------------------------------------------------------------------------------------------------


async def test_every_argument_goes_by_the_name_that_trio_gave_it(machines: Machines) -> None:
    a, b = socket_pair()
    client = TLSStream(
        transport_stream=a,
        ssl_context=machines.client,
        server_hostname=HOST,
        server_side=False,
        https_compatible=True,
    )
    server = TLSStream(b, ssl_context=machines.server, server_side=True, https_compatible=True)
    async with client, server:
        await concurrently(client.do_handshake, server.do_handshake)
        await client.send_all(data=b"by keyword")
        assert await server.receive_some(max_bytes=100) == b"by keyword"
        assert client.getpeercert(binary_form=True) is not None
        assert (client.get_channel_binding(cb_type="tls-unique") is None) == machines.is_own("client")


async def test_a_loop_over_the_stream_ends_with_the_data(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        await server.send_all(b"all there is")
        await server.aclose()
        assert b"".join([part async for part in client]) == b"all there is"


@pytest.mark.ssl_alone("there is no SSLObject below our own machine: the next test")
async def test_the_private_names_that_others_use_are_there(machines: Machines) -> None:
    """As for example httpcore, which asks ``_ssl_object`` for ALPN, trio's own tests read ``_https_compatible``."""
    async with tls_pair(machines, client_options={"https_compatible": True}) as (client, server):
        ssl_object = client._ssl_object
        assert isinstance(ssl_object, ssl.SSLObject)
        assert ssl_object.version() == client.version() == machines.version
        assert ssl_object.selected_alpn_protocol() is None
        assert client._https_compatible
        assert not server._https_compatible
    async with (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] as tcp:
        assert TLSListener(tcp, machines.server, https_compatible=True)._https_compatible
        assert not TLSListener(tcp, machines.server)._https_compatible


async def test_what_only_an_ssl_object_has_is_an_attribute_error_on_our_own_machine() -> None:
    """So that ``getattr(stream, "_ssl_object", None)`` finds None, and nobody takes half an SSLObject for one."""
    machines = machines_named("own")
    async with tls_pair(machines, client_options={"https_compatible": True}) as (client, server):
        for end in (client, server):
            for name in ("_ssl_object", "context"):
                assert not hasattr(end, name)
            with pytest.raises(AttributeError):
                end.context = client_context()
            with pytest.raises(AttributeError):
                end.session = None  # type: ignore[assignment]
        assert client._https_compatible
        assert not server._https_compatible
    async with (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] as tcp:
        assert TLSListener(tcp, machines.server, https_compatible=True)._https_compatible


def test_the_classes_are_generic_at_run_time() -> None:
    assert TLSStream[trio.SocketStream] is not None
    assert TLSListener[trio.SocketStream] is not None


def test_dir_lists_what_trio_lists(machines: Machines, transport: trio.abc.Stream) -> None:
    stream = TLSStream(transport, machines.client, server_hostname=HOST)
    theirs = trio.SSLStream(transport, client_of(machines), server_hostname=HOST)
    missing = {name for name in dir(theirs) if not name.startswith("_")} - set(dir(stream))
    assert missing == set()
    assert {*ALSO_AFTER_HANDSHAKE, "send_eof"} <= set(dir(stream))


def test_every_public_name_of_the_package_is_there() -> None:
    assert trio_tls.NeedHandshakeError is trio.NeedHandshakeError
    assert issubclass(trio_tls.TLSError, trio.BrokenResourceError)


# -- being one -----------------------------------------------------------------------------------------------


async def test_it_passes_for_an_ssl_stream(machines: Machines) -> None:
    async with tls_pair(machines, "2-nested") as (client, _server):
        assert isinstance(client, trio.SSLStream)
        assert isinstance(client, trio.abc.Stream)
        assert not isinstance(client, trio.abc.HalfCloseableStream)
        stream: Any = client
        while isinstance(stream, trio.SSLStream):  # as httpcore goes down to the socket
            stream = stream.transport_stream
        assert isinstance(stream, trio.SocketStream)
    async with (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] as tcp:
        assert isinstance(TLSListener(tcp, machines.server), trio.SSLListener)
    assert issubclass(TLSStream, trio.SSLStream)
    assert not issubclass(trio.SocketStream, trio.SSLStream)


async def test_it_matches_the_pattern_of_one(machines: Machines) -> None:
    async with tls_pair(machines) as (client, _server):
        stream: object = client
        match stream:
            case trio.SSLStream(transport_stream=trio.SocketStream(socket=found)):
                pass
            case _:
                raise AssertionError("no match")
        assert isinstance(client.transport_stream, trio.SocketStream)
        assert found is client.transport_stream.socket


# -- attributes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AFTER_HANDSHAKE + ALSO_AFTER_HANDSHAKE)
async def test_what_only_a_handshake_can_tell_needs_it(machines: Machines, name: str) -> None:
    async with tls_pair(machines, handshake=False) as ends:
        for end in ends:
            with pytest.raises(trio.NeedHandshakeError, match=name):
                getattr(end, name)()
            with pytest.raises(trio.NeedHandshakeError, match="session_reused"):
                _ = end.session_reused
            assert end.info is None
        async with blocked(ends[0].do_handshake):  # half of it is not enough
            with pytest.raises(trio.NeedHandshakeError):
                getattr(ends[0], name)()


@pytest.mark.ssl_alone("asks the SSLObject; that our own machine tells the same is the next test")
async def test_what_a_handshake_can_tell_is_what_ssl_tells(machines: Machines) -> None:
    async with tls_pair(machines) as ends:
        for end in ends:
            with pytest.warns(DeprecationWarning, match="NPN"):  # the words of `ssl`
                assert end.selected_npn_protocol() is None
            for name in set(AFTER_HANDSHAKE) - {"selected_npn_protocol"}:
                assert getattr(end, name)() == getattr(end._ssl_object, name)(), name
            assert end.session_reused is False
            assert end.pending() == 0
            assert end.info is not None
            assert (end.info.version, end.info.cipher_suite) == (machines.version, end._ssl_object.cipher()[0])  # type: ignore[index]
            assert end.info.group == end.group()


async def test_what_our_own_machine_tells_has_the_shapes_of_ssl() -> None:
    """Each end in turn, beside an end on an `ssl.SSLContext` of the very same connection."""
    for name in ("own-client", "own-server"):
        machines = machines_named(name)
        async with tls_pair(machines) as ends:
            own, theirs = ends if name == "own-client" else ends[::-1]
            assert own.cipher() == theirs.cipher()
            assert own.version() == theirs.version() == "TLSv1.3"
            assert own.selected_alpn_protocol() is own.selected_npn_protocol() is own.compression() is None
            assert own.session_reused is False
            assert own.pending() == 0
            assert own.info is not None and own.info.group == own.group() is not None
            leaf = server_certificate().cert_chain_pems[0].bytes().decode()
            if name == "own-client":
                assert own.shared_ciphers() is None
                assert own.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(leaf)
                async with tls_pair(machines_named("ssl-1.3")) as (client, _):
                    assert own.getpeercert() == client.getpeercert()
                    assert own.get_unverified_chain() == client.get_unverified_chain()
            else:
                assert own.cipher() in (own.shared_ciphers() or ())
                assert own.getpeercert() is None
                assert own.getpeercert(binary_form=True) is None
                assert own.get_unverified_chain() == own.get_verified_chain() == []
            with pytest.raises(ValueError, match="after the handshake"):
                own.verify_client_post_handshake()


async def test_what_is_there_at_any_time(machines: Machines) -> None:
    async with tls_pair(machines, handshake=False) as (client, server):
        assert isinstance(client.transport_stream, trio.SocketStream)
        assert machines.is_own("client") or client.context is machines.client
        assert (client.server_side, server.server_side) == (False, True)
        assert (client.server_hostname, server.server_hostname) == (HOST, None)
        assert client.pending() == 0
        assert client.session is None


async def test_unknown_names_are_attribute_errors(machines: Machines, transport: trio.abc.Stream) -> None:
    stream = TLSStream(transport, machines.client, server_hostname=HOST)
    for name in ("asfdasdfsa", "socket", "read", "write", "getsockname"):
        assert not hasattr(stream, name)
    for name in ("server_side", "server_hostname", "session_reused", "info", "want"):
        with pytest.raises(AttributeError):
            setattr(stream, name, "something")


@pytest.mark.ssl_alone("our own machine has no context")
async def test_a_context_set_before_the_handshake_takes_effect(machines: Machines) -> None:
    untrusting = ssl.create_default_context()
    async with tls_pair(machines, handshake=False) as (client, server):
        client.context = untrusting
        assert client.context is untrusting
        async with blocked(server.do_handshake):
            with pytest.raises(trio.BrokenResourceError) as caught:
                await client.do_handshake()
            assert isinstance(caught.value, ssl.CertificateError)


@pytest.mark.parametrize("name", ["faß.de", "faß.de".encode("idna"), b"xn--fa-hia.de", "xn--fa-hia.de"])
async def test_international_names_are_encoded_as_trio_does(
    machines: Machines, transport: trio.abc.Stream, name: str | bytes
) -> None:
    """IDNA 2008 says xn--fa-hia.de; the ``idna`` codec of Python, IDNA 2003, says fass.de."""
    stream = TLSStream(transport, machines.client, server_hostname=name)
    expected = name.decode() if isinstance(name, bytes) else "xn--fa-hia.de"
    assert stream.server_hostname == expected


# -- misuse --------------------------------------------------------------------------------------------------


def test_a_configuration_is_needed_and_one_is_enough(machines: Machines, transport: Any) -> None:
    with pytest.raises(TypeError, match="ssl_context"):
        TLSStream(transport)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="ssl_context"):
        TLSStream(transport, machines.client, ssl_context=machines.client)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="ssl_context"):
        TLSListener(transport)
    with pytest.raises(TypeError, match="ssl_context"):
        TLSListener(transport, machines.server, ssl_context=machines.server)


@pytest.mark.parametrize("config", ["a string", 5, object()])
def test_what_is_no_configuration_is_refused(transport: Any, config: Any) -> None:
    with pytest.raises(TypeError, match="must be an"):
        TLSStream(transport, config, server_hostname=HOST)


def test_a_client_that_checks_names_needs_one(machines: Machines, transport: trio.abc.Stream) -> None:
    with pytest.raises(ValueError, match="server_hostname"):
        TLSStream(transport, machines.client)
    TLSStream(transport, trusting_client(machines))


def test_a_context_for_the_other_side_is_refused(transport: trio.abc.Stream) -> None:
    with pytest.raises(ValueError, match="server_side=False"):
        TLSStream(transport, server_context(), server_hostname=HOST)
    with pytest.raises(ValueError, match="server_side=True"):
        TLSStream(transport, client_context(), server_side=True)
    with pytest.raises(ValueError, match="a ClientConfig cannot serve"):
        TLSStream(transport, client_config(), server_side=True)
    with pytest.raises(ValueError, match="server_hostname is for clients"):
        TLSStream(transport, server_config(), server_hostname=HOST)


@pytest.mark.parametrize("grace", [-1, float("nan")])
def test_a_negative_grace_is_refused(machines: Machines, transport: trio.abc.Stream, grace: float) -> None:
    with pytest.raises(ValueError, match="grace"):
        TLSStream(transport, machines.client, server_hostname=HOST, grace=grace)


async def test_misuse_leaves_the_transport_alone(machines: Machines) -> None:
    a, b = socket_pair()
    async with a, b:
        with pytest.raises(ValueError, match="server_hostname"):
            TLSStream(a, machines.client)
        await a.send_all(b"plain")
        assert await b.receive_some() == b"plain"
