"""What is raised when the world is broken; expected outcomes are values (verdicts.py).

MigratorError
├── Unavailable     the store could not be asked: 503, never 401
├── BadSettings     the settings cannot be run with: every problem at once
├── Refused         what `Sessions` raises for a credential that does not hold
└── Stopped         a command that ends early: what, why, what to do, exit code
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from migrator.core.verdicts import Reason


class Exit(IntEnum):
    """The exit codes of the command line; 2 is Click's own."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    GATE_FAILED = 3
    EVIDENCE_STALE = 4
    UNFIT = 5
    WAIT_TIMED_OUT = 6
    NOT_ACKNOWLEDGED = 7
    CONFLICT = 8
    DECLINED = 9
    DIFFERENCES = 10
    UNREACHABLE = 11
    IRREVERSIBLE = 12
    LIMIT = 13
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, as a small page for the operator.

    `id` is stable and greppable; `do` is the command or edit that mends it.
    """

    id: str
    what: str
    why: str
    do: str

    def __str__(self) -> str:
        return f"{self.id}: {self.what}\n  why: {self.why}\n  do:  {self.do}"


class MigratorError(Exception):
    """Root of everything this project raises."""


class Unavailable(MigratorError):
    """The store could not be asked; the answer is unknown, and unknown is not no."""

    def __init__(self, store: str, why: str = "") -> None:
        self.store = store
        self.why = why
        super().__init__(f"{store} could not be asked" + (f": {why}" if why else ""))


class BadSettings(MigratorError):
    """The settings cannot be run with. Every problem found is listed."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class Refused(MigratorError):
    """The presented credential does not hold; `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(reason.value)


class Stopped(MigratorError):
    """A command ends here, with an exit code and a page for the operator."""

    def __init__(self, problem: Problem, exit_code: Exit) -> None:
        self.problem = problem
        self.exit_code = exit_code
        super().__init__(str(problem))
