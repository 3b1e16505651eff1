"""Hypothesis strategies: every extension and every message that the codecs can hold."""

from __future__ import annotations

from hypothesis import strategies as st

from trio_tls.machine.tls13 import extensions as ext
from trio_tls.machine.tls13 import messages as msg
from trio_tls.machine.tls13.extensions import Extension, Extensions, MessageContext
from trio_tls.machine.tls13.messages import HELLO_RETRY_REQUEST_RANDOM, Message
from trio_tls.machine.tls13.registry import ExtensionType

CH = MessageContext.CLIENT_HELLO
SH = MessageContext.SERVER_HELLO
HRR = MessageContext.HELLO_RETRY_REQUEST
EE = MessageContext.ENCRYPTED_EXTENSIONS
CR = MessageContext.CERTIFICATE_REQUEST
CT = MessageContext.CERTIFICATE
NST = MessageContext.NEW_SESSION_TICKET

uint8s = st.integers(0, 0xFF)
uint16s = st.integers(0, 0xFFFF)
uint32s = st.integers(0, 0xFFFF_FFFF)
randoms = st.binary(min_size=32, max_size=32)
opaque = st.binary(min_size=1, max_size=40)
some_uint16s = st.lists(uint16s, min_size=1, max_size=8).map(tuple)
host_names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=30)
key_share_entries = st.builds(ext.KeyShareEntry, uint16s, opaque)


@st.composite
def offered_psks(draw: st.DrawFn) -> ext.PreSharedKeys:
    identities = draw(st.lists(st.builds(ext.PskIdentity, opaque, uint32s), min_size=1, max_size=3))
    binder = st.binary(min_size=32, max_size=48)
    binders = draw(st.lists(binder, min_size=len(identities), max_size=len(identities)))
    return ext.PreSharedKeys(tuple(identities), tuple(binders))


server_names = st.builds(ext.ServerName, host_names)
supported_groups = st.builds(ext.SupportedGroups, some_uint16s)
protocols = st.builds(
    ext.ApplicationProtocols, st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=4).map(tuple)
)
limits = st.builds(ext.RecordSizeLimit, st.integers(64, 0xFFFF))
selected_versions = st.builds(ext.SelectedVersion, uint16s)
cookies = st.builds(ext.Cookie, opaque)
schemes = st.builds(ext.SignatureAlgorithms, some_uint16s)
schemes_cert = st.builds(ext.SignatureAlgorithmsCert, some_uint16s)
authorities = st.builds(ext.CertificateAuthorities, st.lists(opaque, min_size=1, max_size=3).map(tuple))

#: What each message can hold, one strategy for each class that the table of extensions has for it.
KNOWN: dict[MessageContext, tuple[st.SearchStrategy[Extension], ...]] = {
    CH: (
        server_names,
        supported_groups,
        schemes,
        schemes_cert,
        protocols,
        st.builds(ext.SupportedVersions, some_uint16s),
        st.builds(ext.KeyShares, st.lists(key_share_entries, max_size=3).map(tuple)),
        st.builds(ext.PskKeyExchangeModes, st.lists(uint8s, min_size=1, max_size=3).map(tuple)),
        offered_psks(),
        cookies,
        limits,
        st.just(ext.EarlyData()),
        authorities,
        st.just(ext.PostHandshakeAuth()),
        st.builds(ext.Padding, st.integers(0, 64)),
    ),
    SH: (
        selected_versions,
        st.builds(ext.SelectedKeyShare, key_share_entries),
        st.builds(ext.SelectedPsk, uint16s),
    ),
    HRR: (selected_versions, st.builds(ext.RetryGroup, uint16s), cookies),
    EE: (st.just(ext.ServerName(None)), supported_groups, protocols, limits, st.just(ext.EarlyData())),
    CR: (server_names, schemes, schemes_cert, authorities),
    CT: (),
    NST: (st.builds(ext.EarlyDataLimit, uint32s),),
}

NAMELESS = st.builds(
    ext.UnknownExtension,
    uint16s.filter(lambda n: n not in set(ExtensionType)),
    st.binary(max_size=20),
)


def extensions_of(context: MessageContext) -> st.SearchStrategy[Extensions]:
    """Blocks that are allowed in a message: no type twice, pre_shared_key last, a ServerHello of TLS 1.3."""

    def arranged(items: list[Extension]) -> Extensions:
        items = sorted(items, key=lambda item: item.type == ExtensionType.pre_shared_key)
        if context is SH and not any(item.type == ExtensionType.supported_versions for item in items):
            items.append(ext.SelectedVersion(0x0304))
        return Extensions(items)

    one = st.one_of(*KNOWN[context], NAMELESS)
    return st.lists(one, max_size=8, unique_by=lambda item: item.type).map(arranged)


cipher_suites = st.lists(uint16s, min_size=1, max_size=8).map(tuple)
session_ids = st.binary(max_size=32)

MESSAGES: dict[type[Message], st.SearchStrategy[Message]] = {
    msg.ClientHello: st.builds(
        msg.ClientHello,
        randoms,
        session_ids,
        cipher_suites,
        extensions_of(CH),
        uint16s,
        st.binary(min_size=1, max_size=3),
    ),
    msg.ServerHello: st.builds(
        msg.ServerHello,
        randoms.filter(lambda random: random != HELLO_RETRY_REQUEST_RANDOM),
        session_ids,
        uint16s,
        extensions_of(SH),
        uint16s,
        uint8s,
    ),
    msg.HelloRetryRequest: st.builds(msg.HelloRetryRequest, session_ids, uint16s, extensions_of(HRR), uint16s, uint8s),
    msg.EncryptedExtensions: st.builds(msg.EncryptedExtensions, extensions_of(EE)),
    msg.CertificateRequest: st.builds(msg.CertificateRequest, st.binary(max_size=20), extensions_of(CR)),
    msg.Certificate: st.builds(
        msg.Certificate,
        st.binary(max_size=20),
        st.lists(st.builds(msg.CertificateEntry, opaque, extensions_of(CT)), max_size=3).map(tuple),
    ),
    msg.CertificateVerify: st.builds(msg.CertificateVerify, uint16s, st.binary(max_size=80)),
    msg.Finished: st.builds(msg.Finished, st.binary(max_size=64)),
    msg.NewSessionTicket: st.builds(
        msg.NewSessionTicket, uint32s, uint32s, st.binary(max_size=20), opaque, extensions_of(NST)
    ),
    msg.KeyUpdate: st.builds(msg.KeyUpdate, st.booleans()),
    msg.EndOfEarlyData: st.just(msg.EndOfEarlyData()),
}
