"""What the servers of the command present: a certificate for each name, each read again by itself."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from cryptography.hazmat.primitives.asymmetric import ec

from trio_tls import Alert, TLSError, TLSStream
from trio_tls.cli import main

from ..support import authority, client_config, client_context
from .conftest import Files
from .driving import Running, on_both_machines, plain_server, ran, running, stop_now
from .test_proxy import plain_echo
from .test_serve import port_of

Capture = pytest.CaptureFixture[str]


def pem(place: Path, name: str, *names: str, key_type: trustme.KeyType = trustme.KeyType.ECDSA) -> Path:
    """A file with a certificate for these names, and its key."""
    path = place / f"{name}.pem"
    issued = authority().issue_cert(*names, key_type=key_type)
    path.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    return path


def pair(place: Path, name: str, *names: str) -> tuple[Path, Path]:
    """The same, in two files."""
    certificate, key = place / f"{name}.pem", place / f"{name}.key"
    issued = authority().issue_cert(*names)
    certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return certificate, key


@asynccontextmanager
async def command(name: str, *arguments: str | Path | int) -> AsyncIterator[tuple[Running, int]]:
    """``serve``, or ``proxy`` in front of an echo: either echoes what comes over TLS."""
    if name == "serve":
        async with running("serve", "--port", 0, *arguments) as run:
            yield run, await port_of(run)
            await stop_now(run)
        return
    async with plain_server(plain_echo) as backend, running("proxy", "127.0.0.1:0", backend, *arguments) as run:
        yield run, await port_of(run)
        await stop_now(run)


async def shown(port: int, name: str | None, context: ssl.SSLContext | None = None) -> tuple[str, ...]:
    """The names of the certificate that somebody is shown who asks for this name, and who is served."""
    if context is None:
        context = client_context()
    context.check_hostname = False
    transport = await trio.open_tcp_stream("127.0.0.1", port)
    async with TLSStream(transport, context, server_hostname=name) as stream:
        await stream.send_all(b"x")
        assert await stream.receive_some() == b"x"
        certificate = stream.getpeercert()
    assert certificate is not None
    return tuple(value for _, value in certificate["subjectAltName"])


async def refusal(port: int, name: str | None) -> TLSError:
    with pytest.raises(TLSError) as caught:
        await shown(port, name)
    return caught.value


def in_both_commands(function: Any) -> Any:
    """Run the test with each command: its argument ``name``."""
    return pytest.mark.parametrize("name", ["serve", "proxy"])(function)


@in_both_commands
@on_both_machines
async def test_each_name_is_shown_its_certificate_and_any_other_the_first(
    tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    first = pem(tmp_path, "first", "first.test", "*.api.test")
    second, key = pair(tmp_path, "second", "second.test", "very.api.test")
    async with command(name, "--cert", first, "--cert", second, "--key", key, *options) as (_, port):
        for asked in ("first.test", "any.api.test", "strange.test", "a.b.api.test", None):
            assert "first.test" in await shown(port, asked), asked
        for asked in ("second.test", "SECOND.test", "very.api.test"):
            assert "second.test" in await shown(port, asked), asked


@on_both_machines
async def test_whoever_asks_for_no_name_of_ours_is_refused_if_that_is_asked_for(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    certificates = ("--cert", pem(tmp_path, "a", "a.test"), "--cert", pem(tmp_path, "b", "*.b.test"))
    async with command("proxy", *certificates, "--unknown-name", "refuse", *options) as (run, port):
        assert await shown(port, "a.test") == ("a.test",)
        assert await shown(port, "x.b.test") == ("*.b.test",)
        for asked in ("b.test", None):
            assert (await refusal(port, asked)).alert is Alert.unrecognized_name
        await run.shows("failed: ")
        await run.shows("Give a certificate that has the name with --cert")


@on_both_machines
async def test_one_certificate_alone_can_refuse_names_too(options: tuple[str, ...]) -> None:
    async with command("serve", "--self-signed", "a.test", "--unknown-name", "refuse", *options) as (run, port):
        assert (await refusal(port, "b.test")).alert is Alert.unrecognized_name
        await run.shows("--ca-file ")
        found = re.search(rb"--ca-file (.+)\n", run.out)
        assert found is not None
        context = ssl.create_default_context(cafile=found[1].decode())
        assert await shown(port, "a.test", context) == ("a.test",)


async def test_of_two_kinds_of_keys_a_client_is_shown_the_one_that_it_can_check(tmp_path: Path) -> None:
    certificates = (
        *("--cert", pem(tmp_path, "rsa", "a.test", key_type=trustme.KeyType.RSA)),
        *("--cert", pem(tmp_path, "ec", "a.test")),
    )
    async with command("serve", *certificates) as (_, port):
        for schemes, key in (((0x0403,), ec.EllipticCurvePublicKey), ((0x0403, 0x0804), object)):
            transport = await trio.open_tcp_stream("127.0.0.1", port)
            config = client_config().replace(signature_schemes=schemes)
            async with TLSStream(transport, config, server_hostname="a.test") as stream:
                await stream.do_handshake()
                assert stream.info is not None
                presented = stream.info.peer_certificates[0]
                assert isinstance(presented.public_key(), key)


@in_both_commands
@on_both_machines
async def test_a_broken_certificate_keeps_no_other_from_being_renewed(
    tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    first, second = pem(tmp_path, "first", "first.test"), pem(tmp_path, "second", "second.test")
    async with command(name, "--cert", first, "--cert", second, *options) as (run, port):
        first.write_bytes(b"nothing")
        pem(tmp_path, "second", "second.test", "more.test")
        run.process.send_signal(signal.SIGHUP)
        await run.shows(f"the certificate's files were read again ({second})\n")
        await run.shows(f"the old certificate stays ({first}), since the new files cannot be used: ")
        assert await shown(port, "more.test") == ("second.test", "more.test"), "the names are the new ones"
        assert await shown(port, "first.test") == ("first.test",)
        pem(tmp_path, "first", "other.test")
        run.process.send_signal(signal.SIGHUP)
        await run.shows(f"the certificate's files were read again ({first})\n")
        assert await shown(port, "other.test") == ("other.test",)
        nameless = authority().issue_cert(common_name="second.test")
        second.write_bytes(nameless.private_key_and_cert_chain_pem.bytes())
        run.process.send_signal(signal.SIGHUP)
        await run.shows(f"no client can ask for the certificate in {second}: it has no names in its subjectAltName")
        assert await shown(port, "second.test") == ("second.test", "more.test")


@on_both_machines
async def test_the_page_of_www_has_a_certificate_for_each_name(tmp_path: Path, options: tuple[str, ...]) -> None:
    certificates = ("--cert", pem(tmp_path, "a", "a.test"), "--cert", pem(tmp_path, "b", "b.test"))
    async with running("serve", "--port", 0, "--www", *certificates, "--unknown-name", "refuse", *options) as run:
        port = await port_of(run)
        for name in ("a.test", "b.test"):
            transport = await trio.open_tcp_stream("127.0.0.1", port)
            async with TLSStream(transport, client_context(), server_hostname=name) as stream:
                await stream.send_all(b"GET /json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answer = b"".join([bytes(part) async for part in stream])
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["server_name"] == name
        transport = await trio.open_tcp_stream("127.0.0.1", port)
        async with TLSStream(transport, client_context(), server_hostname="c.test") as stream:
            with pytest.raises(TLSError) as caught:
                await stream.do_handshake()
            assert caught.value.alert is Alert.unrecognized_name


async def test_a_key_log_goes_on_when_certificates_are_read_again(tmp_path: Path) -> None:
    log, first = tmp_path / "keys", pem(tmp_path, "a", "a.test")
    certificates = ("--cert", first, "--cert", pem(tmp_path, "b", "b.test"))
    async with command("serve", *certificates, "--keylog", log) as (run, port):
        await shown(port, "a.test")
        before = size(log)
        run.process.send_signal(signal.SIGHUP)
        await run.shows(f"read again ({first})\n")
        await shown(port, "b.test")
        assert size(log) == 2 * before


def size(path: Path) -> int:
    return path.stat().st_size


def test_each_key_and_password_belongs_to_the_certificate_before_it(tmp_path: Path, capsys: Capture) -> None:
    certificate, key = pair(tmp_path, "a", "a.test")
    other, other_key = pair(tmp_path, "b", "b.test")
    for arguments, words in (
        (["--key", key, "--cert", certificate, "--cert", other], "--key stands before all certificates"),
        (["--cert", certificate, "--key", key, "--key", other_key], "--key is given twice for one --cert"),
        (["--key", key, "--cert", certificate, "--key", key], "--key is given twice for one --cert"),
        (["--cert", certificate, "--key", other_key, "--cert", other, "--key", key], "does not fit"),
        (["--cert", certificate, "--cert", other, "--key", other_key], f"{certificate} has no private key"),
        (["--key", key, "--self-signed"], "--key needs --cert"),
        (["--key", key], "give either --cert or --self-signed"),
    ):
        assert main(["serve", "--host", "192.0.2.1", *map(str, arguments)]) == 2, arguments
        assert words in capsys.readouterr().err
    # The only certificate's may stand before it, as ever; it is the address that cannot be had.
    assert main(["serve", "--host", "192.0.2.1", "--key", str(key), "--cert", str(certificate)]) == 3
    assert "is no address of this machine" in capsys.readouterr().err


@on_both_machines
def test_a_second_certificate_needs_a_name(tmp_path: Path, capsys: Capture, options: Sequence[str]) -> None:
    nameless = tmp_path / "nameless.pem"
    issued = authority().issue_cert(common_name="a.test")
    nameless.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    named = pem(tmp_path, "named", "b.test")
    serve = ["serve", "--host", "192.0.2.1", *options]
    assert main([*serve, "--cert", str(named), "--cert", str(nameless)]) == 2
    assert f"no client can ask for the certificate in {nameless}" in capsys.readouterr().err
    assert main([*serve, "--cert", str(nameless), "--unknown-name", "refuse"]) == 2
    capsys.readouterr()
    assert main([*serve, "--cert", str(nameless), "--cert", str(named)]) == 3, "the first may be for whoever else comes"
    capsys.readouterr()


@pytest.mark.slow
@on_both_machines
async def test_curl_sees_two_sites_and_renewals_by_rename_and_by_symlink(
    files: Files, tmp_path: Path, options: tuple[str, ...]
) -> None:
    renamed = pem(tmp_path, "renamed", "renamed.test")
    (tmp_path / "v1").mkdir()
    (tmp_path / "v2").mkdir()
    pem(tmp_path / "v1", "linked", "linked.test")
    data = tmp_path / "data"
    data.symlink_to("v1")
    linked = data / "linked.pem"

    async def subject(name: str) -> bytes:
        arguments = ("--cacert", str(files.ca), "--resolve", f"{name}:{port}:127.0.0.1", f"https://{name}:{port}/json")
        with trio.fail_after(30):
            done = await trio.run_process(["curl", "-sS", "--fail", *arguments], capture_stdout=True)
        assert json.loads(done.stdout)["server_name"] == name
        return await trio.to_thread.run_sync(certificate_at, port, name)

    async with running("serve", "--port", 0, "--www", "--cert", renamed, "--cert", linked, *options) as run:
        port = await port_of(run)
        before = [await subject("renamed.test"), await subject("linked.test")]
        pem(tmp_path, "new", "renamed.test")
        os.replace(tmp_path / "new.pem", renamed)  # noqa: PTH105  # as certbot does it
        pem(tmp_path / "v2", "linked", "linked.test")
        (tmp_path / "swap").symlink_to("v2")
        os.replace(tmp_path / "swap", data)  # noqa: PTH105  # as Kubernetes does it
        await run.shows(f"read again ({renamed})\n")  # by itself, without a signal
        await run.shows(f"read again ({linked})\n")
        after = [await subject("renamed.test"), await subject("linked.test")]
        assert not set(before) & set(after)


def certificate_at(port: int, name: str) -> bytes:
    """By the standard library's own blocking TLS."""
    context = client_context()
    with socket.create_connection(("127.0.0.1", port)) as tcp, context.wrap_socket(tcp, server_hostname=name) as tls:
        der = tls.getpeercert(binary_form=True)
        assert der is not None
        return der


async def test_a_mistake_with_limits_is_one_sentence() -> None:
    said = await ran("serve", "--self-signed", "--when-full", "refuse")
    assert said.status == 2
    assert "--when-full refuse needs --max-connections or --max-handshakes" in said.err
