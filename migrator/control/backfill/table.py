"""Any table that lists tokens, or their fingerprints, by a mapping of its columns."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from migrator.control.backfill import mapping as maps
from migrator.control.backfill import refusals
from migrator.control.backfill.ledger import Reader, Table, describe, quoted
from migrator.control.backfill.reading import KINDS_OF, Values, of_fingerprints, of_tokens
from migrator.control.backfill.simplejwt import Ledger
from migrator.settings import Issuer

UNSEEDABLE = (
    ("tokens that this table does not list", "they become sessions when they are presented"),
)


def source(
    connection: Connection,
    issuer: Issuer,
    *,
    name: str,
    columns: Mapping[str, str],
    elsewhere: str | None,
    room: int,
) -> Ledger:
    """The table `name` as a ledger of `issuer`.

    Args:
        connection: to its database.
        columns: ours to theirs; none where its columns have our names.
        elsewhere: how its database was named, where it is not ours.
        room: the most bytes a token may have.

    Raises:
        Stopped: USAGE, the table or a column is missing or of a type that cannot be read.
    """
    table = describe(connection, name)
    chosen = dict(columns) or maps.by_name(table.types)
    if not chosen:
        raise refusals.bad_columns(f"no column of {table.name} has a name of ours")
    missing = maps.missing(chosen, table.types)
    if missing:
        raise refusals.no_columns(table.name, missing)
    read = {ours: _expression(table, ours, theirs) for ours, theirs in chosen.items()}

    def select(key: str, where: str, values: Values) -> str:
        origin = f"FROM {table.name} l {where}"
        if "token" in read:
            return of_tokens(origin, {"key": key, **read}, issuer, values, room=room)
        return of_fingerprints(origin, {"key": key, **read}, purpose=purpose_of(issuer))

    return Ledger(
        kind="table",
        place=table.name + (f" at {elsewhere}" if elsewhere else ""),
        identity={"table": table.name, "source_url": elsewhere, "columns": chosen},
        unseedable=UNSEEDABLE,
        reader=Reader(connection, table, select, elsewhere is not None),
    )


def purpose_of(issuer: Issuer) -> str:
    """What a fingerprint without its token is taken for: what ledgers mostly list."""
    has_refresh = bool(issuer.purpose.refresh) or bool(issuer.refresh_keys)
    return "refresh" if has_refresh else "access"


def _expression(table: Table, ours: str, theirs: str) -> str:
    kinds, kind = KINDS_OF[ours], table.types[theirs]
    if kind not in kinds:
        raise refusals.bad_columns(
            f"{theirs} is of type {kind}; {ours} can be read from {', '.join(kinds)}"
        )
    return kinds[kind].replace("{c}", quoted(theirs))
