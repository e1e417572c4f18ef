"""One thing that `doctor` found, and how bad it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrator.core.errors import Problem

Level: TypeAlias = Literal["ok", "info", "warn", "fail"]
LEVELS: tuple[Level, ...] = ("ok", "info", "warn", "fail")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found; `do` None: nothing has to be done."""

    id: str
    level: Level
    text: str
    do: str | None = None


def of_problem(problem: Problem) -> Finding:
    """A problem that stops commands, as a finding."""
    return Finding(problem.id, "fail", f"{problem.what}: {problem.why}", problem.do)


def worst(findings: Sequence[Finding]) -> Level:
    """The worst level among them."""
    return max((each.level for each in findings), key=LEVELS.index, default="ok")
