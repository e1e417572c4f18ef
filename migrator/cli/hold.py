"""`migrator hold add | list | release`: keep everybody from going forward, with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from migrator.cli import decided
from migrator.cli.context import Context, pass_context
from migrator.cli.parameters import moment, one_end, term_options, words
from migrator.control import holding
from migrator.control.terms import Term
from migrator.control.words import at, folded

if TYPE_CHECKING:
    from datetime import datetime, timedelta


@click.group("hold")
def command() -> None:
    """Hold every move forward up, for a while; going back stays free."""


@command.command("add", epilog="Example: migrator hold add --reason 'CHG-12 freeze' --for 72h")
@click.option(
    "--reason", type=words, required=True, metavar="TEXT", help="Why; every screen shows it."
)
@click.option("--from", "start", type=moment, metavar="TIME", help="A freeze to come; else now.")
@term_options
@pass_context
def add(
    context: Context,
    *,
    reason: str,
    start: datetime | None,
    until: datetime | None,
    lasting: timedelta | None,
) -> None:
    """Let nothing go forward until it is released or over."""
    one_end(until, lasting)
    found = holding.add(
        context.settings,
        term=Term(start=start, until=until, lasting=lasting),
        who=context.operator(),
        why=reason,
        dry_run=context.dry_run,
    )
    _emit(context, found)


@command.command("list")
@click.option("--ended", is_flag=True, help="Those that are over too.")
@pass_context
def listed(context: Context, *, ended: bool) -> None:
    """Those in force and those to come, the newest first."""
    found = holding.listed(context.settings, ended=ended)
    decided.emit_all(context, found, key="holds", line=_line, schema=holding.LISTED, ended=ended)


@command.command("release")
@click.argument("number", metavar="ID", type=click.IntRange(min=1))
@pass_context
def release(context: Context, number: int) -> None:
    """End the hold ID now."""
    found = holding.release(
        context.settings, number, who=context.operator(), dry_run=context.dry_run
    )
    _emit(context, found)


def _emit(context: Context, found: dict[str, Any]) -> None:
    decided.emit(context, found, key="hold", line=_line, schema=holding.SCHEMA)


def _line(one: dict[str, Any]) -> str:
    named = "hold" if one["id"] is None else f"hold {one['id']}"
    state = one["state"].replace("_", " ")
    if one["state"] == "released":
        term = f"released {at(one['released_at'])} by {one['released_by']}"
    else:
        term = f"{at(one['from'])} → {at(one['until'])}"
    line = f"{named:<8} {state:<9} {term}  by {one['who']}: {one['reason']}"
    return folded(line, below=9)
