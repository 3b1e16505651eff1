"""At the end of a run: how many cancels struck, for each operation and transport."""

from __future__ import annotations

from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    struck: Counter[tuple[str, str]] = Counter()
    for report in terminalreporter.getreports("passed"):
        properties = dict(report.user_properties)
        if report.when == "call" and "cancelled" in properties:
            struck[str(properties["operation"]), str(properties["tier"])] += int(str(properties["cancelled"]))
    if not struck:
        return
    operations = list(dict.fromkeys(operation for operation, _ in struck))
    tiers = sorted({tier for _, tier in struck})
    terminalreporter.section("cancels that struck, and were survived")
    terminalreporter.write_line(f"{'':34}" + "".join(f"{tier:>12}" for tier in tiers))
    for operation in operations:
        cells = "".join(f"{struck.get((operation, tier), '-'):>12}" for tier in tiers)
        terminalreporter.write_line(f"{operation:34}{cells}")
    terminalreporter.write_line(f"{sum(struck.values()):,} cancels, none of them fatal")
