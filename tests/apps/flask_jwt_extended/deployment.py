"""Where the notebook runs: its own configuration, and what an operator adds to migrate it.

Only configuration differs between the stages: the app is made by the same factory, and where there
is a migration, `Migrator(app)` follows in the file that makes it, with these settings.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from flask import Flask

from shims.flask import Migrator
from tests.apps.flask_jwt_extended.app import create_app
from tests.rig import SWAP_KEY, Rig


@dataclass(frozen=True)
class Stage:
    """Where the migration stands.

    Args:
        phase: without one nothing of ours is there.
        clients: what they hold after a login at this stage.
        is_bridged: the app goes on knowing nothing but JWTs.
    """

    name: str
    phase: str | None = None
    percent: int = 100
    clients: Literal["jwt", "session"] = "jwt"
    is_bridged: bool = False


STAGES: tuple[Stage, ...] = (
    Stage("bare"),
    Stage("observe", "observe"),
    Stage("swap", "swap"),
    Stage("bridge before anybody moves", "swap", 0, is_bridged=True),
    Stage("bridge", "drain", clients="session", is_bridged=True),
    Stage("cutover", "cutover", clients="session", is_bridged=True),
)
COOKIES: dict[str, Any] = {
    "JWT_TOKEN_LOCATION": ["cookies"],
    "JWT_ACCESS_TOKEN_EXPIRES": timedelta(hours=1),
    "JWT_COOKIE_SAMESITE": "Lax",
}


@dataclass(frozen=True)
class Notebook:
    """One installation; `config` is what its own configuration says beyond the usual."""

    folder: Path
    rig: Rig
    redis: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    secret: str = field(default_factory=lambda: secrets.token_hex(32))

    def app(self, phase: str | None, percent: int = 100, **tables: Any) -> Flask:
        """A new process's app; `tables` of the migration's settings replace the usual ones."""
        app = create_app(
            {
                "DATABASE": str(self.folder / "notebook.sqlite"),
                "JWT_SECRET_KEY": self.secret,
                **self.config,
            }
        )
        if phase is not None:
            self.rig.move(phase, percent=percent)
            app.config["MIGRATOR"] = self.settings() | tables
            Migrator(app)
        return app

    def settings(self) -> dict[str, Any]:
        """What the operator adds; who signs what, and where it is sent, the app has said."""
        usual: dict[str, Any] = {
            "environment": "test",
            "app": "notebook",
            "database": {"url": self.rig.url},
            "memory": {"poll_ms": 100},
            "swap": {"keys": [{"id": "k1", "secret": SWAP_KEY}]},
            "cookie": {"name": "__Host-sid", "secure": False},  # tests speak plain http
            "routes": {"login": ["/login"], "refresh": ["/refresh"], "logout": ["/logout"]},
        }
        return usual if self.redis is None else usual | {"redis": {"url": self.redis}}
