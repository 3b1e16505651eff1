"""The machine of a server that looks at the ClientHello before it is decided how to go on.

How this works. `ChoosingMachine` reads until the ClientHello is there, and asks the application with a
`NeedServerConfig`, as our own machine does. What the application answers makes the machine that this connection goes
on with: any machine that can take over our two BIOs. The bytes are put back, so it reads them from the first on. Once
its handshake is done its methods become ours, so that nothing stands between the pump and it.

Nothing is sent before the choice, but an alert if there is none: to a client that speaks no TLS, or that asks for a
name that nobody serves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from ..alerts import Alert
from ..errors import NoSharedParameters, TLSError, UnexpectedEOF, as_ssl_says
from .bio import MemoryBIO
from .client_hello import ClientHelloInfo, ClientHelloReader
from .interface import ConnectionInfo, NeedServerConfig, Want
from .tls13.exchange import Steps, ask, nobody
from .tls13.misbehaviour import not_tls

if TYPE_CHECKING:
    from .interface import Introspection, Machine, Need

__all__ = ["ChoosingMachine", "machine_behind"]

#: As for the other machines, whose BIO it becomes.
OUTGOING_LIMIT = 256 * 1024

#: How much of what is no TLS is shown.
FIRST_BYTES = 16


class ChoosingMachine:
    """One server's end of one connection. See `trio_tls.machine.interface.Machine`.

    Args:
      choose: the application's function, sync or async: which configuration shall serve this client. None: none.
      make: makes the machine of a configuration; ValueError or TypeError if it cannot be used.
      max_bytes: how long a ClientHello may be.
    """

    server_side = True
    server_hostname = None

    def __init__(
        self, choose: Callable[[NeedServerConfig], object], make: Callable[[object], Machine], *, max_bytes: int
    ) -> None:
        self.incoming: MemoryBIO = MemoryBIO()
        self.outgoing: MemoryBIO = MemoryBIO(limit=OUTGOING_LIMIT)
        self.handshake_done: bool = False
        self.info: ConnectionInfo | None = None
        self.chosen: Machine | None = None
        """The machine that this connection goes on with, once that is known."""
        self._application = choose
        self._make = make
        self._reader = ClientHelloReader(max_bytes)
        self._hello: ClientHelloInfo | None = None
        self._steps: Steps[Machine] | None = self._choose()
        self._failure: TLSError | None = None
        self.read_into: Callable[[memoryview], int | Want] = self._read_too_early
        self.read_short: Callable[[int], bytes | None] = self._read_nothing
        self.write: Callable[[memoryview], int | Want] = self._read_too_early

    def do_handshake(self) -> Want | Need | None:
        if self.handshake_done:
            return None
        if self._failure is not None:
            raise self._failure.again()
        if self.chosen is None:
            try:
                want = self._step()
            except TLSError as error:
                self._fail(error)
            except BaseException:
                # Ctrl-C in a function of the application, as a rule: it has ended the generator.
                self._failure = TLSError("the handshake was interrupted")
                raise
            if self.chosen is None:
                return want
        want = self.chosen.do_handshake()
        if want is None:
            self._go_on_with(self.chosen)
        return want

    def _step(self) -> Want | Need | None:
        assert self._steps is not None  # as long as nothing has failed, and nothing is chosen
        try:
            return next(self._steps)
        except StopIteration as done:
            self.chosen, self._steps = done.value, None
            self._reader = ClientHelloReader(0)  # its bytes are the machine's now
            return None

    def _choose(self) -> Steps[Machine]:
        """Read the ClientHello, and ask the application."""
        reader, incoming = self._reader, self.incoming
        while not reader.decided:
            if incoming.pending or incoming.eof:
                reader.feed(incoming.read())
            else:
                yield Want.READ
        if reader.failure is not None:
            raise reader.failure
        self._hello = reader.outcome()
        if self._hello is None:
            if not reader.data:
                raise UnexpectedEOF(
                    "the peer closed the connection without answering the handshake",
                    hint="It may have looked whether somebody listens here, and no more",
                )
            raise not_tls(bytes(reader.data[:FIRST_BYTES]), server_side=True)
        need = NeedServerConfig(nobody, reader.message)
        config = yield from ask(need, self._application, lambda answer: True, "")
        if config is None:
            raise NoSharedParameters(
                "the client asks for a name that nobody serves here",
                hint="Add a configuration for the name, or give a default",
                alert=Alert.unrecognized_name,
            )
        try:
            machine = self._make(config)
            use_bios = getattr(machine, "use_bios", None)
            if use_bios is None:  # a ChoosingMachine itself has none: it would choose again, perhaps for ever
                raise TypeError("its machine cannot take over a connection that has begun (use_bios)")
        except Exception as error:
            raise TLSError(
                f"the configuration that the application chose cannot be used: {error}",
                hint="Let the function return an ssl.SSLContext for servers or a ServerConfig, or None to refuse",
                alert=Alert.internal_error,
            ) from error
        incoming.put_back(bytes(reader.data))
        use_bios(incoming, self.outgoing)
        return machine

    def _go_on_with(self, machine: Machine) -> None:
        """The handshake is done: what comes now goes to the machine without a detour."""
        self.handshake_done = True
        info = machine.info
        if info is not None and info.server_name is None and self._hello is not None:
            # What was read at first is part of what both ends have just proven to have seen alike.
            info = replace(info, server_name=self._hello.server_name)
        self.info = info
        self.read_into, self.read_short, self.write = machine.read_into, machine.read_short, machine.write

    def _fail(self, error: TLSError) -> NoReturn:
        """Keep the error, and let its alert leave: nothing is encrypted yet."""
        error.__traceback__ = None
        if error.__cause__ is None:
            error.__cause__ = as_ssl_says(error)
        if error.alert is None and not isinstance(error, UnexpectedEOF):
            error.alert = Alert.decode_error
        self._failure, self._steps = error, None
        if error.alert is not None:
            self.outgoing.write(bytes((21, 3, 3, 0, 2, 2, error.alert)))
        raise error.again()

    # -- before the handshake is done; then `_go_on_with` has replaced these -------------------------------------

    def _read_too_early(self, buffer: memoryview) -> int | Want:
        if self._failure is not None:
            raise self._failure.again()
        return Want.READ

    def _read_nothing(self, max_bytes: int) -> bytes | None:
        return None

    # -- what is asked less often ----------------------------------------------------------------------------------

    @property
    def buffered(self) -> int:
        return 0 if self.chosen is None else self.chosen.buffered

    @property
    def sent_fatal_alert(self) -> bool:
        if self.chosen is not None:
            return self.chosen.sent_fatal_alert
        return self._failure is not None and self._failure.alert is not None

    @property
    def session(self) -> object | None:
        return None if self.chosen is None else self.chosen.session

    @property
    def introspection(self) -> Introspection:
        assert self.chosen is not None  # nobody asks before the handshake is done
        return self.chosen.introspection

    def update_keys(self, *, request_update: bool = False) -> None:
        if self.chosen is None:
            raise ValueError("update_keys() before the handshake is done")
        self.chosen.update_keys(request_update=request_update)

    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        if self.chosen is None:
            raise ValueError("export_keying_material() before the handshake is done")
        return self.chosen.export_keying_material(label, context, length)

    def shutdown(self) -> None:
        if self.chosen is not None:
            self.chosen.shutdown()

    def rest(self) -> None:
        rest = getattr(self.chosen, "rest", None)
        if rest is not None:
            rest()

    def trailing_data(self) -> bytes:
        return self.incoming.read() if self.chosen is None else self.chosen.trailing_data()


def machine_behind(machine: Machine) -> Machine:
    """The machine that a connection goes on with, where that was chosen; otherwise this one."""
    if isinstance(machine, ChoosingMachine) and machine.chosen is not None:
        return machine.chosen
    return machine
