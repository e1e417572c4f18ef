"""The journal as an object: the JSON of `migrator log`, and what it is exported as.

A move's own line and the later one that says since when it is in effect belong together: the time
between them is how long the nodes took.
"""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from migrator.control import evidence, journal, revisions
from migrator.control.journal import IN_EFFECT
from migrator.control.status import place
from migrator.control.words import at
from migrator.stores import tables as page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from migrator.control.journal import Row
    from migrator.settings import Settings

SCHEMA = "migrator.log/1"
Form = Literal["jsonl", "csv", "markdown"]
_COLUMNS = (
    *("at", "epoch", "who", "command", "from", "to", "why", "plan", "overrides"),
    *("in_effect_at", "in_effect_after_s", "detail"),
)


def report(settings: Settings, *, limit: int, since: datetime | None = None) -> dict[str, Any]:
    """The last lines of the journal, newest first; those since a time, where one is given.

    Raises:
        Stopped: UNREACHABLE; UNFIT where the schema is not this release's.
    """
    evidence.fit(settings)
    home = settings.database.schema
    with revisions.connected(settings.database.url.get_secret_value()) as connection:
        rows = journal.read(connection, page.in_schema(home), home, limit=limit, since=since)
        connection.rollback()
    effects = {
        row.epoch: datetime.fromisoformat(row.detail["in_effect_at"])
        for row in rows
        if row.command == IN_EFFECT and "in_effect_at" in row.detail
    }
    return {
        "environment": settings.environment,
        "app": settings.app,
        "rows": [_line(row, effects) for row in rows],
    }


def _line(row: Row, effects: Mapping[int, datetime]) -> dict[str, Any]:
    moves = row.from_phase is not None and row.command != IN_EFFECT
    in_effect_at = effects.get(row.epoch) if moves else None
    after = None if in_effect_at is None else in_effect_at - row.at
    to = place(row.to_phase, row.to_percent)
    return {
        "at": row.at,
        "who": row.who,
        "why": row.why,
        "command": row.command,
        # What moves nothing is noted under what stands.
        "from": place(row.from_phase, row.from_percent) if row.from_phase else to,
        "to": to,
        "epoch": row.epoch,
        "plan": row.detail.get("plan"),
        "overrides": [one["gate"] for one in row.detail.get("overrides", [])],
        "in_effect_at": in_effect_at,
        "in_effect_after_s": None if after is None else round(after.total_seconds(), 3),
        "detail": dict(row.detail),
    }


def export(rows: Sequence[Mapping[str, Any]], form: Form) -> str:
    """The rows as a file of that form, oldest first: evidence for whoever asks later."""
    plain = [{name: _plain(row[name]) for name in _COLUMNS} for row in reversed(rows)]
    match form:
        case "jsonl":
            return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in plain)
        case "csv":
            return _csv(plain)
        case "markdown":
            return _markdown(rows)


def _csv(plain: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS)
    writer.writeheader()
    for row in plain:
        flat = {"overrides": " ".join(row["overrides"]), "detail": json.dumps(row["detail"])}
        writer.writerow({name: _inert(flat.get(name, row[name])) for name in _COLUMNS})
    return out.getvalue()


def _inert(value: object) -> object:
    # A spreadsheet runs what begins so, and reasons are anybody's words.
    dangerous = isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"}
    return f"'{value}" if dangerous else value


def _markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| when | epoch | what | from → to | who | why | in effect |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in reversed(rows):
        moved = row["to"] if row["from"] == row["to"] else f"{row['from']} → {row['to']}"
        took = row["in_effect_after_s"]
        cells = (
            *(at(row["at"]), row["epoch"], f"`{row['command']}`", moved, row["who"]),
            *(row["why"] or "", "" if took is None else f"after {took:.1f} s"),
        )
        escaped = (" ".join(str(cell).replace("|", "\\|").split()) for cell in cells)
        lines.append(f"| {' | '.join(escaped)} |")
    return "\n".join(lines) + "\n"


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value
