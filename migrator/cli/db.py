"""`migrator db`: bring our tables, and say how they stand."""

from __future__ import annotations

import click

from migrator.cli.context import Context, pass_context
from migrator.control import schema
from migrator.control.tending import SCHEMA, checked, standing
from migrator.core.errors import Exit


@click.group("db")
def command() -> None:
    """Bring our tables, and say how they stand."""


@command.command("upgrade")
@pass_context
def upgrade(context: Context) -> None:
    """Bring the tables to this release; never takes anything away."""
    url, home = _where(context)
    revisions = schema.pending(url, home) if context.dry_run else schema.upgrade(url, home)
    changed = bool(revisions) and not context.dry_run
    done = "would apply" if context.dry_run else "applied"

    def text() -> str:
        return f"{done} {', '.join(revisions)}" if revisions else "the schema is up to date"

    result = {"revisions": revisions, "dry_run": context.dry_run}
    context.emit(result, text, schema=SCHEMA, changed=changed)


@command.command("current")
@pass_context
def current(context: Context) -> None:
    """Which revisions are there, and how that stands to this release."""
    found = standing(*_where(context))

    def text() -> str:
        applied = ", ".join(found["applied"]) or "none"
        gone = "; the legacy tables are gone" if found["contracted"] else ""
        return f"{found['state']}: {applied} (this release: {found['expand']}){gone}"

    context.emit(found, text, schema=SCHEMA)


@command.command("check")
@pass_context
def check(context: Context) -> None:
    """Compare the tables with this release. 5: another release's, 10: changed by hand."""
    found, code = checked(*_where(context))

    def text() -> str:
        if code is Exit.DONE:
            return "the schema is as this release made it"
        return "\n".join(f"{one['id']}: {one['what']}\n  do: {one['do']}" for one in found)

    context.emit({"problems": found}, text, schema=SCHEMA, exit_code=code)


@command.command("sql")
@click.option("--grants", metavar="ROLE", help="What ROLE needs to run the app and the commands.")
@pass_context
def sql(context: Context, grants: str | None) -> None:
    """Print the SQL of `db upgrade`, or of the rights a role needs, and run nothing."""
    home = context.settings.database.schema
    script = schema.sql(home) if grants is None else schema.grants(grants, home)
    context.emit({"sql": script}, lambda: script.rstrip("\n"), schema=SCHEMA)


def _where(context: Context) -> tuple[str, str]:
    database = context.settings.database
    return database.url.get_secret_value(), database.schema
