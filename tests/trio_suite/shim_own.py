"""A pytest plugin that runs trio's own tests of SSLStream and SSLListener on our own TLS 1.3 machine.

How this works. As `tests.trio_suite.shim`, but what is bound to trio's names maps each `ssl.SSLContext` that it is
given to a `ClientConfig` or `ServerConfig` that says the same: trio's test CA is trusted if the context trusts it, and
its certificate is presented. The contexts themselves stay what they are, since trio's tests also use them for peers
behind blocking sockets: so these run across, our machine against OpenSSL. From the root of the project::

    python -m pytest -o trio_mode=false -p trio._tests.pytest_plugin -p tests.trio_suite.shim_own --run-slow \\
        --pyargs trio._tests.test_ssl trio._tests.test_highlevel_ssl_helpers

A context for TLS 1.2 has no equivalent: those parameters are not run, and counted. `DIVERGENCES` are strict expected
failures, each with its reason.
"""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any, TypeVar

import pytest
import trio
import trio._ssl
import trustme
from OpenSSL import SSL

import trio_tls
from trio_tls.machine.interface import MachineFactory

#: What trio 0.35 has: 66 cases of test_ssl.py, and 2 of test_highlevel_ssl_helpers.py. Half of them are for TLS 1.2.
LEAST_TESTS, LEAST_TESTS_OF_TLS_1_3 = 68, 36

_NO_HANDSHAKE = "aclose() starts no handshake: on a silent peer that would wait for ever"
_NO_RENEGOTIATION = "TLS 1.3 has no renegotiation, and this peer speaks TLS 1.2 to show it"
_NO_CONTEXT = "there is no ssl.SSLContext on this machine: asking for one is an AttributeError"
_NO_TLS_UNIQUE = "tls-unique is not defined for TLS 1.3 (RFC 9266 section 3): None; tls-exporter is"

#: Test by name: (why it fails, and with what).
DIVERGENCES: dict[str, tuple[str, type[BaseException]]] = {
    "test_closing_nice_case[tls13]": (_NO_HANDSHAKE, trio_tls.UnexpectedEOF),
    "test_ssl_handshake_failure_during_aclose": (_NO_HANDSHAKE, pytest.fail.Exception),
    "test_renegotiation_simple[tls13]": (_NO_RENEGOTIATION, SSL.Error),
    "test_renegotiation_randomized[tls13]": (_NO_RENEGOTIATION, SSL.Error),
    "test_attributes[tls13]": (_NO_CONTEXT, AttributeError),
    "test_get_channel_binding_after_handshake[tls13]": (_NO_TLS_UNIQUE, AssertionError),
}


@cache
def _strange_authority() -> trustme.CA:
    """Stands for the CAs of the system: none of them has issued trio's certificate."""
    return trustme.CA()


@cache
def _client_config(context: ssl.SSLContext) -> trio_tls.ClientConfig:
    from trio._tests import test_ssl  # the classes below have to be bound before it is imported

    authority = test_ssl.TRIO_TEST_CA
    trusted = ssl.PEM_cert_to_DER_cert(authority.cert_pem.bytes().decode()) in context.get_ca_certs(binary_form=True)
    anchors = trio_tls.TrustAnchors.from_pem((authority if trusted else _strange_authority()).cert_pem.bytes())
    return trio_tls.ClientConfig(verify=trio_tls.Verifier(anchors, trio_tls.PrivatePolicy()), session_cache=None)


@cache
def _server_config() -> trio_tls.ServerConfig:
    from trio._tests import test_ssl

    pem = test_ssl.TRIO_TEST_1_CERT.private_key_and_cert_chain_pem.bytes()
    return trio_tls.ServerConfig(credentials=trio_tls.Credential.from_pem(pem))


def _own(context: ssl.SSLContext, *, server_side: bool) -> MachineFactory:
    """A configuration of our own machine that says the same as ``context``."""
    return _server_config() if server_side else _client_config(context)


T_Stream = TypeVar("T_Stream", bound=trio.abc.Stream)


class OwnStream(trio_tls.TLSStream[T_Stream]):
    """A `TLSStream` on our own machine, made from an `ssl.SSLContext`."""

    def __init__(self, transport_stream: T_Stream, ssl_context: ssl.SSLContext, **options: Any) -> None:
        server_side = options.get("server_side", False)
        super().__init__(transport_stream, _own(ssl_context, server_side=server_side), **options)


class OwnListener(trio_tls.TLSListener[T_Stream]):
    """A `TLSListener` on our own machine, made from an `ssl.SSLContext`."""

    def __init__(
        self, transport_listener: trio.abc.Listener[T_Stream], ssl_context: ssl.SSLContext, **options: Any
    ) -> None:
        super().__init__(transport_listener, _own(ssl_context, server_side=True), **options)


setattr(trio._ssl, "SSLStream", OwnStream)
setattr(trio._ssl, "SSLListener", OwnListener)
setattr(trio, "SSLStream", OwnStream)
setattr(trio, "SSLListener", OwnListener)


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--run-slow"):
        raise pytest.UsageError("trio's suite is to run in full: add --run-slow")


@pytest.hookimpl(tryfirst=True)  # before -k and -m deselect
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if len(items) < LEAST_TESTS:
        raise pytest.UsageError(f"trio's suite has shrunk: {len(items)} tests collected, {LEAST_TESTS} expected")
    older = [item for item in items if "tls12" in item.name]
    items[:] = [item for item in items if item not in older]
    config.hook.pytest_deselected(items=older)
    if len(items) < LEAST_TESTS_OF_TLS_1_3:
        raise pytest.UsageError(f"{len(items)} tests for TLS 1.3 collected, {LEAST_TESTS_OF_TLS_1_3} expected")
    expected_to_fail = dict(DIVERGENCES)
    for item in items:
        module = getattr(item, "module", None)
        if getattr(module, "SSLStream", OwnStream) is not OwnStream:
            raise pytest.UsageError(f"{module} was imported before the shim: it would test trio's SSLStream")
        if item.name in expected_to_fail:
            reason, error = expected_to_fail.pop(item.name)
            raises = pytest.RaisesGroup(error, allow_unwrapped=True, flatten_subgroups=True)
            item.add_marker(pytest.mark.xfail(reason=reason, raises=raises, strict=True))
    if expected_to_fail:
        raise pytest.UsageError(f"trio's suite no longer has {sorted(expected_to_fail)}")
