"""`backfill` of what the old system refused, and what is asked once a ledger was read.

The group itself, its options and the ledgers of tokens are `backfill.py`'s; this file adds to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from migrator.cli.backfill import command, options, run, source_url_option
from migrator.cli.context import Context, pass_context

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
@click.option("--from", "place", required=True, metavar="TABLE", help="With its schema.")
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
    """Deny every token that a table of revoked tokens lists, such as jwt_denylist."""
    run(context, "denylist", **given)
