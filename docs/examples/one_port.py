"""One port for clients that speak TLS and for those that do not."""

import ssl
from functools import partial

import trio

from trio_tls import TLSStream, peek_client_hello


async def answer(stream: trio.abc.Stream, received: bytes, how: str) -> None:
    """Receive one line, and answer it."""
    while b"\n" not in received:
        data = await stream.receive_some()
        if not data:
            return
        received += data
    line, _, _ = received.partition(b"\n")
    await stream.send_all(b"%s, over %s\n" % (line, how.encode()))


async def handle(tcp: trio.SocketStream, context: ssl.SSLContext) -> None:
    async with tcp:
        try:
            with trio.fail_after(30):  # who says nothing is not waited for
                peek = await peek_client_hello(tcp)
                if peek.client_hello is None:
                    await answer(tcp, peek.data, "plain TCP")
                    return
                async with TLSStream(
                    tcp, context, server_side=True, initial_data=peek.data
                ) as tls:
                    name = peek.client_hello.server_name
                    await answer(tls, b"", f"TLS for {name}")
        except (trio.BrokenResourceError, trio.TooSlowError) as error:
            # among them every TLSError
            print("a client failed:", repr(error))


async def main(
    port: int,
    context: ssl.SSLContext,
    task_status: trio.TaskStatus[list[trio.SocketListener]],
) -> None:
    await trio.serve_tcp(
        partial(handle, context=context), port, task_status=task_status
    )
