"""Where the shops run: their secret, the migration's settings, a database and a Redis."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt

from tests.rig import Rig

JWT_SECRET = "what the shops have signed with ever since they opened"

# What an operator's migrator.toml says of a shop; tables of it are replaced by a test's own.
TABLES: dict[str, dict[str, Any]] = {
    "database": {"url": "env:SHOP_DATABASE_URL"},
    "memory": {"poll_ms": 100},
    "swap": {"keys": [{"id": "k1", "secret": "env:SHOP_SWAP_KEY"}]},
    "routes": {"login": ["/login"], "refresh": ["/refresh"], "logout": ["/logout"]},
}
ISSUER: dict[str, Any] = {
    "id": "a1",
    "name": "shop",
    "algorithms": ["HS256"],
    "keys": ["env:JWT_SECRET"],
    "lifetime": "15m",
    "refresh_lifetime": "14d",
    "rotates_refresh": True,
    "transport": [{"header": "Authorization", "scheme": "Bearer"}, {"cookie": "access_token"}],
    "claims": {"subject": "sub", "family": "sid"},
    "purpose": {"require": {"token_type": "access"}, "refresh": {"token_type": "refresh"}},
}


@dataclass(frozen=True)
class Deployment:
    """One shop's surroundings; `folder` holds its migrator.toml."""

    folder: Path
    database: str
    redis: str | None = None
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    swap_key: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def rig(self) -> Rig:
        """The hand that moves this deployment's rollout."""
        return Rig(self.database)

    def environ(self) -> dict[str, str]:
        """The variables that the shop's processes are started with; writes the settings file."""
        file = self.folder / "migrator.toml"
        tables = {**TABLES, **self.tables}
        if self.redis is not None:
            tables["redis"] = {"url": "env:SHOP_REDIS_URL", **self.tables.get("redis", {})}
        file.write_text(toml(tables))
        return {
            "JWT_SECRET": JWT_SECRET,
            "MIGRATOR_CONFIG": str(file),
            "SHOP_DATABASE_URL": self.database,
            "SHOP_REDIS_URL": self.redis or "",
            "SHOP_SWAP_KEY": self.swap_key,
        }


def toml(tables: dict[str, dict[str, Any]]) -> str:
    """The settings file of a shop."""
    lines = ['environment = "test"', 'app = "shop"', "expected_nodes = 2"]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {_value(value)}" for key, value in table.items())]
    lines += ["[[issuers]]", *(f"{key} = {_value(value)}" for key, value in ISSUER.items())]
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)


def sign(subject: str, *, kind: str = "access", lasts_s: int = 900, **claims: object) -> str:
    """A JWT as a shop signs it."""
    now = int(time.time())
    payload = {
        "sub": subject,
        "sid": secrets.token_hex(8),
        "jti": secrets.token_hex(8),
        "token_type": kind,
        "iat": now,
        "exp": now + lasts_s,
        **claims,
    }
    return jwt.encode(payload, JWT_SECRET, algorithm="HS256")
