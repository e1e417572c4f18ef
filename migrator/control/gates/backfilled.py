"""The gate about ledgers that were backfilled: backfill-verified.

Asked for by `gates.backfill_within`. That a backfill came to its end says what was read; that its
rows are right, and that nothing was revoked since, only a comparison with the ledger says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator.control.gates.model import Gate
from migrator.control.words import count, counted, span

if TYPE_CHECKING:
    from datetime import timedelta

    from migrator.control.backfill.verified import Verified
    from migrator.control.evidence import Evidence
    from migrator.control.gates.model import Result

# Of so many rows without a difference, fewer than one in a hundred differ (the rule of three).
FEWEST = 300
_COMMAND = "migrator backfill verify SOURCE --issuer ID"
_ROOM = 48
_WORST: tuple[Result, ...] = ("fail", "inconclusive", "stale", "pass")


def backfill_verified(evidence: Evidence) -> Gate | None:
    """Every ledger that was read was verified of late, without a difference; None: not asked."""
    within = evidence.settings.gates.backfill_within
    if within is None or evidence.is_contracted:
        return None
    judged = [(*_judge(one, evidence, within), one) for one in evidence.verified]
    judged.sort(key=lambda each: _WORST.index(each[0]))
    if judged:
        result, detail, worst = judged[0]
        # What is longer would not stand beside its gate; coverage prints it whole.
        short = len(worst.command) <= _ROOM
        command = worst.command if short else "migrator backfill coverage"
    else:
        result, detail, command = "inconclusive", "no ledger was backfilled", _COMMAND
    times = [one.at for one in evidence.verified if one.at is not None]
    return Gate(
        id="backfill-verified",
        result=result,
        value=sum(one.differences for one in evidence.verified) if times else None,
        threshold=f"0 differences within {span(within)}",
        as_of=min(times, default=None),
        ttl_s=int(within.total_seconds()),
        overridable=True,
        detail=detail,
        command=command,
    )


def _judge(one: Verified, evidence: Evidence, within: timedelta) -> tuple[Result, str]:
    if one.state != "done":
        return "inconclusive", f"the backfill of {one.source} is {one.state}"
    if one.at is None:
        return "inconclusive", f"the backfill of {one.source} was not verified since it ran"
    ago = evidence.now - one.at
    if one.differences:
        found = counted(one.differences, "difference")
        return "fail", f"{found} in {count(one.rows)} rows of {one.source}, {span(ago)} ago"
    if one.rows < min(FEWEST, one.of if one.of is not None else FEWEST):
        return "inconclusive", f"{count(one.rows)} rows of {one.source} are too few to tell"
    if ago > within:
        return "stale", f"{one.source} was verified {span(ago)} ago, max {span(within)}"
    return "pass", f"{count(one.rows)} rows of {one.source} verified {span(ago)} ago"
