"""What a server of the command presents: one certificate or several, from files that are read again.

How this works. Each certificate has a configuration that presents it alone, and that is made anew when its files change
(`trio_tls.cli.reloaded`); so one that is broken keeps none of the others from being renewed. The `Site` joins what is
newest: on our own machine into one configuration with all credentials (`CredentialsByName`), with ``--openssl`` into a
table of contexts (`ConfigsByName`). What has to outlive all of this belongs to the site: the keys of the tickets, and
the key log, which remembers its failures.

A site is made before anything listens, so that a mistake is told at the start; with workers, before they are forked, so
that they have the same ticket keys.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509

from ..blocking_contexts import off_the_loop
from ..by_hello import ConfigsByName
from ..config import ServerConfig
from ..credentials import Credential, CredentialsByName
from ..machine.factory import create_machine
from ..names import names_of, server_subject
from ..redis import Redis, RedisError, RedisTicketSecrets
from ..ticket_secrets import SharedTicketKeys, TicketSecret, TicketSecretFile, TicketSecretStore
from .certificates import Issued
from .configs import server_config
from .files import usage
from .keylog_file import check_keylog
from .options import TLSOptions
from .problem import ExitStatus, Problem
from .reloaded import Reloaded
from .server_options import ServerTLS
from .throw_away import throw_away

if TYPE_CHECKING:
    from ..listener import TLSListener
    from ..machine.interface import Machine

__all__ = ["Site", "site_of"]

#: Seconds after which secrets that are shared are replaced.
ROTATE_AFTER = 30 * 24 * 3600

#: What a URL of Redis begins with.
REDIS = ("redis://", "rediss://", "unix://")


@contextmanager
def site_of(options: ServerTLS, *, several: bool) -> Iterator[Site]:
    """What is presented, as long as the server runs.

    Args:
      options: what was asked for.
      several: whether several processes are to serve it.

    Raises:
      Problem: a file cannot be used.
    """
    if options.self_signed is None:
        yield Site(options, several=several)
        return
    with throw_away(options.self_signed, options.write_ca) as (issued, authority):
        yield Site(options, issued, authority, several=several)


@dataclass(frozen=True, slots=True)
class _Presented:
    """A configuration with one certificate, and the names of that certificate which a client may ask for."""

    config: ssl.SSLContext | ServerConfig
    names: tuple[str, ...]

    def create_machine(self, *, server_side: bool, server_hostname: str | None, session: object | None) -> Machine:
        config = off_the_loop(self.config)
        return create_machine(config, server_side=server_side, server_hostname=server_hostname, session=session)


class Site:
    """The configuration of a server, and how it changes.

    Args:
      options: what was asked for.
      issued: a throw-away certificate, or None: there are files.
      authority: where the CA of the throw-away certificate lies.
      several: whether several processes are to serve it.

    Attributes:
      authority: as given.

    Raises:
      Problem: a file cannot be used.
    """

    def __init__(
        self, options: ServerTLS, issued: Issued | None = None, authority: Path | None = None, *, several: bool
    ) -> None:
        self.authority: Path | None = authority
        self._options = options
        self._issued = issued
        self._listeners: Sequence[TLSListener[Any]] = ()
        self._told: Callable[[Exception | None, str | None], object] = _nobody
        self._each = [
            Reloaded(partial(self._presented, number, tls), tls.paths, server_side=True)
            for number, tls in enumerate(options.presented)
        ]
        for number, each in enumerate(self._each):
            each.told = partial(self._reloaded, number)
        #: The one that was made last has the newest of what they have in common: the CAs of the clients.
        self._newest = self._each[0]
        first = self._each[0].current.config
        self._keylog = first.keylog if isinstance(first, ServerConfig) else None
        self._keys = first.ticket_keys if isinstance(first, ServerConfig) else None
        if several and isinstance(first, ServerConfig):
            self._keys = SharedTicketKeys([TicketSecret(os.urandom(32))])
        self._config = self._joined()

    @property
    def config(self) -> ssl.SSLContext | ServerConfig | ConfigsByName:
        """The newest configuration."""
        return self._config

    async def prepare(self) -> None:
        """Read the ticket secrets, in the process that serves: it takes an event loop, which no fork may copy.

        Raises:
          Problem: they cannot be had.
        """
        if self._options.ticket_secrets is not None:
            self._keys = await _loaded(self._options.ticket_secrets)
            self._config = self._joined()

    # -- the certificates ------------------------------------------------------------------------------------

    def _presented(self, number: int, tls: TLSOptions) -> _Presented:
        """What presents this certificate."""
        options = self._options
        config = server_config(tls, options.client_cert, self._issued)
        if len(options.presented) == 1 and not options.refuses_names:
            return _Presented(config, ())  # whoever asks for what
        names = tuple(name for name in _names(config, tls, self._issued) if _can_be_asked_for(name))
        if not names and (number > 0 or options.refuses_names):
            raise usage(
                f"no client can ask for the certificate in {tls.certificate}: it has no names in its subjectAltName",
                "Issue it for the names of its site; only the first may be without, to be shown to whoever else comes",
            )
        return _Presented(config, names)

    def _joined(self) -> ssl.SSLContext | ServerConfig | ConfigsByName:
        """All of them, as they are now."""
        every = [each.current for each in self._each]
        one = len(every) == 1 and not self._options.refuses_names
        newest = self._newest.current.config
        if isinstance(newest, ServerConfig):
            config = newest.replace(ticket_keys=self._keys, keylog=self._keylog)
            return config if one else config.replace(credentials=self._credentials(every))
        if one:
            return newest
        configs: dict[str, ssl.SSLContext | ServerConfig] = {}
        for each in every:
            for name in each.names:
                configs.setdefault(name, each.config)
        return ConfigsByName(configs, default=None if self._options.refuses_names else every[0].config)

    def _credentials(self, every: Sequence[_Presented]) -> CredentialsByName:
        found = [(each, each.config.credentials) for each in every if isinstance(each.config, ServerConfig)]
        several = [(each, one) for each, one in found if isinstance(one, Credential)]
        default = None if self._options.refuses_names else several[0][1]
        return CredentialsByName([one for each, one in several if each.names], default=default)

    def _reloaded(self, number: int, failure: Exception | None) -> None:
        if failure is None:
            self._newest = self._each[number]
            self._config = self._joined()
            for each in self._listeners:
                each.config = self._config
        self._told(failure, self._options.presented[number].certificate if len(self._each) > 1 else None)

    # -- as long as it serves --------------------------------------------------------------------------------

    def serve(
        self, listeners: Sequence[TLSListener[Any]], told: Callable[[Exception | None, str | None], object]
    ) -> list[Reloaded[Any]]:
        """Keep these listeners up to date.

        Args:
          listeners: of this process.
          told: called after each attempt to read files again, with None, or with what is wrong with them; and with
            the certificate that it is about, if there are several.

        Returns: what `keep` has to keep.
        """
        self._listeners, self._told = listeners, told
        return list(self._each)

    async def follow_ticket_secrets(self) -> None:
        """Keep up with the secrets of the session tickets. For ever, or not at all."""
        if isinstance(self._keys, SharedTicketKeys) and self._options.ticket_secrets is not None:
            async with _store(self._options.ticket_secrets) as store:
                await self._keys.follow(store, rotate_after=ROTATE_AFTER)

    def check_keylog(self) -> None:
        """Raise a `Problem` if secrets of connections could not be written to ``--keylog``."""
        check_keylog(self._config)


def _nobody(failure: Exception | None, certificate: str | None) -> None:
    """Nobody is to be told yet."""


# -- names ---------------------------------------------------------------------------------------------------


def _names(config: ssl.SSLContext | ServerConfig, tls: TLSOptions, issued: Issued | None) -> tuple[str, ...]:
    """The names of the certificate that is presented. A context does not tell."""
    if issued is not None:
        return issued.credential.names
    if isinstance(config, ServerConfig) and isinstance(config.credentials, Credential):
        return config.credentials.names
    try:
        return names_of(x509.load_pem_x509_certificates(Path(tls.certificate or "").read_bytes())[0])
    except ValueError as error:
        sentence = f"the names of the certificate in {tls.certificate} cannot be read: {error}"
        raise usage(sentence, "Have it issued again; trio-tls check tells more about it") from error


def _can_be_asked_for(name: str) -> bool:
    """Whether a client can ask for this name of a certificate, itself or, of a wildcard, for one that it stands for."""
    try:
        server_subject(name.removeprefix("*."))
    except ValueError:
        return False
    return True


# -- ticket secrets ------------------------------------------------------------------------------------------


async def _loaded(where: str) -> SharedTicketKeys:
    try:
        async with _store(where) as store:
            return await SharedTicketKeys.load(store)
    except (OSError, ValueError) as error:
        raise usage(f"--ticket-secrets: {error}", "Give a file, or the URL of a Redis server") from error
    except RedisError as error:
        raise Problem(ExitStatus.NETWORK, f"--ticket-secrets: {error}", "Check the URL, and Redis's own log") from error


@asynccontextmanager
async def _store(where: str) -> AsyncIterator[TicketSecretStore]:
    redis = Redis.from_url(where) if where.startswith(REDIS) else None
    manager: Any = nullcontext() if redis is None else redis
    async with manager:
        yield TicketSecretFile(where) if redis is None else RedisTicketSecrets(redis)
