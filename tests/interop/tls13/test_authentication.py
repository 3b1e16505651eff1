"""Certificates of clients, and certificates that are not believed: who says so, and who is told."""

from __future__ import annotations

import pytest

from trio_tls import Alert, AlertReceived, CertificateVerificationError, ClientConfig, ServerConfig, SignatureScheme

from ...support import receive_exactly, verifier
from .identities import KEY_OF, Files, credential
from .matrix import SCHEMES, Cell, cells
from .peer import Setup, client_config, connected, server_config

DATA = b"0123456789 there and back\n"


@cells("client certificate accepted")
async def test_a_client_shows_the_certificate_that_is_required(cell: Cell, files: Files) -> None:
    config: ClientConfig | ServerConfig
    if cell.role == "server":
        config, setup = client_config(credentials=credential("P-256")), Setup(files, demands=True)
    else:
        config = server_config(client_auth="required", verify=verifier())
        setup = Setup(files, certified=True)
    async with connected(cell.peer, cell.role, setup, config) as (ours, theirs):
        await theirs.exchange(ours, DATA)
        assert ours.info is not None
        if cell.role == "server":
            assert ours.info.local_chain == credential("P-256").der_chain
        else:
            assert len(ours.info.verified_chain) == 2


@cells("client signature", SCHEMES)
async def test_the_client_signs_by_each_scheme(cell: Cell, files: Files) -> None:
    key = KEY_OF[cell.value]
    # The server's own certificate has a P-256 key.
    schemes = list(dict.fromkeys([SignatureScheme.ecdsa_secp256r1_sha256, cell.value]))
    config: ClientConfig | ServerConfig
    if cell.role == "server":
        config = client_config(credentials=credential(key), signature_schemes=schemes)
        setup = Setup(files, demands=True)
    else:
        config = server_config(client_auth="required", verify=verifier(), signature_schemes=schemes)
        setup = Setup(files, certified=True, key=key)
    async with connected(cell.peer, cell.role, setup, config) as (ours, theirs):
        await theirs.exchange(ours, DATA)


@cells("client certificate missing")
async def test_a_client_without_a_certificate_is_told_that_it_needs_one(cell: Cell, files: Files) -> None:
    if cell.role == "server":
        async with connected(cell.peer, cell.role, Setup(files, demands=True)) as (ours, _):
            with pytest.raises(AlertReceived) as received:
                await receive_exactly(ours, 1)
        assert received.value.alert == cell.peer.misses_with
    else:
        config = server_config(client_auth="required", verify=verifier())
        async with connected(cell.peer, cell.role, Setup(files), config) as (ours, theirs):
            with pytest.raises(CertificateVerificationError) as refused:
                await ours.do_handshake()
            assert refused.value.alert == Alert.certificate_required
            await theirs.saw_alert(Alert.certificate_required)


@cells("client certificate rejected")
async def test_a_client_is_told_that_its_certificate_is_not_believed(cell: Cell, files: Files) -> None:
    if cell.role == "server":
        setup = Setup(files, demands=True, distrusts=True)
        config = client_config(credentials=credential("P-256"))
        async with connected(cell.peer, cell.role, setup, config) as (ours, _):
            with pytest.raises(AlertReceived) as received:
                await receive_exactly(ours, 1)
        assert received.value.alert == cell.peer.rejects_with[cell.role]
    else:
        config_of_server = server_config(client_auth="required", verify=verifier())
        setup = Setup(files, certified=True, strange=True)
        async with connected(cell.peer, cell.role, setup, config_of_server) as (ours, theirs):
            with pytest.raises(CertificateVerificationError) as refused:
                await ours.do_handshake()
            assert refused.value.alert == Alert.unknown_ca
            await theirs.saw_alert(Alert.unknown_ca)


@cells("server certificate rejected")
async def test_a_server_is_told_that_its_certificate_is_not_believed(cell: Cell, files: Files) -> None:
    if cell.role == "server":
        async with connected(cell.peer, cell.role, Setup(files, strange=True)) as (ours, theirs):
            with pytest.raises(CertificateVerificationError) as refused:
                await ours.do_handshake()
            assert refused.value.alert == Alert.unknown_ca
            await theirs.saw_alert(Alert.unknown_ca)
    else:
        async with connected(cell.peer, cell.role, Setup(files, distrusts=True)) as (ours, _):
            with pytest.raises(AlertReceived) as received:
                await receive_exactly(ours, 1)
        assert received.value.alert == cell.peer.rejects_with[cell.role]
