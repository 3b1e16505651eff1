"""From a configuration to a machine: the one place that looks at what kind of configuration it is."""

from __future__ import annotations

from typing import cast

from . import openssl
from .interface import Machine, MachineFactory

__all__ = ["create_machine"]


def create_machine(
    config: object,
    *,
    server_side: bool,
    server_hostname: str | None,
    session: object | None,
) -> Machine:
    """A machine for one connection.

    Raises:
      TypeError: ``config`` is no configuration.
      ValueError: the configuration cannot be used this way.
    """
    if callable(getattr(config, "create_machine", None)):  # a MachineFactory; isinstance would cost more than the rest
        factory = cast("MachineFactory", config)
        return factory.create_machine(server_side=server_side, server_hostname=server_hostname, session=session)
    return cast(
        "Machine",
        openssl.create_machine(config, server_side=server_side, server_hostname=server_hostname, session=session),
    )
