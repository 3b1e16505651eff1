"""Which modules are mutated, and which tests are to notice."""

from __future__ import annotations

from dataclasses import dataclass

MACHINE = "trio_tls.machine.tls13."


@dataclass(frozen=True)
class Group:
    """Modules, and the tests that are run on their mutants: those that get to the line in question."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


GROUPS: dict[str, Group] = {
    "handshake": Group(
        (
            *(
                MACHINE + name
                for name in (
                    *("client", "server", "connection", "exchange", "messages", "wire", "established", "certificates"),
                    *("groups", "signatures", "resumption", "sessions", "tickets", "key_schedule", "transcript"),
                    *(
                        "extensions.application",
                        "extensions.authentication",
                        "extensions.block",
                        "extensions.key_share",
                    ),
                    *("extensions.pre_shared_key", "extensions.supported_versions"),
                )
            ),
            "trio_tls.key_shares",
        ),
        ("tests/machine/tls13", "tests/test_key_shares.py"),
    ),
    "records": Group(
        tuple(MACHINE + name for name in ("record", "record_reader", "record_writer")), ("tests/machine/tls13",)
    ),
    "peek": Group(("trio_tls.machine.client_hello",), ("tests/test_peek.py", "tests/fuzz")),
    "pump": Group(
        (
            *("trio_tls.pump", "trio_tls.core", "trio_tls.stream", "trio_tls.sending", "trio_tls.receiving"),
            *("trio_tls.ending", "trio_tls.transport.background", "trio_tls.transport.counted"),
            *("trio_tls.transport.inline", "trio_tls.transport.socket", "trio_tls.transport.sleeping"),
        ),
        (
            *("tests/test_failures.py", "tests/test_close.py", "tests/test_send.py", "tests/test_receive.py"),
            *("tests/test_half_close.py", "tests/test_unwrap.py", "tests/test_awkward_moments.py", "tests/pitfalls"),
            *(
                "tests/test_trio_divergences.py",
                "tests/test_idle_probe.py",
                "tests/test_tls_in_tls.py",
                "tests/serving/test_pacing.py",
            ),
            *("tests/test_checks_of_streams.py", "tests/test_blocking_contexts.py", "tests/cancellation/test_needs.py"),
            *("tests/test_stream.py", "tests/cancellation/test_hand_off.py"),
            *("tests/cancellation/test_cancelled_send.py", "tests/test_checkpoints.py"),
            *("tests/test_checks_of_transports.py", "tests/test_sleeping.py", "tests/test_looking_again.py"),
        ),
    ),
    "trust": Group(
        (
            *(
                "trio_tls.trust.verifier",
                "trio_tls.trust.policies",
                "trio_tls.trust.anchors",
                "trio_tls.trust.failures",
            ),
            "trio_tls.names",
        ),
        ("tests/test_trust.py", "tests/test_trust_anchors.py", "tests/test_trust_refusals.py"),
    ),
}
