"""`migrator log`: who decided what, when and why, and how long the nodes took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, get_args

import click

from migrator.cli.context import Context, pass_context
from migrator.cli.parameters import moment
from migrator.control.history import SCHEMA, Form, export, report
from migrator.control.journal import IN_EFFECT
from migrator.control.words import at, folded

if TYPE_CHECKING:
    from datetime import datetime


@click.command(
    "log", epilog="Example: migrator log --since 2026-11-01T00:00:00Z --export csv > moves.csv"
)
@click.option("--limit", type=click.IntRange(min=1), help="How many; 50, or all with --export.")
@click.option("--since", type=moment, metavar="TIME", help="Since when, with its offset.")
@click.option(
    "--export", "form", type=click.Choice(get_args(Form)), help="Print a file, oldest first."
)
@pass_context
def command(
    context: Context, *, limit: int | None, since: datetime | None, form: str | None
) -> None:
    """Who decided what, when and why; newest first."""
    usual = 50 if form is None else 1_000_000
    found = report(context.settings, limit=limit or usual, since=since)
    if form is not None and not context.as_json:
        click.echo(export(found["rows"], cast("Form", form)), nl=False)
        return
    context.emit(found, lambda: _text(found["rows"]), schema=SCHEMA)


def _text(rows: list[dict[str, Any]]) -> str:
    told = {row["epoch"] for row in rows if row["in_effect_at"] is not None}
    lines = [_line(row) for row in rows if row["command"] != IN_EFFECT or row["epoch"] not in told]
    return "\n".join(lines) or "nothing was moved yet"


def _line(row: dict[str, Any]) -> str:
    moved = f"{row['from']} → {row['to']}" if row["from"] != row["to"] else row["to"]
    head = f"{at(row['at'])}  epoch {row['epoch']:<4} {moved:<22} {row['command']:<16} "
    took = row["in_effect_after_s"]
    more = [
        *([] if row["why"] is None else [row["why"]]),
        *([] if row["plan"] is None else [f"plan {row['plan']}"]),
        *(f"over {gate}" for gate in row["overrides"]),
        *([] if took is None else [f"in effect after {took:.1f} s"]),
    ]
    line = f"{head}{row['who']}{'  ' + ' · '.join(more) if more else ''}"
    return folded(line, below=22)
