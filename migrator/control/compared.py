"""`migrator compare show` as an object: pairs by issuer, differences, and what both gates ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrator.control import comparing, evidence, ignoring, revisions
from migrator.control.evidence import standing
from migrator.core.phases import Phase

if TYPE_CHECKING:
    from datetime import datetime

    from migrator.control.comparing import Comparison
    from migrator.core.phases import Rollout
    from migrator.settings import Settings

SCHEMA = "migrator.compare/1"


def report(settings: Settings) -> dict[str, Any]:
    """What was compared in the last 24 hours; `unknown` says what could not be, and why.

    Raises:
        Stopped: UNREACHABLE; UNFIT where the schema is not this release's.
    """
    heads = evidence.fit(settings)
    home = settings.database.schema
    with revisions.connected(settings.database.url.get_secret_value()) as connection:
        now: datetime = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
        rollout, _ = standing(connection, home)
        found = None if heads.contracted else comparing.read(connection, home, now)
        connection.rollback()
    head = {
        "environment": settings.environment,
        "app": settings.app,
        "generated_at": now,
        "window_s": int(comparing.WINDOW.total_seconds()),
        "phase": rollout.phase.value,
        "wanted": {
            "pairs": settings.gates.compare_pairs,
            "percent": settings.gates.compare_percent,
        },
    }
    return head | _read(settings, rollout, found, now)


def _read(
    settings: Settings, rollout: Rollout, found: Comparison | None, now: datetime
) -> dict[str, Any]:
    if found is None or found.is_empty:
        why = "no answer of the app to a JWT was seen in 24 h"
        if rollout.phase is not Phase.OBSERVE:
            why = "verdicts are compared in observe, while the app decides"
        names = ("pairs", "deny_allow", "allow_deny", "as_of")
        rules = () if found is None else found.rules
        return {
            **dict.fromkeys(names),
            "issuers": [],
            "differences": [],
            "rules": _rules(rules, found, now),
            "unknown": dict.fromkeys(names, why),
        }
    named = {one.id: one.name for one in settings.issuers}
    return {
        "pairs": found.pairs,
        "deny_allow": found.counting("deny_allow"),
        "allow_deny": found.counting("allow_deny"),
        "as_of": found.as_of,
        "issuers": [
            {
                "issuer": one.issuer or None,
                "name": named.get(one.issuer),
                "agree": one.agree,
                "agree_deny": one.agree_deny,
                "deny_allow": one.deny_allow,
                "allow_deny": one.allow_deny,
            }
            for one in found.samples
        ],
        "differences": [
            {
                "direction": one.direction,
                "issuer": one.issuer or None,
                "client": one.client or None,
                "route": one.route,
                "verdict": one.verdict,
                "count": one.count,
                "last_at": one.last_at,
                "rule": one.rule,
            }
            for one in found.rows
        ],
        "rules": _rules(found.rules, found, now),
        "unknown": {},
    }


def _rules(
    rules: tuple[comparing.Rule, ...], found: Comparison | None, now: datetime
) -> list[dict[str, Any]]:
    return [
        ignoring.as_json(one, now, None if found is None else found.left_out_by(one))
        for one in rules
        if one.state(now) == "in force"
    ]
