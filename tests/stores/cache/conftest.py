"""Every claim about the cache holds in both colours."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from migrator.core.flow import run
from migrator.stores.redis import AsyncRedis, BlockingRedis
from tests.stores.cache.rig import BUDGET_S, COLOURS, Clock, Make, Rig


@pytest.fixture(params=COLOURS)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Builds a cache of either colour for a URL."""
    with contextlib.ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner()) if request.param == "async" else None

        def build(url: str, *, budget_s: float = BUDGET_S, **more: Any) -> Rig:
            clock = Clock()
            more = {"namespace": "t", "budget_s": budget_s, "clock": clock, **more}
            if runner is not None:
                return Rig(AsyncRedis(url, **more), runner.run, clock)
            cache = BlockingRedis(url, **more)
            stack.callback(cache.close)
            return Rig(cache, run, clock)

        yield build
