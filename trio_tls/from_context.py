"""From an `ssl.SSLContext` to the arguments of a `ClientConfig`: what can be carried over exactly, and what cannot.

How this works. Some settings of a context can be read. Others (ALPN, groups) cannot, but a client tells them in its
ClientHello: so the context begins a handshake with nobody, in memory, and the hello is looked at. What differs in it
from the hello of an untouched context has been set by somebody. Whatever a `ClientConfig` cannot have is collected,
and told all at once; what only makes it stricter than the context (see `ClientConfig.from_ssl_context`) is not.
"""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from .keylog import KeyLog
from .machine.client_hello import ClientHelloInfo, ClientHelloReader
from .machine.tls13.groups import GROUPS
from .machine.tls13.parameters import Verify
from .machine.tls13.registry import ExtensionType
from .machine.tls13.suites import SUITES
from .trust import Policy, PrivatePolicy, TrustAnchors, Verifier, WebPolicy

__all__ = ["Loss", "client_arguments"]

#: What a context may have and a `ClientConfig` cannot. Their names are what ``without=`` takes.
Loss: TypeAlias = Literal[
    "TLS 1.2",
    "CRLs",
    "chains that end before a root",
    "cipher suites",
    "groups",
    "post-handshake authentication",
    "pre-shared keys",
    "security level",
    "signature schemes",
    "truncation",
    "unknown verify flags",
]

#: No hello is so long.
MOST_HELLO = 65536

TLS_1_3 = 0x0304

#: What OpenSSL calls level 2: keys of 112 bits, which RSA has with 2048; our verifier asks for as much.
SECURITY_LEVEL = 2

#: Verify flags that ask for no more than our verifier does anyway.
_KNOWN_FLAGS = (
    ssl.VERIFY_X509_STRICT
    | ssl.VERIFY_X509_TRUSTED_FIRST
    | ssl.VERIFY_X509_PARTIAL_CHAIN
    | ssl.VERIFY_CRL_CHECK_LEAF
    | ssl.VERIFY_CRL_CHECK_CHAIN
)


@dataclass(frozen=True, slots=True)
class _Unfit:
    """One thing that is not carried over. ``name`` None: there is no going without it."""

    name: Loss | None
    words: str


def client_arguments(
    context: ssl.SSLContext,
    *,
    policy: Policy | None,
    anchors: TrustAnchors | None,
    without: Collection[Loss],
    given: Collection[str],
    anybody: Verify,
) -> dict[str, object]:
    """The arguments of the `ClientConfig`.

    Args:
      context: see `ClientConfig.from_ssl_context`, also for the others, and for what this raises.
      given: the names of the arguments that the caller has: what they are about is not looked at.
      anybody: for ``verify=`` where the context verifies nothing.
    """
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"context must be an ssl.SSLContext, not {type(context).__name__}")
    if type(context) is not ssl.SSLContext:
        raise TypeError(
            f"a {type(context).__module__}.{type(context).__qualname__} may decide by itself whom it trusts, so it "
            "cannot be carried over: it can be passed to a TLSStream as it is, or make a ClientConfig by hand"
        )
    if context.protocol not in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS):
        raise ValueError("this SSLContext is not for clients: ssl.create_default_context() makes one that is")
    if unknown := set(without) - set(get_args(Loss)):
        raise ValueError(f"without= takes some of {', '.join(map(repr, get_args(Loss)))}, not {min(unknown)!r}")
    hello, untouched = _hello(context), _hello(_untouched(context))
    unfit = list(_unfit(context, hello, untouched, given))
    if "verify" not in given:
        unfit += _unfit_trust(context, anchors)
    refused = [each for each in unfit if each.name is None or each.name not in without]
    if refused:
        raise ValueError(_told(refused))
    arguments: dict[str, object] = {
        "alpn_protocols": hello.alpn_protocols,
        "cipher_suites": _kept(hello.cipher_suites, SUITES),
        "keylog": KeyLog(context.keylog_filename) if context.keylog_filename else None,
        "middlebox_compatibility": bool(context.options & ssl.OP_ENABLE_MIDDLEBOX_COMPAT),
    }
    if "verify" not in given:
        arguments["verify"] = _verify(context, policy, anchors, anybody)
    if hello.groups != untouched.groups:  # else nobody has chosen, and ours are better: the first one is post-quantum
        arguments["groups"] = _kept(hello.groups, GROUPS)
    return arguments


def _hello(context: ssl.SSLContext) -> ClientHelloInfo:
    """What the context's clients offer."""
    outgoing = ssl.MemoryBIO()
    name = "probe.invalid" if context.check_hostname else None  # reserved: RFC 2606
    try:
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    except ssl.SSLError as error:
        raise ValueError(f"this SSLContext cannot begin a handshake: {error.reason or error}") from error
    reader = ClientHelloReader(MOST_HELLO)
    reader.feed(outgoing.read())
    hello = reader.outcome()
    assert hello is not None  # with what else should OpenSSL begin?
    return hello


def _kept(offered: tuple[int, ...], known: Collection[int]) -> tuple[int, ...]:
    return tuple(each for each in offered if each in known)


def _untouched(context: ssl.SSLContext) -> ssl.SSLContext:
    """A new context that differs from this one in nothing that shortens a hello but was not meant to."""
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    other.minimum_version, other.maximum_version = context.minimum_version, context.maximum_version
    if other.security_level != context.security_level:
        other.set_ciphers(f"DEFAULT:@SECLEVEL={context.security_level}")
    return other


def _unfit(
    context: ssl.SSLContext, hello: ClientHelloInfo, untouched: ClientHelloInfo, given: Collection[str]
) -> Iterator[_Unfit]:
    """What the connection would have that ours have not."""
    if TLS_1_3 not in hello.versions:
        yield _Unfit(None, "it speaks no TLS 1.3, and a ClientConfig nothing else")
        return
    if len(hello.versions) > 1:
        words = "it speaks TLS 1.2, too: allow 1.3 alone (minimum_version), or go without peers that have no TLS 1.3"
        yield _Unfit("TLS 1.2", words)
    suites = [each for each in hello.cipher_suites if each >> 8 == 0x13]
    if "cipher_suites" not in given and (strange := [each for each in suites if each not in SUITES]):
        yield _Unfit("cipher suites", f"it offers cipher suites that are not here: {_hexadecimal(strange)}")
    if "groups" not in given and hello.groups != untouched.groups:
        strange = [each for each in hello.groups if each not in GROUPS]
        if len(strange) == len(hello.groups):
            yield _Unfit(None, f"it offers only groups that are not here: {_hexadecimal(strange)}")
        elif strange:
            yield _Unfit("groups", f"it offers groups that are not here: {_hexadecimal(strange)}")
    if "signature_schemes" not in given and hello.signature_schemes != untouched.signature_schemes:
        yield _Unfit("signature schemes", "its signature schemes were chosen: give them as signature_schemes=")
    if ExtensionType.pre_shared_key in hello.extension_types:
        yield _Unfit("pre-shared keys", "it has pre-shared keys")
    if context.post_handshake_auth:
        words = "it presents certificates after the handshake (post_handshake_auth)"
        yield _Unfit("post-handshake authentication", words)
    if context.options & getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0):
        words = "it takes a truncated connection for a complete one: pass require_close_notify=False to the TLSStream"
        yield _Unfit("truncation", words)


def _unfit_trust(context: ssl.SSLContext, anchors: TrustAnchors | None) -> Iterator[_Unfit]:
    """What the context accepts or refuses and our verifier would not."""
    if context.verify_mode is ssl.CERT_NONE:
        return
    if not context.check_hostname:
        yield _Unfit(None, "it checks the certificate but not its name: give verify=, a function of yours")
    flags, store = context.verify_flags, context.cert_store_stats()
    if flags & (ssl.VERIFY_CRL_CHECK_LEAF | ssl.VERIFY_CRL_CHECK_CHAIN) or store["crl"]:
        yield _Unfit("CRLs", "it has revocation lists, or demands them")
    if context.security_level > SECURITY_LEVEL:
        words = f"its security level is {context.security_level}: give a Verifier with least_rsa_bits= as verify="
        yield _Unfit("security level", words)
    if unknown := flags & ~_KNOWN_FLAGS:
        yield _Unfit("unknown verify flags", f"it has verify_flags that are not known here: {unknown!r}")
    if anchors is not None:
        return
    found = _anchors(context)
    if found is None:
        words = (
            "none of the certificates that it trusts can be read: they are in a directory, or there are none. "
            "Give them as anchors=, those of the system as TrustAnchors.system()"
        )
        yield _Unfit(None, words)
    elif not flags & ssl.VERIFY_X509_PARTIAL_CHAIN and any(each.subject != each.issuer for each in found):
        words = (
            "it trusts CA certificates that are no roots, and only with their roots, which here suffice by themselves: "
            "leave them out of anchors="
        )
        yield _Unfit("chains that end before a root", words)


def _anchors(context: ssl.SSLContext) -> TrustAnchors | None:
    certificates = context.get_ca_certs(binary_form=True)
    if not certificates:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about roots with a serial number of zero, and the like
        return TrustAnchors.from_der(*certificates)


def _verify(
    context: ssl.SSLContext, policy: Policy | None, anchors: TrustAnchors | None, anybody: Verify
) -> Verifier | Verify:
    if context.verify_mode is ssl.CERT_NONE:
        return anybody
    if policy is None:
        policy = WebPolicy() if context.verify_flags & ssl.VERIFY_X509_STRICT else PrivatePolicy()
    found = anchors or _anchors(context)
    assert found is not None  # `_unfit_trust` has seen to it
    return Verifier(found, policy)


def _hexadecimal(numbers: Collection[int]) -> str:
    return ", ".join(f"0x{each:04x}" for each in numbers)


def _told(unfit: Collection[_Unfit]) -> str:
    lines = [f"- {each.words}" + (f" [{each.name!r}]" if each.name else "") for each in unfit]
    text = "this SSLContext has what a ClientConfig cannot have:\n" + "\n".join(lines)
    names = [each.name for each in unfit if each.name]
    if len(names) == len(unfit):
        text += f"\nChange it, or go without: ClientConfig.from_ssl_context(..., without={names!r})"
    return text
