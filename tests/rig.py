"""A small legacy app's facts for tests: its settings, its signer, moves of the rollout by SQL."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

import jwt
import psycopg

from migrator.settings import Settings
from migrator.stores.drivers import conninfo

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRET = "a legacy signing secret of the tests, long enough"
SWAP_KEY = secrets.token_urlsafe(32)


class Rig:
    """One deployment: a database, perhaps a Redis, one HS256 issuer."""

    def __init__(self, url: str, redis_url: str | None = None, **tables: Any) -> None:
        self.url = url
        self.redis_url = redis_url
        self.tables = tables

    def settings(self, **tables: Any) -> Settings:
        """The settings, sections given here or at construction laid over the usual ones."""
        usual: dict[str, Any] = {
            "environment": "test",
            "app": "acme",
            "expected_nodes": 1,
            "database": {"url": self.url},
            "memory": {"poll_ms": 100, "trust_ms": 900},
            "swap": {"keys": [{"id": "k1", "secret": SWAP_KEY}]},
            "cookie": {"secure": False},
            "routes": {"login": ["/login"], "refresh": ["/refresh"], "logout": ["/logout"]},
            "issuers": [ISSUER],
        }
        if self.redis_url is not None:
            usual["redis"] = {"url": self.redis_url}
        for name, table in {**self.tables, **tables}.items():
            both = isinstance(table, dict) and isinstance(usual.get(name), dict)
            usual[name] = {**usual[name], **table} if both else table
        return Settings.build(usual)

    def move(self, phase: str, *, percent: int = 100, exceptions: str = "[]") -> None:
        """Put the rollout into a phase, as a committed move would leave it."""
        self.execute(
            "UPDATE migrator.rollout SET phase = %s, percent = %s, epoch = epoch + 1,"
            " exceptions = %s::jsonb, since = now(),"
            " drain_since = CASE WHEN %s IN ('drain', 'cutover') THEN now() END",
            phase,
            percent,
            exceptions,
            phase,
        )

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement as the test's own hand in the database."""
        with psycopg.connect(**conninfo(self.url), autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def count(self, table: str, where: str = "true") -> int:
        """Rows of one of our tables."""
        count: int = self.execute(f"SELECT count(*) FROM migrator.{table} WHERE {where}")[0][0]
        return count


ISSUER: dict[str, Any] = {
    "id": "a1",
    "name": "main",
    "algorithms": ["HS256"],
    "keys": [SECRET],
    "lifetime": "1h",
    "refresh_lifetime": "30d",
    "claims": {"subject": "sub", "family": "sid"},
    "purpose": {
        "require": {"token_type": [None, "access"]},
        "refresh": {"token_type": "refresh"},
    },
}


def sign(
    subject: str,
    *,
    lasts_s: float = 3600,
    claims: Mapping[str, object] | None = None,
    headers: dict[str, Any] | None = None,
    secret: str = SECRET,
) -> str:
    """A JWT as the legacy app issues it."""
    now = time.time()
    payload = {
        "sub": subject,
        "iat": int(now),
        "exp": int(now + lasts_s),
        "jti": secrets.token_hex(8),
        **(claims or {}),
    }
    return jwt.encode(payload, secret, algorithm="HS256", headers=headers)


def sign_refresh(subject: str, *, lasts_s: float = 86_400, **claims: object) -> str:
    """A refresh JWT as the legacy app issues it."""
    return sign(subject, lasts_s=lasts_s, claims={"token_type": "refresh", **claims})
