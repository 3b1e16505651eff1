"""``trio-tls cert``: the local CA and what it issues, tried with our machine, ``ssl`` and the ``openssl`` command."""

from __future__ import annotations

import json
import shlex
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from trio_tls import PrivatePolicy, TrustAnchors, Verifier, WebPolicy
from trio_tls.cli.certificates import DAY, Authority
from trio_tls.cli.local_authority import CA_FILE, CA_KEY_FILE, local_authority

from ..interop import peers
from ..servers import server_command
from ..trust_chains import issue
from .driving import PATIENCE, on_both_machines, ran, running, said
from .test_serve import port_of


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory; the CA goes to ``ca`` in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def status_of(*command: str) -> int:
    with trio.fail_after(PATIENCE):
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    return done.returncode


def left_in(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


def certificate_in(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


async def test_the_first_call_makes_a_ca_and_a_certificate_for_this_machine(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = await said(capsys, "cert")
    assert result.status == 0
    ca = here / "data" / "trio-tls"
    assert mode(ca) == 0o700
    assert mode(ca / CA_KEY_FILE) == mode(here / "localhost.pem") == 0o600
    assert sorted(path.name for path in ca.iterdir()) == [CA_KEY_FILE, "ca.lock", CA_FILE]
    assert f"{ca / CA_FILE} (made just now)" in result.out
    names = certificate_in(here / "localhost.pem").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(each) for each in names.value.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert "Trust the CA" in result.out
    assert "PRIVATE KEY" not in result.out


async def test_the_next_call_uses_the_same_ca(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await said(capsys, "cert")
    before = (here / "data" / "trio-tls" / CA_FILE).read_bytes()
    result = await said(capsys, "cert", "other.example")
    assert result.status == 0
    assert "(there already)" in result.out
    assert (here / "data" / "trio-tls" / CA_FILE).read_bytes() == before
    anchors = TrustAnchors.from_pem(before)
    for policy in (WebPolicy(), PrivatePolicy()):
        for name in ("localhost", "other.example"):
            der = certificate_in(here / f"{name}.pem").public_bytes(Encoding.DER)
            assert Verifier(anchors, policy).verify_server([der], name, datetime.now(timezone.utc)).server_name == name


@on_both_machines
async def test_a_server_with_such_a_certificate_is_believed_by_who_trusts_the_ca(
    here: Path, options: tuple[str, ...]
) -> None:
    assert (await ran("cert", "localhost", "--ca-dir", "ca")).status == 0
    assert (await ran("cert", "ann@example.org", "--client", "--ca-dir", "ca", "--out", "ann.pem")).status == 0
    trust = ("--ca-file", "ca/ca.pem")
    mutual = ("--client-cert", "require", *trust)
    async with running("serve", "--port", "0", "--cert", "localhost.pem", *mutual, *options) as server:
        port = await port_of(server)
        result = await ran("connect", f"localhost:{port}", *trust, "--cert", "ann.pem", "--check", *options)
    assert result.status == 0, result.err
    assert 'leads to "trio-tls local CA", which is trusted' in result.err


async def test_openssl_finds_nothing_wrong_with_the_chain(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    openssl = peers.openssl_command()
    await said(capsys, "cert", "localhost", "--ca-dir", "ca")
    await said(capsys, "cert", "spiffe://example.org/ann", "--client", "--ca-dir", "ca", "--out", "ann.pem")
    for file, *more in (
        ("localhost.pem", "-purpose", "sslserver", "-verify_hostname", "localhost"),
        ("ann.pem", "-purpose", "sslclient"),
    ):
        command = [openssl, "verify", "-x509_strict", "-CAfile", "ca/ca.pem", *more, file]
        assert await status_of(*command) == 0
    refused = [openssl, "verify", "-CAfile", "ca/ca.pem", "-purpose", "sslserver", "ann.pem"]
    assert await status_of(*refused) != 0


async def test_every_kind_of_name_gets_into_the_certificate(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("*.EXAMPLE.org", "bücher.example", "2001:DB8::1", "ann@example.org", "spiffe://example.org/a")
    result = await said(capsys, "cert", *names, "--json", "--key-out", "key.pem", "--days", "5")
    facts = json.loads(result.out)
    assert facts["ok"] is facts["ca_made"] is True
    assert facts["certificate"]["names"] == [
        *("DNS:*.example.org", "DNS:xn--bcher-kva.example", "IP:2001:db8::1"),
        *("email:ann@example.org", "URI:spiffe://example.org/a"),
    ]
    assert (facts["certificate_file"], facts["key_file"]) == ("wildcard.example.org.pem", "key.pem")
    assert "PRIVATE KEY" not in (here / "wildcard.example.org.pem").read_text()
    assert mode(here / "key.pem") == 0o600
    left = certificate_in(here / "wildcard.example.org.pem").not_valid_after_utc - datetime.now(timezone.utc)
    assert timedelta(days=4) < left <= timedelta(days=5)


async def test_a_path_is_written_for_who_reads_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Python and a shell do not quote alike."""
    result = await said(capsys, "cert", "--ca-dir", "Ann's own")
    assert 'create_default_context(cafile="Ann\'s own/ca.pem")' in result.out
    assert 'TrustAnchors.from_files("Ann\'s own/ca.pem")' in result.out
    (curl,) = (line for line in result.out.splitlines() if line.strip().startswith("curl "))
    assert shlex.split(curl)[-2:] == ["Ann's own/ca.pem", "URL"]


async def test_the_try_it_lines_are_for_the_role(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = await said(capsys, "cert", "*.example.org", "--key-out", "my key.pem")
    assert "serve --cert wildcard.example.org.pem --key 'my key.pem'" in server.out
    assert "--server-name www.example.org" in server.out
    client = await said(capsys, "cert", "ann", "--client")
    assert "--client-cert require" in client.out
    assert "a client" in client.out


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["under_score.example"], "is no name that a certificate can have"),
        ([""], "is no name that a certificate can have"),
        (["*.192.0.2.1"], "no wildcards of IP addresses"),
        (["a b@example.org"], "characters that no certificate has"),
        (["<ann@example.org"], "is no e-mail address"),
        (["ann@example.org,bob@example.org"], "is no e-mail address"),
        (["ann@"], "is no e-mail address"),
        (["x" * 64 + ".example"], "is no name that a certificate can have"),
    ],
)
async def test_a_name_that_is_none_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], names: list[str], told: str
) -> None:
    result = await said(capsys, "cert", *names)
    assert result.status == 2
    assert told in result.err
    assert left_in(here) == [], "nothing was written"


async def test_a_file_is_replaced_only_on_request(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "out.pem").write_text("mine")
    refused = await said(capsys, "cert", "--out", "out.pem")
    assert (refused.status, (here / "out.pem").read_text()) == (2, "mine")
    assert "--force" in refused.err
    assert (await said(capsys, "cert", "--out", "out.pem", "--force")).status == 0
    assert "BEGIN CERTIFICATE" in (here / "out.pem").read_text()
    assert mode(here / "out.pem") == 0o600
    (here / "folder").mkdir()
    assert (await said(capsys, "cert", "--out", "folder", "--force")).status == 2
    same = await said(capsys, "cert", "--out", "new.pem", "--key-out", "new.pem")
    assert "are the same file" in same.err
    nowhere = await said(capsys, "cert", "--out", "no/such/folder.pem")
    assert (nowhere.status, "No such file" in nowhere.err) == (2, True)


@pytest.mark.parametrize("days", ["0", "-1", "3651", "a", "1.5", "²"])
async def test_the_lifetime_is_a_number_of_days(capsys: pytest.CaptureFixture[str], days: str) -> None:
    result = await said(capsys, "cert", "--days", days)
    assert result.status == 2
    assert "a number of days from 1 to 3650" in result.err


async def test_a_ca_that_cannot_be_used_is_told_and_left_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ca = here / "ca"
    await said(capsys, "cert", "--ca-dir", ca, "--out", "1.pem")
    whole = (ca / CA_FILE).read_bytes(), (ca / CA_KEY_FILE).read_bytes()
    old = Authority(lifetime=-DAY / 48)
    rsa_key = rsa.generate_private_key(65537, 2048)
    own, leaf = issue(None, "another", ca=True), issue(None, "no CA")
    no_constraints = issue(None, "nothing said", ca=None)
    encrypted = own.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    for certificate, key, told in (
        (whole[0], None, "its key"),
        (whole[0], b"junk", "cannot be used"),
        (b"junk", whole[1], "cannot be used"),
        (whole[0], encrypted, "the key is encrypted"),
        (whole[0], own.key_pem, "does not belong to"),
        (whole[0], rsa_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "is no EC key"),
        (leaf.pem, leaf.key_pem, "is no CA"),
        (no_constraints.pem, no_constraints.key_pem, "is no CA"),
        (old.pem.encode(), old.key_pem, "expired at"),
    ):
        (ca / CA_FILE).write_bytes(certificate)
        (ca / CA_KEY_FILE).unlink(missing_ok=True)
        if key is not None:
            (ca / CA_KEY_FILE).write_bytes(key)
        result = await said(capsys, "cert", "--ca-dir", ca, "--out", "2.pem")
        assert result.status == 2
        assert told in result.err
        assert "--ca-dir" in result.err
        assert not (here / "2.pem").exists()
        assert (ca / CA_FILE).read_bytes() == certificate


async def test_a_ca_directory_that_is_a_file_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "file").write_text("")
    result = await said(capsys, "cert", "--ca-dir", "file/below")
    assert result.status == 2
    assert result.err.startswith("trio-tls: --ca-dir")


async def test_what_an_interrupted_call_has_left_is_no_obstacle(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ca = here / "ca"
    ca.mkdir()
    (ca / CA_KEY_FILE).write_text("a key without its certificate")
    (ca / f"{CA_KEY_FILE}.new").write_text("half a key")
    assert (await said(capsys, "cert", "--ca-dir", ca)).status == 0
    assert sorted(path.name for path in ca.iterdir()) == [CA_KEY_FILE, "ca.lock", CA_FILE]


def test_a_certificate_does_not_outlast_its_ca() -> None:
    authority = Authority(lifetime=2 * DAY)
    issued = x509.load_pem_x509_certificate(authority.issue("localhost", lifetime=90 * DAY).certificate_pem)
    assert issued.not_valid_after_utc == authority.certificate.not_valid_after_utc


def test_a_long_name_is_cut_only_where_nobody_looks() -> None:
    name = ".".join(["a" * 50, "b" * 50, "example"])
    issued = x509.load_pem_x509_certificate(Authority().issue(name).certificate_pem)
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [name]


async def test_curl_trusts_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curl = server_command("curl", "curl")
    await said(capsys, "cert", "--ca-dir", "ca")
    async with running("serve", "--www", "--port", "0", "--cert", "localhost.pem") as server:
        port = await port_of(server)
        command = [curl, "-sS", "--cacert", "ca/ca.pem", f"https://localhost:{port}/"]
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"<!DOCTYPE html>")


async def test_first_calls_at_once_make_one_ca(here: Path) -> None:
    made: list[tuple[bytes, bool]] = []

    def make() -> None:
        authority, new = local_authority(here / "ca", name="one")
        made.append((authority.certificate.public_bytes(Encoding.DER), new))

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(trio.to_thread.run_sync, make)
    assert len({der for der, _new in made}) == 1
    assert sum(new for _der, new in made) == 1
