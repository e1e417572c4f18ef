"""What was compared in `observe`: pairs, differences, and which of them a rule leaves out.

A rule matches what it names and nothing else; a client without a version is every version of it.
Expired and removed rules leave nothing out. Nothing here is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import select, text

from migrator.core.comparing import PAIR
from migrator.stores import tables as page
from migrator.stores.queries import in_schema

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Connection

    from migrator.core.comparing import Direction

WINDOW = timedelta(hours=24)
_MOST_ROWS = 50

_PAIRS = """
SELECT issuer, outcome, sum(count)::bigint, max(last_at) FROM {s}.legacy_usage
WHERE hour >= date_trunc('hour', cast(:since AS timestamptz)) AND last_at > :since
  AND starts_with(outcome, :pair)
GROUP BY issuer, outcome ORDER BY issuer, outcome"""

_JUDGED = """
WITH found AS (
  SELECT direction, issuer, client, route, verdict, sum(count)::bigint AS count,
    max(last_at) AS last_at
  FROM {s}.differences
  WHERE hour >= date_trunc('hour', cast(:since AS timestamptz)) AND last_at > :since
  GROUP BY direction, issuer, client, route, verdict),
judged AS (
  SELECT f.*, (SELECT min(i.id) FROM {s}.ignores i
    WHERE i.removed_at IS NULL AND i.until > :now AND i.direction = f.direction
      AND (i.issuer IS NULL OR i.issuer = f.issuer)
      AND (i.client IS NULL OR i.client IN (f.client, split_part(f.client, '/', 1)))
      AND (i.route IS NULL OR i.route = f.route)
      AND (i.verdict IS NULL OR i.verdict = f.verdict)) AS rule
  FROM found f)"""

_TOTALS = f"""{_JUDGED}
SELECT direction, rule, sum(count)::bigint, max(last_at) FROM judged GROUP BY direction, rule"""  # noqa: S608 - a constant above

_ROWS = f"""{_JUDGED}
SELECT direction, issuer, client, route, verdict, count, last_at, rule FROM judged
ORDER BY rule IS NULL DESC, direction DESC, count DESC, route, client, issuer LIMIT :most"""  # noqa: S608 - as above


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The pairs of one issuer's tokens within the window; `issuer` "" is nobody's."""

    issuer: str
    agree: int = 0
    agree_deny: int = 0
    deny_allow: int = 0
    allow_deny: int = 0

    @property
    def pairs(self) -> int:
        """All of them."""
        return self.admitted + self.agree_deny + self.allow_deny

    @property
    def admitted(self) -> int:
        """Those that the shim would admit: only they can show a `deny_allow`."""
        return self.agree + self.deny_allow

    @property
    def served(self) -> int:
        """Those that the app let in: only they can show an `allow_deny`."""
        return self.agree + self.allow_deny


@dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """One kind of difference within the window; `rule` is the number of what leaves it out."""

    direction: Direction
    issuer: str
    client: str
    route: str
    verdict: str
    count: int
    last_at: datetime
    rule: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Differences that somebody knows the reason of. `id` None: it was only rehearsed."""

    id: int | None
    owner: str
    reason: str
    since: datetime
    until: datetime
    direction: Direction
    issuer: str | None = None
    client: str | None = None
    route: str | None = None
    verdict: str | None = None
    removed_at: datetime | None = None
    removed_by: str | None = None

    def state(self, now: datetime) -> Literal["in force", "over", "removed"]:
        """Whether it leaves anything out."""
        if self.removed_at is not None:
            return "removed"
        return "in force" if now < self.until else "over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """How many differences of a direction a rule (None: no rule) leaves out."""

    direction: Direction
    rule: int | None
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The last 24 hours.

    Args:
        rows: the differences, those that count first, and no more than can be shown.
        rules: every one on record, the newest first.
        as_of: when the last pair was counted.
    """

    samples: tuple[Sample, ...]
    totals: tuple[Total, ...]
    rows: tuple[Differing, ...]
    rules: tuple[Rule, ...]
    as_of: datetime | None

    @property
    def pairs(self) -> int:
        """All pairs there are."""
        return sum(one.pairs for one in self.samples)

    @property
    def served(self) -> int:
        """Those that the app let in."""
        return sum(one.served for one in self.samples)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was compared."""
        return not self.pairs and not self.totals

    def counting(self, direction: Direction) -> int:
        """How many differences of a direction no rule leaves out."""
        return sum(
            one.count for one in self.totals if one.direction == direction and one.rule is None
        )

    def ignored(self, direction: Direction) -> int:
        """How many differences of a direction rules leave out."""
        return sum(
            one.count for one in self.totals if one.direction == direction and one.rule is not None
        )

    def left_out_by(self, rule: Rule) -> int:
        """How many differences a rule leaves out."""
        return sum(one.count for one in self.totals if one.rule == rule.id and rule.id is not None)


def read(connection: Connection, home: str, now: datetime) -> Comparison:
    """What was compared in the 24 hours before `now`."""
    facts: dict[str, Any] = {"now": now, "since": now - WINDOW}
    pairs = connection.execute(text(in_schema(_PAIRS, home)), {**facts, "pair": PAIR}).all()
    by_issuer: dict[str, dict[str, int]] = {}
    for issuer, outcome, count, _ in pairs:
        by_issuer.setdefault(issuer, {})[outcome.removeprefix(PAIR)] = count
    totals = connection.execute(text(in_schema(_TOTALS, home)), facts).all()
    rows = connection.execute(text(in_schema(_ROWS, home)), {**facts, "most": _MOST_ROWS})
    return Comparison(
        samples=tuple(
            Sample(issuer=issuer, **counts) for issuer, counts in sorted(by_issuer.items())
        ),
        totals=tuple(
            Total(direction=direction, rule=rule, count=count, last_at=last_at)
            for direction, rule, count, last_at in totals
        ),
        rows=tuple(Differing(**row) for row in rows.mappings()),
        rules=rules(connection, home),
        as_of=max((row[3] for row in (*pairs, *totals)), default=None),
    )


def rules(connection: Connection, home: str) -> tuple[Rule, ...]:
    """Every rule on record, the newest first."""
    table = page.in_schema(home).tables[f"{home}.ignores"]
    found = connection.execute(select(table).order_by(table.c.id.desc())).mappings()
    return tuple(rule_of(row) for row in found)


def rule_of(row: Mapping[Any, Any]) -> Rule:
    """A rule from its row."""
    same = ("id", "owner", "reason", "until", "direction", "issuer", "client", "route", "verdict")
    return Rule(
        since=row["created_at"],
        removed_at=row["removed_at"],
        removed_by=row["removed_by"],
        **{name: row[name] for name in same},
    )
