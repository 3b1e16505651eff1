"""Sessions that outlive a process, and tickets that several hosts take."""

import secrets
from pathlib import Path
from typing import Any

from trio_tls import (
    Credential,
    ServerConfig,
    Session,
    TicketKeys,
    TLSStream,
)


def save(stream: TLSStream[Any], path: Path) -> None:
    """At the end of the program, when no other connection will use it."""
    if isinstance(stream.session, Session):
        path.touch(mode=0o600)  # whoever reads it can be this client
        path.write_bytes(stream.session.to_bytes())


def load(path: Path) -> Session | None:
    """For the first connection: ``session=load(path)``."""
    try:
        session = Session.from_bytes(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    path.unlink()  # a session is used once
    return session


def one_of_several_hosts(certificate: str, secret: bytes) -> ServerConfig:
    """``secret``: 32 random bytes, the same on each host."""
    keys = TicketKeys.from_secret(secret, secrets.token_bytes)
    return ServerConfig(
        credentials=Credential.from_files(certificate), ticket_keys=keys
    )
