"""Brownouts in words: a line of a list, the page before a confirmation, a report."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from migrator.control.words import UNKNOWN, age, at, count, counted, span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from migrator.control.brownouts.scheduling import Decided, Planned

_WIDTH = 100
_MOST_CLIENTS = 8
_REMEMBERED = timedelta(hours=24)


def announced(environment: str, planned: Planned) -> str:
    """What is shown before anybody confirms: the window, who would be met, the way out."""
    row, forecast = planned.row, planned.row.forecast
    epochs = f"epoch {planned.before.epoch} → {planned.before.epoch + 1}"
    found = row.as_json(planned.now)
    window = f"{at(row.starts_at)} → {at(row.ends_at)} ({span(row.ends_at - row.starts_at)})"
    about = f"about {counted(forecast['subjects'], 'subject')}, at most {forecast['at_most']}"
    lines = [
        f"{environment} · brownout of {row.segment} · by {row.created_by} · {epochs}",
        f"  {window}{limits_of(found)}",
        f"  would refuse {about}{_back(forecast)}",
    ]
    lines += _clients(forecast)
    lines += [f"  ! {one}" for one in planned.warnings]
    lines.append("  ends by itself; at once with `migrator brownout abort ID`, or a rollback")
    return "\n".join(lines)


def decided(found: Decided) -> str:
    """What a decision came to, in a line for each brownout."""
    lines = [line(one.as_json(found.now)) for one in found.rows] or ["no brownout is ahead"]
    if found.dry_run:
        lines.append("nothing was written")
    elif not found.changed:
        lines.append(f"already so: epoch {found.rollout.epoch}")
    else:
        lines.append(f"epoch {found.rollout.epoch}: {_state(found)}")
    return "\n".join([*lines, *(f"  ! {one}" for one in found.warnings)])


def _state(found: Decided) -> str:
    if found.seen is None:
        return "committed, not waited for"
    if not found.seen.fleet.live:
        return "committed; no node lives that could know it"
    if found.seen.is_in_effect:
        return "known to every living node"
    waiting = ", ".join(node.id for node in found.seen.fleet.waiting)
    return f"committed; not acknowledged by {waiting}"


def listed(found: dict[str, Any]) -> str:
    """Every brownout, a line each."""
    return "\n".join(map(line, found["brownouts"])) or "no brownouts"


def line(one: dict[str, Any]) -> str:
    """One brownout: a line, and a second one where it says more than fits."""
    named = "brownout" if one["id"] is None else f"brownout {one['id']}"
    refused = "" if not one["refused"] else f" · refused {counted(one['refused'], 'subject')}"
    why = f" · {one['why_over']}" if one["why_over"] else ""
    head = f"{named:<12}{one['state']:<10} {_window(one)}  {whom(one)}"
    more = f"{limits_of(one)}{refused}{why}"
    if len(head) + len(more) <= _WIDTH:
        return head + more
    return f"{head}\n{'':<23}{more.lstrip(' ·,')}"[: 2 * _WIDTH]


def _window(one: dict[str, Any]) -> str:
    begins, ends = at(one["starts_at"]), at(one["ends_at"])
    day, _, _ = begins.partition(" ")
    return f"{begins} → {ends.removeprefix(f'{day} ')}"


def whom(one: dict[str, Any]) -> str:
    """Whom it is about."""
    segment = "all" if one["by"] is None else f"{one['by']}={one['value']}"
    return segment if one["percent"] >= 100 else f"{one['percent']} % of {segment}"


def limits_of(one: dict[str, Any]) -> str:
    """What would end it early, as the end of a line."""
    limits = []
    if one["abort_sign_ins"] is not None:
        limits.append(f"sign-ins > {one['abort_sign_ins']:g}x")
    if one["abort_subjects"] is not None:
        limits.append(f"> {counted(one['abort_subjects'], 'subject')}")
    return f", abort if {' or '.join(limits)}" if limits else ""


def reported(found: dict[str, Any]) -> str:
    """The report: forecast against what happened, then a line for each client."""
    one, totals, error = found["brownout"], found["totals"], found["forecast_error"]
    lines = [line(one)]
    if error is not None:
        off = "" if error["percent"] is None else f" ({error['percent']:+g} %)"
        lines.append(
            f"refused {counted(error['actual'], 'subject')}, forecast {error['forecast']}{off}"
        )
    if totals["silent"] is None:
        return "\n".join([*lines, f"how they came back: {UNKNOWN}, {found['unknown']['totals']}"])
    lines.append(
        f"back silently {count(totals['silent'])} · signed in {count(totals['signed_in'])} · "
        f"still on the JWT {count(totals['still'])} · not seen since {count(totals['unseen'])}"
    )
    head = f"  {'client':<28}{'forecast':>9}{'refused':>9}{'silent':>8}{'signed in':>11}"
    lines.append(f"{head}{'still':>7}{'unseen':>8}  issuer")
    lines += [
        f"  {(each['client'] or 'unknown client')[:27]:<28}{each['forecast']:>9}"
        f"{each['refused']:>9}{each['silent']:>8}{each['signed_in']:>11}{each['still']:>7}"
        f"{each['unseen']:>8}  {each['issuer']}"
        for each in found["clients"]
    ]
    return "\n".join(lines)


def rows_of_status(brownouts: list[dict[str, Any]], now: datetime) -> Iterator[tuple[str, str]]:
    """What the screen says of those open, of the next, and of those paused: title and text.

    Of those over, an aborted one is told for a day: nobody may have been there when it ended.
    """
    for one in brownouts:
        if one["state"] == "open":
            _, _, until = at(one["ends_at"]).partition(" ")
            refused = counted(one["refused"], "subject")
            text = f"#{one['id']} open until {until}, refused {refused}, {whom(one)}"
            yield "BROWNOUT", f"{text:.60}   migrator brownout abort {one['id']}"
        elif one["state"] == "aborted" and now - one["over_at"] < _REMEMBERED:
            text = f"#{one['id']} aborted {age(one['over_at'], now)}: {one['why_over']}"
            yield "BROWNOUT", f"{text:.60}   migrator brownout report {one['id']}"
    ahead = [one for one in brownouts if one["state"] == "scheduled"]
    if ahead:
        one = ahead[0]
        more = f" · {len(ahead) - 1} more" if len(ahead) > 1 else ""
        yield "NEXT", f"brownout #{one['id']}  {_window(one)}  {whom(one)}{limits_of(one)}{more}"
    paused = [f"#{one['id']}" for one in brownouts if one["state"] == "paused"]
    if paused:
        yield "PAUSED", f"brownout {', '.join(paused)}   migrator brownout resume"


def came_back(hit: dict[str, Any]) -> str:
    """How those that a cutover hits would come back, as the end of a line; what is known of it."""
    if hit["silent"] is not None:
        if not hit["subjects"]:
            return ""
        return (
            f" → {count(hit['silent'])} recover silently, {count(hit['sign_in'])} sign in, "
            f"{count(hit['breaks'])} break"
        )
    taught = [one for one in hit["clients"] if one["silent"] is not None]
    if not taught:
        return ""
    silent, sign_in, breaks = (
        sum(one[name] for one in taught) for name in ("silent", "sign_in", "breaks")
    )
    met = sum(one["subjects"] for one in taught)
    return (
        f" → of {count(met)}: {count(silent)} silently, {count(sign_in)} sign in, {breaks} break"
    )


def _back(forecast: Mapping[str, Any]) -> str:
    if forecast["silent"] is None:
        return ""
    return (
        f" → {count(forecast['silent'])} silent / {count(forecast['sign_in'])} sign in / "
        f"{count(forecast['breaks'])} break"
    )


def _clients(forecast: Mapping[str, Any]) -> Iterator[str]:
    for one in forecast["clients"][:_MOST_CLIENTS]:
        yield (
            f"    {one['client'] or 'unknown client'} {one['subjects']} "
            f"(at most {one['at_most']}){_back(one)}"
        )
    more = len(forecast["clients"]) - _MOST_CLIENTS
    if more > 0:
        yield f"    {more} more"
