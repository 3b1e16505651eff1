"""``trio-tls connect``: a TLS client for people and scripts.

How this works. `Attempt` opens one connection, and knows how far it has come, so that a timeout and a failure can
say what they have interrupted. `Client` is the whole command: connect, report, then talk, or close and reconnect.
Everything that may fail raises; `run` turns it into one sentence, or one JSON object, and the exit status.
"""

from __future__ import annotations

import argparse
import json
import ssl
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

from ..config import ClientConfig
from ..errors import CertificateVerificationError, TransportError, UnexpectedEOF
from ..machine.tls13.sessions import Session
from ..stream import TLSStream
from . import ladder, report, sessions, starttls, verdict
from .address import joined, peer_address
from .configs import client_config, judged
from .console import OutputClosed
from .facts import CertificateFacts, ConnectionFacts, certificate_facts, connection_facts
from .files import unusable
from .keylog_file import check_keylog
from .ladder_svg import drawn
from .options import ConnectOptions
from .paper import Paper, Row
from .problem import ExitStatus, Problem, in_seconds, interruption, leaves, no_host_name, problem_of
from .relay import StandardOutput, relay
from .trace import Trace

__all__ = ["run"]

WARNING = "WARNING: --insecure: the server's certificate is NOT checked; anybody can be at the other end"

#: Seconds that a server may take to answer our close, where its answer is waited for, and bytes it may still send.
FAREWELL = 2.0
FAREWELL_LIMIT = 1024 * 1024


def run(arguments: argparse.Namespace) -> int:
    """Run the command; the exit status.

    Raises:
      Problem: it failed, and that has to be told as text.
    """
    options = ConnectOptions.of(arguments)
    paper = Paper(sys.stderr)
    client = Client(options, paper)
    try:
        if options.insecure:
            paper.line(WARNING, "bold red")
        config = client_config(options, client.trace)
        # Ctrl-C arrives at the main task's waits, where connections are closed as ever.
        trio.run(client.run, config, restrict_keyboard_interrupt_to_checkpoints=True)
        check_keylog(config)
    except BaseException as error:
        problem = client.problem_of(error)
        if problem is None:
            raise
        if not options.json:
            raise problem from error
        _print_json(client.as_json(problem))
        return problem.status
    if options.json:
        _print_json(client.as_json(None))
    return ExitStatus.OK


def _print_json(facts: dict[str, object]) -> None:
    Paper(sys.stdout).line(json.dumps(facts, indent=2))


class Attempt:
    """One connection, from nothing to the end of the handshake.

    Attributes:
      phase: what is being done, for the sentence of a timeout.
      address: the address that was reached; ``""`` before.
      greeting: what the server said before TLS.
      seconds: how long the connection and the handshake took.
    """

    def __init__(self, options: ConnectOptions) -> None:
        self._options = options
        self.phase: str = "no connection to"
        self.address: str = ""
        self.greeting: str | None = ""
        self.seconds: dict[str, float] = {}

    async def open(
        self,
        config: ssl.SSLContext | ClientConfig,
        session: ssl.SSLSession | Session | None,
        trace: Trace | None,
    ) -> TLSStream[trio.SocketStream]:
        """Connect, speak STARTTLS if asked for, and do the handshake, all within the timeout.

        Raises:
          Problem: it took too long, or STARTTLS did not come about.
          OSError: no connection could be made.
          TLSError: the handshake failed.
        """
        options = self._options
        with trio.move_on_after(options.timeout):
            with self._timed("connect"):
                transport = await self._dial()
            self.address = peer_address(transport)
            try:
                if options.starttls:
                    self.phase = "no STARTTLS with"
                    self.greeting = await starttls.upgrade(transport, options.starttls)
                self.phase = "no TLS handshake with"
                if trace is not None:
                    trace.begin(target(options))
                stream = self._wrap(transport, config, session)
                try:
                    with self._timed("handshake"):
                        await stream.do_handshake()
                except BaseException:
                    await stream.aclose()
                    raise
            except BaseException:
                await trio.aclose_forcefully(transport)
                raise
            return stream
        raise Problem(
            ExitStatus.NETWORK,
            f"{self.phase} {target(options)} within {in_seconds(options.timeout)}",
            "It may be another protocol's port, or overloaded" if self.address else "A firewall may drop the packets",
        )

    async def _dial(self) -> trio.SocketStream:
        options = self._options
        try:
            if options.unix is not None:
                return await trio.open_unix_socket(options.unix)
            assert options.host is not None  # the options are one or the other
            return await trio.open_tcp_stream(options.host, options.port)
        except ValueError as error:  # UnicodeError among them: a name that IDNA cannot encode
            raise no_host_name(options.host or target(options)) from error

    def _wrap(
        self,
        transport: trio.SocketStream,
        config: ssl.SSLContext | ClientConfig,
        session: ssl.SSLSession | Session | None,
    ) -> TLSStream[trio.SocketStream]:
        name = self._options.server_name
        try:
            return TLSStream(transport, config, server_hostname=name, session=session)
        except ValueError as error:  # the name is all that the options have not checked before
            raise no_host_name(str(name)) from error

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        before = time.perf_counter()
        yield
        self.seconds[what] = round(time.perf_counter() - before, 6)

    def as_json(self) -> dict[str, object]:
        """How the connection came about."""
        return {"address": self.address or None, "greeting": self.greeting or None, "seconds": self.seconds}


def target(options: ConnectOptions) -> str:
    """What to connect to, as a person writes it."""
    return f"unix:{options.unix}" if options.host is None else joined(options.host, options.port)


class Client:
    """The command: connect, report, talk; or connect again and again.

    Args:
      options: what was asked for.
      paper: where the report goes.

    Attributes:
      trace: is told every message, if that was asked for.
    """

    def __init__(self, options: ConnectOptions, paper: Paper) -> None:
        self._options = options
        self._paper = paper
        self._attempts: list[Attempt] = []
        self._facts: list[ConnectionFacts] = []
        self._presented: tuple[CertificateFacts, ...] = ()
        self._unchecked = ""
        self._not_offered: str | None = None
        self.trace: Trace | None = Trace() if options.trace or options.trace_svg else None

    async def run(self, config: ssl.SSLContext | ClientConfig) -> None:
        """Do it all.

        Raises:
          BaseException: everything that ends it before its time, alone or in groups; `problem_of` sorts it.
        """
        session: ssl.SSLSession | Session | None = self._session_to_begin_with(config)
        for number in range(1 + self._options.reconnect):
            async with self._connection(number, config, session) as stream:
                if self._options.check:
                    await _farewell(stream)
                else:
                    await self._talk(stream)
            session = stream.session

    @asynccontextmanager
    async def _connection(
        self, number: int, config: ssl.SSLContext | ClientConfig, session: ssl.SSLSession | Session | None
    ) -> AsyncIterator[TLSStream[trio.SocketStream]]:
        """One connection, reported; at its end its session is saved, and the rest of its trace is told."""
        attempt = Attempt(self._options)
        self._attempts.append(attempt)
        if self._options.report:
            self._paper.rows([Row("connecting", f"to {target(self._options)}", "dim")])
        try:
            async with await attempt.open(config, session, self.trace) as stream:
                self._handshake_done(number, attempt, stream)
                try:
                    yield stream
                finally:
                    self._keep_session(stream)
        finally:
            self._show_trace()
        if self._options.session_out and stream.session is None:
            raise Problem(
                ExitStatus.TLS,
                "there is no session to save: the server has sent no ticket",
                "It may resume no sessions, or send tickets only with its first data",
            )

    def _handshake_done(self, number: int, attempt: Attempt, stream: TLSStream[trio.SocketStream]) -> None:
        if self.trace is not None and stream.info is not None:
            self.trace.mark(f"handshake done: {stream.info.cipher_suite}, {stream.info.group}")
        facts = connection_facts(stream, verified=not self._options.insecure)
        self._facts.append(facts)
        if self._options.insecure and not number:
            self._unchecked = self._judgement(stream)
        if self._options.report:
            self._report(number, attempt, facts)
        self._show_trace()

    def _judgement(self, stream: TLSStream[trio.SocketStream]) -> str:
        """What verification would have said; nothing where it would have been OpenSSL's."""
        options = self._options
        if options.tls.openssl or options.server_name is None:
            return ""
        assert stream.info is not None  # the handshake is done
        outcome = judged(options.tls, stream.info.peer_chain, options.server_name)
        return "; " + verdict.unchecked(outcome, self._facts[0].presented_chain, options.server_name)

    # -- sessions --------------------------------------------------------------------------------------------

    def _session_to_begin_with(self, config: ssl.SSLContext | ClientConfig) -> Session | None:
        options = self._options
        if options.session_out:
            sessions.check_place(options.session_out)
        if not options.session_in:
            return None
        assert isinstance(config, ClientConfig)  # the options see to that
        session = sessions.load(options.session_in)
        self._not_offered = sessions.refused(session, config, options.server_name)
        return None if self._not_offered else session

    def _keep_session(self, stream: TLSStream[trio.SocketStream]) -> None:
        if self._options.session_out and isinstance(stream.session, Session):
            sessions.save(stream.session, self._options.session_out)

    # -- the trace -------------------------------------------------------------------------------------------

    def _show_trace(self) -> None:
        """What the trace has got since it was shown last; the picture always shows everything."""
        options, trace = self._options, self.trace
        if trace is None or not trace.connections:
            return
        if options.trace_svg:
            try:
                Path(options.trace_svg).write_text(drawn(trace.connections), encoding="utf-8")
            except OSError as error:
                raise unusable("--trace-svg", options.trace_svg, error) from error
        if not options.trace or options.json:
            return
        connection = trace.connections[-1]
        if not connection.shown:
            self._print(ladder.heading(connection))
        self._print(ladder.lines(connection, connection.shown))
        connection.shown = len(connection.rungs)

    def _print(self, lines: Iterator[list[ladder.Segment]]) -> None:
        plain = not self._paper.shows(ladder.DRAWN)
        for line in lines:
            self._paper.segments([(text.translate(ladder.ASCII), style) for text, style in line] if plain else line)

    # -- the conversation ------------------------------------------------------------------------------------

    async def _talk(self, stream: TLSStream[trio.SocketStream]) -> None:
        options = self._options
        if options.report and options.read_input and sys.stdin.isatty():
            self._paper.line("What you type goes to the server; Ctrl-D ends it.", "dim")
        output = StandardOutput(sys.stdout.fileno(), raw=options.raw)
        await relay(stream, output, input_descriptor=sys.stdin.fileno() if options.read_input else None)
        if options.report:
            self._paper.line("The server has ended the connection in order (close_notify).", "dim")

    # -- the report ------------------------------------------------------------------------------------------

    def _report(self, number: int, attempt: Attempt, facts: ConnectionFacts) -> None:
        milliseconds = {what: f"{1000 * seconds:.1f} ms" for what, seconds in attempt.seconds.items()}
        rows = [
            Row(
                "connected",
                f"to {attempt.address} in {milliseconds['connect']}, TLS in {milliseconds['handshake']}",
                "bold",
            )
        ]
        if number:
            rows.append(self._session_row(number, facts))
            self._paper.rows(rows)
            return
        if self._options.starttls:
            said = f', greeted with "{attempt.greeting}"' if attempt.greeting else ""
            rows.append(Row("STARTTLS", f"{self._options.starttls}{said}"))
        rows += report.agreed(facts, self._options.tls.alpn)
        rows.append(self._session_row(number, facts))
        rows += report.chain("presented", facts.presented_chain)
        if facts.verified_chain:
            rows += report.chain("verified", facts.verified_chain, facts.presented_chain)
        status, reason = self._verification(facts)
        rows.append(Row("verification", f"{status}: {reason}", "green" if status == "passed" else "bold red"))
        self._paper.rows(rows)

    def _session_row(self, number: int, facts: ConnectionFacts) -> Row:
        if facts.session_reused:
            return Row("session", "resumed", "green")
        if self._not_offered and not number:
            return Row("session", f"new: the saved one cannot be resumed: {self._not_offered}", "yellow")
        resuming = number or self._options.session_in
        return Row("session", "new: the server did not resume it" if resuming else "new")

    def _verification(self, facts: ConnectionFacts) -> tuple[str, str]:
        if self._options.insecure:
            return "NOT CHECKED", f"--insecure was given{self._unchecked}"
        assert self._options.server_name is not None  # the options see to that
        return "passed", verdict.passed(facts.verified_chain, self._options.server_name)

    # -- the end ---------------------------------------------------------------------------------------------

    def problem_of(self, error: BaseException) -> Problem | None:
        """What ended the command, as a `Problem`; None if it is none.

        Where the server's certificate was rejected, what it presented is reported too.
        """
        causes = list(leaves(error))
        if any(isinstance(cause, KeyboardInterrupt) for cause in causes):
            return interruption() if self._options.json else None
        if any(isinstance(cause, OutputClosed) for cause in causes):
            return None
        for leaf in causes:
            if isinstance(leaf, CertificateVerificationError):
                self._presented = tuple(map(certificate_facts, leaf.presented_chain))
                if self._options.report:
                    self._paper.rows(report.chain("presented", self._presented))
                return verdict.rejected(leaf, self._presented, self._options.server_name)
            problem = problem_of(leaf, target(self._options), openssl=self._options.tls.openssl)
            if problem is not None:
                return problem
        return None

    def as_json(self, problem: Problem | None) -> dict[str, object]:
        """Everything that is known, for ``--json``."""
        options = self._options
        status = ExitStatus.OK if problem is None else problem.status
        facts: dict[str, object] = {
            "ok": problem is None,
            "exit_status": int(status),
            "target": target(options),
            "starttls": options.starttls,
            "insecure": options.insecure,
        }
        if self._attempts:
            facts |= self._attempts[0].as_json()
        if self._facts:
            facts |= self._facts[0].as_json()
            facts["verification"] = dict(zip(("status", "reason"), self._verification(self._facts[0]), strict=True))
        elif status is ExitStatus.VERIFICATION and problem is not None:
            facts["presented_chain"] = [each.as_json() for each in self._presented]
            facts["verification"] = {"status": "failed", "reason": problem.sentence}
        facts["reconnects"] = [
            attempt.as_json() | {"session_reused": each.session_reused}
            for attempt, each in zip(self._attempts[1:], self._facts[1:], strict=False)
        ]
        if self._not_offered:
            facts["session_not_offered"] = self._not_offered
        if self._options.trace and self.trace is not None:
            facts["trace"] = [[rung.as_json() for rung in each.rungs] for each in self.trace.connections]
        facts["error"] = None if problem is None else problem.as_json()
        return facts


async def _farewell(stream: TLSStream[trio.SocketStream]) -> None:
    """Close in order, and hear whether the server objects to us.

    In TLS 1.3 the client's handshake is done before the server has seen the client's certificate, so a
    rejection comes only now. The session tickets come now, too, at the latest.

    Raises:
      AlertReceived: the server objects.
    """
    with trio.move_on_after(FAREWELL):
        try:
            await stream.send_eof()
            received = 0
            while received < FAREWELL_LIMIT and (data := await stream.receive_some()):
                received += len(data)
        except (UnexpectedEOF, TransportError):
            pass  # we have ended in order; how rudely the server does was not asked
