import hashlib
import ssl
import sys

import trio

from trio_tls import open_tls_over_tcp_stream


async def main(host: str, port: int, ca_file: str) -> None:
    context = ssl.create_default_context(cafile=ca_file)
    async with await open_tls_over_tcp_stream(host, port, context) as stream:
        for _ in range(10):
            with trio.move_on_after(0.5):
                await stream.do_handshake()
                break
            # The next attempt goes on from the byte where this one stood.
            print("the server is slow; the same handshake goes on", flush=True)
        else:
            sys.exit("the server does not answer")

        # A ResumableSend keeps its own position: no byte is sent twice, and none is lost.
        data = b"hello" * 2_000_000
        sender = stream.sender(data)
        while True:
            with trio.move_on_after(0.5):
                await sender.send()
                break
            print(f"slow: {sender.position} of {len(data)} bytes accepted so far", flush=True)
        await stream.send_eof()  # we send no more, and receive on

        answer = b""
        async for part in stream:
            answer += part
        assert answer.decode() == hashlib.sha256(data).hexdigest()
        print("the server has received every byte once", flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3])
