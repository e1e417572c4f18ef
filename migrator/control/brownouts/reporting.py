"""The report of a brownout: forecast against what happened, and how whom it met came back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrator.control import evidence
from migrator.control.brownouts import teaching
from migrator.control.brownouts.rows import read, refused
from migrator.control.deciding import at_desk
from migrator.core.errors import Exit, Problem, Stopped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrator.control.brownouts.rows import Row
    from migrator.control.brownouts.teaching import Outcome
    from migrator.settings import Settings

SCHEMA = "migrator.brownout-report/1"
_CAME = ("silent", "signed_in", "still", "unseen")


def report(settings: Settings, number: int) -> dict[str, Any]:
    """What brownout `number` did, and taught.

    Raises:
        Stopped: USAGE, there is none of that id; UNFIT; UNREACHABLE.
    """
    evidence.fit(settings)
    with at_desk(settings) as desk:
        row = next((one for one in read(desk.connection, desk.home) if one.id == number), None)
        if row is None:
            raise Stopped(_no_such(number), Exit.USAGE)
        counts = refused(desk.connection, desk.home, (row,))
        kept = counts is not None
        found = teaching.outcomes(desk.connection, desk.home, (row,)) if kept else ()
    met = counts.get(number, 0) if counts is not None else None
    why = "`retire` took the record of whom it met away"
    return {
        "generated_at": desk.now,
        "brownout": row.as_json(desk.now, met),
        "totals": _totals(found) if kept else dict.fromkeys(_CAME),
        "clients": _clients(row, found),
        "forecast_error": teaching.error_of(row.forecast, met),
        "unknown": {} if kept else {"totals": why, "brownout.refused": why},
    }


def _totals(found: Sequence[Outcome]) -> dict[str, int]:
    return {name: sum(getattr(one, name) for one in found) for name in _CAME}


def _clients(row: Row, found: Sequence[Outcome]) -> list[dict[str, Any]]:
    expected = {
        (one["issuer"], one["client"] or ""): one["subjects"]
        for one in row.forecast.get("clients", ())
    }
    met = {(one.issuer, one.client): one for one in found}
    return [
        {
            "client": client or None,
            "issuer": issuer,
            "forecast": expected.get((issuer, client), 0),
            "refused": met[issuer, client].hit if (issuer, client) in met else 0,
            **{
                name: getattr(met[issuer, client], name) if (issuer, client) in met else 0
                for name in _CAME
            },
        }
        for issuer, client in {**met, **expected}
    ]


def _no_such(number: int) -> Problem:
    return Problem(
        id="brownout.unknown",
        what=f"there is no brownout {number}",
        why="a brownout is named by the number it was scheduled under",
        do="migrator brownout list",
    )
