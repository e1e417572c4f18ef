"""`migrator override add | list | revoke`: take the risk of a gate on one's own name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from migrator.cli import decided
from migrator.cli.context import Context, pass_context
from migrator.cli.parameters import one_end, term_options, words
from migrator.control import overriding
from migrator.control.terms import Term
from migrator.control.words import at, folded

if TYPE_CHECKING:
    from datetime import datetime, timedelta


@click.group("override")
def command() -> None:
    """Let a gate pass whatever it says: with an owner, a reason and an end."""


@command.command(
    "add",
    epilog="Example: migrator override add legacy-seen --reason 'CHG-7 two robots' --for 24h",
)
@click.argument("gate")
@click.option(
    "--reason", type=words, required=True, metavar="TEXT", help="Why; every screen shows it."
)
@term_options
@click.option("--confirm", metavar="ENV", help="The environment's name, not asked for.")
@pass_context
def add(
    context: Context,
    *,
    gate: str,
    reason: str,
    until: datetime | None,
    lasting: timedelta | None,
    confirm: str | None,
) -> None:
    """Let GATE pass until the override is revoked or over."""
    one_end(until, lasting)
    settings = context.settings
    if confirm is not None:
        context.confirm(settings.environment, confirm)  # a wrong one: these may be wrong settings
    judged = overriding.judged(settings, gate)
    context.talk(f"{judged.id} ({judged.result}): {judged.detail}")
    if confirm is None and not context.dry_run:
        context.confirm(settings.environment, None)
    found = overriding.add(
        settings,
        judged,
        term=Term(until=until, lasting=lasting),
        who=context.operator(),
        why=reason,
        dry_run=context.dry_run,
    )
    _emit(context, found)


@command.command("list")
@click.option("--ended", is_flag=True, help="Those that are over too.")
@pass_context
def listed(context: Context, *, ended: bool) -> None:
    """Those in force, the newest first."""
    found = overriding.listed(context.settings, ended=ended)
    decided.emit_all(
        context, found, key="overrides", line=_line, schema=overriding.LISTED, ended=ended
    )


@command.command("revoke")
@click.argument("number", metavar="ID", type=click.IntRange(min=1))
@pass_context
def revoke(context: Context, number: int) -> None:
    """End the override ID now."""
    found = overriding.revoke(
        context.settings, number, who=context.operator(), dry_run=context.dry_run
    )
    _emit(context, found)


def _emit(context: Context, found: dict[str, Any]) -> None:
    decided.emit(context, found, key="override", line=_line, schema=overriding.SCHEMA)


def _line(one: dict[str, Any]) -> str:
    named = "override" if one["id"] is None else f"override {one['id']}"
    if one["state"] == "revoked":
        term = f"revoked {at(one['revoked_at'])} by {one['revoked_by']}"
    else:
        term = f"{one['state'].replace('_', ' ')}, until {at(one['until'])}"
    line = f"{named:<12} {one['gate']:<17} {term}  by {one['who']}: {one['reason']}"
    return folded(line, below=13)
