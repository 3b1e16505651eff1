"""The peer without an event loop: ``ssl.SSLSocket``, a thread for each connection, ``recv_into`` one buffer."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ..measurement import HOST, Measurement, SessionContext, Settings, Stopwatch
from ..processes import PeakMemory
from ..workloads import Kind, Method, Request, Workload
from .base import RECEIVE_SIZE, WARM, Announce, Peer, check, memory_of_both, memory_of_each

__all__ = ["Blocking"]


class Blocking(Peer):
    """As fast as the standard library goes."""

    title = "blocking ssl.SSLSocket"
    short = "blocking ssl"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._client, self._server = settings.client_context(SessionContext), settings.server_context()

    # -- the server ------------------------------------------------------------------------------------------

    def serve(self, announce: Announce) -> None:
        """As `Peer.serve`."""
        with self.settings.listening() as listener:
            announce(listener.getsockname()[1], 0)
            while True:
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._handle, args=(sock,), daemon=True).start()

    def _handle(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), self._server.wrap_socket(sock, server_side=True) as connection:
            while header := connection.recv(Request.LENGTH):
                while len(header) < Request.LENGTH:
                    header += connection.recv(Request.LENGTH - len(header))
                self._answer(connection, Request.decode(header))

    def _answer(self, connection: ssl.SSLSocket, request: Request) -> None:
        receive = _receiver(connection)
        if request.kind is Kind.UPLOAD:
            receive(request.size * request.count)
            connection.sendall(b"k")
            return
        message = b"d" * request.size
        for _ in range(request.count):
            if request.kind is Kind.ECHO:
                receive(request.size)
            connection.sendall(message)

    # -- the client ------------------------------------------------------------------------------------------

    def measure(self, workload: Workload, count: int, port: int, server: int) -> Measurement:
        """As `Peer.measure`."""
        if workload.method is Method.HOLD:
            return self._measure_memory(workload, count, port, server)
        if workload.method in (Method.CONNECT, Method.WIRE):
            return self._measure_connects(workload, count, port, server)
        return self._measure_exchange(workload, count, port, server)

    def _connect(self, port: int, *, resume: bool = False) -> ssl.SSLSocket:
        sock = self.settings.new_socket()
        sock.connect(("127.0.0.1", port))
        session = self._client.session if resume else None
        return self._client.wrap_socket(sock, server_hostname=HOST, session=session)

    def _measure_exchange(self, workload: Workload, count: int, port: int, server: int) -> Measurement:
        connections = [self._connect(port) for _ in range(workload.concurrency)]
        check(_suite(connections[0]), bool(connections[0].session_reused), workload)
        each = max(1, count // workload.concurrency)
        message = b"u" * workload.size
        memory = PeakMemory() if workload.method is Method.LONG_SEND else None
        watch = Stopwatch(server)
        if len(connections) == 1:
            _exchange(connections[0], workload.kind, message, each)
        else:
            _together([partial(_exchange, one, workload.kind, message, each) for one in connections])
        measurement = watch.read(each * workload.concurrency)
        for connection in connections:
            connection.close()
        return measurement if memory is None else replace(measurement, extra_rss=memory.extra())

    def _hello(self, workload: Workload, port: int, *, checked: bool = True) -> ssl.SSLSocket:
        connection = self._connect(port, resume=workload.resumed)
        connection.sendall(Request(workload.kind, workload.size, 1).encode())
        _receiver(connection)(workload.size)
        if checked:
            check(_suite(connection), bool(connection.session_reused), workload)
        if workload.resumed:
            self._client.session = connection.session
        return connection

    def _measure_connects(self, workload: Workload, count: int, port: int, server: int) -> Measurement:
        if workload.resumed:
            self._hello(workload, port, checked=False).close()
        left = list(range(count))

        def some() -> None:
            while left:
                try:
                    left.pop()
                except IndexError:  # another thread was faster
                    return
                self._hello(workload, port).close()

        watch = Stopwatch(server)
        if workload.concurrency == 1:
            some()
        else:
            _together([some] * workload.concurrency)
        return watch.read(count)

    def _measure_memory(self, workload: Workload, count: int, port: int, server: int) -> Measurement:
        connections = [self._hello(workload, port) for _ in range(WARM)]
        before = memory_of_both(server)
        watch = Stopwatch(server)
        connections += [self._hello(workload, port) for _ in range(count)]
        measurement = watch.read(count)
        after = memory_of_both(server)
        for connection in connections:
            connection.close()
        return replace(measurement, **memory_of_each(before, after, count))


def _exchange(connection: ssl.SSLSocket, kind: Kind, message: bytes, count: int) -> None:
    receive = _receiver(connection)
    connection.sendall(Request(kind, len(message), count).encode())
    if kind is Kind.DOWNLOAD:
        receive(len(message) * count)
        return
    for _ in range(count):
        connection.sendall(message)
        if kind is Kind.ECHO:
            receive(len(message))
    if kind is Kind.UPLOAD:
        receive(1)


def _receiver(connection: ssl.SSLSocket) -> Callable[[int], None]:
    """A function that receives so many bytes and forgets them."""
    buffer = memoryview(bytearray(RECEIVE_SIZE))

    def receive(count: int) -> None:
        while count > 0:
            received = connection.recv_into(buffer)
            if not received:
                raise EOFError("the other end has gone")
            count -= received

    return receive


def _suite(connection: ssl.SSLSocket) -> str:
    cipher = connection.cipher()
    return cipher[0] if cipher is not None else "no cipher suite"


def _together(functions: list[Callable[[], None]]) -> None:
    """Run each in a thread of its own; the first failure, if there is one, rises when all are done."""
    failures: list[Exception] = []

    def run(function: Callable[[], None]) -> None:
        try:
            function()
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(function,), daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
