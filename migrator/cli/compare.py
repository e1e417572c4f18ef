"""`migrator compare show`, `compare ignore add | list | remove`: the app's verdicts and ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from migrator.cli import decided
from migrator.cli.context import Context, pass_context
from migrator.cli.parameters import one_end, term_options, words
from migrator.control import ignoring
from migrator.control.compared import SCHEMA, report
from migrator.control.ignoring import Named
from migrator.control.terms import Term
from migrator.control.words import age, at, count, counted, folded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

    from migrator.core.comparing import Direction

_ROOM = 16
_MEANINGS = {
    "deny_allow": "deny_allow: the app turned it away and we would admit it: is there a "
    "revocation we do not know of?",
    "allow_deny": "allow_deny: the app served it and we would refuse it: whoever sends it is out "
    "from swap on",
}


@click.group("compare")
def command() -> None:
    """What the app answered in observe, beside what the shim would have."""


@command.command("show")
@pass_context
def show(context: Context) -> None:
    """Pairs and differences of the last 24 hours, those that count first."""
    found = report(context.settings)
    context.emit(found, lambda: "\n".join(_shown(found)), schema=SCHEMA)


@command.group("ignore")
def ignore() -> None:
    """Differences whose reason is known: numbered, owned, and over after 90 days."""


@ignore.command(
    "add",
    epilog="Example: migrator compare ignore add deny_allow --route /account/password "
    "--reason '401 = wrong old password' --for 30d",
)
@click.argument("direction", type=click.Choice(["deny_allow", "allow_deny"]))
@click.option("--issuer", metavar="ID", help="Tokens of this issuer only.")
@click.option("--client", metavar="NAME", help="This client, with a version or without.")
@click.option("--route", metavar="ROUTE", help="This class of routes, as `compare show` has it.")
@click.option("--verdict", metavar="REASON", help="What the shim would say.")
@click.option("--reason", type=words, required=True, metavar="TEXT", help="Why they do not count.")
@click.option(
    "--owner", type=words, metavar="NAME", help="Who answers for it; else whoever runs this."
)
@term_options
@pass_context
def add(
    context: Context,
    *,
    direction: Direction,
    issuer: str | None,
    client: str | None,
    route: str | None,
    verdict: str | None,
    reason: str,
    owner: str | None,
    until: datetime | None,
    lasting: timedelta | None,
) -> None:
    """Leave differences of DIRECTION out of the gates."""
    one_end(until, lasting)
    named = Named(direction=direction, issuer=issuer, client=client, route=route, verdict=verdict)
    who = context.operator()
    found = ignoring.add(
        context.settings,
        named,
        term=Term(until=until, lasting=lasting),
        owner=owner or who,
        why=reason,
        who=who,
        dry_run=context.dry_run,
    )
    _emit(context, found)


@ignore.command("list")
@click.option("--ended", is_flag=True, help="Those that are over too.")
@pass_context
def listed(context: Context, *, ended: bool) -> None:
    """Those in force, and what each left out in 24 hours; the newest first."""
    found = ignoring.listed(context.settings, ended=ended)
    decided.emit_all(context, found, key="rules", line=_rule, schema=ignoring.LISTED, ended=ended)


@ignore.command("remove")
@click.argument("number", metavar="ID", type=click.IntRange(min=1))
@click.option("--reason", metavar="TEXT", help="Why; goes to the log.")
@pass_context
def remove(context: Context, number: int, *, reason: str | None) -> None:
    """End the rule ID now: what it left out counts again."""
    found = ignoring.remove(
        context.settings, number, who=context.operator(), why=reason, dry_run=context.dry_run
    )
    _emit(context, found)


def _emit(context: Context, found: dict[str, Any]) -> None:
    decided.emit(context, found, key="rule", line=_rule, schema=ignoring.SCHEMA)


def _rule(one: dict[str, Any]) -> str:
    named = "rule" if one["id"] is None else f"rule {one['id']}"
    about = " ".join(
        f"{name}={one[name]}"
        for name in ("issuer", "client", "route", "verdict")
        if one[name] is not None
    )
    if one["state"] == "removed":
        term = f"removed {at(one['removed_at'])} by {one['removed_by']}"
    else:
        term = f"{one['state'].replace('_', ' ')}, until {at(one['until'])}"
    hides = "" if one["left_out"] is None else f", left out {count(one['left_out'])} in 24 h"
    lines = (
        f"{named:<8} {one['direction']} {about}",
        f"         {term}{hides}",
        f"         {one['owner']}: {one['reason']}",
    )
    return "\n".join(folded(line, below=9) for line in lines)


def _shown(found: dict[str, Any]) -> Iterator[str]:
    if found["pairs"] is None:
        yield f"nothing compared: {found['unknown']['pairs']}"
        return
    now = found["generated_at"]
    yield (
        f"{counted(found['pairs'], 'pair')} in 24 h, the last {age(found['as_of'], now)}: "
        f"deny_allow {count(found['deny_allow'])} · allow_deny {count(found['allow_deny'])}"
    )
    for one in found["issuers"]:
        yield (
            f"  {one['name'] or one['issuer'] or 'no issuer':<20} both admit "
            f"{count(one['agree'])} · both refuse {count(one['agree_deny'])} · deny_allow "
            f"{count(one['deny_allow'])} · allow_deny {count(one['allow_deny'])}"
        )
    rows = found["differences"]
    if not rows:
        yield "no differences"
        return
    yield f"{'direction':<11} {'count':>8}  {'last':<12} {'client':<18} {'verdict':<15} route"
    for one in rows[:_ROOM]:
        rule = "" if one["rule"] is None else f"  (rule {one['rule']})"
        line = (
            f"{one['direction']:<11} {count(one['count']):>8}  {age(one['last_at'], now):<12} "
            f"{(one['client'] or 'unknown')[:18]:<18} {one['verdict'][:15]:<15} "
        )
        yield f"{line}{one['route'][: 100 - len(line) - len(rule)]}{rule}"
    if len(rows) > _ROOM:
        yield f"… {len(rows) - _ROOM} more: migrator compare show --json"
    there = {one["direction"] for one in rows if one["rule"] is None}
    yield from (meaning for name, meaning in _MEANINGS.items() if name in there)
    if there:
        yield "what is no difference after all: migrator compare ignore add --help"
