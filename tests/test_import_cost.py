"""``import trio_tls`` is quick, quiet, and brings nothing that only some need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Seconds of processor time, over importing trio and cryptography themselves; with bytecode written.
MOST = 0.150

#: The best of so many counts: nothing else makes an import quicker than it is.
ATTEMPTS = 8

#: What belongs to the command, to tests, to extras, or to another event loop.
UNWANTED = {
    *("trio_tls.cli", "trio_tls.testing", "trio_tls.httpcore", "trio_tls.httpx", "trio_tls.anyio", "trio_tls.redis"),
    *("rich", "argparse", "asyncio", "anyio", "httpx", "httpcore", "hypothesis", "pytest", "unittest"),
}

MEASURE = """
import sys
import trio, cryptography.x509.verification
known = set(sys.modules)
from time import process_time
begun = process_time()
import trio_tls
took = process_time() - begun
import json
print(json.dumps([took, sorted(set(sys.modules) - known)]))
"""


def measured(cache: Path) -> tuple[float, set[str]]:
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(cache), "PYTHONDONTWRITEBYTECODE": ""}
    environment.pop("COVERAGE_PROCESS_START", None)
    environment.pop("COVERAGE_PROCESS_CONFIG", None)
    command = [sys.executable, "-W", "error", "-c", MEASURE]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, text=True, timeout=60)
    took, names = json.loads(done.stdout)
    return float(took), set(names)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bytecode, written by a first import."""
    path = tmp_path_factory.mktemp("bytecode")
    measured(path)
    return path


def test_it_takes_less_than_150_milliseconds(cache: Path) -> None:
    took = []
    for _ in range(ATTEMPTS):
        took.append(measured(cache)[0])
        if took[-1] < MOST:
            break
    assert min(took) < MOST


def test_it_brings_nothing_that_only_some_need(cache: Path) -> None:
    _took, names = measured(cache)
    assert names, "it was not there before"
    assert not names & UNWANTED
    assert not [name for name in names if name.split(".")[0] in UNWANTED]


def test_no_module_warns_when_it_is_imported() -> None:
    """Under -W error, those of the command and of the tests' tools too."""
    modules = (
        "trio_tls, trio_tls.cli.connect, trio_tls.cli.serve, trio_tls.cli.check, trio_tls.cli.cert, trio_tls.testing"
    )
    command = [sys.executable, "-W", "error", "-c", f"import {modules}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
