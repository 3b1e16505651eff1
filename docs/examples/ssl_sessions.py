"""A client on an SSLContext that resumes its sessions."""

import ssl

from trio_tls import SSLSessionCache, open_tls_over_tcp_stream


class Client:
    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        self._host, self._port, self._context = host, port, context
        self._sessions = SSLSessionCache()

    async def ask(self, request: bytes) -> tuple[bytes, bool]:
        """The answer, and whether the handshake was a short one."""
        async with await open_tls_over_tcp_stream(
            self._host,
            self._port,
            self._context,  # always the same object
            session_cache=self._sessions,
        ) as stream:
            await stream.send_all(request)
            answer = await stream.receive_some()
            assert stream.info is not None
            return answer, stream.info.session_reused
