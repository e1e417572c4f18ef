"""Whether `migrator serve` can do its work now, for whoever sends it traffic: `/readyz`."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from migrator.control import schema
from migrator.core.errors import Stopped, Unavailable

if TYPE_CHECKING:
    from migrator.core.gate import AsyncGate
    from migrator.settings import Settings

# Anybody may ask; the answer is worked out this often, in seconds.
_FRESH_S: Final = 1.0
# Looked up once it was right: tables do not go away, and reading revisions costs a connection.
_SCHEMA_FRESH_S: Final = 30.0
# Newer tables serve this release too: a schema is expanded before the nodes are replaced.
_FIT: Final = frozenset({"head", "ahead"})


class Readiness:
    """What is missing, by name: `schema`, `store`, `phase`."""

    def __init__(self, settings: Settings, gate: AsyncGate) -> None:
        self._url = settings.database.url.get_secret_value()
        self._home = settings.database.schema
        self._gate = gate
        self._missing: list[str] = []
        self._asked_at = self._fit_at = float("-inf")
        self._asking = asyncio.Lock()

    async def missing(self) -> list[str]:
        """What is missing; empty: nothing."""
        async with self._asking:
            if time.monotonic() - self._asked_at >= _FRESH_S:
                self._missing = await self._ask()
                self._asked_at = time.monotonic()
            return self._missing

    async def _ask(self) -> list[str]:
        missing = []
        if not await self._has_schema():
            missing.append("schema")
        try:
            await self._gate.store.rollout()
        except Unavailable:
            missing.append("store")
        if self._gate.node.rollout is None:
            missing.append("phase")
        return missing

    async def _has_schema(self) -> bool:
        if time.monotonic() - self._fit_at < _SCHEMA_FRESH_S:
            return True
        try:
            heads = await asyncio.to_thread(schema.current, self._url, self._home)
        except Stopped:
            return False
        if heads.state in _FIT:
            self._fit_at = time.monotonic()
        return heads.state in _FIT
