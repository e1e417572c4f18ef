"""What was compared, and how the session store answers, in status: its JSON and its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrator.control import vitals
from migrator.control.words import age, at, count, counted
from migrator.core.phases import Phase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrator.control.evidence import Evidence


def compare(found: Evidence, unknown: dict[str, str]) -> dict[str, Any] | None:
    """The key `compare`: pairs of the last 24 hours, and the differences that no rule leaves out.

    None outside `observe`, where there is nothing to compare with.
    """
    compared = found.compared
    if compared is None or found.rollout.phase is not Phase.OBSERVE:
        unknown["compare"] = "verdicts are compared in observe, while the app decides"
        return None
    if compared.is_empty:
        unknown["compare"] = "no answer of the app to a JWT was seen in 24 h"
        return None
    return {
        "pairs": compared.pairs,
        "deny_allow": compared.counting("deny_allow"),
        "allow_deny": compared.counting("allow_deny"),
        "as_of": compared.as_of,
        "ignored": {
            "deny_allow": compared.ignored("deny_allow"),
            "allow_deny": compared.ignored("allow_deny"),
        },
        "rules": [
            {
                "id": rule.id,
                "direction": rule.direction,
                "until": rule.until,
                "left_out": compared.left_out_by(rule),
            }
            for rule in compared.rules
            if rule.state(found.now) == "in force"
        ],
    }


def store(found: Evidence, unknown: dict[str, str]) -> dict[str, Any] | None:
    """The key `store`: the worst of the last minute over all living nodes."""
    worst = vitals.worst(found.fleet)
    if worst is None:
        unknown["store"] = "no living node says how its store answers"
        return None
    budget = found.settings.gates.store_p99
    return {
        "p50_ms": worst.p50_ms,
        "p99_ms": worst.p99_ms,
        "budget_ms": None if budget is None else budget.total_seconds() * 1000,
        "errors": worst.errors,
        "node": worst.node,
        "nodes": worst.nodes,
        "untrusting": worst.untrusting,
        "as_of": found.fleet.heard_at,
    }


def rows(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The title and the text of each row there is."""
    now = report["generated_at"]
    found = report["compare"]
    if found is not None:
        said = (
            f"{counted(found['pairs'], 'pair')}/24 h · deny→ALLOW {count(found['deny_allow'])}"
            f" · allow→deny {count(found['allow_deny'])}"
        )
        yield "COMPARE", f"{said}{_left_out(found)} · {age(found['as_of'], now)}"
    asked = report["store"]
    if asked is not None and (asked["p99_ms"] is not None or asked["errors"]):
        budget = "" if asked["budget_ms"] is None else f" (budget {asked['budget_ms']:g})"
        said = f"p50 {_ms(asked['p50_ms'])} · p99 {_ms(asked['p99_ms'])}{budget}"
        trust = f" · memory not trusted on {asked['untrusting']}" if asked["untrusting"] else ""
        yield "STORE", f"{said} · errors {count(asked['errors'])}{trust}   migrator nodes"


def _left_out(found: dict[str, Any]) -> str:
    hidden = sum(found["ignored"].values())
    if not hidden:
        return ""
    used = [rule for rule in found["rules"] if rule["left_out"]]
    first = min(used, key=lambda rule: rule["until"], default=None)
    named = "" if first is None else f" (#{first['id']} to {at(first['until'])[5:10]})"
    more = f" and {len(used) - 1} more" if len(used) > 1 else ""
    return f" · left out {count(hidden)}{named}{more}"


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} ms"
