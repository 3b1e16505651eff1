"""``python -m tests.chaos --minutes N``: walk at random for a while, with a new seed for each hundred walks."""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter

import pytest_trio.plugin  # type: ignore[import-untyped]  # noqa: F401  # makes trio's scheduler follow hypothesis's seed, as it does for the tests

from .walk import given_seed, walk


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2, help="how long (default: 2)")
    parser.add_argument("--steps", type=int, default=50, help="of each walk, at most (default: 50)")
    arguments = parser.parse_args()
    given = given_seed()
    first = random.SystemRandom().randrange(2**32) if given is None else given
    total, rounds = Counter[str](), 0
    end = time.monotonic() + 60 * arguments.minutes
    while rounds == 0 or time.monotonic() < end:
        total += walk(100, steps=arguments.steps, number=first + rounds)
        rounds += 1
        print(f"CHAOS_SEED={first + rounds - 1}: {total['walks']} walks, {total['operations']} operations", flush=True)
    width = max(map(len, total))
    for name, count in total.most_common():
        print(f"{name:{width}} {count:>10}")


if __name__ == "__main__":
    main()
