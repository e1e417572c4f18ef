"""`python -m tests.bench.backfilling`: a backfill beside a plain binary COPY of the same rows.

Both write into tables of our schema with all their indexes, on one server, one after the other in
each round: the backfill reads, judges and fingerprints a simplejwt ledger; COPY is handed the very
rows that came of it, ready made. Their ratio is what deciding costs over writing alone.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psycopg

from migrator.cli.demo.servers import Postgres, embedded_postgres
from migrator.control import schema
from migrator.control.backfill.runner import Limits
from migrator.stores.drivers import conninfo
from tests.control.backfill import bulk
from tests.control.backfill.ledgers import backfill

_TABLES = ("legacy_tokens", "sessions", "denials")
_COLUMNS = """
SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attidentity = ''"""
_PIECE = 1 << 18


@dataclass(frozen=True, slots=True)
class Figure:
    """One round: rows of the ledger a second, each way."""

    rows: int
    workers: int
    backfill: float
    copy: float
    backfill_cpu: float
    copy_cpu: float

    @property
    def ratio(self) -> float:
        """How near the backfill comes to COPY, by the clock."""
        return self.backfill / self.copy

    @property
    def cpu_ratio(self) -> float:
        """The same by the processor time of the server, which a busy machine bends less."""
        return self.copy_cpu / self.backfill_cpu

    def __str__(self) -> str:
        """In a line."""
        return (
            f"{self.rows:,} rows, {self.workers} workers: backfill {self.backfill:,.0f} rows/s,"
            f" COPY {self.copy:,.0f} rows/s, ratio {self.ratio:.2f}"
            f" ({self.cpu_ratio:.2f} by processor time)"
        )


def measure(server: Postgres, template: str, rows: int, *, workers: int) -> Figure:
    """One round over copies of the database `template`, which has the ledger and empty tables."""
    with _fresh(server, template) as seeded, _fresh(server, template) as copied:
        used, began = _used(server), time.perf_counter()
        backfill(seeded, limits=Limits(workers=workers))
        took = time.perf_counter() - began
        backfill_cpu = _used(server) - used
        pieces = _rows(seeded)
        used = _used(server)
        copy_took = _copy(pieces, copied)
        return Figure(
            rows=rows,
            workers=workers,
            backfill=rows / took,
            copy=rows / copy_took,
            backfill_cpu=backfill_cpu,
            copy_cpu=_used(server) - used,
        )


def _used(server: Postgres) -> float:
    """Seconds of processor time of every backend that has ended; waits for those that are to."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    until = time.monotonic() + 10
    while any(map(_is_ours, children.read_text().split())) and time.monotonic() < until:
        time.sleep(0.01)
    stat = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[13]) + int(stat[14])) / os.sysconf("SC_CLK_TCK")


def _is_ours(pid: str) -> bool:
    try:
        said = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it ends at this very moment
        return False
    return not said or b" bench_" in said  # who says nothing has ended and was not counted yet


def _rows(source: str) -> list[tuple[str, bytes]]:
    """What to COPY: a statement and its data for each table."""
    found = []
    with psycopg.connect(**conninfo(source)) as here:
        for table in _TABLES:
            row = here.execute(_COLUMNS, (f"migrator.{table}",)).fetchone()
            assert row is not None
            named = f"COPY migrator.{table} ({row[0]})"
            with here.cursor().copy(f"{named} TO STDOUT (FORMAT binary)") as out:
                data = b"".join(bytes(piece) for piece in out)
            found.append((f"{named} FROM STDIN (FORMAT binary)", data))
    return found


def _copy(pieces: Sequence[tuple[str, bytes]], target: str) -> float:
    """Seconds that COPY of ready rows takes, connecting included."""
    began = time.perf_counter()
    with psycopg.connect(**conninfo(target)) as there:
        for statement, data in pieces:
            with there.cursor().copy(statement) as into:
                for at in range(0, len(data), _PIECE):
                    into.write(data[at : at + _PIECE])
    return time.perf_counter() - began


@contextmanager
def _fresh(server: Postgres, template: str) -> Iterator[str]:
    name = f"bench_{time.monotonic_ns()}"
    yield server.create_database(name, template)
    server.drop_database(name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; always 0, for nothing is asserted."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.backfilling", description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--workers", default="1,2", help="comma between")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args(arguments)
    with embedded_postgres(settings={"shared_buffers": "256MB", "max_wal_size": "2GB"}) as server:
        url = server.create_database("ledger")
        schema.upgrade(url)
        bulk.fill(url, asked.rows)
        for workers in map(int, asked.workers.split(",")):
            figures = [
                measure(server, "ledger", asked.rows, workers=workers) for _ in range(asked.rounds)
            ]
            for figure in figures:
                print(figure, flush=True)  # noqa: T201 - printing is what it does
            ratios = [median(getattr(f, name) for f in figures) for name in ("ratio", "cpu_ratio")]
            print(f"median ratio {ratios[0]:.2f}, by processor time {ratios[1]:.2f}")  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
