"""What the suite tried, printed at its end: a zero means little without the number beside it.

A test says `counted("G9", "revocations", 200)`, as often as it likes; the sums of all workers are
printed once, by goal (playbooks/threat-model.md says what each goal is).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

_counts: Counter[tuple[str, str]] = Counter()


def counted(goal: str, what: str, number: int = 1) -> None:
    """Add to what is printed for a goal."""
    _counts[goal, what] += number


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what this worker counted to whoever prints."""
    handed = getattr(session.config, "workeroutput", None)
    if handed is not None:
        handed["counts"] = [[*key, number] for key, number in _counts.items()]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker counted."""
    for goal, what, number in getattr(node, "workeroutput", {}).get("counts", ()):
        counted(goal, what, number)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the sums."""
    if not _counts:
        return
    terminalreporter.section("counted")
    for goal in sorted({goal for goal, _ in _counts}, key=lambda goal: (len(goal), goal)):
        said = [f"{number:,} {what}" for (of, what), number in _counts.items() if of == goal]
        terminalreporter.write_line(f"{goal:<4} " + ", ".join(said))
