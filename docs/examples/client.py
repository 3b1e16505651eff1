import hashlib
import sys

import trio

from trio_tls import (
    ClientConfig,
    PrivatePolicy,
    TrustAnchors,
    Verifier,
    open_tls_over_tcp_stream,
)


async def main(host: str, port: int, ca_file: str) -> None:
    anchors = TrustAnchors.from_files(ca_file)
    config = ClientConfig(verify=Verifier(anchors, PrivatePolicy()))
    async with await open_tls_over_tcp_stream(host, port, config) as stream:
        for _ in range(10):
            with trio.move_on_after(0.5):
                await stream.do_handshake()
                break
            # The next attempt goes on from the byte where this one stood.
            print("the server is slow; the same handshake goes on", flush=True)
        else:
            sys.exit("the server does not answer")

        # It keeps its own position: no byte is sent twice, and none is lost.
        sender = stream.sender(b"hello" * 2_000_000)
        while True:
            with trio.move_on_after(0.5):
                await sender.send()
                break
            print(f"slow: {sender.position} bytes accepted so far", flush=True)
        await stream.send_eof()  # we send no more, and receive on

        answer = b""
        async for part in stream:
            answer += part
    digest = hashlib.sha256(b"hello" * 2_000_000).hexdigest()
    assert answer.decode() == digest
    print("the server has received every byte once", flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3])
