"""`sessions list|show|revoke|regenerate|expire`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import click

from migrator.cli import parameters, screens
from migrator.cli.context import Context, pass_context
from migrator.cli.desk import seated, stdin_bytes
from migrator.control import barred, changes, endings, pasted, reach, roster


@click.group()
def command() -> None:
    """Sessions of a subject: who has them, ending and changing single ones."""


@command.command("list")
@click.argument("subject")
@click.option("--realm", metavar="R", help="Only this realm; else every one.")
@click.option("--ended", is_flag=True, help="Those that are over too: when, why and by whom.")
@pass_context
def list_(context: Context, subject: str, realm: str | None, ended: bool) -> None:  # noqa: FBT001 - click's signature
    """List the sessions of SUBJECT, newest first."""
    settings = context.settings
    url, home = settings.database.url.get_secret_value(), settings.database.schema
    with reach.reached(url, home) as connection:
        entries = roster.listed(
            connection, home, subject, realm=realm, ended=ended, idle=settings.sessions.idle
        )
        found = barred.listed(connection, home, subject, realm=realm) if ended else barred.Barred()
    result = {
        "subject": subject,
        "realm": realm,
        "sessions": list(map(screens.session, entries)),
        **screens.barred(found),
    }
    context.emit(
        result,
        lambda: screens.sessions(entries, found, ended=ended),
        schema="migrator.sessions/1",
    )


@command.command()
@click.argument("session_id", metavar="ID", type=parameters.session_id)
@pass_context
def show(context: Context, session_id: UUID) -> None:
    """Show one session, the legacy tokens it came from, and its family."""
    settings = context.settings
    url, home = settings.database.url.get_secret_value(), settings.database.schema
    with reach.reached(url, home) as connection:
        whole = roster.shown(connection, home, session_id, idle=settings.sessions.idle)
    context.emit(screens.whole(whole), lambda: screens.page(whole), schema="migrator.session/1")


@command.command()
@click.argument("session_id", metavar="[ID]", type=parameters.session_id, required=False)
@click.option("--stdin", "from_stdin", is_flag=True, help="A token or a JWT comes by stdin.")
@parameters.reason_option
@pass_context
def revoke(
    context: Context,
    session_id: UUID | None,
    from_stdin: bool,  # noqa: FBT001 - click's signature
    reason: str,
) -> None:
    """End a session with its family. A JWT by stdin is denied, and what it became is ended."""
    if (session_id is None) != from_stdin:
        raise click.UsageError("give a session's ID, or --stdin and a token or JWT by stdin")
    credential = pasted.bare(stdin_bytes(pasted.LARGEST_BYTES)) if from_stdin else b""
    settings = context.settings
    audit = endings.Audit(who=context.operator(), why=reason)
    with seated(settings) as desk:
        if session_id is not None:
            ending = endings.end_session(desk.app, session_id, audit, dry_run=context.dry_run)
        else:
            ending = endings.end_pasted(
                desk.app,
                desk.connection,
                desk.schema,
                credential,
                audit,
                issuer_ids=[issuer.id for issuer in settings.issuers],
                dry_run=context.dry_run,
            )
    screens.emit_ending(context, ending, audit)


@command.command()
@click.argument("session_id", metavar="ID", type=parameters.session_id)
@pass_context
def regenerate(context: Context, session_id: UUID) -> None:
    """Give a session a new token, printed once. The old one, and its JWT, are dead at once."""
    settings = context.settings
    prefixes = {"session": settings.tokens.session_prefix, "api": settings.tokens.api_prefix}
    with seated(settings) as desk:
        made = changes.regenerate(
            desk.connection,
            desk.app.cache,
            desk.schema,
            session_id,
            prefixes=prefixes,
            dry_run=context.dry_run,
        )
    if made.token is not None:
        context.talk(f"{session_id}: the token below is shown this once.")
    context.emit(
        {"id": made.session_id, "token": made.token, "expires_at": made.expires_at},
        lambda: made.token or f"{session_id} would get a new token; nothing was changed.",
        schema="migrator.regenerated/1",
        changed=made.token is not None,
    )


@command.command()
@click.argument("session_id", metavar="ID", type=parameters.session_id)
@click.option("--at", metavar="TIME", type=parameters.moment, help="When, instead of now.")
@pass_context
def expire(context: Context, session_id: UUID, at: datetime | None) -> None:
    """Let a session end now, or at a time; never later than it would have."""
    settings = context.settings
    with seated(settings) as desk:
        done = changes.expire(
            desk.connection,
            desk.app.cache,
            desk.schema,
            session_id,
            at=at,
            dry_run=context.dry_run,
        )
    context.emit(
        {"id": done.session_id, "was": done.was, "expires_at": done.now},
        lambda: screens.expired(done, dry_run=context.dry_run),
        schema="migrator.expired/1",
        changed=done.changed,
    )
