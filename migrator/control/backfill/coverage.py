"""How much of what is out there the ledgers gave: what was seeded, what cannot be, who is seen.

A ledger that was read to its end may still know nobody who comes: access tokens are in none, and
an app may have stopped writing one long ago. So who was seen of late is held against the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, select

from migrator.control import revisions, schema
from migrator.control.backfill import (
    denylist,
    records,
    redis_blocklist,
    refusals,
    simplejwt,
    table,
    verified,
)
from migrator.control.backfill.verified import Verified
from migrator.core.errors import Exit, Stopped
from migrator.settings import Settings
from migrator.stores import tables
from migrator.stores.queries import in_schema

WINDOW: Final = timedelta(hours=24)

UNSEEDABLE: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "simplejwt": simplejwt.UNSEEDABLE,
    "table": table.UNSEEDABLE,
    "jsonl": records.UNSEEDABLE,
    "csv": records.UNSEEDABLE,
    "denylist": denylist.UNSEEDABLE,
    "redis": redis_blocklist.UNSEEDABLE,
}
"""What a kind of ledger never holds, and why."""

DANGERS: Final = (
    "it cannot be undone, and a backfill that runs again would reject every row it blanked",
    "whatever else reads the column stops working; simplejwt itself goes by the jti",
    "backups, replicas and the WAL keep the tokens, and the table's old rows until a VACUUM",
)

_SEEN_SUBJECTS: Final = """
SELECT l.issuer, count(*), count(*) FILTER (WHERE EXISTS (
    SELECT FROM {s}.sessions s JOIN {s}.legacy_tokens t ON t.session_id = s.id
    WHERE s.realm = l.realm AND s.subject = l.subject AND s.revoked_at IS NULL
      AND s.origin = 'backfill' AND t.issuer = l.issuer))
FROM (SELECT DISTINCT issuer, realm, subject FROM {s}.legacy_subjects
  WHERE last_seen_at > clock_timestamp() - %(window)s::interval) l
GROUP BY l.issuer"""

_SEEN_TOKENS: Final = """
SELECT t.issuer, t.purpose, count(*), count(*) FILTER (WHERE s.origin = 'backfill')
FROM {s}.legacy_tokens t LEFT JOIN {s}.sessions s ON s.id = t.session_id
WHERE t.last_seen_at > clock_timestamp() - %(window)s::interval
GROUP BY t.issuer, t.purpose"""


@dataclass(frozen=True, slots=True)
class Share:
    """How many were seen, and how many of them a ledger gave."""

    seen: int = 0
    given: int = 0

    @property
    def percent(self) -> float | None:
        """Of a hundred; None where none was seen: then nothing is known."""
        return round(100 * self.given / self.seen, 2) if self.seen else None

    def as_json(self) -> dict[str, Any]:
        """For `migrator.coverage/1`."""
        return {"seen": self.seen, "with_row": self.given, "percent": self.percent}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """One ledger that was read.

    Args:
        counts, rejected: rows by what became of them, and by why nothing did.
        column: its raw tokens are in, as (table, column), both quoted; None: it has none here.
    """

    place: str
    state: str
    counts: Mapping[str, int]
    rejected: Mapping[str, int]
    verified: Verified
    column: tuple[str, str] | None

    @property
    def blanking(self) -> str | None:
        """The statement that would take the raw tokens out of it; never run by us."""
        if self.column is None or self.state != "done":
            return None
        where, column = self.column
        return f"UPDATE {where} SET {column} = '' WHERE {column} <> '';"  # noqa: S608 - printed only

    def as_json(self) -> dict[str, Any]:
        """For `migrator.coverage/1`."""
        kind = self.verified.source
        return {
            "job": self.verified.job,
            "source": kind,
            "place": self.place,
            "state": self.state,
            **{name: self.counts.get(name, 0) for name in _COUNTS},
            "rejected": dict(sorted(self.rejected.items())),
            "unseedable": [{"what": what, "why": why} for what, why in UNSEEDABLE.get(kind, ())],
            "verified_at": self.verified.at,
            "differences": None if self.verified.at is None else self.verified.differences,
            "verify": self.verified.command,
            "blanking": None
            if self.blanking is None
            else {"sql": self.blanking, "dangers": [*DANGERS]},
        }


_COUNTS: Final = ("read", "seeded", "already", "expired", "denied", "revoked_already", "barred")


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What the ledgers of one issuer gave.

    Args:
        subjects: seen with a legacy token within WINDOW, and who of them has a living session
            from a ledger.
        tokens: the same of tokens that were looked up, by purpose.
    """

    issuer: str
    name: str
    ledgers: tuple[Ledger, ...]
    subjects: Share
    tokens: Mapping[str, Share]
    as_of: datetime

    def as_json(self) -> dict[str, Any]:
        """An issuer of `migrator.coverage/1`."""
        return {
            "issuer": self.issuer,
            "name": self.name,
            **self.seen_as_json(),
            "ledgers": [each.as_json() for each in self.ledgers],
        }

    def seen_as_json(self) -> dict[str, Any]:
        """Who was seen, and how much of that the ledgers gave."""
        return {
            "as_of": self.as_of,
            "window_s": int(WINDOW.total_seconds()),
            "subjects": self.subjects.as_json(),
            "tokens": {
                purpose: self.tokens.get(purpose, Share()).as_json()
                for purpose in ("access", "refresh")
            },
        }


def report(settings: Settings, *, issuer: str | None) -> tuple[Coverage, ...]:
    """The coverage of one issuer, or of all.

    Raises:
        Stopped: UNREACHABLE; UNFIT, the schema; IRREVERSIBLE, retired; USAGE, no such issuer.
    """
    known = [one.id for one in settings.issuers]
    if issuer is not None and issuer not in known:
        raise refusals.unknown_issuer(issuer, known)
    url, home = settings.database.url.get_secret_value(), settings.database.schema
    heads = schema.current(url, home)
    if heads.state != "head":
        raise Stopped(schema.PROBLEMS[heads.state], Exit.UNFIT)
    if heads.contracted:
        raise refusals.retired()
    with revisions.connected(url) as connection:
        found = read(connection, settings)
    return tuple(one for one in found if issuer in {None, one.issuer})


def of_issuer(connection: Connection, settings: Settings, issuer: str) -> Coverage:
    """The coverage of one issuer of the settings; see `read`."""
    return next(one for one in read(connection, settings) if one.issuer == issuer)


def read(connection: Connection, settings: Settings) -> tuple[Coverage, ...]:
    """The coverage of every issuer, in a transaction of its own that cannot write."""
    home = settings.database.schema
    connection.rollback()
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    window = {"window": WINDOW}
    as_of: datetime = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    subjects = {
        issuer: Share(seen, given)
        for issuer, seen, given in connection.exec_driver_sql(
            in_schema(_SEEN_SUBJECTS, home), window
        )
    }
    tokens: dict[str, dict[str, Share]] = {}
    for issuer, purpose, seen, given in connection.exec_driver_sql(
        in_schema(_SEEN_TOKENS, home), window
    ):
        tokens.setdefault(issuer, {})[purpose] = Share(seen, given)
    ledgers = _ledgers(connection, home)
    connection.rollback()
    return tuple(
        Coverage(
            issuer=one.id,
            name=one.name,
            ledgers=tuple(each for each in ledgers if each.verified.issuer == one.id),
            subjects=subjects.get(one.id, Share()),
            tokens=tokens.get(one.id, {}),
            as_of=as_of,
        )
        for one in settings.issuers
    )


def _ledgers(connection: Connection, home: str) -> list[Ledger]:
    jobs = tables.in_schema(home).tables[f"{home}.{tables.jobs.name}"]
    named = select(jobs.c.name, jobs.c.detail).where(jobs.c.source.is_not(None))
    details = {row.name: row.detail for row in connection.execute(named)}
    return [_ledger(one, details[one.job]) for one in verified.read(connection, home)]


def _ledger(one: Verified, detail: Mapping[str, Any]) -> Ledger:
    tally, identity = detail.get("tally", {}), detail.get("identity", {})
    column = (identity.get("columns") or {}).get("token")
    if one.source == "simplejwt":
        column = "token"
    place = str(identity.get("table", "")).replace("%%", "%")
    is_here = column is not None and place and one.source != "denylist"
    return Ledger(
        place=one.job.removeprefix(f"backfill:{one.source}:{one.issuer}:"),
        state=one.state,
        counts=tally.get("counts", {}),
        rejected=tally.get("rejected", {}),
        verified=one,
        column=(place, '"' + str(column).replace('"', '""') + '"') if is_here else None,
    )
