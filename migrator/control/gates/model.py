"""What a gate answers. "Not known" is an answer of its own, and never "pass"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from migrator.core.phases import Phase

if TYPE_CHECKING:
    from datetime import datetime

    from migrator.control.decisions import Override

Result = Literal["pass", "fail", "stale", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One gate's verdict.

    Args:
        value, threshold: what was found, and what it is held against.
        as_of: when the evidence was taken; ttl_s: for how many seconds it is good.
        overridable: whether somebody may take the risk on their name.
        detail: one line for the operator; command: what addresses it.
        override: who lets it pass all the same; what it says stays as it is.
    """

    id: str
    result: Result
    value: str | int | float | None
    threshold: str | int | float | None
    as_of: datetime | None
    ttl_s: int
    overridable: bool
    detail: str
    command: str
    override: Override | None = None

    @property
    def blocks(self) -> bool:
        """Whether it holds a move up."""
        return self.result != "pass" and self.override is None

    def playbook(self, entering: Phase) -> str:
        """Where the playbooks speak of it."""
        return f"{PLAYBOOKS[entering]}#gate-{self.id}"


PLAYBOOKS: dict[Phase, str] = {
    Phase.SWAP: "10-swap",
    Phase.DRAIN: "20-drain",
    Phase.CUTOVER: "30-cutover",
    Phase.RETIRED: "40-retire",
}
