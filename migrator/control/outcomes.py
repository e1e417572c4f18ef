"""What nodes count, in the words of `legacy_usage.outcome`, and what it means to a rollout."""

from __future__ import annotations

# What a legacy token was answered that a cutover would change, or did.
ADMITTED = frozenset({"legacy", "swapped", "exchanged", "refused:legacy_retired"})
# What it was answered that no cutover changes: it was already over for good.
DEAD = frozenset(
    {
        "refused:denied",
        "refused:cut_off",
        "refused:session_ended",
        "refused:session_expired",
        "refused:superseded",
        "refused:inactive_subject",
    }
)
FOREIGN = "foreign:credential"


def kind(outcome: str) -> str | None:
    """Which of the three kinds of traffic an outcome counts as, if any."""
    if outcome == "session":
        return "session"
    if outcome in ADMITTED:
        return "legacy"
    return "foreign" if outcome.startswith("foreign:") else None
