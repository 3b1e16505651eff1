"""The attackers: so many of each kind, each of which attacks, waits for the server to be done with it, and comes again.

How this works. What they send is prepared, as far as it can be, so that they cost less than the server: the two kinds
that need a handshake do it with our own machine, take the bytes of their flood from it, and throw them at the socket.
An attacker waits ``each`` seconds, more or less, before it comes again; that is the strength of the attack.
"""

from __future__ import annotations

import random
import socket
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from trio_tls import accept_any_peer
from trio_tls.machine.factory import create_machine
from trio_tls.machine.interface import Want
from trio_tls.machine.tls13.connection import TLS13Machine
from trio_tls.machine.tls13.registry import ContentType

from ...support import HOST, client_config
from .talking import obey, raise_the_limit_of_files

#: Records of each flood: as many as fit into one send. The server has to give up long before their end.
FLOOD = 4000

#: Attackers in a handshake at the same time.
AT_ONCE = 20


def client_hello() -> bytes:
    """A ClientHello as a client of ours sends it."""
    machine = create_machine(client_config(), server_side=False, server_hostname=HOST, session=None)
    machine.do_handshake()
    return machine.outgoing.read()


class Attackers:
    """All of them."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._random = random.Random(2)
        self._hello = client_hello()
        self._garbage = bytes(range(1, 256)) * 8
        self._config = client_config().replace(verify=accept_any_peer)  # each process has a CA of its own
        self._handshakes = trio.CapacityLimiter(AT_ONCE)
        self._attacks: Counter[str] = Counter()
        self._nursery: trio.Nursery
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "slow_loris": self.slow_loris,
            "garbage": self.garbage,
            "plain_http": self.plain_http,
            "half_open": self.half_open,
            "reset": self.reset,
            "connects": self.connects,
            "key_updates": partial(self.flood, "key_update"),
            "empty_records": partial(self.flood, "empty"),
        }

    # -- the kinds ---------------------------------------------------------------------------------------------

    async def slow_loris(self) -> None:
        """A ClientHello, one byte a second."""
        async with await self._connect() as stream:
            for position in range(len(self._hello)):
                await stream.send_all(self._hello[position : position + 1])
                await trio.sleep(1)

    async def garbage(self) -> None:
        """Bytes that mean nothing."""
        async with await self._connect() as stream:
            await stream.send_all(self._garbage)
            await self._wait_for_the_end(stream)

    async def plain_http(self) -> None:
        """An HTTP request."""
        async with await self._connect() as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: server.example.org\r\n\r\n")
            await self._wait_for_the_end(stream)

    async def half_open(self) -> None:
        """Half a ClientHello, and then nothing more."""
        async with await self._connect() as stream:
            await stream.send_all(self._hello[: len(self._hello) // 2])
            await self._wait_for_the_end(stream)

    async def reset(self) -> None:
        """A whole ClientHello, and a reset while the server answers."""
        stream = await self._connect()
        await stream.send_all(self._hello)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()

    async def connects(self) -> None:
        """Five connections, one after the other, with nothing on them."""
        for _ in range(5):
            await trio.aclose_forcefully(await self._connect())

    async def flood(self, what: str) -> None:
        """A handshake, and then thousands of records without data."""
        async with await self._connect() as stream:
            async with self._handshakes:
                machine = create_machine(self._config, server_side=False, server_hostname=HOST, session=None)
                assert isinstance(machine, TLS13Machine)
                while (want := machine.do_handshake()) is not None:
                    await stream.send_all(machine.outgoing.read())
                    if want is Want.WRITE:
                        continue
                    received = await stream.receive_some()
                    if not received:
                        return
                    machine.incoming.write(received)
                for _ in range(100):
                    if what == "key_update":
                        machine.update_keys(request_update=True)
                        machine._requested_update = False
                    else:
                        key = machine._writer._key
                        assert key is not None
                        machine._writer._seal(key, ContentType.application_data, memoryview(b""), 0)
                records = machine.outgoing.read()
            for _ in range(FLOOD // 100):
                await stream.send_all(records)
            await self._wait_for_the_end(stream)

    # -- what they share ---------------------------------------------------------------------------------------

    async def _connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self._port)

    async def _wait_for_the_end(self, stream: trio.SocketStream) -> None:
        while await stream.receive_some(65536):
            pass

    async def _attacker(self, kind: str, each: float) -> None:
        await trio.sleep(self._random.uniform(0, each))
        while True:
            try:
                await self._kinds[kind]()
            except (OSError, trio.BrokenResourceError):
                pass  # thrown out
            self._attacks[kind] += 1
            await trio.sleep(self._random.uniform(0.5, 1.5) * each)

    # -- commands ----------------------------------------------------------------------------------------------

    async def attack(self, count: int, each: float) -> dict[str, Any]:
        """Begin: ``count`` attackers of each kind."""
        self._attacks.clear()
        for kind in self._kinds:
            for _ in range(count):
                self._nursery.start_soon(self._attacker, kind, each)
        return {}

    async def count(self) -> dict[str, int]:
        """How many attacks of each kind were made."""
        return dict(self._attacks)

    async def run(self) -> None:
        async with trio.open_nursery() as self._nursery:
            await obey({"attack": self.attack, "count": self.count})
            self._nursery.cancel_scope.cancel()


if __name__ == "__main__":
    raise_the_limit_of_files()
    trio.run(Attackers(int(sys.argv[1])).run)
