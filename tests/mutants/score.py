"""How many mutants of core/ its pure suite kills: `make mutants` runs mutmut and ends with this.

`python -m tests.mutants.score` reads what mutmut found so far, prints it by module, and fails
below 95 %, or while a survivor is not explained in survivors.md. With `--retry` it forgets the
verdict on all that was not killed, so that the next run tries those again and no others.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

LEAST_PERCENT = 95.0
FOUND = Path("mutants/migrator/core")
EXPLAINED = Path(__file__).with_name("survivors.md")

_STATUS: dict[int | None, str] = {
    None: "untried",
    0: "survived",
    **dict.fromkeys((1, 3), "killed"),
    **dict.fromkeys((5, 33), "untested"),
    **dict.fromkeys((-24, 24, 36, 152, 255), "timeout"),
}
_KILLED = frozenset({"killed", "timeout"})  # a mutant that never ends is noticed
_NAMED = re.compile(r"`(migrator\.core\.\S+__mutmut_\d+)`")


@dataclass(frozen=True, slots=True)
class Score:
    """What became of the mutants of some modules."""

    by_module: dict[str, Counter[str]]
    left: tuple[str, ...]

    @property
    def percent(self) -> float:
        """The share that was killed."""
        total = sum(counts.total() for counts in self.by_module.values())
        killed = sum(counts[each] for counts in self.by_module.values() for each in _KILLED)
        return 100 * killed / total if total else 0.0

    def unexplained(self, explained: frozenset[str]) -> tuple[str, ...]:
        """The survivors that nobody gave a reason for."""
        return tuple(name for name in self.left if name not in explained)


def status(exit_code: int | None) -> str:
    """What mutmut means by the exit code of a mutant's test run."""
    return _STATUS.get(exit_code, "unclear")


def score(found: Path) -> Score:
    """What mutmut wrote under `found`."""
    by_module: dict[str, Counter[str]] = {}
    left: list[str] = []
    for path in sorted(found.rglob("*.py.meta")):
        codes: dict[str, int | None] = json.loads(path.read_text())["exit_code_by_key"]
        if codes:
            module = str(path.relative_to(found)).removesuffix(".py.meta")
            by_module[module] = Counter(status(code) for code in codes.values())
            left += [name for name, code in codes.items() if status(code) not in _KILLED]
    return Score(by_module, tuple(left))


def explained_in(text: str) -> frozenset[str]:
    """The mutants that survivors.md names."""
    return frozenset(_NAMED.findall(text))


def retry(found: Path) -> None:
    """Forget the verdict on what was not killed."""
    for path in found.rglob("*.py.meta"):
        kept = json.loads(path.read_text())
        codes: dict[str, int | None] = kept["exit_code_by_key"]
        kept["exit_code_by_key"] = {
            name: code if status(code) in _KILLED else None for name, code in codes.items()
        }
        path.write_text(json.dumps(kept))


def main(arguments: list[str]) -> int:
    """Print the score; 0 if it is what is promised."""
    if arguments == ["--retry"]:
        retry(FOUND)
        return 0
    result = score(FOUND)
    for module, counts in result.by_module.items():
        said = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        print(f"{module:<24} {said}")  # noqa: T201 - printing is what this is for
    unexplained = result.unexplained(explained_in(EXPLAINED.read_text(encoding="utf-8")))
    for name in unexplained:
        print(f"not explained: {name}")  # noqa: T201
    print(f"{result.percent:.1f} % killed, {len(unexplained)} not explained")  # noqa: T201
    return 0 if result.percent >= LEAST_PERCENT and not unexplained else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
