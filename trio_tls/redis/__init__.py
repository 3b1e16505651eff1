"""Sharing sessions and ticket secrets between hosts, over Redis.

Nothing to install: the few commands that are needed are spoken over a Trio stream (`trio_tls.redis.client`), by
TLS if you like.
"""

from .client import Redis, RedisError
from .stores import RedisSessionStore, RedisTicketSecrets

__all__ = ["Redis", "RedisError", "RedisSessionStore", "RedisTicketSecrets"]
