"""A deadline for each step, and a retry that does not start over."""

import trio

from trio_tls import ClientConfig, TLSError, TLSStream, open_tls_over_tcp_stream


async def ask(
    host: str, port: int, config: ClientConfig, question: bytes
) -> bytes:
    """Ask a server that may be slow, or gone; at most three connections."""
    for attempt in range(3):
        await trio.sleep(attempt)  # the second and third try wait a little
        with trio.move_on_after(30):  # for all that this connection may take
            try:
                stream = await open_tls_over_tcp_stream(host, port, config)
                async with stream:
                    if answer := await converse(stream, question):
                        return answer
                print("the server has closed that connection")
            except (OSError, TLSError) as error:
                print(f"that connection is gone: {error}")
    raise TimeoutError("the server does not answer")


async def converse(
    stream: TLSStream[trio.SocketStream], question: bytes
) -> bytes:
    sender = stream.sender(question)
    while True:
        with trio.move_on_after(2):
            await sender.send()  # goes on where it stood, the handshake too
            break
        print("still sending")  # show it, ask somebody, do something else
    while True:
        with trio.move_on_after(2):
            return bytes(await stream.receive_some())
        print("still waiting")
