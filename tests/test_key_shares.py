"""Key shares that are made ahead: each for one connection, and none for long."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import time

import pytest

from trio_tls import ClientConfig, ServerConfig
from trio_tls.config import PRIMITIVES, accept_any_peer
from trio_tls.key_shares import KEY_SHARES, MOST_AGE, KeySharesAhead
from trio_tls.machine.tls13.groups import GROUPS, Group, KeyShare
from trio_tls.machine.tls13.primitives import Primitives
from trio_tls.machine.tls13.registry import NamedGroup

from .machine.drive import go_on
from .machine.tls13.ends import a_client, a_server, client_config, pass_on, server_config, server_credential

X25519 = GROUPS[NamedGroup.x25519]


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class Counted(KeySharesAhead):
    """Tells what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[str] = []
        self.handed_out: list[KeyShare] = []

    def prepare(self, group: Group) -> None:
        self.prepared.append(group.name)
        super().prepare(group)

    def generate(self, group: Group) -> KeyShare:
        self.handed_out.append(super().generate(group))
        return self.handed_out[-1]

    def primitives(self) -> Primitives:
        return Primitives(random=os.urandom, now=time.time, generate=self.generate, prepare=self.prepare)


def public(ahead: KeySharesAhead) -> bytes:
    return ahead.generate(X25519).public


def test_row_49_a_share_that_was_made_ahead_is_handed_out_once() -> None:
    ahead = KeySharesAhead()
    ahead.prepare(X25519)
    ahead.prepare(X25519)  # there is one already
    shares = [ahead.generate(X25519) for _ in range(3)]
    assert len({share.public for share in shares}) == 3


def test_what_was_made_ahead_is_what_the_next_one_gets() -> None:
    ahead = KeySharesAhead()
    ahead.prepare(X25519)
    made = ahead._ahead[NamedGroup.x25519][1]
    assert ahead.generate(X25519) is made
    assert ahead.generate(X25519) is not made


def test_a_share_of_another_group_is_no_help() -> None:
    ahead = KeySharesAhead()
    ahead.prepare(X25519)
    assert ahead.generate(GROUPS[NamedGroup.secp256r1]).group is NamedGroup.secp256r1
    assert ahead.generate(X25519).group is NamedGroup.x25519


def test_a_share_that_has_lain_about_for_long_is_not_used() -> None:
    clock = Clock()
    ahead = KeySharesAhead(clock)
    ahead.prepare(X25519)
    old = ahead._ahead[NamedGroup.x25519][1]
    clock.time += MOST_AGE + 0.1
    assert ahead.generate(X25519) is not old
    assert not ahead._ahead


def test_a_share_that_will_soon_be_too_old_is_replaced() -> None:
    clock = Clock()
    ahead = KeySharesAhead(clock)
    ahead.prepare(X25519)
    first = ahead._ahead[NamedGroup.x25519]
    clock.time += MOST_AGE / 2
    ahead.prepare(X25519)
    assert ahead._ahead[NamedGroup.x25519] is first
    clock.time += 0.1
    ahead.prepare(X25519)
    assert ahead._ahead[NamedGroup.x25519] is not first


#: In a process of its own, for one with threads is not to be forked.
FORKING = """
import os
from trio_tls.key_shares import KEY_SHARES
from trio_tls.machine.tls13.groups import GROUPS, NamedGroup
group = GROUPS[NamedGroup.x25519]
KEY_SHARES.prepare(group)
reading, writing = os.pipe()
if not os.fork():
    os.write(writing, KEY_SHARES.generate(group).public)
    os._exit(0)
os.wait()
theirs, ours = os.read(reading, 100), KEY_SHARES.generate(group).public
print(len(theirs), len(ours), theirs == ours)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_row_49_a_fork_does_not_use_what_its_parent_may_use() -> None:
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["32", "32", "False"]


def test_row_49_a_copy_of_a_configuration_brings_no_share_with_it() -> None:
    for group in GROUPS.values():
        KEY_SHARES.prepare(group)
    with pytest.raises(TypeError, match="private keys"):
        copy.deepcopy(KEY_SHARES)
    config = ServerConfig(credentials=server_credential())
    for again in (copy.copy(config), config.replace(tickets=1), copy.deepcopy(ClientConfig(verify=accept_any_peer))):
        assert again.primitives.generate(X25519).public != public(KEY_SHARES)
    assert pickle.loads(pickle.dumps(ClientConfig(verify=accept_any_peer))).primitives.generate is PRIMITIVES.generate
    KEY_SHARES.forget()


def test_both_ends_make_the_next_share_while_they_wait() -> None:
    ours, theirs = Counted(), Counted()
    client = a_client(client_config(groups=[NamedGroup.x25519], primitives=ours.primitives()))
    server = a_server(server_config(groups=[NamedGroup.x25519], primitives=theirs.primitives()))
    client.do_handshake()
    assert not ours.prepared, "the hello leaves first"
    client.do_handshake()
    assert ours.prepared == ["x25519"]
    pass_on(client, server)
    server.do_handshake()
    assert not theirs.prepared, "the server's flight leaves first"
    server.do_handshake()
    assert theirs.prepared == ["x25519"]
    for _ in range(3):  # to look again makes no more of them
        client.do_handshake()
        server.do_handshake()
    pass_on(server, client)
    assert go_on(client) is None
    pass_on(client, server)
    assert server.do_handshake() is None
    assert (ours.prepared, theirs.prepared) == (["x25519"], ["x25519"])
    assert (len(ours.handed_out), len(theirs.handed_out)) == (1, 1)


def test_who_does_not_wait_makes_nothing_ahead() -> None:
    ours, theirs = Counted(), Counted()
    client = a_client(client_config(primitives=ours.primitives()))
    server = a_server(server_config(primitives=theirs.primitives()))
    while not (client.handshake_done and server.handshake_done):
        for end, peer in ((client, server), (server, client)):
            end.do_handshake()
            pass_on(end, peer)
    assert (ours.prepared, theirs.prepared) == ([], [])


def test_the_answer_to_a_hybrid_share_has_an_x25519_half_that_can_be_made_ahead() -> None:
    theirs = Counted()
    client, server = a_client(), a_server(server_config(primitives=theirs.primitives()))
    client.do_handshake()
    pass_on(client, server)
    server.do_handshake()
    server.do_handshake()
    assert theirs.prepared == ["x25519"]
    assert [share.group for share in theirs.handed_out] == [NamedGroup.x25519]
