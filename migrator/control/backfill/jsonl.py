"""A ledger exported as one JSON object on each line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import BinaryIO

from migrator.control.backfill import mapping as maps
from migrator.control.backfill import records
from migrator.core import strict
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
        columns: ours to theirs; none where its members have our names.
        now: by the database's clock.
        room: the most bytes a token may have.
    """
    begins, lines = records.beginning(records.lines(stream))
    chosen = dict(columns) or {ours: ours for ours in maps.OURS}
    return records.File(
        kind="jsonl",
        place=name,
        identity={"file": name, "columns": dict(columns), "begins": begins},
        unseedable=records.UNSEEDABLE,
        reader=records.reader(issuer, chosen, now=now, room=room),
        records=cut(lines),
        lines=records.lines_of(name),
    )


def cut(lines: Iterator[bytes | None]) -> Iterator[tuple[str, records.Record | None]]:
    """The records of lines, each with its number."""
    for number, line in enumerate(lines, 1):
        found = None if line is None else strict.read_object(line.strip(), largest_int=2**63)
        yield f"line {number}", found
