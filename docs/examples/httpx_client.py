"""httpx over our own TLS 1.3."""

import sys

import httpx
import trio

from trio_tls import ClientConfig, PrivatePolicy, TrustAnchors, Verifier
from trio_tls.httpx import TLSTransport


async def main(url: str, ca_file: str) -> None:
    anchors = TrustAnchors.from_files(ca_file)
    config = ClientConfig(verify=Verifier(anchors, PrivatePolicy()))
    transport = TLSTransport(config, http2=True)
    async with httpx.AsyncClient(transport=transport) as client:
        with trio.move_on_after(1):  # whatever is cut here, the pool is intact
            await client.get(url + "slow")
        response = await client.get(url)
        stream = response.extensions["network_stream"]
        info = stream.get_extra_info("tls_stream").info
        print(response.http_version, info.group, response.text)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
