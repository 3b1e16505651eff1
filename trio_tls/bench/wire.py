"""What passes over the wire until the first answer is there: segments each way, and how often the client waits.

How this works. A relay stands between the client and the server, so it is the same for every peer, and passes on what
comes at once. The kernel counts the segments of its two connections (``TCP_INFO``); the relay itself counts how often
the server begins to speak after the client did. It knows the answer by the length of its record.
"""

from __future__ import annotations

import select
import socket
import struct
import threading

__all__ = ["Relay"]

#: Of struct tcp_info (linux/tcp.h): where tcpi_data_segs_in is; tcpi_data_segs_out follows.
DATA_SEGMENTS_IN = 152

#: Seconds that nothing has come for: whoever is at the ends has gone.
PATIENCE = 30.0


class Relay:
    """Passes on one connection, and tells what has passed. Runs in a thread.

    Args:
      port: where the server is.
      size: bytes of the answer, after which nothing is counted any more.

    Attributes:
      port: where the client has to connect to.
      sent: TCP segments with data from the client; None if the system does not tell, or there was no answer.
      received: the same from the server.
      round_trips: how often the client had to wait for the server before it went on.
    """

    def __init__(self, port: int, size: int) -> None:
        self._server_port = port
        # A record of application data with the type byte and the tag; or, without TLS, the answer itself.
        self._answers = (b"\x17\x03\x03" + (size + 17).to_bytes(2, "big"), b"d" * size)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.sent: int | None = None
        self.received: int | None = None
        self.round_trips: int = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait until the connection has ended."""
        self._thread.join(PATIENCE)
        self._listener.close()

    def _run(self) -> None:
        try:
            self._listener.settimeout(PATIENCE)
            client, _ = self._listener.accept()
            self._listener.close()  # whoever comes after the one is refused, and does not wait
            with client, socket.create_connection(("127.0.0.1", self._server_port), PATIENCE) as server:
                self._pass_on(client, server)
        except OSError:  # whoever it was has gone; its own process tells why
            return

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        """Until the client ends; what the server says after that is nobody's business any more."""
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        heard, answered, waiting = bytearray(), False, False
        while True:
            readable, _, _ = select.select((client, server), (), (), PATIENCE)
            for end in readable:
                data = end.recv(1 << 16)
                if end is server and not answered:
                    self.round_trips += waiting
                    heard += data
                    answered = any(answer in heard for answer in self._answers)
                    if answered:
                        self._count(client, server)
                waiting = end is client
                (server if end is client else client).sendall(data)
                if end is client and not data:
                    return
            if not readable:
                return

    def _count(self, client: socket.socket, server: socket.socket) -> None:
        if hasattr(socket, "TCP_INFO"):
            self.sent, self.received = (
                struct.unpack_from("=I", end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), DATA_SEGMENTS_IN)[0]
                for end in (client, server)
            )
