"""Every cipher suite, group and signature scheme that a peer has; a second ClientHello; application protocols."""

from __future__ import annotations

from trio_tls import ClientConfig, NamedGroup, ServerConfig

from .identities import KEY_OF, Files, credential
from .matrix import GROUPS, SCHEMES, SUITES, Cell, cells
from .peer import Setup, Trace, client_config, config_for, connected, server_config

DATA = b"0123456789 there and back\n" * 10


@cells("suite", SUITES)
async def test_data_goes_both_ways_under_each_cipher_suite(cell: Cell, files: Files) -> None:
    config = config_for(cell.role, cipher_suites=[cell.value])
    async with connected(cell.peer, cell.role, Setup(files), config) as (ours, theirs):
        await theirs.exchange(ours, DATA)
        assert ours.info is not None and ours.info.cipher_suite == cell.value.name


@cells("group", GROUPS)
async def test_keys_are_agreed_on_in_each_group(cell: Cell, files: Files) -> None:
    config = config_for(cell.role, groups=[cell.value])
    async with connected(cell.peer, cell.role, Setup(files), config) as (ours, theirs):
        await theirs.exchange(ours, DATA)
        assert ours.info is not None and ours.info.group == cell.value.name


@cells("signature", SCHEMES)
async def test_the_server_signs_by_each_scheme(cell: Cell, files: Files) -> None:
    key = KEY_OF[cell.value]
    setup = Setup(files, key=key) if cell.role == "server" else Setup(files)
    ours_presents = {} if cell.role == "server" else {"credentials": credential(key)}
    config = config_for(cell.role, signature_schemes=[cell.value], **ours_presents)
    async with connected(cell.peer, cell.role, setup, config) as (ours, theirs):
        await theirs.exchange(ours, DATA)
        # To our server no other scheme is allowed; what it reports is the scheme of the client's signature: none.
        reported = cell.value.name if cell.role == "server" else None
        assert ours.info is not None and ours.info.signature_scheme == reported


@cells("record size limit")
async def test_records_are_as_small_as_we_ask_for_and_as_padded_as_we_like(cell: Cell, files: Files) -> None:
    # Not every peer knows the extension; to the others it must be a matter of indifference.
    config = config_for(cell.role, record_size_limit=1000, padding=lambda length: -length % 64)
    async with connected(cell.peer, cell.role, Setup(files), config) as (ours, theirs):
        await theirs.exchange(ours, DATA * 30)


@cells("hello retry request")
async def test_a_share_of_another_group_is_asked_for(cell: Cell, files: Files) -> None:
    trace, wanted = Trace(), NamedGroup.secp384r1
    config: ClientConfig | ServerConfig
    if cell.role == "server":
        config = client_config(groups=[NamedGroup.x25519, wanted], key_shares=[NamedGroup.x25519], tracer=trace)
        setup = Setup(files, group=wanted)
    else:
        config = server_config(groups=[wanted], tracer=trace)
        setup = Setup(files)
    async with connected(cell.peer, cell.role, setup, config) as (ours, theirs):
        await theirs.exchange(ours, DATA)
        assert ours.info is not None and ours.info.group == wanted.name
        assert trace.count("client_hello") == 2


@cells("application protocol")
async def test_an_application_protocol_is_agreed_on(cell: Cell, files: Files) -> None:
    spoken = cell.peer.protocols[-1]
    config = config_for(cell.role, alpn_protocols=[spoken, "strange/3"])
    setup = Setup(files, alpn=cell.peer.protocols)
    async with connected(cell.peer, cell.role, setup, config) as (ours, theirs):
        await theirs.exchange(ours, DATA)
        assert ours.info is not None and ours.info.alpn_protocol == spoken
