"""All targets, with what an input may cost.

The cost is counted in lines of Python, which is the same on every machine. A line may still do much work in C: that is
what the doubling in `test_cost` is for. A handshake costs the same few thousand lines however short the input is.
"""

from __future__ import annotations

from . import codecs, flows, stored
from .target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("messages", codecs.a_message, codecs.message_seeds, slope=20, base=600),
        Target("extensions", codecs.an_extension_block, codecs.extension_seeds, slope=20, base=600),
        Target("plain-records", codecs.plain_records, codecs.plain_seeds, slope=40, base=600),
        Target("protected-records", codecs.protected_records, codecs.protected_seeds, slope=60, base=1500),
        Target("peek", codecs.a_peek, codecs.peek_seeds, slope=40, base=600),
        Target("to-client", flows.to_client, flows.to_client_seeds, slope=40, base=20_000),
        Target("to-server", flows.to_server, flows.to_server_seeds, slope=40, base=20_000),
        Target("server-by-hand", flows.a_server_by_hand, flows.script_seeds, slope=200, base=30_000),
        Target("client-by-hand", flows.a_client_by_hand, flows.script_seeds, slope=200, base=30_000),
        Target("to-openssl", flows.to_openssl, flows.openssl_seeds, slope=100, base=5_000),
        Target("tickets", stored.a_ticket, stored.ticket_seeds, slope=20, base=1_500),
        Target("chains", stored.a_chain, stored.chain_seeds, slope=20, base=6_000),
        Target("credentials", stored.a_credential, stored.credential_seeds, slope=20, base=3_000),
        Target("anchors", stored.trust_anchors, stored.anchor_seeds, slope=20, base=3_000),
    )
}
