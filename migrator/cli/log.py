"""`migrator log`: who moved what, when and why."""

from __future__ import annotations

import click

from migrator.cli.context import Context, pass_context
from migrator.control.history import SCHEMA, report
from migrator.control.words import at


@click.command("log")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@pass_context
def command(context: Context, limit: int) -> None:
    """Who moved what, when and why; newest first."""
    found = report(context.settings, limit=limit)

    def text() -> str:
        lines = []
        for row in found["rows"]:
            moved = f"{row['from']} → {row['to']}" if row["from"] != row["to"] else row["to"]
            head = f"{at(row['at'])}  epoch {row['epoch']:<4} {moved:<22} {row['command']:<16} "
            lines.append(f"{head}{row['who']}{'  ' + row['why'] if row['why'] else ''}")
        return "\n".join(lines) or "nothing was moved yet"

    context.emit(found, text, schema=SCHEMA)
