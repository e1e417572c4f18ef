"""`backfill` of what the old system refused, and what is asked once a ledger was read.

The group itself, its options and the ledgers of tokens are `backfill.py`'s; this file adds to it.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from migrator.cli.backfill import command, fetched, options, run, source_url_option
from migrator.cli.context import Context, pass_context
from migrator.cli.desk import seated
from migrator.control.backfill import coverage, covered, dated, not_before, verifying
from migrator.control.backfill.order import Kind as Source
from migrator.control.backfill.order import Order
from migrator.control.backfill.verification import text
from migrator.control.backfill.verifying import SAMPLE, Draw

if TYPE_CHECKING:
    from migrator.control.ledgers.keyspace import Kind

__all__ = ["command"]

redis_options = (
    click.option(
        "--redis-url", metavar="env:NAME", help="The Redis, if it is not that of the settings."
    ),
    click.option("--pattern", metavar="'blocklist:*'", help="Keys; * stands for the jti."),
    click.option("--set", "in_set", metavar="KEY", help="A set of jtis."),
    click.option("--zset", "in_zset", metavar="KEY", help="A sorted set; a score is an exp."),
    click.option("--hash", "in_hash", metavar="KEY", help="A hash whose fields are jtis."),
)


def _with_redis(takes: Any) -> Any:
    for option in reversed(redis_options):
        takes = option(takes)
    return takes


@command.command("redis")
@_with_redis
@options
@pass_context
def redis_blocklist(context: Context, /, **given: Any) -> None:
    """Deny every jti that a blocklist in a Redis names.

    Read by SCAN and never by KEYS, whatever else lives there. A key's TTL says until when, but
    for no less than a token lives. Whole tokens in place of jtis become fingerprints.
    """
    place, collection = listing_of(given)
    url = given.pop("redis_url")
    run(context, "redis", place=place, collection=collection, source_url=url, **given)


def listing_of(given: dict[str, Any]) -> tuple[str, Kind | None]:
    """What of a Redis is read, taken out of the options; None is a pattern of keys."""
    names: dict[str, Kind | None] = {
        "pattern": None,
        "in_set": "set",
        "in_zset": "zset",
        "in_hash": "hash",
    }
    said = [(value, kind) for key, kind in names.items() if (value := given.pop(key, None))]
    if len(said) != 1:
        raise click.UsageError("give one of --pattern, --set, --zset and --hash.")
    if said[0][1] is None and said[0][0].count("*") != 1:
        raise click.UsageError("--pattern takes one *: it stands for the jti.")
    return said[0]


@command.command()
@click.option("--from", "table", metavar="TABLE", help="With its schema.")
@click.option("--file", metavar="PATH|-", help="In place of a table: .csv, or JSON lines.")
@click.option(
    "--columns",
    default="",
    metavar="ours=theirs,…",
    help="Ours: jti, token or fingerprint; until (the token's exp).",
)
@source_url_option
@options
@pass_context
def denylist(context: Context, /, **given: Any) -> None:
    """Deny every token that a table or file of revoked tokens lists, such as jwt_denylist."""
    place, is_file = _listed_in(given)
    run(context, "denylist", place=place, is_file=is_file, **given)


def _listed_in(given: dict[str, Any]) -> tuple[str, bool]:
    """The table or the file, and which of them it is."""
    table, file = given.pop("table"), given.pop("file")
    if (table is None) == (file is None):
        raise click.UsageError("give one of --from and --file.")
    return (table, False) if file is None else (file, True)


@command.command("not-before")
@click.option("--from", "place", required=True, metavar="TABLE", help="With its schema.")
@click.option(
    "--columns",
    required=True,
    metavar="subject=…,not_before=…",
    help="Also realm, where a column says it.",
)
@click.option("--realm", metavar="R", help="Of every subject; else that of sessions.")
@source_url_option
@click.option(
    "--rejects",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write rejected rows here: their key and the reason.",
)
@click.option(
    "--limit-rows", "rows", type=click.IntRange(min=1), help="Stop after so many; exit 13."
)
@click.option(
    "--max-seconds",
    "seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="Begin no page after so long; exit 13.",
)
@click.option("--restart", is_flag=True, help="Begin again; nothing is done twice.")
@pass_context
def not_before_of(context: Context, /, source_url: str | None, **given: Any) -> None:
    """Cut off what a column of users says is over, such as tokens_valid_after.

    Legacy tokens issued before a subject's date are refused and the sessions that began before it
    end. A later date of the same subject moves its cutoff on; an earlier one changes nothing.
    """
    order = not_before.Order(
        source_url=fetched(source_url), source_name=source_url, dry_run=context.dry_run, **given
    )
    with seated(context.settings) as desk:
        context.note_committed(
            "every page done so far is kept; the next run goes on from there", surely=False
        )
        found = not_before.fulfil(context.settings, order, desk.app.cache, lambda *_: None)
    context.emit(
        found.as_json(),
        lambda: dated.text(found),
        schema="migrator.not-before/1",
        changed=found.changed,
        exit_code=found.exit_code,
    )


@command.command()
@click.argument("source", type=click.Choice(get_args(Source)))
@click.option("--issuer", required=True, metavar="ID", help="Whose tokens they are.")
@click.option("--from", "table", metavar="TABLE", help="The table, as it was read.")
@click.option("--file", metavar="PATH|-", help="The file, as it was read.")
@click.option("--columns", default="", metavar="ours=theirs,…", help="As they were read.")
@source_url_option
@_with_redis
@click.option(
    "--sample",
    type=click.IntRange(1, 1_000_000),
    default=SAMPLE,
    show_default=True,
    help="Compare so many rows, drawn by --seed.",
)
@click.option("--all", "everything", is_flag=True, help="Compare every row.")
@click.option("--seed", type=click.IntRange(0, 2**31), help="Draws the same rows again.")
@pass_context
def verify(context: Context, /, source: Source, **given: Any) -> None:
    """Hold our rows against the ledger's. Exit 10 if any is not as it should be.

    Run it after a backfill of SOURCE came to its end, with the same options. Differences are
    named by the key of their row, never by a token. The result is kept: the gate
    backfill-verified and status read it.
    """
    seed = given.pop("seed")
    size = None if given.pop("everything") else given.pop("sample")
    given.pop("sample", None)
    draw = Draw(size=size, seed=secrets.randbelow(2**31) if seed is None else seed)
    found = verifying.verify(context.settings, _order(context, source, given), draw)
    context.emit(
        found.as_json(),
        lambda: text(found),
        schema="migrator.verified/1",
        exit_code=found.exit_code,
    )


@command.command("coverage")
@click.option("--issuer", metavar="ID", help="Of one issuer only.")
@pass_context
def coverage_of(context: Context, issuer: str | None) -> None:
    """Say what the ledgers gave, what they cannot, and who is seen without them.

    Nothing is changed. Where a ledger keeps raw tokens and was read to its end, the statement
    that would blank them is printed with its dangers; it is yours to run.
    """
    found = coverage.report(context.settings, issuer=issuer)
    context.emit(
        {"issuers": [one.as_json() for one in found]},
        lambda: covered.text(found),
        schema="migrator.coverage/1",
    )


def _order(context: Context, source: Source, given: dict[str, Any]) -> Order:
    collection, is_file = None, False
    if source == "denylist":
        place, is_file = _listed_in(given)
    table, file = given.pop("table", None), given.pop("file", None)
    url = given.pop("source_url")
    redis_url = given.pop("redis_url")
    if source == "redis":
        place, collection = listing_of(given)
        url = redis_url
    elif source in {"jsonl", "csv"}:
        place = _needed(file, "--file")
    elif source == "simplejwt":
        place = table
    elif source == "table":
        place = _needed(table, "--from")
    return Order(
        kind=source,
        issuer=given["issuer"],
        place=place,
        is_file=is_file,
        collection=collection,
        columns=given["columns"],
        source_url=fetched(url),
        source_name=url,
        standard_input=sys.stdin.buffer,
        dry_run=context.dry_run,
        who=context.operator(),
    )


def _needed(value: str | None, option: str) -> str:
    if value is None:
        raise click.UsageError(f"Missing option '{option}'.")
    return value
