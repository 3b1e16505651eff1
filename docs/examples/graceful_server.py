"""A server that tells why handshakes fail, and stops gracefully."""

import ssl

import trio

from trio_tls import TLSStream, open_tls_over_tcp_listeners, serve_tls


async def echo(stream: TLSStream[trio.SocketStream]) -> None:
    async for data in stream:
        await stream.send_all(data)


async def main(
    context: ssl.SSLContext,
    stop: trio.Event,
    task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
) -> list[str]:
    failures: list[str] = []

    def note(error: Exception, stream: TLSStream[trio.SocketStream]) -> None:
        failures.append(str(error))

    listeners = await open_tls_over_tcp_listeners(0, context, host="127.0.0.1")
    await serve_tls(
        echo,
        listeners,
        handshake_timeout=10,
        max_connections=1000,
        when_full="wait",
        on_handshake_error=note,
        stop=stop,  # once set: no new clients, and handlers may finish
        stop_grace=5,
        task_status=task_status,
    )
    return failures
