"""Gates about what was compared in `observe`: verdict-deny-allow, verdict-allow-deny.

Only before `swap`: from there on the shim decides, and there is nothing to compare with. Too few
pairs are inconclusive, of any issuer whose tokens still come.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from migrator.control.gates.model import Gate
from migrator.control.outcomes import ADMITTED
from migrator.control.words import count, counted, span
from migrator.core.phases import Phase

if TYPE_CHECKING:
    from migrator.control.comparing import Comparison, Differing
    from migrator.control.evidence import Evidence
    from migrator.control.gates.model import Result
    from migrator.core.comparing import Direction

# Nodes write what they compared every second.
_HEARD_WITHIN = timedelta(seconds=30)
_SHOW = "migrator compare show"
_NAMED = 3


def deny_allow(evidence: Evidence) -> Gate | None:
    """The app turned nobody away whom the shim would admit: a revocation that we do not know of.

    None: no pairs are asked for, and no such difference is on record.
    """
    compared, wanted = evidence.compared, evidence.settings.gates.compare_pairs
    if compared is None or evidence.rollout.phase is not Phase.OBSERVE:
        return None
    found, left_out = compared.counting("deny_allow"), compared.ignored("deny_allow")
    if not wanted and not found and not left_out:
        return None
    result, detail = _lacking(evidence, compared, wanted)
    if found:
        result = "fail"
        times = counted(found, "request")
        detail = f"{times} that the app turned away and we would admit: {_named(compared)}"
    elif result == "pass":
        detail = f"none in {counted(sum(one.admitted for one in compared.samples), 'pair')}"
        detail += f", {count(left_out)} left out by rules" if left_out else ""
    return _gate(evidence, "deny-allow", result, detail, value=found, threshold=0)


def allow_deny(evidence: Evidence) -> Gate | None:
    """The app served hardly anybody whom the shim would refuse; None: no pairs are asked for."""
    compared, gates = evidence.compared, evidence.settings.gates
    if compared is None or evidence.rollout.phase is not Phase.OBSERVE or not gates.compare_pairs:
        return None
    found, served = compared.counting("allow_deny"), compared.served
    percent = round(100 * found / served, 3) if served else 0.0
    result, detail = _lacking(evidence, compared, gates.compare_pairs)
    if percent > gates.compare_percent:
        result = "fail"
        of = f"{count(found)} of {count(served)}"
        detail = f"{of} that the app served, we would refuse: {_named(compared, 'allow_deny')}"
    elif result == "pass":
        left_out = compared.ignored("allow_deny")
        detail = f"{count(found)} of {count(served)} served"
        detail += f", {count(left_out)} left out by rules" if left_out else ""
    return _gate(
        evidence,
        "allow-deny",
        result,
        detail,
        value=percent,
        threshold=f"{gates.compare_percent:g} %",
        overridable=True,
    )


def _lacking(evidence: Evidence, compared: Comparison, wanted: int) -> tuple[Result, str]:
    """What keeps the pairs from proving anything; "pass": nothing does."""
    heard = evidence.fleet.heard_at
    if heard is None:
        return "inconclusive", "no node was ever there to compare"
    if evidence.now - heard > _HEARD_WITHIN:
        return "stale", f"no node was heard for {span(evidence.now - heard)}"
    pairs = {one.issuer: one.admitted for one in compared.samples}
    coming = {line.issuer for line in evidence.usage or () if line.outcome in ADMITTED}
    issuers = sorted(one for one in {*pairs, *coming} if one)
    short = [one for one in issuers if pairs.get(one, 0) < wanted]
    if short:
        few = " · ".join(
            f"{evidence.settings_name(one)} {count(pairs.get(one, 0))}" for one in short[:_NAMED]
        )
        return "inconclusive", f"too few pairs in 24 h, {count(wanted)} are asked for: {few}"
    if sum(pairs.values()) < wanted:
        return "inconclusive", f"no pair in 24 h, {count(wanted)} are asked for"
    return "pass", ""


def _named(compared: Comparison, direction: Direction = "deny_allow") -> str:
    rows = [one for one in compared.rows if one.direction == direction and one.rule is None]
    more = f" · {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return " · ".join(map(_difference, rows[:_NAMED])) + more


def _difference(one: Differing) -> str:
    why = "" if one.direction == "deny_allow" else f" {one.verdict}"
    return f"{one.client or 'unknown client'} {one.route}{why} {count(one.count)}"


def _gate(
    evidence: Evidence,
    name: str,
    result: Result,
    detail: str,
    *,
    value: float,
    threshold: int | str,
    overridable: bool = False,
) -> Gate:
    compared = evidence.compared
    return Gate(
        id=f"verdict-{name}",
        result=result,
        value=value,
        threshold=threshold,
        as_of=None if compared is None else compared.as_of,
        ttl_s=int(_HEARD_WITHIN.total_seconds()),
        overridable=overridable,
        detail=detail,
        command=_SHOW,
    )
