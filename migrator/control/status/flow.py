"""What flows and what is still out, in status: the keys `traffic` and `drain`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from migrator.control.drain import last_issued_at
from migrator.control.outcomes import kind
from migrator.control.trend import QUIET_PERCENT, NoTrend, fit
from migrator.core.phases import RULES

if TYPE_CHECKING:
    from migrator.control.evidence import Evidence

_DAY_S = 86_400


def traffic(found: Evidence, unknown: dict[str, str]) -> dict[str, Any]:
    """Requests of the last day by kind; what is None is told in `unknown`."""
    hour = found.now.replace(minute=0, second=0, microsecond=0)
    window_s = int((found.now - hour).total_seconds()) + _DAY_S - 3600
    if found.watching_since is not None:
        window_s = min(window_s, max(int((found.now - found.watching_since).total_seconds()), 1))
    empty = dict.fromkeys(("session", "legacy", "foreign", "legacy_percent", "slope_per_day"))
    if not found.usage:
        why = "counting ended with `retire`" if found.is_contracted else "nothing was counted yet"
        unknown |= {f"traffic.{name}": why for name in empty}
        return {"window_s": window_s, **empty, "as_of": None}
    session, legacy, foreign = (
        sum(line.day for line in found.usage if kind(line.outcome) == name)
        for name in ("session", "legacy", "foreign")
    )
    before = {
        name: sum(line.day_before for line in found.usage if kind(line.outcome) == name)
        for name in ("session", "legacy")
    }
    percent = _percent(legacy, session + legacy)
    percent_before = _percent(before["legacy"], before["legacy"] + before["session"])
    slope = None if percent is None or percent_before is None else percent - percent_before
    if percent is None:
        unknown["traffic.legacy_percent"] = "no login of either kind was seen"
    if slope is None:
        unknown["traffic.slope_per_day"] = "there is no day before to compare with"
    return {
        "window_s": window_s,
        "session": session,
        "legacy": legacy,
        "foreign": foreign,
        "legacy_percent": percent,
        "slope_per_day": None if slope is None else round(slope, 3),
        "as_of": max((line.last_at for line in found.usage if line.last_at), default=None),
    }


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 3) if whole else None


def drain(found: Evidence, unknown: dict[str, str]) -> dict[str, Any]:
    """The horizon, and the trend beside it; what is None is told in `unknown`."""
    at = found.horizon
    if at.at is None:
        unknown["drain.horizon"] = at.why or "it cannot be told"
    issued = last_issued_at(found.fleet)
    if issued is None:
        unknown["drain.last_issued_at"] = "no node says that it issued one"
    return {
        "horizon": at.at,
        "bound": at.bound,
        "why": at.why,
        "last_issued_at": issued,
        "trend": _trend(found, unknown),
    }


def _trend(found: Evidence, unknown: dict[str, str]) -> dict[str, Any] | None:
    """When legacy traffic will be next to nothing: an estimate, where one can be made."""
    if RULES[found.rollout.phase].legacy in {"verify_then_refuse", "unread"}:
        unknown["drain.trend"] = f"legacy tokens are refused: the phase is {found.rollout.phase}"
        return None
    fitted = fit(found.hours, found.now)
    if isinstance(fitted, NoTrend):
        unknown["drain.trend"] = fitted.why
        return None
    return {
        "at": fitted.at,
        "plus_minus_s": int(fitted.plus_minus.total_seconds()),
        "percent": QUIET_PERCENT,
        "estimate": True,
        "days": fitted.days,
    }


def then(body: dict[str, Any]) -> dict[str, Any] | None:
    """How many a cutover would hit when the trend has come down: the same part of the people."""
    coming, percent = body["drain"]["trend"], body["traffic"]["legacy_percent"]
    subjects = body["if_cut_over"]["subjects"]
    if coming is None or not subjects or not percent:
        return None
    left = math.ceil(subjects * min(coming["percent"] / percent, 1))
    return {"at": coming["at"], "subjects": left, "estimate": True}
