"""``python -m tests.fuzz --minutes N``: fuzz every target under atheris, and tell what was found.

How this works. The time is shared out among the targets, one process after another. Each starts from the sound inputs
and the corpus. An input that raises, takes longer than 5 seconds or more than 1 GB is a defect: it is left in a file,
whose path is printed, and the command fails. With ``--keep``, what gets to new code joins the corpus: of all inputs
that were found, the shortest for each arc. ``coverage run -m tests.fuzz --corpus`` tells how far the corpus gets.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from .cost import cost_of
from .target import CORPUS, Target
from .targets import TARGETS

#: Bytes. Longer inputs find little that shorter ones do not; `test_cost` has the long ones.
LONGEST = 4096

#: Bytes of an input that joins the corpus.
LONGEST_KEPT = 2048

LIMITS = ("-timeout=5", "-rss_limit_mb=1024", f"-max_len={LONGEST}", "-print_final_stats=1", "-detect_leaks=0")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="for all targets together")
    parser.add_argument("--keep", action="store_true", help="let what gets to new code join the corpus")
    parser.add_argument(
        "--corpus", action="store_true", help="run the sound inputs and the corpus, once, and fuzz nothing"
    )
    parser.add_argument("--crashes", type=Path, default=Path("fuzz-crashes"), help="where inputs go that are defects")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"some of {', '.join(TARGETS)}; by default all")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    chosen = [TARGETS[name] for name in options.targets or TARGETS]
    if options.corpus:
        for target in chosen:
            inputs = [*target.seeds(), *target.corpus()]
            for data in inputs:
                target.run(data)
            print(f"{target.name:20} {len(inputs):>10}", flush=True)
        return 0
    if importlib.util.find_spec("atheris") is None:
        parser.error(
            "atheris is not installed, and may have no wheel for this Python: take one that has "
            "(pip index versions atheris). The quick suite runs the same targets without it"
        )
    seconds = max(1, round(options.minutes * 60 / len(chosen)))
    options.crashes.mkdir(exist_ok=True, parents=True)
    print(f"{'target':20} {'inputs':>10} {'features':>9} {'corpus':>7}")
    failed = [target.name for target in chosen if not fuzz(target, seconds, options)]
    if failed:
        print(f"defects: see {options.crashes} for {', '.join(failed)}")
    else:
        options.crashes.rmdir()
    return 1 if failed else 0


def fuzz(target: Target, seconds: int, options: argparse.Namespace) -> bool:
    """Fuzz one target; whether nothing was found."""
    with tempfile.TemporaryDirectory() as folder:
        found, seeds = Path(folder, "found"), Path(folder, "seeds")
        write(found, ())
        write(seeds, [*target.seeds(), *target.corpus()])
        crashes = f"-artifact_prefix={options.crashes}/{target.name}-"
        command = [sys.executable, "-m", "tests.fuzz.driver", target.name, *LIMITS, crashes]
        done = subprocess.run(
            [*command, f"-max_total_time={seconds}", str(found), str(seeds)],
            capture_output=True,
            text=True,
            check=False,
        )
        inputs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        features = re.findall(r"ft: (\d+) corp: (\d+)", done.stderr)
        print(
            f"{target.name:20} {inputs[1] if inputs else '?':>10} {features[-1][0] if features else '?':>9} "
            f"{features[-1][1] if features else '?':>7}",
            flush=True,
        )
        if done.returncode:
            print(done.stdout[-4000:], *done.stderr.splitlines()[-8:], sep="\n")
        elif options.keep:
            keep(target, sorted(found.iterdir()))
        return not done.returncode


def keep(target: Target, found: Iterable[Path]) -> None:
    """Add to the corpus what gets where neither the sound inputs nor the corpus got."""
    known: set[tuple[str, int, int]] = set()
    for data in (*target.seeds(), *target.corpus()):
        known |= cost_of(target.run, data).arcs
    for data in sorted((path.read_bytes() for path in found), key=len):
        if len(data) <= LONGEST_KEPT and (arcs := cost_of(target.run, data).arcs) - known:
            known |= arcs
            write(CORPUS / target.name, [data])


def write(folder: Path, inputs: Iterable[bytes]) -> None:
    """Each input in a file that is named by what it holds."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        Path(folder, hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


if __name__ == "__main__":
    sys.exit(main())
