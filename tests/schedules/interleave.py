"""Every interleaving of a few actors, each stepped from one pause to the next.

An actor is a coroutine that yields wherever another may come between. Which actor steps next is
chosen; every sequence of choices is tried, each on a world made anew. Nothing is left to luck, so
a claim that holds here holds for every timing of what was stepped.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Work = Coroutine[Any, None, Any]


@types.coroutine
def pause() -> Generator[None, None, None]:
    """Let the schedule decide who goes on."""
    yield


@dataclass(slots=True)
class Tried:
    """What came of one world.

    Args:
        choices: which actor went on at each step.
        ways: how many could have.
    """

    choices: list[int]
    ways: list[int]


def every_schedule(run: Callable[[Sequence[int]], Tried]) -> Iterator[Tried]:
    """Run every schedule once, depth first.

    Args:
        run: makes a world, follows the choices given, the first actor that can go on after them,
            and says what it chose from.
    """
    prefix: list[int] = []
    while True:
        tried = run(prefix)
        yield tried
        last = len(tried.choices) - 1
        while last >= 0 and tried.choices[last] + 1 >= tried.ways[last]:
            last -= 1
        if last < 0:
            return
        prefix = [*tried.choices[:last], tried.choices[last] + 1]


def step_through(actors: Sequence[Work], choices: Sequence[int]) -> Tried:
    """Follow one schedule to the end of all actors."""
    running = list(actors)
    tried = Tried([], [])
    while running:
        position = len(tried.choices)
        chosen = choices[position] if position < len(choices) else 0
        tried.choices.append(chosen)
        tried.ways.append(len(running))
        actor = running[chosen]
        try:
            actor.send(None)
        except StopIteration:
            running.remove(actor)
    return tried
