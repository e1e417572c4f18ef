"""Who asks a store, of many that want to know the same at once: one, and the others wait.

A waiter is never given an answer that was asked for before it came: a revocation acknowledged in
between would be undone by it. It looks into memory instead, which believes by its own rules, or
takes the answer of a flight that began after it. So waiting is nothing but a delay.

How one waits differs by colour, in stores/flights.py; core waits for nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_T = TypeVar("_T")
_R = TypeVar("_R")

Key: TypeAlias = tuple[str, bytes]


class Flights(Protocol):
    """What lets one ask for many."""

    async def share(
        self, key: Key, ask: Callable[[], Awaitable[_T]], again: Callable[[], _R | None]
    ) -> tuple[_T, bool] | _R:
        """What `ask` answers and whether it was this caller's own, or what `again` found.

        Args:
            key: equal for callers who would ask the same.
            again: looks into memory, without waiting; called after another was waited for.

        Raises:
            Unavailable: of the caller's own `ask`, or of one waited for that could not be asked.
        """
        ...


class Alone:
    """Everybody asks for themselves: commands, and tests that step one caller at a time."""

    async def share(
        self,
        key: Key,  # noqa: ARG002 - nobody is waited for
        ask: Callable[[], Awaitable[_T]],
        again: Callable[[], _R | None],  # noqa: ARG002 - as above
    ) -> tuple[_T, bool] | _R:
        """See `Flights.share`."""
        return await ask(), True
