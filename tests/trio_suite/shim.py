"""A pytest plugin that runs trio's own tests of SSLStream and SSLListener against ours.

How this works. trio's test modules bind ``SSLStream`` and its friends when they are imported, and its helpers
look up ``trio.SSLStream`` when they are called. A plugin given with ``-p`` is imported before any test module,
so rebinding the names here is enough. From the root of the project::

    python -m pytest -o trio_mode=false -p trio._tests.pytest_plugin -p tests.trio_suite.shim --run-slow \\
        --pyargs trio._tests.test_ssl trio._tests.test_highlevel_ssl_helpers

``trio_mode`` is off because trio's own plugin runs its async tests, and would meet pytest-trio there.

The divergences that we accept stand in `DIVERGENCES`, each with its reason, as strict expected failures: one
that starts to pass fails the run. What else those tests assert is kept in ``tests/test_trio_divergences.py``.
The run also fails if it holds fewer tests than it did when this was written, so it cannot shrink unnoticed.
"""

from __future__ import annotations

import pytest
import trio
import trio._ssl

import trio_tls

setattr(trio._ssl, "SSLStream", trio_tls.TLSStream)
setattr(trio._ssl, "SSLListener", trio_tls.TLSListener)
setattr(trio, "SSLStream", trio_tls.TLSStream)
setattr(trio, "SSLListener", trio_tls.TLSListener)

#: What trio 0.35 has: 66 cases of test_ssl.py, and 2 of test_highlevel_ssl_helpers.py.
LEAST_TESTS = 68

_NO_HANDSHAKE = "aclose() starts no handshake: on a silent peer that would wait for ever"

#: Test by name: (why it fails, and with what).
DIVERGENCES: dict[str, tuple[str, type[BaseException]]] = {
    "test_closing_nice_case[tls13]": (_NO_HANDSHAKE, trio_tls.UnexpectedEOF),
    "test_closing_nice_case[tls12]": (_NO_HANDSHAKE, trio_tls.UnexpectedEOF),
    "test_ssl_handshake_failure_during_aclose": (_NO_HANDSHAKE, pytest.fail.Exception),
}


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--run-slow"):
        raise pytest.UsageError("trio's suite is to run in full: add --run-slow")


@pytest.hookimpl(tryfirst=True)  # before -k and -m deselect
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if len(items) < LEAST_TESTS:
        raise pytest.UsageError(f"trio's suite has shrunk: {len(items)} tests collected, {LEAST_TESTS} expected")
    expected_to_fail = dict(DIVERGENCES)
    for item in items:
        module = getattr(item, "module", None)
        if getattr(module, "SSLStream", trio_tls.TLSStream) is not trio_tls.TLSStream:
            raise pytest.UsageError(f"{module} was imported before the shim: it would test trio's SSLStream")
        if item.name in expected_to_fail:
            reason, error = expected_to_fail.pop(item.name)
            raises = pytest.RaisesGroup(error, allow_unwrapped=True, flatten_subgroups=True)
            item.add_marker(pytest.mark.xfail(reason=reason, raises=raises, strict=True))
    if expected_to_fail:
        raise pytest.UsageError(f"trio's suite no longer has {sorted(expected_to_fail)}")
