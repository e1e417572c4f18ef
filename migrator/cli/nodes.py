"""`migrator nodes`: every process that runs the shim."""

from __future__ import annotations

import click
from rich.table import Table

from migrator.cli.context import Context, pass_context
from migrator.control.fleet import SCHEMA, report
from migrator.control.words import age


@click.command("nodes")
@pass_context
def command(context: Context) -> None:
    """Every process that runs the shim: its epoch, its keys, and when it was last heard."""
    found = report(context.settings)

    def text() -> Table | str:
        if not found["nodes"]:
            return "no node was ever heard: does the shim run, and on this database?"
        table = Table(box=None, pad_edge=False)
        for title in ("node", "state", "epoch", "seen", "build", "keys", "last JWT issued"):
            table.add_column(title, no_wrap=title != "node", overflow="fold")
        for node in found["nodes"]:
            table.add_row(
                node["id"],
                node["state"],
                str(node["epoch"]),
                age(node["seen_at"], found["generated_at"]),
                node["build"] or "unknown",
                ",".join(node["key_ids"]) or "none",
                age(node["last_jwt_issued_at"], found["generated_at"])
                if node["last_jwt_issued_at"]
                else "none seen",
            )
        return table

    context.emit(found, text, schema=SCHEMA)
