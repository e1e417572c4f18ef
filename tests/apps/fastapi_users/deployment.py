"""Where the diary runs: its own configuration, and what an operator adds to migrate it.

Only configuration differs between the stages: the app is made by the same factory, and where there
is a migration the middleware is put around it, with these settings.
"""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from fastapi import FastAPI

from migrator.settings import Settings as MigratorSettings
from shims.asgi import DualAcceptMiddleware
from tests.apps.fastapi_users.app import Settings, create_app
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
TRANSPORT = [
    {"header": "Authorization", "scheme": "Bearer"},
    {"cookie": "fastapiusersauth"},
]


@dataclass(frozen=True)
class Diary:
    """One installation; its data outlive the processes that serve it."""

    folder: Path
    rig: Rig
    redis: str | None = None
    secret: str = field(default_factory=lambda: secrets.token_hex(32))
    outbox: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def own(self) -> Settings:
        """What the diary itself is configured with."""
        url = f"sqlite+aiosqlite:///{self.folder / 'diary.sqlite'}"
        return Settings.model_construct(database_url=url, secret=self.secret, outbox=self.outbox)

    def app(self, phase: str | None, percent: int = 100, **tables: Any) -> App:
        """A new process's app; `tables` of the migration's settings replace the usual ones."""
        app = create_app(self.own)
        if phase is None:
            return app
        self.rig.move(phase, percent=percent)
        settings = MigratorSettings.build(self.settings() | tables, environ={})
        return DualAcceptMiddleware(app, settings)

    def settings(self) -> dict[str, Any]:
        """What the operator adds."""
        usual: dict[str, Any] = {
            "environment": "test",
            "app": "diary",
            "database": {"url": self.rig.url},
            "memory": {"poll_ms": 100},
            "swap": {"keys": [{"id": "k1", "secret": SWAP_KEY}]},
            "http": {"refusal": {"status": 401, "body": '{"detail":"Unauthorized"}'}},
            "routes": {
                "login": ["/auth/jwt/login", "/auth/cookie/login"],
                "logout": ["/auth/jwt/logout", "/auth/cookie/logout"],
            },
            "issuers": [
                {
                    "id": "a1",
                    "name": "diary",
                    "preset": "fastapi-users",
                    "keys": [self.secret],
                    "transport": TRANSPORT,
                }
            ],
        }
        return usual if self.redis is None else usual | {"redis": {"url": self.redis}}

    def block(self, email: str) -> None:
        """What an administrator does in the diary's own table."""
        connection = sqlite3.connect(self.folder / "diary.sqlite")
        with connection:
            connection.execute("UPDATE user SET is_active = 0 WHERE email = ?", (email,))
        connection.close()
