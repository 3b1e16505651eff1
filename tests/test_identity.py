"""Who the peer is: names are given out where they were verified, and nowhere else."""

from __future__ import annotations

import datetime
import ipaddress
from functools import cache
from typing import Any

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from trio_tls import Credential, NeedVerification, TLSStream, accept_any_peer, identity_of

from .certificates import Issued, present
from .peers import Config, certified_client, client_of, demanding_server, trusting_client
from .support import HOST, Machines, authority, client_config, server_config, tls_pair, verifier


@cache
def billing() -> Issued:
    """A client's certificate with every kind of name."""
    ca = authority()
    key = ec.generate_private_key(ec.SECP256R1())
    issuer_key = load_pem_private_key(ca.private_key_pem.bytes(), None)
    issuer = x509.load_pem_x509_certificate(ca.cert_pem.bytes())
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    now = datetime.datetime.now(datetime.timezone.utc)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "operations"),
            x509.NameAttribute(NameOID.COMMON_NAME, "people"),
            x509.NameAttribute(NameOID.COMMON_NAME, "billing"),
        ]
    )
    names: list[x509.GeneralName] = [
        x509.DNSName("Billing.example.org"),
        x509.IPAddress(ipaddress.ip_address("192.0.2.7")),
        x509.RFC822Name("billing@example.org"),
        x509.UniformResourceIdentifier("spiffe://example.org/billing"),
    ]
    certificate = (
        x509.CertificateBuilder(issuer.subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return Issued(certificate, key)


def billing_client(machines: Machines) -> Config:
    if machines.is_own("client"):
        return client_config().replace(credentials=Credential.from_pem(billing().pem))
    context = client_of(machines)
    present(context, billing())
    return context


@pytest.mark.across
async def test_a_verified_client_has_its_certificate_and_all_its_names(machines: Machines) -> None:
    ends = Machines("", billing_client(machines), demanding_server(machines), "")
    async with tls_pair(ends) as (client, server):
        identity = identity_of(server)
        assert identity is not None
        assert identity.certificate == billing().certificate
        assert [each.subject for each in identity.chain][1:] == [identity.certificate.issuer]
        assert identity.dns_names == ("billing.example.org",)
        assert identity.ip_addresses == (ipaddress.ip_address("192.0.2.7"),)
        assert identity.emails == ("billing@example.org",)
        assert identity.uris == ("spiffe://example.org/billing",)
        assert identity.common_name == "billing"
        assert identity.organizations == ("Example",)
        assert identity.organizational_units == ("operations",)
        assert identity.fingerprint == billing().certificate.fingerprint(hashes.SHA256()).hex()
        assert repr(identity).startswith("<Identity of 'CN=billing,CN=people")
        of_server = identity_of(client)
        assert of_server is not None
        assert HOST in of_server.dns_names


async def test_who_resumes_a_session_is_whom_it_was_made_with(machines: Machines) -> None:
    ends = Machines("", billing_client(machines), demanding_server(machines), "")
    async with tls_pair(ends) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, b"and tickets")
        await client.receive_some()
        session = client.session
    async with tls_pair(ends, client_options={"session": session}) as (client, server):
        assert server.session_reused
        identity = identity_of(server)
        assert identity is not None
        assert identity.uris == ("spiffe://example.org/billing",)
        assert identity.chain[0] == identity.certificate == billing().certificate


async def test_nobody_is_who_presented_nothing(machines: Machines) -> None:
    async with tls_pair(machines) as (_, server):
        assert identity_of(server) is None


async def test_who_was_let_in_unverified_has_no_identity(machines: Machines) -> None:
    ends = Machines("", trusting_client(machines), machines.server, "")
    async with tls_pair(ends) as (client, _):
        assert identity_of(client) is None
        assert client.info is not None
        if machines.is_own("client"):
            assert client.info.peer_certificates


async def test_a_function_that_verified_gives_an_identity_and_one_that_said_nothing_none() -> None:
    async def checked(need: NeedVerification) -> Any:
        return verifier().verify_client(need.chain, datetime.datetime.now(datetime.timezone.utc))

    client = certified_client(Machines("own", client_config(), server_config(), "TLSv1.3"))
    for verify, known in ((checked, True), (accept_any_peer, False)):
        server_side = server_config().replace(client_auth="required", verify=verify)
        async with tls_pair(Machines("", client, server_side, "")) as (_, server):
            identity = identity_of(server)
            assert (identity is not None) == known
            if identity is not None:
                assert (identity.emails, identity.common_name) == (("client@example.org",), None)


async def test_before_the_handshake_there_is_none() -> None:
    near, _far = trio.testing.memory_stream_pair()
    with pytest.raises(trio.NeedHandshakeError):
        identity_of(TLSStream(near, server_config(), server_side=True))


def test_names_that_cannot_be_read_are_an_error_and_not_the_absence_of_names() -> None:
    from trio_tls.identity import _identity

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "odd")])
    now = datetime.datetime.now(datetime.timezone.utc)
    ed_party_name = bytes.fromhex("3006a5048102") + b"hi"
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1).not_valid_before(now).not_valid_after(now)
    odd = builder.add_extension(
        x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, ed_party_name), critical=False
    ).sign(key, hashes.SHA256())
    with pytest.raises(ValueError, match="the names of 'CN=odd' cannot be read"):
        _identity((x509.load_der_x509_certificate(odd.public_bytes(Encoding.DER)),))
    plain = builder.sign(key, hashes.SHA256())
    assert _identity((plain,)).dns_names == ()
