"""Status as one screen: at most 100 columns and 30 lines, plain text, written from the JSON alone.

A row is there only if it says something. Every number has an age, what is unknown is called so,
and each problem ends with the command that addresses it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from migrator.control.brownouts.words import came_back, rows_of_status
from migrator.control.status import compared, standing
from migrator.control.status.fitting import WIDTH, Rank, Row, cut, fit
from migrator.control.words import UNKNOWN, age, at, count, counted, span
from migrator.core.phases import ORDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_MARGIN = 9
_MARKS = {"fail": "✗", "stale": "~", "inconclusive": "?", "pass": "✓", "overridden": "o"}
_BAR = 28
_KINDS = ("session", "legacy", "foreign")
_DAY = timedelta(days=1)
_MOST_BELOW = 2
_MOST_ROWS = 3
_MOST_NAMED = 4
_RANKS = {
    **dict.fromkeys(("SOAK", "HOLD", "BROWNOUT", "PAUSED"), Rank.PROBLEM),
    **dict.fromkeys(("OVERRIDE", "FREEZE", "NEXT"), Rank.FACT),
}

Report = dict[str, Any]


def screen(report: Report) -> str:
    """The text of a report."""
    if report["phase"] is None:
        unread = [_head(report), _row("", "", f"everything else is {UNKNOWN}")]
        return fit([*(Row(Rank.FRAME, line) for line in unread), *_warnings(report)])
    return fit(_rows(report))


def _rows(report: Report) -> Iterator[Row]:
    yield Row(Rank.FRAME, _head(report))
    yield from _phase(report)
    yield from _nodes(report)
    yield from _traffic(report)
    yield from _drain(report)
    yield from _removal(report)
    yield from (Row(Rank.DETAIL, line) for line in _backfill(report))
    yield from _titled(compared.rows(report))
    yield Row(Rank.SPACE, "")
    yield from _ready(report)
    yield from _if_cut(report)
    yield from _titled(standing.rows(report))
    yield from _titled(rows_of_status(report["brownouts"], report["generated_at"]))
    yield from _last(report)
    yield from _warnings(report)


def _titled(rows: Iterable[tuple[str, str]]) -> Iterator[Row]:
    for title, words in rows:
        yield Row(_RANKS.get(title, Rank.DETAIL), _row(title, "", words))


def _head(report: Report) -> str:
    nodes, now = report["nodes"], report["generated_at"]
    fresh = ""
    if nodes is not None:
        heard = nodes["heard_at"]
        fresh = " · no node heard" if heard is None else f" · data ≤ {span(now - heard)} old"
    room = WIDTH - 22
    named = f"migrator status · {report['environment']} · {report['app']}"
    left = cut(named, room - len(fresh)) + fresh
    return f"{left:<{room}}{at(now):>21}"


def _phase(report: Report) -> Iterator[Row]:
    phase, knobs, back = report["phase"], report["knobs"], report["rollback"]
    names = [
        phase["name"].upper() if name.value == phase["name"] else name.value for name in ORDER
    ]
    picture = " ─ ".join(names[:-1]) + f" ┃ {names[-1]}"
    state = phase["state"].replace("_", " ")
    lasted = span(report["generated_at"] - phase["since"])
    said = f"{picture:<48} {state}, {lasted} in this phase"
    yield Row(Rank.FRAME, _row("PHASE", "", said))
    verify = "verify JWT + session" if knobs["verify_jwt"] else "JWT refused unread"
    said = (
        f"{verify} · swap {knobs['swap_percent']} % · at login issue {knobs['issue']} · "
        f"epoch {phase['epoch']}"
    )
    yield Row(Rank.FACT, _row("", "", said))
    excepted = report["exceptions"]
    for one in excepted[:_MOST_ROWS]:
        said = f"except {one['by']} {one['value']}: {one['phase']}"
        yield Row(Rank.PROBLEM, _row("", "", said))
    if len(excepted) > _MOST_ROWS:
        more = len(excepted) - _MOST_ROWS
        yield Row(Rank.PROBLEM, _row("", "", f"except {more} more   migrator status --json"))
    cost = f"instant, {counted(back['cost_subjects'], 'user')} affected"
    said = f" → {back['to']}: {cost}" if back["possible"] else f": none, {back['why']}"
    if back["command"] not in {None, "migrator rollback"}:  # for a few, not for everybody
        said = f" of the exceptions: {cost}   {back['command']}"
    yield Row(Rank.FACT, _row("", "", f"rollback{said}"))


def _nodes(report: Report) -> Iterator[Row]:
    nodes = report["nodes"]
    expected = "" if nodes["expected"] is None else f" of {nodes['expected']} expected"
    odd = " · ".join(
        f"{name.replace('_', ' ')} {nodes[name]}"
        for name in ("stale", "rogue", "old_build", "gone")
    )
    unsaid = "   expected: unknown" if nodes["expected"] is None else ""
    took = nodes["propagation_s"]
    slowest = "" if took is None else f" (slowest {span(timedelta(seconds=took))})"
    said = f"{nodes['acked']}/{nodes['live']} acked{expected}{slowest}   {odd}{unsaid}"
    yield Row(Rank.FACT, _row("NODES", "", said))
    for waiting in nodes["waiting"][:_MOST_ROWS]:
        seen = age(waiting["seen_at"], report["generated_at"])
        epoch = UNKNOWN if waiting["epoch"] is None else waiting["epoch"]
        yield Row(Rank.DOUBT, _row("", "…", f"{waiting['id']} is at epoch {epoch}, seen {seen}"))


def _traffic(report: Report) -> Iterator[Row]:
    traffic = report["traffic"]
    if traffic["session"] is None:
        why = report["unknown"]["traffic.session"]
        yield Row(Rank.FACT, _row("TRAFFIC", "", f"{UNKNOWN}: {why}"))
        return
    percent, slope = traffic["legacy_percent"], traffic["slope_per_day"]
    share = UNKNOWN if percent is None else f"{percent:.2f} %"
    trend = "" if slope is None else f"  {slope:+.2f} pt/day"
    bar = "" if percent is None else _bar(100 - percent) + " "
    yield Row(Rank.FACT, _row("TRAFFIC", "", f"{bar}legacy {share}{trend}"))
    counts = " · ".join(f"{name} {count(traffic[name])}" for name in _KINDS)
    window = span(timedelta(seconds=traffic["window_s"]))
    last = age(traffic["as_of"], report["generated_at"])
    yield Row(Rank.DETAIL, _row("", "", f"{counts} in {window}, last counted {last}"))


def _bar(percent: float) -> str:
    full = int(_BAR * percent / 100)
    return "█" * full + "░" * (_BAR - full)


def _drain(report: Report) -> Iterator[Row]:
    drain, now = report["drain"], report["generated_at"]
    if drain["horizon"] is None:
        yield Row(Rank.FACT, _row("DRAIN", "", f"horizon {UNKNOWN}: {drain['why']}"))
    else:
        left = drain["horizon"] - now
        when = f"{span(left)} left" if left > timedelta() else "over"
        issued = drain["last_issued_at"]
        said = f"last possible use {at(drain['horizon'])}  {drain['bound']}  {when}"
        unseen = " · no JWT issuing was seen" if issued is None else ""
        yield Row(Rank.FACT, _row("DRAIN", "", said + unseen))
        if issued is not None:
            yield Row(Rank.FACT, _row("", "", f"last JWT issued {at(issued)}"))
        if drain["why"]:
            yield Row(Rank.DETAIL, _row("", "", drain["why"]))
    trend = drain["trend"]
    if trend is not None:
        yield Row(Rank.DETAIL, _row("", "", f"trend: {_trend(trend)}"))
    elif report["phase"]["name"] == "drain":
        yield Row(Rank.DETAIL, _row("", "", f"trend: none, {report['unknown']['drain.trend']}"))


def _trend(trend: Mapping[str, Any]) -> str:
    within = timedelta(seconds=trend["plus_minus_s"])
    # An error of an error says nothing: whole days or hours.
    unit = _DAY if within >= _DAY else timedelta(hours=1)
    rough = max(round(within / unit) * unit, timedelta(minutes=30))
    when = f"on {at(trend['at'])[:10]}" if within >= _DAY else f"at {at(trend['at'])[:16]}Z"
    rests = f"estimate, {span(timedelta(days=trend['days']))} of data"
    return f"legacy < {trend['percent']:.2f} % {when} ± {span(rough)}   ({rests})"


def _removal(report: Report) -> Iterator[Row]:
    """Once sessions were handed out and are issued no more: when nobody lives on one."""
    last, at_rest = report["last_change"], report["phase"]["name"] == ORDER[0]
    if last is None or not at_rest:
        return
    until, now = report["removal_horizon"], report["generated_at"]
    if until is None:
        why = report["unknown"]["removal_horizon"]
        yield Row(Rank.FACT, _row("REMOVAL", "", why))
        return
    said = f"the last session ends {at(until)}  {span(until - now)} left"
    yield Row(Rank.FACT, _row("REMOVAL", "", said))
    then = "then the shim may go: migrator playbook show 35-rollback"
    yield Row(Rank.DETAIL, _row("", "", then))


def _backfill(report: Report) -> Iterator[str]:
    now: datetime = report["generated_at"]
    for job in report["backfill"][:3]:
        row = _row(
            "BACKFILL",
            "",
            f"{job['source']}: {job['state']} {progress(job['done'], job['total'])} · rejected "
            f"{count(job['rejected'])} · {age(job['as_of'], now)}",
        )
        verified = _verification(job, now)
        fits = len(row) + len(verified) + 3 <= WIDTH
        yield f"{row} · {verified}" if verified and fits else row
        if verified and not fits:
            yield _row("", "", verified)


def _verification(job: Mapping[str, Any], now: datetime) -> str:
    found = job.get("verified")
    if found is None:
        return ""
    return f"verified {age(found['at'], now)}, {counted(found['differences'], 'difference')}"


def progress(done: int, total: int | None) -> str:
    """How far: in rows, and in words where there are more than were expected."""
    if total is None:
        return f"{count(done)} rows"
    if done > total:
        return f"{count(done)} rows, more than the {count(total)} expected"
    return f"{count(done)} of {count(total)} rows"


def _ready(report: Report) -> Iterator[Row]:
    ready = report["ready"]
    if ready["for"] is None:
        return
    results = [_said_of(gate) for gate in report["gates"]]
    said = " · ".join(f"{results.count(one)} {one}" for one in _MARKS if one in results)
    verdict = "READY" if ready["ok"] else "NOT READY"
    title = ready["for"].upper()
    row = _row(title, "", f"{verdict}   {said}   migrator gates {ready['for']}")
    yield Row(Rank.FRAME, row)
    for gate in report["gates"]:
        if gate["result"] != "pass":
            first, *more = gate_line(gate).splitlines()
            yield Row(Rank.PROBLEM if _said_of(gate) == "fail" else Rank.DOUBT, first)
            yield from (Row(Rank.DETAIL, line) for line in more)


def gate_line(gate: Mapping[str, Any]) -> str:
    """One gate: its mark, name, what it found and what to type; what is long goes on below."""
    left = f"  {_MARKS[_said_of(gate)]} {gate['id']:<17} "
    if gate["result"] == "pass":
        return cut(left + gate["detail"], WIDTH)
    command, words, override = gate["command"], gate["detail"], gate["override"]
    if override is not None:
        command = f"migrator override revoke {override['id']}"
        words = (
            f"{gate['result']}, overridden by {override['who']} until {at(override['until'])} "
            f"({override['reason']}): {words}"
        )
    room = WIDTH - len(left) - len(command) - 2
    first, *more = wrap(words, room, break_on_hyphens=False) or [""]
    below = wrap(
        " ".join(more),
        WIDTH - len(left),
        max_lines=_MOST_BELOW,
        placeholder="…",
        break_on_hyphens=False,
    )
    return "\n".join(
        [f"{left}{first:<{room}}  {command}", *(" " * len(left) + one for one in below)]
    )


def _said_of(gate: Mapping[str, Any]) -> str:
    return "overridden" if gate["override"] is not None else str(gate["result"])


def _if_cut(report: Report) -> Iterator[Row]:
    hit, now = report["if_cut_over"], report["generated_at"]
    if report["phase"]["name"] == "retired":
        return
    if hit["subjects"] is None:
        why = report["unknown"]["if_cut_over.subjects"]
        yield Row(Rank.FACT, _row("IF CUT", "", f"{UNKNOWN}: {why}"))
        return
    old = "" if hit["as_of"] == now else f" (counted {age(hit['as_of'], now)})"
    users = _row("IF CUT", "", f"over now: {counted(hit['subjects'], 'user')}{old}")
    back = came_back(hit)
    named = _named(hit["clients"], WIDTH - _MARGIN)
    beside = f"{users} {named}{back}".rstrip()
    if len(beside) <= WIDTH:
        yield Row(Rank.FACT, beside)
    else:
        yield Row(Rank.FACT, users + back)
        yield Row(Rank.DETAIL, _row("", "", named))
    then = hit["then"]
    if then is not None:
        said = f"{at(then['at'])[:10]}: ≈ {counted(then['subjects'], 'user')}"
        yield Row(Rank.DETAIL, _row("", "", f"{said}   (estimate, as the trend goes)"))


def _named(clients: list[dict[str, Any]], room: int) -> str:
    """As many as there is room for, and how many more there are."""
    each = [f"{one['client'] or 'unknown client'} {count(one['subjects'])}" for one in clients]
    said = ""
    for most in range(1, min(len(each), _MOST_NAMED) + 1):
        more = f" · {len(each) - most} more" if len(each) > most else ""
        longer = " · ".join(each[:most]) + more
        if said and len(longer) > room:
            break
        said = longer
    return said


def _last(report: Report) -> Iterator[Row]:
    last = report["last_change"]
    if last is None:
        yield Row(Rank.FACT, _row("LAST", "", "nothing was moved yet"))
        return
    why = f' "{last["why"]}"' if last["why"] else ""
    moved = f"{last['from']} → {last['to']}"
    said = f"{at(last['at'])} {moved} by {last['who']}{why}"
    yield Row(Rank.FACT, _row("LAST", "", f"{said}   migrator log"))


def _warnings(report: Report) -> Iterator[Row]:
    for one in report["warnings"]:
        room = WIDTH - len(one["command"]) - 6
        said = f"  ! {cut(one['text'], room):<{room}}  {one['command']}"
        yield Row(Rank.PROBLEM, said)


def _row(title: str, mark: str, rest: str) -> str:
    head = f"{title:<{_MARGIN}}" if not mark else f"{mark:>{_MARGIN - 1}} "
    return head + rest
