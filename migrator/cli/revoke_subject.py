"""`revoke-subject SUBJECT`: log somebody out everywhere."""

from __future__ import annotations

import click

from migrator.cli import screens
from migrator.cli.context import Context, pass_context
from migrator.cli.desk import seated
from migrator.cli.parameters import reason_option
from migrator.control import endings, roster


@click.command()
@click.argument("subject")
@click.option("--realm", metavar="R", help="Whose SUBJECT that is; else sessions.realm.")
@click.option("--confirm", metavar="ENV", help="The environment's name, instead of typing it.")
@reason_option
@pass_context
def command(
    context: Context, subject: str, realm: str | None, confirm: str | None, reason: str
) -> None:
    """End every session of SUBJECT, and refuse its legacy tokens issued until now."""
    settings = context.settings
    audit = endings.Audit(who=context.operator(), why=reason)
    realm = realm or settings.sessions.realm
    with seated(settings) as desk:
        others = roster.other_realms(desk.connection, desk.schema, subject, realm=realm)
        desk.connection.rollback()
        if not context.dry_run:
            context.talk(f"This ends everything of {subject!r} in the realm {realm!r}.")
            context.confirm(settings.environment, confirm)
        ending = endings.end_subject(
            desk.app, subject, audit, realm=realm, dry_run=context.dry_run
        )
    if others:
        context.talk(
            f"Somebody called {subject!r} is also alive in the realm(s) {', '.join(others)}: "
            "untouched. Where that is the same person, run this again with --realm."
        )
    screens.emit_ending(context, ending, audit)
