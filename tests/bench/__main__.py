"""`make bench`: what a request costs, as ratios to what it could cost at best.

    python -m tests.bench [--quick | --long] [--only GROUP,...] [--json]

Starts a Postgres and a Redis of its own, and prints as it goes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from migrator.cli.demo.servers import embedded_postgres, embedded_redis
from migrator.control import schema
from tests.bench import bridged, in_process, over_postgres, over_redis, report, swapping
from tests.bench.database import Database
from tests.bench.timing import LONG, QUICK, Figure, Group, Plan, measure

NAMES = (
    "memory",
    "jwt",
    "asgi",
    "wsgi",
    "bridge",
    "redis",
    "redis-async",
    "postgres",
    "postgres-async",
    "swap",
    "swap-async",
)


def main(arguments: Sequence[str] | None = None, plan: Plan | None = None) -> int:
    """Measure and print; always 0, for nothing is asserted."""
    asked = _parser().parse_args(arguments)
    plan = plan or (LONG if asked.long else QUICK)
    with ExitStack() as stack:
        database_url, redis_url, groups = stack.enter_context(_groups())
        found = report.versions(database_url, redis_url)
        if not asked.json:
            _say("\n".join(report.heading(found, plan)))
        measured: list[tuple[Group, list[Figure]]] = []
        for group in groups:
            if asked.only and group.name not in asked.only:
                continue
            measured.append((group, measure(group, plan)))
            if not asked.json:
                _say("\n".join(report.table(*measured[-1])))
    if asked.json:
        _say(json.dumps(report.as_json(found, plan, measured), indent=2))
    return 0


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - printing is what it does


@contextmanager
def _groups() -> Iterator[tuple[str, str, Iterator[Group]]]:
    with (
        embedded_postgres() as postgres,
        embedded_redis() as redis,
        asyncio.Runner() as runner,
        ExitStack() as stack,
    ):
        url = postgres.create_database("bench")
        schema.upgrade(url)
        yield postgres.url, redis.url, _all(url, redis.url, runner, stack)


def _all(url: str, redis_url: str, runner: asyncio.Runner, stack: ExitStack) -> Iterator[Group]:
    # One after the other: what is opened for later groups does not disturb the first.
    yield from in_process.groups()
    yield from bridged.groups()
    yield from over_redis.groups(redis_url, runner, stack)
    database = Database(url, runner, stack)
    yield from over_postgres.groups(database)
    yield from swapping.groups(database)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--quick", action="store_true", help="under a minute (the default)")
    amount.add_argument("--long", action="store_true", help="some minutes, for closer figures")
    parser.add_argument("--only", type=_names, default=(), help=", ".join(NAMES))
    parser.add_argument("--json", action="store_true", help="JSON on stdout instead of a table")
    return parser


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(NAMES):
        raise argparse.ArgumentTypeError(f"no such group: {', '.join(sorted(unknown))}")
    return names


if __name__ == "__main__":
    raise SystemExit(main())
