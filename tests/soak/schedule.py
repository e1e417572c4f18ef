"""Which faults come when: a table of kinds, and a pure function of the seed and the time.

Every kind comes once before any comes twice. Between two faults everything is up for a while:
bounds are promised for that too; now and then two faults overlap, since outages do.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from tests.soak.history import Store
from tests.soak.stage import BEHIND


@dataclass(frozen=True, slots=True, kw_only=True)
class Sort:
    """A kind of fault.

    Args:
        lasts_s: shortest and longest; (0, 0) = it is over as it happens.
        felt_s: how long after that it may still be felt before anybody can know: what was open is
            deaf until a request has waited its budget out.
        pairs: whether another may come while it lasts.
    """

    store: Store
    lasts_s: tuple[float, float] = (0.0, 0.0)
    workers: tuple[str, ...] = ()
    wipes: bool = False
    excuses: bool = True
    felt_s: float = 0.0
    pairs: bool = False


_SHORT: Final = (0.3, 1.2)
_LONG: Final = (0.8, 3.0)
SORTS: Final[dict[str, Sort]] = {
    "Postgres killed": Sort(store="postgres", lasts_s=_SHORT),
    "Postgres frozen": Sort(store="postgres", lasts_s=_LONG, felt_s=1.0, pairs=True),
    "Postgres connections ended": Sort(store="postgres"),
    "Redis killed": Sort(store="redis", lasts_s=_SHORT, wipes=True),
    "Redis frozen": Sort(store="redis", lasts_s=_LONG, pairs=True),
    "Redis clients killed": Sort(store="redis"),
    "Redis flushed": Sort(store="redis", wipes=True),
    "way to Postgres reset": Sort(store="postgres", workers=BEHIND),
    "way to Postgres half-open": Sort(store="postgres", workers=BEHIND, felt_s=2.0),
    "way to Postgres a black hole": Sort(
        store="postgres", workers=BEHIND, lasts_s=_LONG, felt_s=1.0, pairs=True
    ),
    "way to Postgres closed": Sort(store="postgres", workers=BEHIND, lasts_s=_LONG, pairs=True),
    "way to Postgres slow": Sort(
        store="postgres", workers=BEHIND, lasts_s=_LONG, excuses=False, pairs=True
    ),
    "way to Postgres sliced": Sort(
        store="postgres", workers=BEHIND, lasts_s=_LONG, excuses=True, pairs=True
    ),
    "way to Redis reset": Sort(store="redis", workers=BEHIND),
    "way to Redis half-open": Sort(store="redis", workers=BEHIND, felt_s=1.0),
    "way to Redis a black hole": Sort(store="redis", workers=BEHIND, lasts_s=_LONG, pairs=True),
    "way to Redis closed": Sort(store="redis", workers=BEHIND, lasts_s=_LONG, pairs=True),
    "way to Redis slow": Sort(store="redis", workers=BEHIND, lasts_s=_LONG, pairs=True),
    "way to Redis crossing replies": Sort(
        store="redis", workers=BEHIND, lasts_s=_LONG, pairs=True
    ),
    "uvicorn killed": Sort(store="worker", workers=("uvicorn-behind",)),
    "uvicorn frozen": Sort(store="worker", workers=("uvicorn",), lasts_s=_LONG),
    "gunicorn worker killed": Sort(store="worker", workers=("gunicorn-behind",)),
    "gunicorn frozen": Sort(store="worker", workers=("gunicorn-behind",), lasts_s=_LONG),
    "node killed": Sort(store="worker", workers=("node",)),
    "node frozen": Sort(store="worker", workers=("node",), lasts_s=_LONG),
}
_REST_S: Final = (0.8, 2.4)
_LONG_REST_S: Final = (3.5, 6.0)
_PAIRED: Final = 0.3


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault to come, `rest_s` after everything is up again; `other` comes while it lasts."""

    what: str
    rest_s: float
    lasts_s: float
    other: str | None = None


def planned(seed: int, seconds: float) -> list[Planned]:
    """The faults of a run; more than fit, since what each of them takes is not known."""
    random_of = random.Random(f"faults {seed}")
    plan: list[Planned] = []
    total = 0.0
    while total < seconds:
        deck = sorted(SORTS)
        random_of.shuffle(deck)
        for number, what in enumerate(deck):
            rest = random_of.uniform(*(_LONG_REST_S if number % 6 == 5 else _REST_S))
            lasts = random_of.uniform(*SORTS[what].lasts_s)
            others = sorted(
                name
                for name, sort in SORTS.items()
                if sort.pairs and name != what and sort.store != SORTS[what].store
            )
            paired = SORTS[what].pairs and random_of.random() < _PAIRED
            other = random_of.choice(others) if paired else None
            plan.append(Planned(what, rest, lasts, other))
            total += rest + lasts
    return plan
