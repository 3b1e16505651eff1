"""Servers that people run, each with a throw-away configuration: Exim, Dovecot, PostgreSQL and Redis.

How this works. Each server runs in the foreground, on a free port of loopback, in a directory of its own. Started by
root, each changes to an unprivileged user: PostgreSQL because it insists, the others by themselves.
"""

from __future__ import annotations

import getpass
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from .support import authority

#: Seconds; for a server to start on a busy machine, and for all that is done with it.
PATIENCE = 120

ROOT = os.geteuid() == 0


def server_command(name: str, package: str) -> str:
    """The path of a server. Without one, the test is skipped, but in continuous integration it fails."""
    places = [os.environ.get("PATH", ""), "/usr/sbin", *map(str, pathlib.Path("/usr/lib/postgresql").glob("*/bin"))]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        text = f"there is no {name}: install {package} (its name in Debian) to run this test"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    return found


@dataclass(frozen=True)
class Place:
    """Where a server lives.

    Attributes:
      directory: for everything that it writes.
      certificate: its certificate, for localhost.
      key: its key.
      ca: the CA that has issued it.
      port: a free port.
    """

    directory: Path
    certificate: Path
    key: Path
    ca: Path
    port: int


@contextmanager
def some_place() -> Iterator[Place]:
    """A directory for a server, with its certificate, and a free port."""
    with tempfile.TemporaryDirectory(prefix="trio-tls-") as name, socket.socket() as probe:
        directory = Path(name)
        directory.chmod(0o777)  # a server that gives up its privileges writes here
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        certificate, key, ca = (directory / f"{name}.pem" for name in ("certificate", "key", "ca"))
        made = Place(directory, certificate, key, ca, port)
        issued = authority().issue_cert("localhost")
        made.certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        made.key.write_bytes(issued.private_key_pem.bytes())
        made.ca.write_bytes(authority().cert_pem.bytes())
        yield made


@asynccontextmanager
async def running(command: list[str], port: int, *, user: str | None = None) -> AsyncIterator[None]:
    """A server, from when it accepts connections; ended as a service manager does it."""
    with trio.fail_after(PATIENCE):
        process = await trio.lowlevel.open_process(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user
        )
        try:
            while True:
                assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
                try:
                    await trio.aclose_forcefully(await trio.open_tcp_stream("127.0.0.1", port))
                except OSError:
                    await trio.sleep(0.05)  # none of them says in the same way when it is ready
                else:
                    break
            yield
        finally:
            process.terminate()
            with trio.CancelScope(shield=True):
                with trio.move_on_after(10):
                    await process.wait()
                process.kill()
                await process.wait()


@asynccontextmanager
async def exim(place: Place) -> AsyncIterator[None]:
    """SMTP with STARTTLS."""
    command = server_command("exim4", "exim4-daemon-light")
    spool = place.directory / "spool"
    spool.mkdir()
    spool.chmod(0o777)
    place.key.chmod(0o644)
    configuration = place.directory / "exim.conf"
    configuration.write_text(
        f"""\
primary_hostname = localhost
local_interfaces = 127.0.0.1
daemon_smtp_ports = {place.port}
spool_directory = {spool}
log_file_path = {spool}/%slog
pid_file_path = {spool}/exim.pid
tls_advertise_hosts = *
tls_certificate = {place.certificate}
tls_privatekey = {place.key}
keep_environment =
never_users =
"""
    )
    configuration.chmod(0o644)
    async with running([command, "-C", str(configuration), "-bdf"], place.port):
        yield


@asynccontextmanager
async def dovecot(place: Place) -> AsyncIterator[None]:
    """IMAP with STARTTLS; everybody may log in, as anybody."""
    command = server_command("dovecot", "dovecot-imapd")
    internal, login = ("dovecot", "dovenull") if ROOT else (getpass.getuser(),) * 2
    configuration = place.directory / "dovecot.conf"
    configuration.write_text(
        f"""\
base_dir = {place.directory}/run
log_path = {place.directory}/log
protocols = imap
listen = 127.0.0.1
ssl = required
ssl_cert = <{place.certificate}
ssl_key = <{place.key}
default_internal_user = {internal}
default_internal_group = {internal}
default_login_user = {login}
service anvil {{
  chroot =
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {place.port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}}
"""
    )
    async with running([command, "-F", "-c", str(configuration)], place.port):
        yield


@asynccontextmanager
async def postgresql(place: Place) -> AsyncIterator[None]:
    """PostgreSQL, which lets in ``somebody``; on a Unix socket in the place's directory, too."""
    initdb, postgres = (server_command(name, "postgresql") for name in ("initdb", "postgres"))
    user = "postgres" if ROOT else None
    data = place.directory / "data"
    data.mkdir()
    place.key.chmod(0o600)  # it reads no key that others could
    if user:
        for path in (data, place.key):
            shutil.chown(path, user)
    with trio.fail_after(PATIENCE):
        options = ["--auth=trust", "--username=somebody", "--no-sync", "--locale=C"]
        await trio.run_process([initdb, *options, str(data)], capture_stdout=True, capture_stderr=True, user=user)
    settings = {
        "port": place.port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": place.directory,
        "ssl": "on",
        "ssl_cert_file": place.certificate,
        "ssl_key_file": place.key,
    }
    command = [postgres, "-D", str(data), *(f"--{name}={value}" for name, value in settings.items())]
    async with running(command, place.port, user=user):
        while True:
            if "ready" in (data / "postmaster.pid").read_text():
                break
            await trio.sleep(0.05)  # until then it says that it is starting up
        yield


@asynccontextmanager
async def redis(place: Place, *, client_certificates: bool = False) -> AsyncIterator[None]:
    """Redis with TLS from the start, and no other port."""
    place.key.chmod(0o644)
    settings = {
        "bind": "127.0.0.1",
        "port": "0",
        "tls-port": str(place.port),
        "tls-cert-file": str(place.certificate),
        "tls-key-file": str(place.key),
        "tls-ca-cert-file": str(place.ca),
        "tls-auth-clients": "yes" if client_certificates else "no",
        "dir": str(place.directory),
        "save": "",
    }
    command = [server_command("redis-server", "redis-server")]
    for name, value in settings.items():
        command += [f"--{name}", value]
    async with running(command, place.port):
        yield


def postgres_message(*fields: str) -> bytes:
    """PostgreSQL's StartupMessage, protocol 3.0."""
    body = b"\x00\x03\x00\x00" + b"".join(field.encode() + b"\x00" for field in fields) + b"\x00"
    return (len(body) + 4).to_bytes(4, "big") + body
