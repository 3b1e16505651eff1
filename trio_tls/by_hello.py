"""One port, many configurations: the ClientHello decides which one serves a client.

How this works. A `ConfigByHello` stands where an `ssl.SSLContext` or a `ServerConfig` could stand: in a `TLSStream`, in
a `TLSListener`. The machine that it makes (`trio_tls.machine.choosing`) reads the ClientHello and asks the function,
once for a connection; the task that does the handshake awaits the answer, under its own cancel scope, and whoever calls
again after a cancel asks again. The configuration that the function returns then serves the client from the first byte
on. `ConfigsByName` is such a function made of a table.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias, cast

import trio

from .blocking_contexts import off_the_loop
from .machine.choosing import ChoosingMachine
from .machine.factory import create_machine
from .machine.interface import Machine, MachineFactory, NeedServerConfig
from .names import listed, normalised, quoted, server_subject, wildcard_of
from .peek import MAX_BYTES

__all__ = ["ConfigByHello", "ConfigsByName"]

#: What can serve a client.
Served: TypeAlias = "ssl.SSLContext | MachineFactory"

#: Chooses; sync or async.
Choose: TypeAlias = "Callable[[NeedServerConfig], Served | Awaitable[Served | None] | None]"


class ConfigByHello:
    """A configuration: a function that sees the ClientHello says which configuration serves the client.

    ::

        async def choose(need: NeedServerConfig) -> ssl.SSLContext | None:
            site = await database.site_named(need.hello.server_name)
            return None if site is None else site.context

        await serve_tls_over_tcp(handler, 443, ConfigByHello(choose))

    It works with either TLS, and may choose a `ServerConfig` for one client and an `ssl.SSLContext` for the next.
    `ConnectionInfo.server_name` tells the name that was asked for, with an ``ssl.SSLContext`` too.

    Args:
      choose: given a `NeedServerConfig`; ``need.hello`` is what the client offers. Returns an `ssl.SSLContext` or a
        `ServerConfig` (or what else makes its own machines), or None: then the handshake fails with the alert
        unrecognized_name. It may be async, and take its time: only this client waits, until its handshake times out.
        It is asked once for a connection, and again only if the handshake was cancelled while it was at work. An
        exception from it fails the handshake with the alert internal_error, or with the one of a `TLSError` that it
        raises.
      max_bytes: how long a ClientHello may be, the headers of its records included.

    Raises:
      TypeError: ``choose`` cannot be called.
      ValueError: ``max_bytes`` makes no sense.
    """

    def __init__(self, choose: Choose, *, max_bytes: int = MAX_BYTES) -> None:
        if not callable(choose):
            raise TypeError(f"choose must be a function of a NeedServerConfig, not {type(choose).__name__}")
        if max_bytes < 5:
            raise ValueError(f"max_bytes must be at least 5, not {max_bytes!r}")
        self._choose = choose
        self._max_bytes = max_bytes

    def create_machine(self, *, server_side: bool, server_hostname: str | None, session: object | None) -> Machine:
        """A machine for one connection; see `MachineFactory`."""
        if not server_side:
            raise ValueError(f"a {type(self).__name__} is for servers; pass server_side=True")
        if server_hostname is not None:
            raise ValueError("server_hostname is for clients; a server serves whoever asks")
        if session is not None:
            raise ValueError("session is for clients; a server finds its sessions by itself")
        return cast("Machine", ChoosingMachine(self._choose, _server_machine, max_bytes=self._max_bytes))


class ConfigsByName(ConfigByHello):
    """A configuration: a table of configurations, by the name that the client asks for (SNI, RFC 6066 section 3).

    The very name goes before a wildcard for it; a wildcard stands for exactly one label. (Where all sites differ in
    nothing but their certificates and all are served by our own machine, a `ServerConfig` with `CredentialsByName` is
    simpler.)

    Args:
      configs: by host name or IP address, such as ``"example.org"`` or ``"*.example.org"``; an `ssl.SSLContext` or a
        `ServerConfig` for each. International names are encoded by IDNA 2008.
      default: what serves clients that ask for another name, or for none. None: nothing does; the handshake fails with
        the alert unrecognized_name, so that nobody is shown the certificate of another site.
      max_bytes: as for `ConfigByHello`.

    Raises:
      ValueError: the table is empty, a name is none that a client could ask for, or a configuration cannot serve; the
        text names it.
      TypeError: an entry is no configuration.
    """

    def __init__(
        self, configs: Mapping[str, Served], *, default: Served | None = None, max_bytes: int = MAX_BYTES
    ) -> None:
        super().__init__(self.choose, max_bytes=max_bytes)
        self._configs: dict[str, Served] = {}
        self._default = default
        for name, config in configs.items():
            _check(config, f"the configuration for {quoted(name)}")
            self._configs[_name(name)] = config
        if default is not None:
            _check(default, "the default configuration")
        if not self._configs:
            raise ValueError("there is no name in the table: give at least one")

    def choose(self, need: NeedServerConfig) -> Served | None:
        """The configuration for this client, or None: for a `ConfigByHello` that asks a table among other things."""
        asked = need.hello.server_name
        if asked is None:
            return self._default
        name = normalised(asked)
        return self._configs.get(name) or self._configs.get(wildcard_of(name) or "") or self._default

    def __repr__(self) -> str:
        return f"<ConfigsByName for {listed(self._configs)}, default={self._default!r}>"


def _server_machine(config: object) -> Machine:
    return create_machine(off_the_loop(config), server_side=True, server_hostname=None, session=None)


def _check(config: Served, what: str) -> None:
    """Raise now what the first client would meet."""
    try:
        machine = _server_machine(config)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what} cannot be used: {error}") from error
    if isinstance(machine, ChoosingMachine):
        raise ValueError(f"{what} cannot be used: it would choose by the ClientHello once more")


def _name(name: str) -> str:
    """A name of the table as clients ask for it: A-labels, lower case."""
    star, host = ("*.", name[2:]) if name.startswith("*.") else ("", name)
    try:
        encoded = normalised(trio.lowlevel.encode_hostname(host).decode("ascii"))
        server_subject(encoded)
    except ValueError as error:  # UnicodeError is one
        raise ValueError(f"{quoted(name)} is no name that a client could ask for: {error}") from error
    return star + encoded
