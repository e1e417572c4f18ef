"""What came of a ledger's rows, counted: of a page, of a range of keys, of a whole pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

COUNTS: Final = (
    *("read", "seeded", "already", "expired", "denied", "revoked_already", "barred", "ended"),
)


@dataclass(slots=True)
class Tally:
    """What came of the rows of one pass over a ledger, or of a part of it, in all runs."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    rejected: dict[str, int] = field(default_factory=dict)

    def add(self, planted: Mapping[str, Any]) -> None:
        """Count what one statement says it did."""
        alive = planted["living"] - planted["seeded"] - planted["barred"]
        found = {
            **planted,
            "already": alive,
            "revoked_already": planted["revoked"] - planted["denied"],
        }
        for name in COUNTS:
            self.counts[name] += found[name]
        for _, reason in planted["rejects"]:
            self.reject(reason)

    def reject(self, reason: str) -> None:
        """Count a row of which nothing could be made."""
        self.rejected[reason] = self.rejected.get(reason, 0) + 1

    def include(self, other: Tally) -> None:
        """Count what somebody else has counted."""
        for name in COUNTS:
            self.counts[name] += other.counts[name]
        for reason, count in other.rejected.items():
            self.rejected[reason] = self.rejected.get(reason, 0) + count

    def copy(self) -> Tally:
        """The same numbers, apart."""
        return Tally(dict(self.counts), dict(self.rejected))

    @property
    def rejections(self) -> int:
        """Of how many rows nothing could be made."""
        return sum(self.rejected.values())

    @property
    def changes(self) -> int:
        """How many rows of ours were written."""
        return self.counts["seeded"] + self.counts["denied"] + self.counts["ended"]

    def as_json(self) -> dict[str, Any]:
        """For the row."""
        return {"counts": self.counts, "rejected": self.rejected}

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Tally:
        """From the row."""
        return cls(
            {name: saved.get("counts", {}).get(name, 0) for name in COUNTS},
            dict(saved.get("rejected", {})),
        )
