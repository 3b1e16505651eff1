"""`ConfigContext`: a config of our own TLS 1.3 where a library insists on an `ssl.SSLContext`."""

from __future__ import annotations

import ssl
import subprocess
import sys
from typing import Any

import pytest
import trio
import trio.testing

from trio_tls import ConfigContext, TLSListener, TLSStream

from .blocking import concurrently
from .support import HOST, client_config, server_config, socket_pair


def test_it_passes_for_an_ssl_context() -> None:
    assert isinstance(ConfigContext(client_config()), ssl.SSLContext)
    assert isinstance(ConfigContext(server_config()), ssl.SSLContext)


async def test_connections_are_made_by_the_config_in_it() -> None:
    client_context, server_context = ConfigContext(client_config()), ConfigContext(server_config())
    a, b = socket_pair()
    client = TLSStream(a, client_context, server_hostname=HOST)
    server = TLSStream(b, ssl_context=server_context, server_side=True)
    async with client, server:
        await concurrently(client.do_handshake, server.do_handshake)
        assert client.info is not None and client.info.group == "X25519MLKEM768"  # `ssl` here does not tell
        await client.send_all(b"hello")
        assert await server.receive_some() == b"hello"


async def test_a_listener_takes_it() -> None:
    async with (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] as tcp:
        assert TLSListener(tcp, ConfigContext(server_config())).config is not None
        with pytest.raises(ValueError, match="a ClientConfig cannot serve"):
            TLSListener(tcp, ConfigContext(client_config()))


async def test_alpn_protocols_that_are_set_are_offered() -> None:
    context = ConfigContext(client_config())
    context.set_alpn_protocols(["http/1.1", "h2"])
    a, b = socket_pair()
    client = TLSStream(a, context, server_hostname=HOST)
    server = TLSStream(b, server_config().replace(alpn_protocols=["h2"]), server_side=True)
    async with client, server:
        await concurrently(client.do_handshake, server.do_handshake)
        assert client.selected_alpn_protocol() == server.selected_alpn_protocol() == "h2"


def test_the_same_protocols_again_are_the_same_config_which_keeps_its_sessions() -> None:
    context = ConfigContext(client_config())
    context.set_alpn_protocols(["h2"])
    first = context.config
    context.set_alpn_protocols(["http/1.1"])
    assert context.config is not first
    assert context.config.alpn_protocols == (b"http/1.1",)
    context.set_alpn_protocols(["h2"])
    assert context.config is first


def test_it_keeps_no_more_configs_than_a_few() -> None:
    context = ConfigContext(client_config())
    for number in range(100):
        context.set_alpn_protocols([f"protocol {number}"])
    assert context.config.alpn_protocols == (b"protocol 99",)
    assert len(context._by_protocols) < 10


@pytest.mark.parametrize("config", [None, ssl.create_default_context(), "a string"])
def test_what_is_no_config_is_refused(config: Any) -> None:
    with pytest.raises(TypeError, match="made of a ClientConfig or a ServerConfig"):
        ConfigContext(config)


async def test_a_library_with_another_tls_is_told_so() -> None:
    context = ConfigContext(client_config())
    with pytest.raises(TypeError, match=r"trio_tls\.compat\.install"):
        trio.SSLStream(trio.testing.memory_stream_pair()[0], context, server_hostname=HOST)
    with pytest.raises(TypeError, match="for a TLSStream"):
        context.wrap_socket(None)


def test_settings_that_would_have_no_effect_are_refused() -> None:
    context = ConfigContext(client_config())
    for method in ("load_cert_chain", "load_verify_locations", "load_default_certs", "set_ciphers"):
        with pytest.raises(TypeError, match=rf"{method}\(\) has no effect .* ClientConfig"):
            getattr(context, method)("anything")
    for name in ("verify_mode", "check_hostname", "minimum_version", "keylog_filename", "sni_callback"):
        with pytest.raises(TypeError, match=name):
            setattr(context, name, None)


BEHIND_TRUSTSTORE = """
import ssl
import truststore
truststore.inject_into_ssl()
from trio_tls import ClientConfig, ConfigContext
context = ConfigContext(ClientConfig())
context.set_alpn_protocols(["h2"])
assert isinstance(context, ssl.SSLContext) and isinstance(context, truststore.SSLContext)
machine = context.create_machine(server_side=False, server_hostname="example.org", session=None)
print(context.config.alpn_protocols, machine.server_hostname)
"""


def test_it_works_where_another_class_has_taken_the_place_of_sslcontext_before() -> None:
    """As truststore's does, whose ``__init__`` takes a protocol. Our class is made by the import: a new process."""
    done = subprocess.run([sys.executable, "-c", BEHIND_TRUSTSTORE], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("(b'h2',) example.org\n", "")


def test_its_repr_says_what_it_is() -> None:
    assert repr(ConfigContext(client_config())).startswith("<ConfigContext of ClientConfig(")
