"""See what a handshake does, and let Wireshark read the rest."""

from trio_tls import ClientConfig, KeyLog


class Printer:
    """A `Tracer` that prints one line for each thing that happens."""

    def message(self, *, sent: bool, name: str, size: int, epoch: str) -> None:
        arrow = "-->" if sent else "<--"
        print(f"{arrow} {name}, {size} bytes, {epoch}")

    def key_change(self, *, sent: bool, epoch: str) -> None:
        print("now", "sending" if sent else "receiving", "with", epoch, "keys")

    def alert(self, *, sent: bool, name: str) -> None:
        print("-->" if sent else "<--", "alert", name)

    def want(self, name: str) -> None:
        print("waiting:", name)


def watched(config: ClientConfig, keylog: str) -> ClientConfig:
    return config.replace(tracer=Printer(), keylog=KeyLog(keylog))
