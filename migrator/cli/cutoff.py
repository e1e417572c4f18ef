"""`cutoff add|list|remove`: refuse legacy tokens of a subject, a key or an issuer."""

from __future__ import annotations

from datetime import datetime

import click

from migrator.cli import screens
from migrator.cli.context import Context, pass_context
from migrator.cli.desk import Desk, seated
from migrator.cli.parameters import moment, reason_option
from migrator.control import cutoff_rows, cutoffs, endings, reach


@click.group()
def command() -> None:
    """Legacy tokens that are refused by whom, when or with which key they were issued."""


@command.command()
@click.option("--subject", metavar="S", help="This subject's tokens, issued until now.")
@click.option("--realm", metavar="R", help="With --subject: whose; else sessions.realm.")
@click.option("--before", metavar="TIME", type=moment, help="With --subject: until then.")
@click.option("--issuer", metavar="ID", help="Everything this issuer ever signed.")
@click.option("--kid", metavar="K", help="With --issuer: with this key only.")
@reason_option
@pass_context
def add(
    context: Context,
    subject: str | None,
    realm: str | None,
    before: datetime | None,
    issuer: str | None,
    kid: str | None,
    reason: str,
) -> None:
    """Add a cutoff, end what came from such tokens, and print its id."""
    if (subject is None) == (issuer is None):
        raise click.UsageError("give --subject or --issuer")
    if subject is None and (realm is not None or before is not None):
        raise click.UsageError(
            "--realm and --before go with --subject; an issuer is cut off whole"
        )
    if issuer is None and kid is not None:
        raise click.UsageError("--kid goes with --issuer")
    settings = context.settings
    audit = endings.Audit(who=context.operator(), why=reason)
    with seated(settings) as desk:
        place = _place(desk)
        if issuer is not None:
            cutoff_rows.require_known(
                place, issuer, {one.id: one.name for one in settings.issuers}
            )
            cut = cutoffs.cut_issuer(place, issuer, kid=kid, audit=audit, dry_run=context.dry_run)
        else:
            signers = {
                one.id: cutoffs.Signer(
                    skew=one.skew,
                    lifetimes={"access": one.lifetime, "refresh": one.refresh_lifetime},
                )
                for one in settings.issuers
            }
            cut = cutoffs.cut_subject(
                place,
                str(subject),
                realm=realm or settings.sessions.realm,
                before=before,
                signers=signers,
                audit=audit,
                dry_run=context.dry_run,
            )
    context.emit(
        {"cutoff": screens.cutoff(cut.cutoff), "ended": cut.ended},
        lambda: screens.cut(cut, dry_run=context.dry_run),
        schema="migrator.cutoff/1",
        changed=not context.dry_run and (cut.is_new or cut.ended > 0),
    )


@command.command("list")
@pass_context
def list_(context: Context) -> None:
    """List every cutoff, the newest first."""
    database = context.settings.database
    with reach.reached(database.url.get_secret_value(), database.schema) as connection:
        found = cutoff_rows.listed(connection, database.schema)
    context.emit(
        {"cutoffs": [screens.cutoff(each) for each in found]},
        lambda: screens.cutoffs(found),
        schema="migrator.cutoffs/1",
    )


@command.command()
@click.argument("cutoff_id", metavar="ID", type=click.IntRange(min=1))
@reason_option
@pass_context
def remove(context: Context, cutoff_id: int, reason: str) -> None:
    """Remove a cutoff by its id. What it ended stays ended."""
    audit = endings.Audit(who=context.operator(), why=reason)
    with seated(context.settings) as desk:
        found = cutoff_rows.remove(_place(desk), cutoff_id, audit=audit, dry_run=context.dry_run)
    context.emit(
        {"cutoff": None if found is None else screens.cutoff(found)},
        lambda: screens.removed(found, cutoff_id, dry_run=context.dry_run),
        schema="migrator.cutoff-removed/1",
        changed=found is not None and not context.dry_run,
    )


def _place(desk: Desk) -> cutoff_rows.Place:
    return cutoff_rows.Place(desk.connection, desk.schema, desk.app.cache)
