"""The ``openssl`` command as a peer: ``s_server`` and ``s_client``, run and typed to under Trio.

How this works. Both write what they see to stdout or stderr, and obey letters that are typed at the start of a
line (``K``: KeyUpdate, ``R``: renegotiate, ``Q``: close). ``s_server`` is told port 0, and says the port that it got
when it is ready, so nobody waits or guesses.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import trio

from .processes import Process, command_named, running

#: By what `trio_tls.ConnectionInfo.version` says.
VERSION_OPTION = {"TLSv1.3": "-tls1_3", "TLSv1.2": "-tls1_2"}

#: What `run` yields.
OpenSSL = Process


def openssl_command() -> str:
    """The path of the ``openssl`` command. Without one, the test is skipped, but in continuous integration it fails."""
    return command_named("openssl", "OpenSSL")


def run(*arguments: str | Path) -> AbstractAsyncContextManager[Process]:
    """``openssl`` with these arguments; killed at the end, if it has not ended by itself."""
    return running(openssl_command(), *arguments)


@asynccontextmanager
async def listening_s_server(*arguments: str | Path) -> AsyncIterator[tuple[Process, int]]:
    """``openssl s_server`` on a free port, and that port."""
    async with run("s_server", "-accept", "127.0.0.1:0", *arguments) as peer:
        output = await peer.shows("ACCEPT 127.0.0.1:")
        while not (line := output.partition(b"ACCEPT 127.0.0.1:")[2]).count(b"\n"):
            output = await peer.shows("\n", times=output.count(b"\n") + 1)
        yield peer, int(line.split()[0])


@asynccontextmanager
async def s_server(*arguments: str | Path) -> AsyncIterator[tuple[Process, trio.SocketStream]]:
    """``openssl s_server`` on a free port, and a connection to it."""
    async with listening_s_server(*arguments) as (peer, port):
        yield peer, await trio.open_tcp_stream("127.0.0.1", port)


@asynccontextmanager
async def s_client(*arguments: str | Path) -> AsyncIterator[tuple[Process, trio.SocketStream]]:
    """``openssl s_client``, and the connection that it has made to us."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        async with run("s_client", "-connect", f"127.0.0.1:{port}", *arguments) as peer:
            yield peer, await listener.accept()
