"""A deployment whose sessions an operator lists and ends."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click.testing
import jsonschema
import jwt
import psycopg

from migrator import wiring
from migrator.cli import main
from migrator.core.app import Sessions
from migrator.core.errors import Refused
from migrator.settings import Settings

SECRET = "k" + "Zq8vN3xR7tL1wP5yB9cF2hJ6mD4sG0aE" * 2
SCHEMAS = Path(__file__).parents[3] / "migrator" / "schemas"
CONFIG = """
environment = "staging"
[database]
url = "env:DB"
[redis]
url = "env:RD"
budget_ms = 500
[swap]
keys = [{ id = "k1", secret = "env:SWAP" }]
[[issuers]]
id = "a1"
name = "main"
algorithms = ["HS256"]
keys = ["env:JWT_SECRET"]
lifetime = "1h"
refresh_lifetime = "30d"
[issuers.claims]
family = "sid"
[issuers.purpose]
refresh = { type = "refresh" }
"""


@dataclass
class Place:
    """A deployment: its settings file, and a way to run commands against it."""

    url: str
    config: Path
    settings: Settings
    app: Sessions

    def run(self, *args: str, stdin: str = "", code: int = 0) -> str:
        result = click.testing.CliRunner().invoke(
            main, ["--config", str(self.config), *args], input=stdin
        )
        assert result.exit_code == code, (result.output, result.exception)
        self.stderr = result.stderr
        return result.stdout

    def json(self, *args: str, stdin: str = "", code: int = 0) -> Any:
        found = json.loads(self.run(*args, "--json", stdin=stdin, code=code))
        name = found["schema"].removeprefix("migrator.").replace("/", "-")
        schema = json.loads((SCHEMAS / f"{name}.json").read_text())
        jsonschema.validate(found, schema, format_checker=jsonschema.FormatChecker())
        return found

    def sql(self, statement: str, *facts: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as connection:
            cursor = connection.execute(statement, facts)
            return cursor.fetchall() if cursor.description else []

    def login(self, subject: str = "ada") -> str:
        self.sql("UPDATE migrator.rollout SET phase = 'drain'")
        return str(wiring.operator(self.settings).login(subject, legacy=_never).token)

    def exchange(self, refresh: str) -> str:
        self.sql("UPDATE migrator.rollout SET phase = 'drain'")
        return str(wiring.operator(self.settings).exchange(refresh, legacy=_never).token)

    def alive(self, credential: str) -> bool:
        """Whether a node that remembers nothing lets the credential carry on."""
        try:
            wiring.operator(self.settings).exchange(credential, legacy=_never)
        except Refused:
            return False
        return True

    def id_of(self, token: str) -> str:
        digest = hashlib.sha256(token.encode()).digest()
        return str(self.sql("SELECT id FROM migrator.sessions WHERE digest = %s", digest)[0][0])


def _never() -> str:
    raise AssertionError("the rollout issues sessions")


def refresh_jwt(subject: str = "ada", *, kid: str | None = None, **claims: object) -> str:
    now = int(time.time())
    facts = {"sub": subject, "iat": now - 5, "exp": now + 86_400, "type": "refresh"}
    headers = {"kid": kid} if kid else None
    return jwt.encode({**facts, "n": secrets.token_hex(4), **claims}, SECRET, headers=headers)
