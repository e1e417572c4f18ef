"""What stands above a playbook: this rollout's own numbers, and whether its turn has come.

Read from the database and nothing else, and writing nothing; a playbook is printed whether or not
anything could be read, because it is wanted most on the day when nothing answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from migrator.control import asking, status
from migrator.control.brownouts import words
from migrator.control.gates import SETS
from migrator.control.gates.model import PLAYBOOKS
from migrator.control.status import standing
from migrator.control.status.screen import gate_line
from migrator.control.words import age, at, count, counted, span
from migrator.core.errors import BadSettings, Exit, Stopped, Unavailable
from migrator.core.phases import ORDER, Phase

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from migrator.settings import Settings

_HEADER: Final = re.compile(r"^phase: *(.+?) *$", re.MULTILINE)
_MOVE: Final = re.compile(r"(\w+) -> (\w+)$")
_GATE: Final = "gate-"
_FENCED: Final = re.compile(r"^( *)```console\n.*?^\1```", re.MULTILINE | re.DOTALL)
_WRITTEN_FOR: Final = re.compile(r"(?<=--confirm )prod\b|^( *)prod(?= · )", re.MULTILINE)
_MOST_CLIENTS: Final = 4
_MOST_GATES: Final = 10

Live = dict[str, Any]


def entering(text: str) -> Phase | None:
    """The phase that a playbook's header says it leads into, where gates stand before it."""
    header = _HEADER.search(text)
    move = header and _MOVE.search(header[1])
    found = Phase(move[2]) if move and move[2] in set(ORDER) else None
    return found if found in SETS else None


def matters_to(text: str, anchor: str | None) -> bool:
    """Whether where a rollout stands matters to a page, or to the passage of it asked for."""
    header = _HEADER.search(text)
    whole = anchor is None or anchor.startswith(_GATE)
    return whole and header is not None and header[1] != "none"


def read(load: Callable[[], Settings], text: str, anchor: str | None, *, now: datetime) -> Live:
    """This rollout, for the reader of a playbook. Never raises for what cannot be read.

    Args:
        load: gives the settings, or raises BadSettings.
        text: the whole page. anchor: the passage asked for, if one was.
        now: this machine's clock, for when no other can be asked.
    """
    try:
        settings = load()
    except BadSettings as bad:
        first = bad.problems[0]
        return _unknown(now, f"{first.id}: {first.what}", first.do)
    try:
        report = status.report(settings, now=now, dry_run=True)
        phase = entering(text)
        asked = None
        if report["phase"] is not None and phase is not None and _is_judged(report, phase):
            asked = asking.report(settings, phase, dry_run=True)
    except (Stopped, Unavailable) as error:
        return _unknown(now, str(error), "migrator doctor") | {"environment": settings.environment}
    head = {"environment": settings.environment, "app": settings.app}
    if report["phase"] is None:
        problem = report["warnings"][0]
        return _unknown(now, problem["text"], problem["command"]) | head
    return head | {
        "generated_at": report["generated_at"],
        "phase": report["phase"],
        "entering": None if phase is None else phase.value,
        "turn": _turn(report, phase),
        "ready": None if asked is None else asked["exit_code"] is Exit.DONE,
        "gates": [] if asked is None else asked["gates"],
        "unknown": None,
        "text": "\n".join(_lines(report, phase, asked, anchor)),
    }


def here(text: str, environment: str | None) -> str:
    """A page with this environment's name in its commands, where it says `prod`."""
    if environment is None:
        return text
    return _FENCED.sub(
        lambda block: _WRITTEN_FOR.sub(lambda hit: (hit[1] or "") + environment, block[0]), text
    )


def _unknown(now: datetime, why: str, do: str) -> Live:
    return {
        "environment": None,
        "app": None,
        "generated_at": now,
        "phase": None,
        "entering": None,
        "turn": None,
        "ready": None,
        "gates": [],
        "unknown": why,
        "text": f"RIGHT NOW: unknown: {why}\n  do: {do}",
    }


def _is_judged(report: Live, phase: Phase) -> bool:
    """Gates that were passed already say nothing any more."""
    return ORDER.index(Phase(report["phase"]["name"])) < ORDER.index(phase)


def _turn(report: Live, phase: Phase | None) -> str:
    if phase is None:
        return "any"
    distance = ORDER.index(phase) - ORDER.index(Phase(report["phase"]["name"]))
    return "now" if distance == 1 else "later" if distance > 1 else "past"


def _lines(
    report: Live,
    phase: Phase | None,
    asked: Mapping[str, Any] | None,
    anchor: str | None,
) -> Iterator[str]:
    now = report["generated_at"]
    yield (
        f"RIGHT NOW, in {report['environment']} · {report['app']} · {at(now)} "
        "(from the database; nothing was written)"
    )
    if anchor is not None and anchor.startswith(_GATE):
        yield from _one_gate(asked, anchor.removeprefix(_GATE))
        return
    yield from _row("stands", _stands(report))
    yield from _row("turn", _turn_said(report, phase))
    yield from _row("nodes", _nodes(report))
    yield from _row("traffic", _traffic(report))
    yield from _row("horizon", _horizon(report))
    yield from _row("trend", _trend(report))
    yield from _row("if cut", _if_cut(report))
    yield from _row("back", _back(report))
    for title, said in (*standing.rows(report), *words.rows_of_status(report["brownouts"], now)):
        yield from _row(title.lower(), said)
    if asked is not None:
        yield from _gates(asked)


def _row(name: str, said: str | None) -> Iterator[str]:
    if said:
        yield f"  {name:<8} {said}"[:100]


def _stands(report: Live) -> str:
    phase = report["phase"]
    percent = "" if phase["percent"] is None else f" {phase['percent']} %"
    state = phase["state"].replace("_", " ")
    since = span(report["generated_at"] - phase["since"])
    besides = "".join(
        f", but {one['by']} {one['value']}: {one['phase']}" for one in report["exceptions"]
    )
    return f"{phase['name']}{percent}, epoch {phase['epoch']}, {state}, for {since}{besides}"


def _turn_said(report: Live, phase: Phase | None) -> str | None:
    match _turn(report, phase):
        case "now":
            return "this page is the next move"
        case "later":
            following = ORDER[ORDER.index(Phase(report["phase"]["name"])) + 1]
            return f"not yet: first `migrator playbook show {PLAYBOOKS[following]}`"
        case "past":
            return "this move was made"
        case _:
            return None


def _nodes(report: Live) -> str:
    nodes = report["nodes"]
    expected = "unknown" if nodes["expected"] is None else nodes["expected"]
    waiting = ", ".join(one["id"] for one in nodes["waiting"][:3])
    late = f"; waiting for {waiting}" if waiting else ""
    return f"{nodes['acked']} of {nodes['live']} acknowledged, {expected} expected{late}"


def _traffic(report: Live) -> str:
    traffic = report["traffic"]
    if traffic["session"] is None:
        return f"unknown: {report['unknown']['traffic.session']}"
    percent = traffic["legacy_percent"]
    share = "unknown" if percent is None else f"{percent:.2f} %"
    return (
        f"legacy {share}: session {count(traffic['session'])}, legacy {count(traffic['legacy'])},"
        f" foreign {count(traffic['foreign'])}"
    )


def _horizon(report: Live) -> str | None:
    if report["phase"]["name"] in {Phase.OBSERVE, Phase.SWAP, Phase.RETIRED}:
        return None
    drain = report["drain"]
    if drain["horizon"] is None:
        return f"unknown: {drain['why']}"
    left = drain["horizon"] - report["generated_at"]
    when = f"{span(left)} left" if left.total_seconds() > 0 else "over"
    return f"{at(drain['horizon'])} ({drain['bound']}), {when}"


def _trend(report: Live) -> str | None:
    trend = report["drain"]["trend"]
    if trend is None:
        return None
    give = span(timedelta(seconds=trend["plus_minus_s"]))
    return f"legacy < {trend['percent']:.2f} % on {trend['at']:%Y-%m-%d} ± {give} (estimate)"


def _if_cut(report: Live) -> str | None:
    hit = report["if_cut_over"]
    if hit is None or hit["subjects"] is None or report["phase"]["name"] == Phase.RETIRED:
        return None
    named = ", ".join(
        f"{one['client'] or 'unknown client'} {one['subjects']}"
        for one in hit["clients"][:_MOST_CLIENTS]
    )
    more = len(hit["clients"]) - _MOST_CLIENTS
    tail = f", {more} more" if more > 0 else ""
    who = f": {named}{tail}" if named else ""
    return f"over now: {counted(hit['subjects'], 'user')} refused{words.came_back(hit)}{who}"


def _back(report: Live) -> str:
    back = report["rollback"]
    if not back["possible"]:
        return f"none: {back['why']}"
    drilled = back["drilled_at"]
    ago = "never drilled" if drilled is None else f"drilled {age(drilled, report['generated_at'])}"
    lost = f"{back['cost_subjects']} users logged out"
    command = back["command"] or "migrator rollback"
    to = report["phase"]["name"] if "--to" in command else back["to"]
    return f"`{command}` → {to}: instant, {lost}; {ago}"


def _gates(asked: Mapping[str, Any]) -> Iterator[str]:
    open_ = [gate for gate in asked["gates"] if gate["result"] != "pass"]
    passed = len(asked["gates"]) - len(open_)
    verdict = {Exit.DONE: "READY", Exit.GATE_FAILED: "NOT READY"}
    said = verdict.get(asked["exit_code"], "NOT KNOWN")
    yield f"  gates    {said}: {passed} pass, {len(open_)} do not"
    for gate in open_[:_MOST_GATES]:
        yield from gate_line(gate).splitlines()


def _one_gate(asked: Mapping[str, Any] | None, name: str) -> Iterator[str]:
    if asked is None:
        yield "  this move was made: the gate is not asked any more"
        return
    found = [gate for gate in asked["gates"] if gate["id"] == name]
    yield from (line for gate in found for line in gate_line(gate).splitlines())
    if not found:
        yield f"  {name} has nothing to judge here, or the settings do not ask for it"
