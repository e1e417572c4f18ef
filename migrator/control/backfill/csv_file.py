"""A ledger exported as CSV (RFC 4180) in UTF-8, with a header line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import BinaryIO

from migrator.control.backfill import mapping as maps
from migrator.control.backfill import records, refusals
from migrator.settings import Issuer


def source(
    stream: BinaryIO,
    issuer: Issuer,
    *,
    name: str,
    columns: Mapping[str, str],
    now: datetime,
    room: int,
) -> records.File:
    """The file as a ledger of `issuer`.

    Args:
        stream: its bytes.
        name: what the operator called it; "-" is standard input.
        columns: ours to theirs; none where its header has our names.
        now: by the database's clock.
        room: the most bytes a token may have.

    Raises:
        Stopped: USAGE, the header lacks a column.
    """
    begins, lines = records.beginning(records.lines(stream))
    header, found = cut(lines)
    chosen = dict(columns) or maps.by_name(header)
    missing = maps.missing(chosen, header)
    if missing:
        raise refusals.no_columns(name, missing)
    if not chosen:
        raise refusals.bad_columns(f"no column of {name} has a name of ours")
    counted = records.lines_of(name)
    return records.File(
        kind="csv",
        place=name,
        identity={"file": name, "columns": chosen, "begins": begins},
        unseedable=records.UNSEEDABLE,
        reader=records.reader(issuer, chosen, now=now, room=room),
        records=found,
        lines=None if counted is None else max(0, counted - 1),
    )


def cut(
    lines: Iterator[bytes | None],
) -> tuple[list[str], Iterator[tuple[str, records.Record | None]]]:
    """The names in the header line, and the records below it, each with its number."""
    rows = csv.reader(_texts(lines))
    header = [field.strip().removeprefix("\ufeff") for field in next(rows, [])]
    return header, _records(rows, header)


def _texts(lines: Iterator[bytes | None]) -> Iterator[str]:
    # What is not UTF-8 stays visible as such, and no token has it.
    for line in lines:
        yield "\n" if line is None else line.decode("utf-8", "surrogateescape")


def _records(
    rows: Iterator[list[str]], header: list[str]
) -> Iterator[tuple[str, records.Record | None]]:
    number = 0
    while True:
        number += 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield f"row {number}", None
            continue
        fits = len(row) == len(header)
        yield f"row {number}", dict(zip(header, row, strict=True)) if fits else None
