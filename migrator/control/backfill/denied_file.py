"""A denylist that was exported: CSV with a header line, or one JSON object on each line.

A value that is a whole token, wherever it stands, becomes its fingerprint here and is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import BinaryIO

from migrator.control.backfill import csv_file, denylist, jsonl, records, refusals
from migrator.control.backfill import mapping as maps
from migrator.control.backfill.rows import Row
from migrator.control.ledgers import keyspace
from migrator.control.ledgers.keyspace import Entry
from migrator.control.ledgers.reading import as_digest, as_text, as_time, is_sliding
from migrator.settings import Issuer

_USUAL = {"jti": "jti", "until": "until"}


def source(
    stream: BinaryIO,
    issuer: Issuer,
    *,
    name: str,
    columns: Mapping[str, str],
    now: datetime,
    room: int,
) -> records.File:
    """The file as a denylist of `issuer`: CSV if it is called so, else JSON lines.

    Args:
        stream: its bytes.
        name: what the operator called it; "-" is standard input.
        columns: ours to theirs; none where they have their usual names.
        now: by the database's clock.
        room: the most bytes a token may have.

    Raises:
        Stopped: USAGE, the header lacks a column.
    """
    begins, lines = records.beginning(records.lines(stream))
    chosen, counted = dict(columns), records.lines_of(name)
    if name.endswith(".csv"):
        header, found = csv_file.cut(lines)
        chosen = chosen or denylist.by_name(header)
        missing = maps.missing(chosen, header)
        if missing:
            raise refusals.no_columns(name, missing, source="denylist")
        if not chosen:
            raise refusals.bad_columns(
                f"{name} has no column called jti", do=refusals.DENYLIST_COLUMNS
            )
        counted = None if counted is None else max(0, counted - 1)
    else:
        chosen, found = chosen or _USUAL, jsonl.cut(lines)
    inner = {"token": chosen["token"]} if "token" in chosen else {}
    return records.File(
        kind="denylist",
        place=name,
        identity={"file": name, "columns": chosen, "begins": begins},
        unseedable=denylist.UNSEEDABLE,
        reader=_Reader(issuer, chosen, records.reader(issuer, inner, now=now, room=room)),
        records=found,
        lines=counted,
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Turns records into denials."""

    issuer: Issuer
    columns: Mapping[str, str]
    tokens: records.Reader

    def row(self, key: str, record: records.Record | None) -> Row:
        """See `records.Reads`."""
        if record is None:
            return Row(key=key, fault=records.UNREADABLE)
        if "token" in self.columns:
            return replace(self.tokens.row(key, record), revoked=True)
        found = {ours: record.get(theirs) for ours, theirs in self.columns.items()}
        jti = as_text(found.get("jti"))
        said = jti if jti is not None else found.get("jti")
        raw = said.encode("utf-8", "surrogatepass") if isinstance(said, str) else b""
        named = keyspace.named(Entry(raw), self.issuer)
        ends_at = _time(found.get("until"))
        lapses = ends_at is not None and not is_sliding(self.issuer)
        return Row(
            key=key,
            fault="bad_claim",  # of what names nothing; the others are revoked
            fingerprint=named.fingerprint or as_digest(found.get("fingerprint")),
            jti=named.jti,
            purpose="refresh" if lapses else None,
            exp=ends_at,
            revoked=True,
        )


def _time(value: object) -> datetime | None:
    """An end; None where it cannot be told, which is never."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    return as_time(value)
