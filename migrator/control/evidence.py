"""Everything that gates and status judge by, read in one snapshot and one go.

Reading writes nothing: the transaction is read-only, and the server holds us to it. What is not
there is None, and whoever reads it says "unknown".
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, text

from migrator.control import (
    census,
    comparing,
    counts,
    decisions,
    drain,
    journal,
    nodes,
    open_tokens,
    revisions,
    schema,
    soaking,
    trend,
)
from migrator.control.backfill import verified
from migrator.control.brownouts import standing as standing_of_brownouts
from migrator.control.ledgers import standing as standing_of_ledgers
from migrator.control.ledgers import unwired
from migrator.control.scope import EVERYBODY, all_left
from migrator.core.errors import Exit, Stopped
from migrator.stores import tables as page
from migrator.stores.rollout_row import rollout_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Connection

    from migrator.control.backfill.verified import Verified
    from migrator.control.brownouts.standing import Standing as Brownouts
    from migrator.control.census import Census, Line
    from migrator.control.comparing import Comparison
    from migrator.control.decisions import Hold, Override
    from migrator.control.drain import Horizon
    from migrator.control.journal import Row
    from migrator.control.ledgers.standing import Standing
    from migrator.control.ledgers.unwired import Unwired
    from migrator.control.nodes import Fleet
    from migrator.control.scope import Scope
    from migrator.core.phases import Rollout
    from migrator.core.soaks import Soak
    from migrator.settings import Settings

# How far back usage is read at least: traffic and its slope.
_USAGE_BACK = timedelta(days=2)
# Counting a million rows sorts and hashes them, once; compiling the statement costs more.
_COUNTING = "SET LOCAL work_mem = '64MB'; SET LOCAL jit = off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """How a backfill stands."""

    name: str
    source: str
    state: str
    done: int
    total: int | None
    rejected: int
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One snapshot. What concerns legacy tokens is None once their tables are gone.

    Args:
        legacy_removed_at: the mark of `retire`.
        is_contracted: whether its tables are gone too.
        open: whose legacy tokens are open, within the scope asked for.
        would_be_hit: the same for a cutover of everybody who is not cut over yet. Either is None,
            too, where there are too many to count in passing and nobody did yet.
        hours: what was counted in each full hour of the last week.
        last_left_ends_at: when the last open legacy token of those ends, exactly.
        seen: who was seen with a legacy token in the window asked for.
        watching_since: since when anything was there to see them.
        ledgers: how the reading of the app's own revocations stands, by name.
        unwired: its revocations that nobody reads, where `gates.revocations` asks for them.
        percent: of the cohort that is asked for, where a swap is.
        holds: in force or planned, in the order they begin; overrides: in force.
        drilled_at: when the way back was last gone to its end and forward again.
        soak: what would take the last move back by itself, while it lasts.
        propagated: how long the last move took to be in effect.
        epoch_since: when the epoch that stands was committed.
        brownouts: how they stand, what they taught, and what ends were announced.
        compared: the app's answers and the shim's verdicts of the last day.
        last_session_end: when the last living session ends; None with `has_endless` unset: there
            is none.
    """

    now: datetime
    settings: Settings
    schema_state: schema.State
    rollout: Rollout
    legacy_removed_at: datetime | None
    is_contracted: bool
    fleet: Fleet
    horizon: Horizon
    moves: tuple[Row, ...]
    scope: Scope
    quiet: timedelta
    open: Census | None
    would_be_hit: Census | None
    seen: Census | None
    usage: tuple[Line, ...] | None
    late_iats: tuple[tuple[str, datetime], ...]
    watching_since: datetime | None
    jobs: tuple[Job, ...] = field(default=())
    ledgers: Mapping[str, Standing] = field(default_factory=dict)
    unwired: tuple[Unwired, ...] = ()
    percent: int | None = None
    verified: tuple[Verified, ...] = ()
    holds: tuple[Hold, ...] = ()
    overrides: tuple[Override, ...] = ()
    drilled_at: datetime | None = None
    soak: Soak | None = None
    propagated: timedelta | None = None
    epoch_since: datetime | None = None
    brownouts: Brownouts = standing_of_brownouts.NOTHING
    last_session_end: datetime | None = None
    has_endless: bool = False
    last_left_ends_at: datetime | None = None
    hours: tuple[trend.Point, ...] = ()
    compared: Comparison | None = None

    @property
    def counted(self) -> tuple[tuple[Scope, Census | None], ...]:
        """What may have taken long to count, and of whom."""
        return (self.scope, self.open), (all_left(self.rollout), self.would_be_hit)

    def settings_name(self, issuer: str) -> str:
        """What the settings call the issuer with that id."""
        named = {one.id: one.name for one in self.settings.issuers}
        return named.get(issuer, issuer)


def gather(
    settings: Settings,
    *,
    scope: Scope = EVERYBODY,
    quiet: timedelta | None = None,
    expected: int | None = None,
    patient: bool = True,
    percent: int | None = None,
) -> Evidence:
    """Read it all.

    Args:
        scope: whom the census counts.
        quiet: how far back "seen" reaches; `gates.legacy_quiet` unless given.
        expected: how many nodes there should be, in place of the settings' number.
        patient: count people now, however long that takes; else as `counts.py` says.
        percent: of the cohort that is asked for, where a swap is.

    Raises:
        Stopped: UNREACHABLE; UNFIT where the schema is not this release's.
    """
    url = settings.database.url.get_secret_value()
    heads = fit(settings)
    with revisions.connected(url) as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        connection.execute(text(_COUNTING))
        found = _gather(
            connection,
            settings,
            heads=heads,
            scope=scope,
            quiet=settings.gates.legacy_quiet if quiet is None else quiet,
            expected=settings.expected_nodes if expected is None else expected,
            patient=patient,
        )
        connection.rollback()
    return replace(found, percent=percent)


def fit(settings: Settings) -> schema.Heads:
    """The revisions there are, where the schema is this release's.

    Raises:
        Stopped: UNREACHABLE; UNFIT, saying how the schema stands.
    """
    heads = schema.current(settings.database.url.get_secret_value(), settings.database.schema)
    if heads.state != "head":
        raise Stopped(schema.PROBLEMS[heads.state], Exit.UNFIT)
    return heads


def _gather(
    connection: Connection,
    settings: Settings,
    *,
    heads: schema.Heads,
    scope: Scope,
    quiet: timedelta,
    expected: int | None,
    patient: bool,
) -> Evidence:
    home = settings.database.schema
    tables = page.in_schema(home)
    now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    rollout, removed_at = standing(connection, home)
    fleet = nodes.Fleet(
        nodes=nodes.read(connection, tables, home),
        epoch=rollout.epoch,
        now=now,
        expected=expected,
        build=version("jwt-way-out"),
    )
    epoch, recorded_at = (
        (None, None)
        if rollout.drain_since is None
        else journal.drain_of(connection, tables, home, rollout.drain_since)
    )
    stop = drain.stopped(rollout, fleet, drain_epoch=epoch, recorded_at=recorded_at)
    common: dict[str, Any] = {
        "now": now,
        "settings": settings,
        "schema_state": heads.state,
        "rollout": rollout,
        "legacy_removed_at": removed_at,
        "is_contracted": heads.contracted,
        "fleet": fleet,
        "moves": journal.read(connection, tables, home, limit=1, moves_only=True),
        "scope": scope,
        "quiet": quiet,
        "holds": decisions.holds_ahead(connection, home, now),
        "overrides": decisions.overrides_in_force(connection, home, now),
        "drilled_at": journal.drilled_at(connection, tables, home),
        "soak": soaking.read(connection, home, now),
        "propagated": journal.propagated(connection, tables, home),
        "brownouts": standing_of_brownouts.read(connection, home, rollout, now),
        "epoch_since": journal.began(connection, tables, home, rollout.epoch),
    }
    last_end, has_endless = _last_session(connection, tables, home, now)
    common |= {"last_session_end": last_end, "has_endless": has_endless}
    if heads.contracted:
        return Evidence(
            **common,
            horizon=drain.Horizon(at=None, bound="none", why="the rollout is retired", stop=stop),
            open=None,
            would_be_hit=None,
            seen=None,
            usage=None,
            late_iats=(),
            watching_since=None,
        )
    terms = open_tokens.Terms(now, stop.at, settings.issuers)
    left = all_left(rollout)
    one_scope = scope.sql() == left.sql()
    opened = counts.take(connection, home, terms, scope, patient=patient)
    last_end = open_tokens.last_end(connection, home, terms, scope)
    return Evidence(
        **common,
        horizon=drain.horizon(stop, fleet, settings.issuers, last_end),
        open=opened,
        would_be_hit=opened
        if one_scope
        else counts.take(connection, home, terms, left, patient=patient),
        last_left_ends_at=last_end
        if one_scope
        else open_tokens.last_end(connection, home, terms, left),
        seen=census.seen_since(connection, home, since=now - quiet, scope=scope),
        usage=census.usage(
            connection,
            home,
            now=now,
            back=max(_USAGE_BACK, quiet, settings.gates.foreign_quiet),
        ),
        hours=trend.read(connection, home, now=now),
        compared=comparing.read(connection, home, now),
        late_iats=_late_iats(connection, tables, settings, stop.at),
        watching_since=_watching_since(connection, home, fleet),
        jobs=_jobs(connection, tables, home),
        ledgers=standing_of_ledgers.read(connection, home),
        verified=verified.read(connection, home),
        unwired=unwired.read(connection, settings) if settings.gates.revocations else (),
    )


def standing(connection: Connection, home: str) -> tuple[Rollout, datetime | None]:
    """The rollout row, and the mark of `retire`."""
    table = page.in_schema(home).tables[f"{home}.rollout"]
    columns = (
        "phase",
        "percent",
        "epoch",
        "since",
        "exceptions",
        "drain_since",
        "sunset_at",
        "brownouts",
        "soak",
        "legacy_removed_at",
    )
    rows = connection.execute(select(*(table.c[name] for name in columns))).all()
    return rollout_of([tuple(row) for row in rows]), rows[0][-1]


def _late_iats(
    connection: Connection, tables: Any, settings: Settings, stopped_at: datetime | None
) -> tuple[tuple[str, datetime], ...]:
    """Issuers of legacy tokens signed after issuing stopped, by the token's own clock."""
    if stopped_at is None:
        return ()
    table = tables.tables[f"{settings.database.schema}.legacy_tokens"]
    found: list[tuple[str, datetime]] = []
    for issuer in settings.issuers:
        latest = connection.scalar(
            select(func.max(table.c.iat)).where(
                table.c.issuer == issuer.id, table.c.iat > stopped_at + issuer.skew
            )
        )
        if latest is not None:
            found.append((issuer.id, latest))
    return tuple(found)


def _watching_since(connection: Connection, home: str, fleet: Fleet) -> datetime | None:
    started = min((node.started_at for node in fleet.nodes), default=None)
    hour = census.counting_since(connection, home)
    if started is None or hour is None:
        return started or hour
    # Counts are kept by the hour: within the first one, the node knows better when it began.
    return started if started < hour + timedelta(hours=1) else hour


def _jobs(connection: Connection, tables: Any, home: str) -> tuple[Job, ...]:
    table = tables.tables[f"{home}.jobs"]
    columns = ("name", "source", "state", "done", "total", "rejected", "updated_at")
    query = select(*(table.c[name] for name in columns)).where(table.c.source.is_not(None))
    rows = connection.execute(query.order_by(table.c.name)).mappings()
    return tuple(Job(**row) for row in rows)


def _last_session(
    connection: Connection, tables: Any, home: str, now: datetime
) -> tuple[datetime | None, bool]:
    table = tables.tables[f"{home}.sessions"]
    living = table.c.revoked_at.is_(None)
    last = connection.scalar(
        select(func.max(table.c.expires_at)).where(living, table.c.expires_at > now)
    )
    endless = connection.scalar(
        select(table.c.id).where(living, table.c.expires_at.is_(None)).limit(1)
    )
    return last, endless is not None
