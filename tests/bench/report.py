"""What is printed: one table, or the same as JSON; and what everything was measured with."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psycopg
import redis

from migrator.stores.drivers import conninfo
from tests.bench.timing import Figure, Group, Plan, Spread

SCHEMA = "migrator.bench/1"
_PACKAGES = (
    "pyjwt",
    "cryptography",
    "redis",
    "hiredis",
    "psycopg",
    "psycopg-binary",
    "psycopg-pool",
    "jwt-way-out",
)
_METHOD = (
    "Cases take turns in slices; a round's figure is the median of its slices; ratios and",
    "differences are formed within a round against the group's first case. Shown: median of",
    "the rounds, ratios with least and most. Garbage collected and frozen before each round,",
    "collection off in slices. Servers on this machine over TCP, Postgres without fsync.",
    "Compare within a group only. Nothing is asserted: an aim is what the design must allow.",
)
_HEAD = f"  {'':<44}{'us':>9}{'added us':>10}{'ratio':>9}{'least':>8}{'most':>8}  aim"


def versions(database_url: str | None, redis_url: str | None) -> dict[str, str]:
    """Of everything that has a part in the figures."""
    found = {"python": f"{platform.python_version()} ({platform.python_implementation()})"}
    found |= {name: _version(name) for name in _PACKAGES}
    if database_url is not None:
        with psycopg.connect(**conninfo(database_url)) as connection:
            found["postgres"] = str(connection.info.parameter_status("server_version"))
    if redis_url is not None:
        with redis.Redis.from_url(redis_url) as client:
            found["redis-server"] = str(client.info("server")["redis_version"])
    return found | {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "load": f"{os.getloadavg()[0]:.1f} at the start",
    }


def heading(found: Mapping[str, str], plan: Plan) -> list[str]:
    """The lines above the figures."""
    amount = f"{plan.rounds} rounds of {plan.slices} slices of {plan.slice_s * 1000:g} ms per case"
    return [
        *_METHOD,
        amount + ".",
        "",
        *_wrapped(" · ".join(f"{name} {value}" for name, value in found.items())),
        "",
        _HEAD,
    ]


def table(group: Group, figures: Sequence[Figure]) -> list[str]:
    """One group's lines."""
    lines = [f"{group.title}  [{group.name}]"]
    for place, figure in enumerate(figures):
        line = f"  {figure.case.name:<44}{figure.time.middle:>9.2f}"
        if place:
            ratio = figure.ratio
            line += f"{figure.added.middle:>+10.2f}{ratio.middle:>8.2f}x"
            line += f"{ratio.least:>8.2f}{ratio.most:>8.2f}  {figure.case.aim}"
        lines.append(line.rstrip())
    return lines


def as_json(
    found: Mapping[str, str], plan: Plan, measured: Sequence[tuple[Group, Sequence[Figure]]]
) -> dict[str, Any]:
    """The same for a program."""
    return {
        "schema": SCHEMA,
        "versions": dict(found),
        "method": " ".join(_METHOD),
        "plan": {"rounds": plan.rounds, "slices": plan.slices, "slice_s": plan.slice_s},
        "groups": [
            {
                "name": group.name,
                "title": group.title,
                "cases": [_case(figure) for figure in figures],
            }
            for group, figures in measured
        ],
    }


def _case(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.case.name,
        "us": _spread(figure.time),
        "added_us": _spread(figure.added),
        "ratio": _spread(figure.ratio),
        "aim": figure.case.aim or None,
    }


def _spread(spread: Spread) -> dict[str, float]:
    return {
        "min": round(spread.least, 3),
        "median": round(spread.middle, 3),
        "max": round(spread.most, 3),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _wrapped(text: str, width: int = 98) -> list[str]:
    lines = [""]
    for part in text.split(" · "):
        joined = f"{lines[-1]} · {part}" if lines[-1] else part
        if len(joined) > width:
            lines.append(part)
        else:
            lines[-1] = joined
    return lines
