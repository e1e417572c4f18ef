"""Where the to-do list runs: its secret and data, and what an operator adds to migrate it.

Only configuration differs between the stages: the app is made by the same factory, and where there
is a migration the middleware is put around it, with these settings.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from fastapi import FastAPI

from migrator.settings import Settings
from shims.asgi import DualAcceptMiddleware
from tests.apps.fastapi_tutorial.app import Database, create_app
from tests.rig import SWAP_KEY, Rig

App: TypeAlias = FastAPI | DualAcceptMiddleware

BRIDGE: dict[str, Any] = {"bridge": {}}
# (name, phase, further settings); without a phase nothing of ours is there. Clients keep whatever
# the login answers: a JWT in the first three, a session token in the others.
STAGES: tuple[tuple[str, str | None, dict[str, Any]], ...] = (
    ("bare", None, {}),
    ("observe", "observe", {}),
    ("swap", "swap", {}),
    ("sessions over the bridge", "drain", BRIDGE),
    ("cutover", "cutover", BRIDGE),
)
# What the app answered to a bad token all its life; its clients are keyed to that.
REFUSAL = {"status": 403, "body": '{"detail":"Could not validate credentials"}'}


@dataclass(frozen=True)
class TodoList:
    """One installation; its data outlive the processes that serve it."""

    rig: Rig
    redis: str | None = None
    database: Database = field(default_factory=Database)
    secret_key: str = field(default_factory=lambda: secrets.token_hex(32))

    def app(self, phase: str | None, percent: int = 100, **tables: Any) -> App:
        """A new process's app; `tables` of the migration's settings replace the usual ones."""
        app = create_app(self.database, self.secret_key)
        if phase is None:
            return app
        self.rig.move(phase, percent=percent)
        return DualAcceptMiddleware(app, Settings.build(self.settings() | tables, environ={}))

    def settings(self) -> dict[str, Any]:
        """What the operator adds."""
        usual: dict[str, Any] = {
            "environment": "test",
            "app": "todo",
            "database": {"url": self.rig.url},
            "memory": {"poll_ms": 100},
            "swap": {"keys": [{"id": "k1", "secret": SWAP_KEY}]},
            "http": {"refusal": REFUSAL},
            "routes": {"login": ["/token"]},
            "issuers": [
                {
                    "id": "a1",
                    "name": "todo",
                    "preset": "fastapi-tutorial",
                    "keys": [self.secret_key],
                }
            ],
        }
        return usual if self.redis is None else usual | {"redis": {"url": self.redis}}
