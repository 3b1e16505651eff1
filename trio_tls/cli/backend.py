"""The backend of ``trio-tls proxy``: how a connection to it comes about, and what goes wrong with it, in words."""

from __future__ import annotations

import re
import ssl
from typing import TypeAlias

import trio

from ..config import ClientConfig
from ..errors import CertificateVerificationError, TLSError
from ..keylog import KeyLog
from ..stream import TLSStream
from . import verdict
from .address import Endpoint
from .configs import client_config
from .facts import certificate_facts
from .keylog_file import check_keylog
from .problem import ExitStatus, Problem, in_seconds, network_problem, no_host_name, problem_of
from .proxy_options import BackendTLS
from .reloaded import Reloaded
from .splice import End

__all__ = ["Backend", "broken"]

#: How TLS with it is spoken.
Config: TypeAlias = "ssl.SSLContext | ClientConfig"


class Backend:
    """Where the clients are taken.

    Args:
      where: its address.
      options: TLS with it; None: it speaks none.
      timeout: seconds for a connection, its handshake included.

    Attributes:
      address: its address, as text.
      config: how TLS with it is spoken; None: not at all.

    Raises:
      Problem: a file cannot be used.
    """

    def __init__(self, where: Endpoint, options: BackendTLS | None, timeout: float) -> None:
        self.address: str = str(where)
        self.config: Reloaded[Config] | None = None
        self._where = where
        self._name = None if options is None else options.server_name
        self._timeout = timeout
        self._keylog: KeyLog | None = None
        if options is not None:
            self.config = Reloaded(lambda: self._made(options), options.tls.paths, server_side=False)

    def _made(self, options: BackendTLS) -> Config:
        try:
            config = client_config(options)
        except Problem as problem:
            raise _of_its_options(problem) from problem
        if isinstance(config, ClientConfig):
            if self._keylog is None and isinstance(config.keylog, KeyLog):
                self._keylog = config.keylog
            config = config.replace(keylog=self._keylog)  # which remembers its failures
        return config

    async def connect(self, first: bytes) -> End:
        """A connection, with its handshake done; ``first`` goes before everything else.

        Raises:
          Problem: there is none to be had.
        """
        with trio.move_on_after(self._timeout):
            transport = await self._dial()
            try:
                if first:
                    try:
                        await transport.send_all(first)
                    except trio.BrokenResourceError as error:  # a backend that resets whoever comes
                        raise self.broken(error) from error
                if self.config is None:
                    return transport
                return await self._begin_tls(transport, self.config.current)
            except BaseException:
                await trio.aclose_forcefully(transport)
                raise
        sentence = f"no connection to the backend {self.address} within {in_seconds(self._timeout)}"
        raise Problem(ExitStatus.NETWORK, sentence, "It may be overloaded")

    async def _dial(self) -> trio.SocketStream:
        where = self._where
        try:
            if where.unix is not None:
                return await trio.open_unix_socket(where.unix)
            return await trio.open_tcp_stream(where.host, where.port)
        except OSError as error:
            problem = network_problem(error, self.address)
            raise Problem(problem.status, f"the backend is not there: {problem.sentence}", problem.hint) from error
        except ValueError as error:
            raise no_host_name(where.host) from error

    async def _begin_tls(self, transport: trio.SocketStream, config: Config) -> End:
        try:
            stream = TLSStream(transport, config, server_hostname=self._name)
        except ValueError as error:  # the name is all that the options have not checked before
            raise no_host_name(str(self._name)) from error
        try:
            await stream.do_handshake()
        except CertificateVerificationError as error:
            presented = tuple(map(certificate_facts, error.presented_chain))
            raise self._about_tls(verdict.rejected(error, presented, self._name)) from error
        except trio.BrokenResourceError as error:
            raise self._about_tls(problem_of(error, self.address)) from error
        return stream

    def _about_tls(self, problem: Problem | None) -> Problem:
        assert problem is not None  # a stream raises nothing but what has words
        sentence = f"TLS with the backend {self.address}: {problem.sentence}"
        return _of_its_options(Problem(problem.status, sentence, problem.hint, error=problem.error))

    def broken(self, error: BaseException) -> Problem:
        """What has broken, in words."""
        problem = broken(error, self.address)
        sentence = f"the backend{'' if self.address in problem.sentence else f' {self.address}'}: {problem.sentence}"
        return _of_its_options(Problem(problem.status, sentence, problem.hint, error=problem.error))

    def check_keylog(self) -> None:
        """Raise a `Problem` if secrets of connections could not be written to ``--keylog``."""
        if self.config is not None:
            check_keylog(self.config.current)


def _of_its_options(problem: Problem) -> Problem:
    """The same, with the names that options have here which are about the backend."""

    def renamed(text: str) -> str:
        text = text.replace("--server-name", "--backend-name").replace("--insecure", "--backend-insecure")
        return re.sub(r"--(cert|key-password-file|key|ca-file|alpn)\b", r"--backend-\1", text)

    return Problem(problem.status, renamed(problem.sentence), renamed(problem.hint), error=problem.error)


def broken(error: BaseException, where: str) -> Problem:
    """What has broken at this end of a splice, in words."""
    if not isinstance(error, TLSError) and isinstance(error.__cause__, OSError):
        error = error.__cause__  # trio's own errors tell nothing that this does not
    return problem_of(error, where) or Problem(ExitStatus.NETWORK, str(error))
