import hashlib
import ssl
import sys

import trio

from trio_tls import TLSStream, serve_tls_over_tcp


async def digest(stream: TLSStream[trio.SocketStream]) -> None:
    """Receive all that the client sends, and answer with its SHA-256."""
    sha256 = hashlib.sha256()
    while True:
        with trio.move_on_after(5):
            data = await stream.receive_some()
            if not data:  # close_notify: that was all, nobody cut it short
                break
            sha256.update(data)
            continue
        print("a client is slow")  # the timeout has cost nothing
    await stream.send_all(sha256.hexdigest().encode())


async def main(port: int, certificate: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)  # chain and key, in one PEM file
    async with trio.open_nursery() as nursery:
        # A client that sends garbage, or nothing, is logged;
        # it disturbs neither the server nor another client.
        await nursery.start(serve_tls_over_tcp, digest, port, context)
        print("listening on port", port, flush=True)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), sys.argv[2])
