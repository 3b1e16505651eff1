"""The secrets of one client's connections, for Wireshark."""

from pathlib import Path

from trio_tls import ClientConfig, KeyLog


def with_key_log(config: ClientConfig, path: Path) -> ClientConfig:
    # The file is for its owner alone. Delete it when the fault is found.
    return config.replace(keylog=KeyLog(path))
