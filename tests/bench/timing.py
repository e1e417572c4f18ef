"""How a figure is taken: interleaved slices, medians per round, ratios paired within a round.

Machines are shared and clocks change speed, so a time alone says little and two times taken one
after the other lie. Here the cases of a group take turns, a slice of a few milliseconds each, so
that a slow second is slow for all of them; a round's figure of a case is the median of its slices,
and a ratio is formed inside a round. What is reported is the median of the rounds' ratios with the
smallest and the largest.

Garbage collection: everything alive is frozen and collected before each round, and collection is
off while slices run: what a request leaves behind is freed by reference counts, in the slice.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Any, TypeAlias, TypeVar

_T = TypeVar("_T")

Timer: TypeAlias = Callable[[int], float]
"""Seconds that so many calls took; what they need is made before the clock starts."""

_MOST_CALLS = 20_000  # in one slice
# Items made at once: few enough to be in the processor's cache still, as a request just read is.
_AT_HAND = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int
    slices: int
    slice_s: float


QUICK = Plan(rounds=5, slices=11, slice_s=0.002)
LONG = Plan(rounds=21, slices=50, slice_s=0.004)


@dataclass(frozen=True, slots=True)
class Case:
    """One way to do a thing. `aim` is what its ratio should be, for the reader."""

    name: str
    timer: Timer
    aim: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that are compared; the first is what the others are measured by.

    `renew` is called before each round, for what would go stale.
    """

    name: str
    title: str
    cases: Sequence[Case]
    renew: Callable[[], object] = int


@dataclass(frozen=True, slots=True)
class Spread:
    """The smallest, middle and largest of the rounds."""

    least: float
    middle: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of one value per round."""
        return cls(min(values), median(values), max(values))


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured of one case, in microseconds per call.

    `added` is what it takes more than the group's first case, `ratio` how many times as long.
    """

    case: Case
    time: Spread
    added: Spread
    ratio: Spread


def blocking(
    act: Callable[[_T], object],
    items: Iterator[_T],
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Timer:
    """Time `act` on one item after another."""

    def timer(calls: int) -> float:
        taken = 0.0
        for done in range(0, calls, _AT_HAND):
            batch = list(islice(items, min(_AT_HAND, calls - done)))
            start = clock()
            for item in batch:
                act(item)
            taken += clock() - start
        return taken

    return timer


def computing(act: Callable[[_T], object], items: Iterator[_T]) -> Timer:
    """The same for what waits for nobody: CPU time, so that a busy neighbour does not count."""
    return blocking(act, items, clock=time.thread_time)


def awaiting(
    runner: asyncio.Runner, act: Callable[[_T], Awaitable[object]], items: Iterator[_T]
) -> Timer:
    """The same on an event loop: one task that awaits each call."""

    async def one_after_another(batch: list[Any]) -> float:
        start = time.perf_counter()
        for item in batch:
            await act(item)
        return time.perf_counter() - start

    return lambda calls: runner.run(one_after_another(list(islice(items, calls))))


def measure(group: Group, plan: Plan) -> list[Figure]:
    """Run a group; the figures are in the order of its cases."""
    group.renew()
    calls = [_calls_in(case.timer, plan.slice_s) for case in group.cases]
    rounds: list[list[float]] = []
    for _ in range(plan.rounds):
        group.renew()
        rounds.append(_round(group, calls, plan.slices))
    firsts = [figures[0] for figures in rounds]
    return [
        _figure(case, [figures[place] for figures in rounds], firsts)
        for place, case in enumerate(group.cases)
    ]


def _round(group: Group, calls: Sequence[int], slices: int) -> list[float]:
    taken: list[list[float]] = [[] for _ in group.cases]
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for turn in range(slices):
            for step in range(len(calls)):
                place = (turn + step) % len(calls)  # nobody is always after the same one
                taken[place].append(group.cases[place].timer(calls[place]) / calls[place] * 1e6)
    finally:
        gc.enable()
        gc.unfreeze()
    return [median(times) for times in taken]


def _figure(case: Case, times: Sequence[float], firsts: Sequence[float]) -> Figure:
    return Figure(
        case=case,
        time=Spread.of(times),
        added=Spread.of([own - first for own, first in zip(times, firsts, strict=True)]),
        ratio=Spread.of([own / first for own, first in zip(times, firsts, strict=True)]),
    )


def _calls_in(timer: Timer, slice_s: float) -> int:
    """How many calls fill a slice; finding out warms everything up."""
    calls = 1
    while (took := timer(calls)) < slice_s / 2 and calls < _MOST_CALLS:
        calls *= 2
    return max(1, min(_MOST_CALLS, round(calls * slice_s / (took or 1e-9))))
