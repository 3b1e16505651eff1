"""Runs the workloads under callgrind, and reads what it counted.

How this works. Callgrind writes a file whenever the program marks the end of a part. Such a file has lines for every
function, grouped by the object file it is in (``ob=``); a line with a position and a number is what the function itself
took. After a ``calls=`` line comes what the called function took, which is counted there and so is left out here.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cryptography
import trio
import trustme
from cryptography.hazmat.backends.openssl.backend import backend

from .workloads import HOST, WORKLOADS

__all__ = ["CannotCount", "Counts", "count", "environment", "make_certificates", "read_part"]

#: The objects that are cryptography written in C (or Rust around it), by how the names of their files begin.
CRYPTO = ("libcrypto", "libssl", "_rust.")


class CannotCount(Exception):
    """Nothing was counted; the text says why."""


@dataclass(frozen=True)
class Counts:
    """Instructions of one operation.

    Attributes:
      interpreter: of Python, its extension modules and the C library.
      crypto: of OpenSSL, and of the ``cryptography`` package.
    """

    interpreter: int
    crypto: int


def environment() -> dict[str, str]:
    """All that the counts depend on, besides the library itself."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})",
        "openssl": ssl.OPENSSL_VERSION,
        "cryptography": f"{cryptography.__version__} with {backend.openssl_version_text()}",
        "trio": trio.__version__,
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "valgrind": _output([_valgrind(), "--version"]).strip(),
    }


def count(only: str = "") -> dict[str, Counts]:
    """Run all workloads under callgrind, which takes about a minute.

    Args:
      only: leave out workloads that do not have this text in their name.

    Returns: what one operation takes, by ``"stack: workload"``.

    Raises:
      CannotCount: there is no valgrind, or the program failed under it.
    """
    with tempfile.TemporaryDirectory(prefix="instructions-") as name:
        directory = Path(name)
        make_certificates(directory)
        tool = [_valgrind(), "--tool=callgrind", "--quiet", "--dump-before=getpgrp", "--dump-line=no"]
        program = [sys.executable, "-s", "-m", "tests.instructions.workloads", str(directory), only]
        parts = json.loads(_output([*tool, f"--callgrind-out-file={directory / 'part'}", *program]))
        counts = {}
        for number, part in enumerate(parts, start=1):
            if part:
                times = WORKLOADS[part.partition(": ")[2]].times
                with (directory / f"part.{number}").open(encoding="utf-8", errors="replace") as lines:
                    counts[part] = _per_operation(read_part(lines), times)
        return counts


def make_certificates(directory: Path) -> None:
    """Write what the workloads need: ``ca.pem`` and ``server.pem``."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    authority.cert_pem.write_to_path(directory / "ca.pem")
    leaf = authority.issue_cert(HOST, key_type=trustme.KeyType.ECDSA)
    leaf.private_key_and_cert_chain_pem.write_to_path(directory / "server.pem")


def read_part(lines: Iterable[str]) -> dict[str, int]:
    """The instructions in one file of callgrind, by the name of the object file."""
    names: dict[str, str] = {}
    totals: dict[str, int] = {}
    current = ""
    inclusive = False
    for line in lines:
        if line[0] in "0123456789+-*":
            if inclusive:
                inclusive = False
            else:
                totals[current] = totals.get(current, 0) + int(line.split()[-1])
        elif line.startswith("calls="):
            inclusive = True
        elif line.startswith(("ob=", "cob=")):
            number, _, path = line.partition("=")[2].partition(" ")
            if path:  # a name is written out once, and then stands for itself by its number
                names[number.strip()] = Path(path.strip()).name
            if line.startswith("ob="):
                current = names[number.strip()]
    return totals


def _per_operation(totals: dict[str, int], times: int) -> Counts:
    crypto = sum(number for name, number in totals.items() if name.startswith(CRYPTO))
    return Counts(round((sum(totals.values()) - crypto) / times), round(crypto / times))


def _valgrind() -> str:
    found = shutil.which("valgrind")
    if found is None:
        raise CannotCount("there is no valgrind command on the PATH: install valgrind to count instructions")
    return found


def _output(command: list[str]) -> str:
    """What a command prints; what it complains of is in the error, if it fails."""
    fixed = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "SSLKEYLOGFILE": ""}
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        command, env={**os.environ, **fixed}, cwd=root, capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode:
        raise CannotCount(f"{' '.join(command[:2])} failed with {done.returncode}:\n{done.stderr.strip()[-2000:]}")
    return done.stdout
