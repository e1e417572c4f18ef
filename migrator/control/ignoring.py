"""Rules that leave differences out: numbered, owned, with a reason and an end at 90 days.

Who leaves out that the app turns somebody away, and we would not, has to know why: such a rule
names the one class of routes where a 401 means something else, never all of them. A rule names
something in any case.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, update

from migrator.control import comparing, roster
from migrator.control.comparing import Rule
from migrator.control.deciding import at_desk
from migrator.core.comparing import ADMITTED, OTHER, route_class
from migrator.core.errors import Exit, Problem, Stopped
from migrator.core.reasons import Reason

if TYPE_CHECKING:
    from datetime import datetime

    from migrator.control.deciding import Desk
    from migrator.control.terms import Term
    from migrator.core.comparing import Direction
    from migrator.settings import Settings

SCHEMA = "migrator.ignore/1"
LISTED = "migrator.ignores/1"
LONGEST = timedelta(days=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a rule is about; None: any."""

    direction: Direction
    issuer: str | None = None
    client: str | None = None
    route: str | None = None
    verdict: str | None = None


def add(
    settings: Settings,
    named: Named,
    *,
    term: Term,
    owner: str,
    why: str,
    who: str,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Leave differences out until the term is over; `id` is null where it was only rehearsed.

    Args:
        owner: who answers for it; who: who typed it.

    Raises:
        Stopped: USAGE, GATE_FAILED, the rule would leave out too much, or legacy tokens are
            retired; UNFIT; UNREACHABLE.
    """
    named = _checked(settings, named)
    with at_desk(settings) as desk:
        _require_legacy(desk)
        _, until = term.of(desk.now, most=LONGEST)
        facts = {name: getattr(named, name) for name in Named.__slots__}
        made = Rule(id=None, owner=owner, reason=why, since=desk.now, until=until, **facts)
        if not dry_run:
            table = desk.table("ignores")
            row = insert(table).values(
                **facts, created_at=desk.now, owner=owner, reason=why, until=until
            )
            made = replace(made, id=desk.connection.scalar(row.returning(table.c.id)))
            detail = {"ignore": made.id, "until": until.isoformat(), **facts}
            desk.record(who=who, why=why, command="compare ignore add", detail=detail)
            left_out = comparing.read(desk.connection, desk.home, desk.now).left_out_by(made)
        else:
            left_out = None
    return {
        "rule": as_json(made, desk.now, left_out),
        "dry_run": dry_run,
        "changed": not dry_run,
    }


def remove(
    settings: Settings, number: int, *, who: str, why: str | None = None, dry_run: bool = False
) -> dict[str, Any]:
    """End a rule now: what it left out counts again. Unchanged where it was over already.

    Raises:
        Stopped: USAGE, there is none of that number; GATE_FAILED, legacy tokens are retired;
            UNFIT; UNREACHABLE.
    """
    with at_desk(settings) as desk:
        _require_legacy(desk)
        found = next(
            (one for one in comparing.rules(desk.connection, desk.home) if one.id == number), None
        )
        if found is None:
            raise Stopped(_no_such(number), Exit.USAGE)
        ends = found.state(desk.now) == "in force" and not dry_run
        if ends:
            table = desk.table("ignores")
            standing = (table.c.id == number) & table.c.removed_at.is_(None)
            desk.connection.execute(
                update(table).where(standing).values(removed_at=desk.now, removed_by=who)
            )
            found = replace(found, removed_at=desk.now, removed_by=who)
            detail = {"ignore": number}
            desk.record(who=who, why=why, command="compare ignore remove", detail=detail)
    return {"rule": as_json(found, desk.now, None), "dry_run": dry_run, "changed": ends}


def listed(settings: Settings, *, ended: bool = False) -> dict[str, Any]:
    """Those in force with what each leaves out, the newest first; with `ended`, all there were.

    Raises:
        Stopped: GATE_FAILED, legacy tokens are retired; UNFIT; UNREACHABLE.
    """
    with at_desk(settings) as desk:
        _require_legacy(desk)
        found = comparing.read(desk.connection, desk.home, desk.now)
    kept = [one for one in found.rules if ended or one.state(desk.now) == "in force"]
    return {
        "generated_at": desk.now,
        "rules": [as_json(one, desk.now, found.left_out_by(one)) for one in kept],
    }


def as_json(one: Rule, now: datetime, left_out: int | None) -> dict[str, Any]:
    """A rule as the commands print it."""
    return {
        "id": one.id,
        "state": one.state(now).replace(" ", "_"),
        "owner": one.owner,
        "reason": one.reason,
        "since": one.since,
        "until": one.until,
        "direction": one.direction,
        "issuer": one.issuer,
        "client": one.client,
        "route": one.route,
        "verdict": one.verdict,
        "left_out": left_out,
        "removed_at": one.removed_at,
        "removed_by": one.removed_by,
    }


def _checked(settings: Settings, named: Named) -> Named:
    ids = {one.id for one in settings.issuers}
    if named.issuer is not None and named.issuer not in ids:
        raise Stopped(_unknown("issuer", ", ".join(sorted(ids))), Exit.USAGE)
    verdicts = {ADMITTED} if named.direction == "deny_allow" else {str(each) for each in Reason}
    if named.verdict is not None and named.verdict not in verdicts:
        raise Stopped(_unknown("verdict", ", ".join(sorted(verdicts))), Exit.USAGE)
    if named.route is not None:
        named = replace(named, route=_class(named.route))
    if named.direction == "deny_allow" and (named.route is None or named.route == OTHER):
        raise Stopped(_no_route(), Exit.USAGE)
    if not any((named.issuer, named.client, named.route, named.verdict)):
        raise Stopped(_names_nothing(), Exit.USAGE)
    return named


def _class(route: str) -> str:
    """The class of routes that somebody names; a path is of one."""
    if route == OTHER:
        return route
    kept = route_class(route)
    # "**" is what is left of paths that are too long to tell apart.
    if not route.startswith("/") or "**" in kept or "**" in route:
        raise Stopped(_no_class(), Exit.USAGE)
    return kept


def _require_legacy(desk: Desk) -> None:
    if not roster.has_legacy(desk.connection, desk.home):
        problem = Problem(
            id="compare.retired",
            what="nothing is compared any more",
            why="legacy tokens are retired, and their tables with them",
            do="migrator status",
        )
        raise Stopped(problem, Exit.GATE_FAILED)


def _no_route() -> Problem:
    return Problem(
        id="compare.no-route",
        what="a rule about people whom the app turns away names the route",
        why="there a 401 has to mean something else than a login that is over; anywhere else it "
        "may be a revocation that we do not know of",
        do="add --route with a class of routes that `migrator compare show` lists",
    )


def _no_class() -> Problem:
    return Problem(
        id="compare.no-class",
        what="that is no class of routes",
        why="a rule names one exactly, such as /orders/*; there is none for all of them",
        do="take one that `migrator compare show` lists",
    )


def _names_nothing() -> Problem:
    return Problem(
        id="compare.names-nothing",
        what="a rule that names nothing would leave out everything",
        why="the gate would pass whatever the app and the shim do",
        do="add --issuer, --client, --route or --verdict",
    )


def _unknown(what: str, there: str) -> Problem:
    return Problem(
        id=f"compare.unknown-{what}",
        what=f"there is no such {what}",
        why=f"there are: {there or 'none'}",
        do="take one that `migrator compare show` lists",
    )


def _no_such(number: int) -> Problem:
    return Problem(
        id="compare.unknown-rule",
        what=f"there is no rule {number}",
        why="nothing was changed",
        do="migrator compare ignore list --ended",
    )
