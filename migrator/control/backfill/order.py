"""What the operator orders, and the report at the end: the one call behind the command.

Everything is checked before the first row is read: the rollout, the issuer, the ledger, the
mapping.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

from sqlalchemy import Connection, select

from migrator.control import revisions, schema
from migrator.control.backfill import (
    coverage,
    csv_file,
    denied_file,
    denylist,
    jsonl,
    plant,
    redis_blocklist,
    refusals,
    settling,
    simplejwt,
    table,
)
from migrator.control.backfill import mapping as maps
from migrator.control.backfill.coverage import Coverage
from migrator.control.backfill.records import opened as opened_file
from migrator.control.backfill.rows import Source
from migrator.control.backfill.runner import Limits, Outcome, Runner, Tell
from migrator.control.ledgers import keyspace
from migrator.core.errors import Exit, Stopped
from migrator.settings import Issuer, Settings
from migrator.stores import tables

Kind: TypeAlias = Literal["simplejwt", "table", "jsonl", "csv", "denylist", "redis"]

EXITS: Mapping[str, Exit] = {
    "paused": Exit.LIMIT,
    "done": Exit.DONE,
    "limit": Exit.LIMIT,
    "interrupted": Exit.INTERRUPTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A backfill as it was asked for.

    Args:
        place: the table or file; None is the source's own default.
        is_file: `place` is a file, of a kind that reads tables too.
        collection: of a Redis: set, zset or hash; None: its keys are named by `place`.
        columns: as given to `--columns`.
        source_url: the ledger's database or Redis where it is not ours; a secret.
        source_name: how it was named, which is none.
        standard_input: what `--file -` reads.
    """

    kind: Kind
    issuer: str
    place: str | None = None
    is_file: bool = False
    collection: keyspace.Kind | None = None
    columns: str = ""
    source_url: str | None = field(default=None, repr=False)
    source_name: str | None = None
    standard_input: BinaryIO | None = None
    limits: Limits = field(default_factory=Limits)
    rejects: Path | None = None
    restart: bool = False
    dry_run: bool = False
    who: str = "operator"


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did, and what it could not."""

    order: Order
    place: str
    outcome: Outcome
    unseedable: tuple[tuple[str, str], ...]
    coverage: Coverage

    @property
    def exit_code(self) -> Exit:
        """How the command ends."""
        return EXITS[self.outcome.end]

    def as_json(self) -> dict[str, Any]:
        """The result as `migrator.backfill/1`, without what every result has."""
        outcome = self.outcome
        counts = outcome.tally.counts
        rejected = sum(outcome.tally.rejected.values())
        seconds = round(outcome.seconds, 3)
        return {
            "source": self.order.kind,
            "place": self.place,
            "issuer": self.order.issuer,
            "job": outcome.job,
            "dry_run": self.order.dry_run,
            "end": outcome.end,
            "why": outcome.why,
            "workers": outcome.workers,
            "resumed": outcome.resumed,
            "total": outcome.total,
            **counts,
            "rejected": rejected,
            "rejected_by_reason": dict(sorted(outcome.tally.rejected.items())),
            "examples": [{"row": row, "reason": reason} for row, reason in outcome.examples],
            "rejects": None if self.order.rejects is None else str(self.order.rejects),
            "unseedable": [{"what": what, "why": why} for what, why in self.unseedable],
            "coverage": self.coverage.seen_as_json(),
            "here": outcome.here,
            "seconds": seconds,
            "rows_per_second": round(outcome.here / seconds) if seconds else None,
        }


def fulfil(settings: Settings, order: Order, tell: Tell) -> Report:
    """Go through the ledger that `order` names, from where it was left.

    Safe to repeat: what is there already is left as it is.

    Args:
        tell: called after every page, with what is committed by then.

    Raises:
        Stopped: UNREACHABLE; UNFIT, the schema; IRREVERSIBLE, retired; USAGE, the order; CONFLICT,
            it is running; GATE_FAILED, it was begun otherwise.
        Unavailable: swaps under way could not be waited for; run it again.
    """
    with opened(settings, order) as (connection, issuer, source):
        values, since = plant.terms(settings, issuer, by=order.who), _now(connection)
        outcome = Runner(
            connection=connection,
            schema=settings.database.schema,
            source=source,
            values=values,
            limits=order.limits,
            tell=tell,
            dry_run=order.dry_run,
        ).run(issuer=issuer.id, who=order.who, restart=order.restart, path=order.rejects)
        if outcome.changed:
            outcome.tally.counts["ended"] += settling.settle(settings, values, since=since)
        covered = coverage.of_issuer(connection, settings, issuer.id)
    return Report(order, source.place, outcome, source.unseedable, covered)


@contextmanager
def opened(settings: Settings, order: Order) -> Iterator[tuple[Connection, Issuer, Source]]:
    """Our database, the issuer and the ledger that `order` names, all checked.

    Raises:
        Stopped: UNREACHABLE; UNFIT, the schema; IRREVERSIBLE, retired; USAGE, the order.
    """
    issuer = _issuer(settings, order.issuer)
    parsed = denylist.parsed if order.kind == "denylist" else maps.parsed
    columns = parsed(order.columns)
    with (
        fit(settings) as connection,
        _source(connection, settings, issuer, order, columns) as source,
    ):
        yield connection, issuer, source


@contextmanager
def fit(settings: Settings) -> Iterator[Connection]:
    """Our database, which has the tables that a backfill writes.

    Raises:
        Stopped: UNREACHABLE; UNFIT, the schema; IRREVERSIBLE, retired.
    """
    url, name = settings.database.url.get_secret_value(), settings.database.schema
    _check_schema(url, name)
    with revisions.connected(url) as connection:
        _check_phase(connection, name)
        yield connection


def _issuer(settings: Settings, given: str) -> Issuer:
    for issuer in settings.issuers:
        if issuer.id == given:
            return issuer
    raise refusals.unknown_issuer(given, [issuer.id for issuer in settings.issuers])


def _check_schema(url: str, name: str) -> None:
    heads = schema.current(url, name)
    if heads.state != "head":
        raise Stopped(schema.PROBLEMS[heads.state], Exit.UNFIT)
    if heads.contracted:
        raise refusals.retired()


def _check_phase(connection: Connection, name: str) -> None:
    rollout = tables.in_schema(name).tables[f"{name}.{tables.rollout.name}"]
    phase = connection.scalar(select(rollout.c.phase))
    connection.rollback()
    if phase == "retired":
        raise refusals.retired()


_FILES = {"jsonl": jsonl.source, "csv": csv_file.source}


@contextmanager
def _source(
    connection: Connection,
    settings: Settings,
    issuer: Issuer,
    order: Order,
    columns: Mapping[str, str],
) -> Iterator[Source]:
    room = settings.http.max_credential_bytes
    if order.is_file or order.kind in _FILES:
        assert order.place is not None, "the command asks"
        assert order.standard_input is not None, "the command hands it over"
        read = _FILES.get(order.kind, denied_file.source)
        with opened_file(order.place, order.standard_input) as stream:
            yield read(
                stream,
                issuer,
                name=order.place,
                columns=columns,
                now=_now(connection),
                room=room,
            )
        return
    if order.kind == "redis":
        with _blocklist(connection, settings, issuer, order) as found:
            yield found
        return
    with _ledger(connection, order.source_url) as (ledger, elsewhere):
        named = order.source_name if elsewhere else None
        if order.kind == "simplejwt":
            yield simplejwt.source(ledger, issuer, name=order.place, elsewhere=named, room=room)
        else:
            assert order.place is not None, "the command asks"
            source = denylist.source if order.kind == "denylist" else table.source
            yield source(
                ledger, issuer, name=order.place, columns=columns, elsewhere=named, room=room
            )


def _blocklist(
    connection: Connection, settings: Settings, issuer: Issuer, order: Order
) -> AbstractContextManager[redis_blocklist.Blocklist]:
    assert order.place is not None, "the command asks"
    listing = redis_blocklist.Listing(order.place, order.collection)
    if order.source_url is not None:
        url, name = order.source_url, order.source_name or ""
    elif settings.redis is not None:
        url, name = settings.redis.url.get_secret_value(), "[redis]"
    else:
        raise refusals.no_redis("[redis]", "the settings have none", unreachable=False)
    return redis_blocklist.opened(connection, issuer, listing, url=url, name=name)


@contextmanager
def _ledger(connection: Connection, url: str | None) -> Iterator[tuple[Connection, bool]]:
    """The connection to read the ledger over, and whether it leads elsewhere."""
    if url is None:
        yield connection, False
        return
    with revisions.connected(url) as other:
        # Whatever a mapping says, nothing is written there.
        yield other.execution_options(postgresql_readonly=True), True


def _now(connection: Connection) -> datetime:
    now: datetime = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    connection.rollback()
    return now
