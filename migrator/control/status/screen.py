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
from migrator.control.words import UNKNOWN, age, at, count, counted, span
from migrator.core.phases import ORDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WIDTH = 100
HEIGHT = 30
_MARGIN = 9
_MARKS = {"fail": "✗", "stale": "~", "inconclusive": "?", "pass": "✓", "overridden": "o"}
_BAR = 20
_MOST_BELOW = 2

Report = dict[str, Any]


def screen(report: Report) -> str:
    """The text of a report."""
    lines = [_head(report)]
    if report["phase"] is None:
        lines += [_row("", "", f"everything else is {UNKNOWN}")]
        lines += _warnings(report)
        return _fit(lines)
    lines += _phase(report)
    lines += _nodes(report)
    lines += _traffic(report)
    lines += _drain(report)
    lines += _removal(report)
    lines += _backfill(report)
    lines += [_row(title, "", words) for title, words in compared.rows(report)]
    lines.append("")
    lines += _ready(report)
    lines += _if_cut(report)
    lines += [_row(title, "", words) for title, words in standing.rows(report)]
    lines += [_row(title, "", words) for title, words in rows_of_status(report["brownouts"])]
    lines += _last(report)
    lines += _warnings(report)
    return _fit(lines)


def detail(report: Report) -> str:
    """What `--detail` adds below the screen."""
    census = report.get("census") or {"usage": [], "open": []}
    now: datetime = report["generated_at"]
    lines = ["", f"COUNTED in the last 24 h{'count':>26}  last"]
    lines += [
        f"  {line['outcome']:<28} {count(line['day']):>18}  {age(line['last_at'], now):<14} "
        f"{line['client'] or ''} {line['issuer'] or ''}".rstrip()
        for line in census["usage"]
    ] or ["  nothing"]
    lines += ["", f"STILL OPEN{'subjects':>40}  last seen        ends"]
    lines += [
        f"  {group['client'] or 'unknown client':<28} {count(group['subjects']):>18}  "
        f"{age(group['last_seen_at'], now):<16} {at(group['ends_at'])}  {group['issuer']}"
        for group in census["open"]
    ] or ["  nobody"]
    lines += _verified(census, now)
    return "\n".join(line[:WIDTH] for line in lines)


def _verified(census: Mapping[str, Any], now: datetime) -> list[str]:
    """By which keys and where legacy tokens come, counted each time one was verified anew."""
    lines: list[str] = []
    for title, by in (("BY KEY", "kid"), ("BY ROUTE", "route")):
        lines += ["", f"{title}{'verified':>{50 - len(title)}}  last seen"]
        lines += [
            f"  {one[by] or 'no ' + by:<28} {count(one['verified']):>18}  "
            f"{age(one['last_at'], now):<16} {one['client'] or 'unknown client'}  {one['issuer']}"
            for one in census.get(f"by_{by}", ())
        ] or ["  none"]
    return lines


def _head(report: Report) -> str:
    left = f"migrator status · {report['environment']} · {report['app']}"
    return f"{left:<{WIDTH - 22}}{at(report['generated_at']):>21}"


def _phase(report: Report) -> Iterator[str]:
    phase = report["phase"]
    names = [
        phase["name"].upper() if name.value == phase["name"] else name.value for name in ORDER
    ]
    now: datetime = report["generated_at"]
    picture = " ─ ".join(names[:-1]) + f" ┃ {names[-1]}"
    state = phase["state"].replace("_", " ")
    yield _row("PHASE", "", f"{picture:<48} {state}, {span(now - phase['since'])} in this phase")
    knobs = report["knobs"]
    verify = "verify JWT + session" if knobs["verify_jwt"] else "JWT refused unread"
    yield _row(
        "",
        "",
        f"{verify} · swap {knobs['swap_percent']} % · at login issue {knobs['issue']} · "
        f"epoch {phase['epoch']}",
    )
    for one in report["exceptions"]:
        yield _row("", "", f"except {one['by']} {one['value']}: {one['phase']}")
    back = report["rollback"]
    if back["possible"]:
        yield _row(
            "",
            "",
            f"rollback → {back['to']}: instant, {counted(back['cost_subjects'], 'user')} affected",
        )
    else:
        yield _row("", "", f"rollback: none, {back['why']}")


def _nodes(report: Report) -> Iterator[str]:
    nodes = report["nodes"]
    expected = "" if nodes["expected"] is None else f" of {nodes['expected']} expected"
    odd = " · ".join(
        f"{name.replace('_', ' ')} {nodes[name]}"
        for name in ("stale", "rogue", "old_build", "gone")
    )
    unsaid = "   expected: unknown" if nodes["expected"] is None else ""
    yield _row("NODES", "", f"{nodes['acked']}/{nodes['live']} acked{expected}   {odd}{unsaid}")
    for waiting in nodes["waiting"][:3]:
        seen = age(waiting["seen_at"], report["generated_at"])
        yield _row("", "…", f"{waiting['id']} is at epoch {waiting['epoch']}, seen {seen}")


def _traffic(report: Report) -> Iterator[str]:
    traffic = report["traffic"]
    if traffic["session"] is None:
        yield _row("TRAFFIC", "", f"{UNKNOWN}: {report['unknown']['traffic.session']}")
        return
    percent = traffic["legacy_percent"]
    share = UNKNOWN if percent is None else f"{percent:.2f} %"
    slope = traffic["slope_per_day"]
    trend = "" if slope is None else f"  {slope:+.2f} pt/day"
    bar = "" if percent is None else _bar(100 - percent) + " "
    yield _row(
        "TRAFFIC",
        "",
        f"{bar}legacy {share}{trend}   session {count(traffic['session'])} · legacy "
        f"{count(traffic['legacy'])} · foreign {count(traffic['foreign'])}",
    )
    window = span(timedelta(seconds=traffic["window_s"]))
    yield _row(
        "", "", f"in {window}, last counted {age(traffic['as_of'], report['generated_at'])}"
    )


def _bar(percent: float) -> str:
    full = int(_BAR * percent / 100)
    return "█" * full + "░" * (_BAR - full)


def _drain(report: Report) -> Iterator[str]:
    drain, now = report["drain"], report["generated_at"]
    if drain["horizon"] is None:
        yield _row("DRAIN", "", f"horizon {UNKNOWN}: {drain['why']}")
        return
    left = drain["horizon"] - now
    when = f"{span(left)} left" if left > timedelta() else "over"
    issued = drain["last_issued_at"]
    last = "no JWT issuing was seen" if issued is None else f"last JWT issued {at(issued)}"
    yield _row(
        "DRAIN", "", f"last possible use {at(drain['horizon'])}  {drain['bound']}  {when} · {last}"
    )
    if drain["why"]:
        yield _row("", "", drain["why"])


def _removal(report: Report) -> Iterator[str]:
    """Once sessions were handed out and are issued no more: when nobody lives on one."""
    last, at_rest = report["last_change"], report["phase"]["name"] == ORDER[0]
    if last is None or not at_rest:
        return
    until, now = report["removal_horizon"], report["generated_at"]
    if until is None:
        yield _row("REMOVAL", "", report["unknown"]["removal_horizon"])
        return
    yield _row("REMOVAL", "", f"the last session ends {at(until)}  {span(until - now)} left")
    yield _row("", "", "then the shim may go: migrator playbook show 35-rollback")


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


def _ready(report: Report) -> Iterator[str]:
    ready = report["ready"]
    if ready["for"] is None:
        return
    results = [_said_of(gate) for gate in report["gates"]]
    said = " · ".join(f"{results.count(one)} {one}" for one in _MARKS if one in results)
    verdict = "READY" if ready["ok"] else "NOT READY"
    yield _row(ready["for"].upper(), "", f"{verdict}   {said}   migrator gates {ready['for']}")
    for gate in report["gates"]:
        if gate["result"] != "pass":
            yield from gate_line(gate).splitlines()


def gate_line(gate: Mapping[str, Any]) -> str:
    """One gate: its mark, name, what it found and what to type; what is long goes on below."""
    left = f"  {_MARKS[_said_of(gate)]} {gate['id']:<17} "
    if gate["result"] == "pass":
        return _cut(left + gate["detail"], WIDTH)
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


def _if_cut(report: Report) -> Iterator[str]:
    hit = report["if_cut_over"]
    if hit["subjects"] is None or report["phase"]["name"] == "retired":
        return
    named = " · ".join(
        f"{one['client'] or 'unknown client'} {one['subjects']}" for one in hit["clients"][:4]
    )
    more = len(hit["clients"]) - 4
    tail = f" · {more} more" if more > 0 else ""
    users = counted(hit["subjects"], "user")
    back = came_back(hit)
    if not back:
        yield _row("IF CUT", "", f"over now: {users} {named}{tail}".rstrip())
        return
    yield _row("IF CUT", "", f"over now: {users}{back}")
    yield _row("", "", f"{named}{tail}")


def _last(report: Report) -> Iterator[str]:
    last = report["last_change"]
    if last is None:
        yield _row("LAST", "", "nothing was moved yet")
        return
    why = f' "{last["why"]}"' if last["why"] else ""
    moved = f"{last['from']} → {last['to']}"
    yield _row("LAST", "", f"{at(last['at'])} {moved} by {last['who']}{why}   migrator log")


def _warnings(report: Report) -> Iterator[str]:
    for one in report["warnings"]:
        room = WIDTH - len(one["command"]) - 6
        yield f"  ! {_cut(one['text'], room):<{room}}  {one['command']}"


def _row(title: str, mark: str, rest: str) -> str:
    head = f"{title:<{_MARGIN}}" if not mark else f"{mark:>{_MARGIN - 1}} "
    return head + rest


def _cut(words: str, room: int) -> str:
    return words if len(words) <= room else words[: max(room - 1, 0)] + "…"


def _fit(lines: list[str]) -> str:
    cut = [_cut(line.rstrip(), WIDTH) for line in lines]
    if len(cut) > HEIGHT:
        cut = [
            *cut[: HEIGHT - 1],
            f"  … {len(cut) - HEIGHT + 1} more lines: migrator status --json",
        ]
    return "\n".join(cut)
