"""A table of tokens that were revoked: devise-jwt's denylist, a Flask app's TokenBlocklist.

Every row is a denial, named by a jti, by the token itself or by a fingerprint; none becomes a
session. A token becomes its fingerprint inside the database, and one that stands where a jti
should is refused as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy import Connection

from migrator.control.backfill import mapping as maps
from migrator.control.backfill import refusals
from migrator.control.backfill.ledger import Reader, Table, describe, quoted
from migrator.control.backfill.reading import KINDS_OF, Values, _fit, of_tokens
from migrator.control.backfill.rows import COLUMNS
from migrator.control.backfill.simplejwt import Ledger
from migrator.control.ledgers.reading import is_sliding
from migrator.settings import Issuer

OURS: Final = ("token", "fingerprint", "jti", "until")
_NAMING: Final = OURS[:3]
_BY_NAME: Final = {"jti": ("jti",), "until": ("until", "exp", "expires_at", "expired_at")}

UNSEEDABLE: Final = (
    ("sessions", "a denylist says who is refused, not who is logged in"),
    (
        "what the app revokes from now on",
        "a [[ledgers]] table of the settings reads it as it comes",
    ),
)


def parsed(given: str) -> dict[str, str]:
    """The mapping in `given`, ours to theirs.

    Raises:
        Stopped: USAGE, saying what is wrong with it.
    """
    mapping = maps.pairs(given, OURS, do=refusals.DENYLIST_COLUMNS)
    if mapping and not set(_NAMING) & mapping.keys():
        raise refusals.bad_columns(
            "none of them says which token is revoked", do=refusals.DENYLIST_COLUMNS
        )
    return mapping


def source(
    connection: Connection,
    issuer: Issuer,
    *,
    name: str,
    columns: Mapping[str, str],
    elsewhere: str | None,
    room: int,
) -> Ledger:
    """The table `name` as a denylist of `issuer`.

    Args:
        connection: to its database.
        columns: ours to theirs; none where it has a jti, and an exp, by their usual names.
        elsewhere: how its database was named, where it is not ours.
        room: the most bytes a token may have.

    Raises:
        Stopped: USAGE, the table or a column is missing or of a type that cannot be read.
    """
    table = describe(connection, name)
    chosen = dict(columns) or by_name(table.types)
    if not chosen:
        raise refusals.bad_columns(
            f"{table.name} has no column called jti", do=refusals.DENYLIST_COLUMNS
        )
    missing = maps.missing(chosen, table.types)
    if missing:
        raise refusals.no_columns(table.name, missing, source="denylist")
    read = {_AS.get(ours, ours): _expression(table, ours, its) for ours, its in chosen.items()}
    if "jti" in read:
        read["jti"] = f"CASE WHEN {read['jti']} !~ '{_WHOLE}' THEN {read['jti']} END"

    def select(key: str, where: str, values: Values) -> str:
        origin = f"FROM {table.name} l {where}"
        if "token" in read:
            taken = {"key": key, **read, "revoked": "true"}
            return of_tokens(origin, taken, issuer, values, room=room)
        return _of_names(origin, {"key": key, **read}, lapses=not is_sliding(issuer))

    return Ledger(
        kind="denylist",
        place=table.name + (f" at {elsewhere}" if elsewhere else ""),
        identity={"table": table.name, "source_url": elsewhere, "columns": chosen},
        unseedable=UNSEEDABLE,
        reader=Reader(connection, table, select, elsewhere is not None),
    )


def _of_names(origin: str, columns: Mapping[str, str], *, lapses: bool) -> str:
    """A SELECT of `rows.COLUMNS` over rows that name what is revoked by a jti or a fingerprint."""
    null = {"exp": "NULL::timestamptz", "fingerprint": "NULL::bytea", "jti": "NULL::text"}
    of = {name: columns.get(name, null.get(name, "")) for name in ("key", *null)}
    page = ", ".join(f"{sql} AS {name}" for name, sql in of.items())
    own: dict[str, str] = {
        "key": "key",
        "fault": "'bad_claim'",  # of what names nothing; the others are revoked
        "fingerprint": "CASE WHEN octet_length(fingerprint) = 32 THEN fingerprint END",
        "jti": f"CASE WHEN {_fit('jti')} THEN jti END",
        # Only of a refresh token does a denial by jti end with the token.
        "purpose": "CASE WHEN exp IS NOT NULL THEN 'refresh' END" if lapses else "NULL::text",
        "iat": "NULL::timestamptz",
        "exp": "exp",
        "revoked": "true",
    }
    columns_of_rows = ", ".join(own.get(name, "NULL::text") for name in COLUMNS)
    return f"SELECT {columns_of_rows} FROM (SELECT {page} {origin}) p"  # noqa: S608 - identifiers are quoted


# Of whole tokens none may become a jti of ours.
_WHOLE: Final = r"^eyJ[^.]*\.[^.]*\.[^.]*$"
_AS: Final[Mapping[str, str]] = {"until": "exp"}


def by_name(theirs: Iterable[str]) -> dict[str, str]:
    """The mapping of columns that have their usual names; none where there is no jti."""
    there = set(theirs)
    found = {
        ours: next((name for name in names if name in there), None)
        for ours, names in _BY_NAME.items()
    }
    return {} if found["jti"] is None else {o: name for o, name in found.items() if name}


def _expression(table: Table, ours: str, theirs: str) -> str:
    kinds, kind = KINDS_OF[_AS.get(ours, ours)], table.types[theirs]
    if kind not in kinds:
        raise refusals.bad_columns(
            f"{theirs} is of type {kind}; {ours} can be read from {', '.join(kinds)}",
            do=refusals.DENYLIST_COLUMNS,
        )
    return kinds[kind].replace("{c}", quoted(theirs))
