"""`backfill`: make sessions of a ledger of legacy tokens, so that they can be listed and ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from migrator.cli.backfill_jobs import list_jobs, pause, tune
from migrator.cli.backfill_pace import limits_of, pace_options, told
from migrator.cli.context import Context, pass_context
from migrator.cli.desk import seated
from migrator.control.backfill import summary
from migrator.control.backfill.order import Kind, Order, fulfil
from migrator.control.ledgers import keyspace, once
from migrator.core.errors import BadSettings, Exit
from migrator.settings.problems import Findings
from migrator.settings.secrets import Vault


@click.group(name="backfill", short_help="Make sessions of a ledger of legacy tokens.")
def command() -> None:
    """Make sessions of a ledger of legacy tokens.

    Each living token gets a session that waits for it: it can be listed and ended from then on,
    and becomes usable when the token is first presented. Safe to repeat, to stop and to rehearse
    (--dry-run); a run goes on where the last one was stopped. No token leaves its database.
    """


def options(run: Callable[..., None]) -> Callable[..., None]:
    """What every source takes."""
    for option in reversed(
        (
            click.option("--issuer", required=True, metavar="ID", help="Whose tokens they are."),
            click.option(
                "--rejects",
                type=click.Path(path_type=Path, dir_okay=False),
                help="Write rejected rows here: their key and the reason, never a token.",
            ),
            *pace_options,
            click.option("--restart", is_flag=True, help="Begin again; nothing is seeded twice."),
        )
    ):
        run = option(run)
    return run


source_url_option = click.option(
    "--source-url", metavar="env:NAME", help="The ledger's database, if it is not ours."
)
_columns = click.option(
    "--columns",
    default="",
    metavar="ours=theirs,…",
    help="Ours: token, or fingerprint, subject and exp; jti, family, client, iat, revoked.",
)
_file = click.option("--file", "place", required=True, metavar="PATH|-", help="- is stdin.")


@command.command()
@click.option("--from", "place", metavar="TABLE", help="OutstandingToken's, if it was renamed.")
@source_url_option
@options
@pass_context
def simplejwt(context: Context, /, **given: Any) -> None:
    """Read the token_blacklist tables of djangorestframework-simplejwt."""
    run(context, "simplejwt", **given)


@command.command()
@click.option("--from", "place", required=True, metavar="TABLE", help="With its schema.")
@_columns
@source_url_option
@options
@pass_context
def table(context: Context, /, **given: Any) -> None:
    """Read any table with a primary key, by a mapping of its columns."""
    run(context, "table", **given)


@command.command()
@_file
@_columns
@options
@pass_context
def jsonl(context: Context, /, **given: Any) -> None:
    """Read a file of one JSON object on each line."""
    run(context, "jsonl", **given)


@command.command()
@_file
@_columns
@options
@pass_context
def csv(context: Context, /, **given: Any) -> None:
    """Read a CSV file with a header line."""
    run(context, "csv", **given)


@command.command()
@pass_context
def ledgers(context: Context) -> None:
    """Read every [[ledgers]] table of the settings once, now. Exit 11 if one cannot be read.

    Nodes read them all the time; this is for right after they were set up. What they name is
    denied and what it became is ended, for good: --dry-run says how many.
    """
    with seated(context.settings) as desk:
        context.note_committed("what was read so far is denied; run it again", surely=False)
        polled = once.poll(context.settings, desk.app.cache, dry_run=context.dry_run)
    failed = any(each.why is not None for each in polled)
    done = sum(each.tally.denied + each.tally.ended + each.tally.lifted for each in polled)
    context.emit(
        {"dry_run": context.dry_run, "ledgers": [each.as_json() for each in polled]},
        lambda: "\n".join(map(_in_words, polled)) or "the settings have no [[ledgers]]",
        schema="migrator.ledgers/1",
        changed=bool(done) and not context.dry_run,
        exit_code=Exit.UNREACHABLE if failed else Exit.DONE,
    )


def _in_words(polled: once.Polled) -> str:
    tally = polled.tally
    if polled.why is not None:
        return f"{polled.ledger.name}: not read to its end: {polled.why}"
    words = f"{tally.read} read, {tally.denied} newly denied, {tally.ended} sessions ended"
    back = f", {tally.lifted} let in again" if tally.lifted else ""
    return f"{polled.ledger.name}: {words}{back}"


def run(
    context: Context,
    kind: Kind,
    *,
    issuer: str,
    place: str | None,
    rejects: Path | None,
    restart: bool,
    columns: str = "",
    is_file: bool = False,
    collection: keyspace.Kind | None = None,
    source_url: str | None = None,
    **pace: Any,
) -> None:
    """Fulfil an order that was read from the command line, and print what came of it.

    Args:
        pace: what `pace_options` took.
    """
    order = Order(
        kind=kind,
        issuer=issuer,
        place=place,
        is_file=is_file,
        collection=collection,
        columns=columns,
        source_url=fetched(source_url),
        source_name=source_url,
        standard_input=sys.stdin.buffer,
        limits=limits_of(pace),
        rejects=rejects,
        restart=restart,
        dry_run=context.dry_run,
        who=context.operator(),
    )
    context.note_committed(
        "every page done so far is kept; the next run goes on from there", surely=False
    )
    with told(context) as tell:
        report = fulfil(context.settings, order, tell)
    context.emit(
        report.as_json(),
        lambda: summary.text(report),
        schema="migrator.backfill/1",
        changed=report.outcome.changed,
        exit_code=report.exit_code,
    )


def fetched(reference: str | None) -> str | None:
    """The URL that an `env:NAME` or `file:PATH` stands for: never one with a password in argv."""
    if reference is None:
        return None
    findings = Findings("the command line")
    vault = Vault(
        environ=os.environ, directory=Path(), findings=findings, allows_inline=lambda _: False
    )
    found = vault.fetch_url(reference, ("--source-url",))
    if found is None:
        raise BadSettings(tuple(findings.problems))
    return found.get_secret_value()


for _job_command in (list_jobs, pause, tune):
    command.add_command(_job_command)
