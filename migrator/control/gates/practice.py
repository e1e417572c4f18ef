"""Gates about the operators themselves: no-hold, rollback-drill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator.control.gates.model import Gate
from migrator.control.words import at, counted, span

if TYPE_CHECKING:
    from migrator.control.evidence import Evidence

_TTL_S = 10


def no_hold(evidence: Evidence) -> Gate | None:
    """Nobody holds moves forward up; None: nobody does, and nobody will."""
    if not evidence.holds:
        return None
    now = evidence.now
    standing = [one for one in evidence.holds if one.state(now) == "in force"]
    first = (standing or evidence.holds)[0]
    if standing:
        more = f" (and {len(standing) - 1} more)" if len(standing) > 1 else ""
        detail = f"{first.who} holds it until {at(first.until)}: {first.reason}{more}"
    else:
        detail = f"{first.who} will from {at(first.starts_at)} on: {first.reason}"
    return Gate(
        id="no-hold",
        result="fail" if standing else "pass",
        value=counted(len(standing), "hold"),
        threshold=0,
        as_of=now,
        ttl_s=_TTL_S,
        overridable=False,
        detail=detail,
        command=f"migrator hold release {first.id}" if standing else "migrator hold list",
    )


def rollback_drill(evidence: Evidence) -> Gate | None:
    """The way back was gone, and lately; None: the settings do not ask for it."""
    within = evidence.settings.gates.drill_within
    if within is None:
        return None
    drilled = evidence.drilled_at
    late = drilled is None or evidence.now - drilled > within
    age = None if drilled is None else span(evidence.now - drilled)
    detail = "never drilled" if age is None else f"drilled {age} ago, at most {span(within)}"
    return Gate(
        id="rollback-drill",
        result="fail" if drilled is None else "stale" if late else "pass",
        value=age,
        threshold=span(within),
        as_of=drilled,
        ttl_s=60,
        overridable=True,
        detail=detail,
        command="migrator rollback --drill",
    )
