"""A plan told: as the JSON it keeps, as a few lines, and as the markdown of a change ticket.

Everything is read from the plan itself, so a ticket says what was known when it was decided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrator.control import rollout, soaking
from migrator.control.outcome import ENDS_DRAIN, forecast, forecast_words, held_up_by, title
from migrator.control.status import gate_json, place
from migrator.control.words import WIDTH, at, counted, folded
from migrator.core.phases import Phase, back_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import timedelta

    from migrator.control.moving import Plan
    from migrator.control.planning import Wanted
    from migrator.control.retiring import Loss
    from migrator.settings import Settings


def told(
    settings: Settings, planned: Plan, wanted: Wanted, losses: tuple[Loss, ...] = ()
) -> dict[str, Any]:
    """What a plan keeps for people: where from, where to, gates, forecast, the way back."""
    before, target = planned.before, planned.target
    after = target.of(before)
    facts, fleet = planned.facts, planned.fleet
    entering = Phase.CUTOVER if target.exceptions else target.phase
    way_back = rollout.way_back(after) if target.gated else None
    to = target.phase if way_back and "--to" in way_back else back_of(target.phase)
    usual = None if wanted.soak is None else soaking.usual(settings)
    return {
        "environment": settings.environment,
        "app": settings.app,
        "from": place(before.phase.value, before.percent),
        "to": place(target.phase.value, target.percent),
        "title": title(before, after),
        "exceptions": [
            {"by": one.by, "value": one.value, "phase": one.phase.value}
            for one in target.exceptions
        ],
        "as_of": None if facts is None else facts.now,
        "ok": planned.exit_code == 0,
        "gates": [gate_json(gate, entering) for gate in planned.gates],
        "if_cut_over": forecast(planned),
        "nodes": {
            "expected": None if fleet is None else fleet.expected,
            "live": [] if fleet is None else sorted(node.id for node in fleet.live),
        },
        "rollback": {
            "to": None if to is None or way_back is None else to.value,
            "cost_subjects": None if way_back is None else 0,
            "command": way_back,
            "ends_drain": rollout.ends_drain(before, after),
            "took_s": _seconds(None if facts is None else facts.propagated),
        },
        "soak": None
        if wanted.soak is None or usual is None
        else {
            "seconds": wanted.soak.lasting.total_seconds(),
            "sign_ins": wanted.soak.sign_ins,
            "baseline_per_min": usual.per_min,
        },
        "destroys": [{"table": loss.table, "rows": loss.rows} for loss in losses],
    }


def _seconds(took: timedelta | None) -> float | None:
    return None if took is None else round(took.total_seconds(), 3)


def lines(plan: Mapping[str, Any]) -> str:
    """A plan on a few lines."""
    head = f"{_name(plan)} · {plan['environment']} · {_path(plan)} · by {plan['who']}"
    why = "" if plan["why"] is None else f" · {plan['why']}"
    told = [f"{head}{why} · epoch {plan['epoch']}"]
    told += [f"  except {one['by']}={one['value']}: {one['phase']}" for one in plan["exceptions"]]
    told += [f"  {line}" for line in (_forecast(plan), _gates(plan), _way_back(plan)) if line]
    told += [line for gate in plan["gates"] if _blocks(gate) for line in _holding(gate)]
    held = held_up_by(plan)
    if plan["state"] == "used":
        told.append(f"  used {at(plan['used_at'])} by {plan['used_by']}")
    elif plan["id"] is None:
        told.append("  not saved: a rehearsal writes nothing")
    else:
        told.append(f"  {plan['state']}, expires {at(plan['expires_at'])}")
        make_it = f"make it: migrator {plan['move']} --plan {plan['id']}"
        told.append(f"  not before: {held}" if held else f"  {make_it}")
    return "\n".join(folded(line, below=4) for line in told)


def markdown(plan: Mapping[str, Any]) -> str:
    """A plan as a change ticket."""
    return "\n".join(_ticket(plan)) + "\n"


def _ticket(plan: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {_name(plan)}: {plan['app']} {plan['environment']}, {_path(plan)}"
    yield ""
    yield "## Summary"
    yield ""
    yield f"- Change: `migrator {plan['command']}`"
    yield f"- Why: {plan['why'] or 'not said'}"
    yield f"- Decided by {plan['who']} at {at(plan['created_at'])}"
    yield f"- Void after {at(plan['expires_at'])}, or as soon as one of its facts got worse"
    yield f"- Epoch {plan['epoch']} → {plan['epoch'] + 1}; state of this plan: {plan['state']}"
    yield from (
        f"- Except {one['by']}={one['value']}: {one['phase']}" for one in plan["exceptions"]
    )
    yield ""
    yield "## Timeline"
    yield ""
    yield "| when | action | reversible? |"
    yield "|---|---|---|"
    yield from (f"| {when} | {what} | {back} |" for when, what, back in _timeline(plan))
    yield ""
    yield "## Gates"
    yield ""
    yield "| gate | result | found | command |"
    yield "|---|---|---|---|"
    for gate in plan["gates"]:
        result = "overridden" if gate["override"] else gate["result"]
        yield f"| {gate['id']} | {result} | {gate['detail']} | `{gate['command']}` |"
    if not plan["gates"]:
        yield "| none | | a move back is never gated | |"
    yield ""
    yield "## Forecast"
    yield ""
    yield _forecast(plan) or "nobody is refused by this move"
    for one in (plan["if_cut_over"] or {}).get("clients", []):
        yield f"- {one['client'] or 'unknown client'} ({one['issuer']}): {_people(one)}"
    yield ""
    yield "## Rollback"
    yield ""
    yield _way_back(plan)


def _timeline(plan: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    move = f"`migrator {plan['move']} --plan {plan['id']}"
    yes = "no: point of no return" if plan["destroys"] else "yes"
    yield "T - 10 min", f"{move} --dry-run`", "yes"
    yield "T", f"{move}`", yes
    yield "T + seconds", "in effect: every live node acknowledged", yes
    if plan["soak"] is not None:
        yield f"T + {plan['soak']['seconds']:g} s", "soak over", yes
    if plan["rollback"]["to"] is not None:
        yield "whenever", f"`{_back(plan)}`", "yes, until `migrator retire`"


def _way_back(plan: Mapping[str, Any]) -> str:
    if plan["destroys"]:
        rows = ", ".join(
            f"{one['table']} ({counted(one['rows'], 'row')})" for one in plan["destroys"]
        )
        return f"none: this destroys {rows}"
    back, took = plan["rollback"], plan["rollback"]["took_s"]
    if back["to"] is None:
        end = f". It {ENDS_DRAIN}" if back.get("ends_drain") else ""
        return f"this is a move back; forward again goes through the gates{end}"
    est = "not measured yet" if took is None else f"est. {took:.1f} s, as the last move took"
    return f"`{_back(plan)}` → {back['to']}: 0 users affected, {est}"


def _back(plan: Mapping[str, Any]) -> str:
    return plan["rollback"].get("command") or "migrator rollback"


def _forecast(plan: Mapping[str, Any]) -> str:
    cut = plan["if_cut_over"]
    return "" if cut is None else forecast_words(cut)


def _people(one: Mapping[str, Any]) -> str:
    if one["silent"] is None:
        return f"{one['subjects']}"
    back = f"{one['silent']} silently, {one['sign_in']} by signing in, {one['breaks']} not"
    return f"{one['subjects']}, back {back}"


def _gates(plan: Mapping[str, Any]) -> str:
    if not plan["gates"]:
        return ""
    passing = sum(gate["result"] == "pass" for gate in plan["gates"])
    return f"gates {passing}/{len(plan['gates'])} pass"


def _blocks(gate: Mapping[str, Any]) -> bool:
    return gate["result"] != "pass" and gate["override"] is None


def _holding(gate: Mapping[str, Any]) -> tuple[str, ...]:
    """In one line, or the command in one of its own: it is there to be copied whole."""
    found = f"  {gate['id']} ({gate['result']}): {gate['detail']}"
    whole = f"{found}   {gate['command']}"
    return (whole,) if len(whole) <= WIDTH else (found, f"    {gate['command']}")


def _name(plan: Mapping[str, Any]) -> str:
    return "Plan" if plan["id"] is None else f"Plan {plan['id']}"


def _path(plan: Mapping[str, Any]) -> str:
    return plan.get("title") or f"{plan['from']} → {plan['to']}"
