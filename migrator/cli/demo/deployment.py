"""Where the rehearsal takes place: a directory, settings as an operator writes them, variables.

The gates' quiet windows are seconds here and days in a real rollout; nothing else is shortened.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from migrator.cli.demo import app, before, partner

ENVIRONMENT = "demo"
WORKERS = 2
ISSUER = "a1"
AGENT_OF_BOT = "report-bot/1.0"
CONFIG = "migrator.toml"
_KEY_BYTES = 32
_TAIL_CHARS = 2_000

_SETTINGS = f"""\
environment = "{ENVIRONMENT}"
app = "acme"
expected_nodes = {WORKERS}

[database]
url = "env:MIGRATOR_DATABASE_URL"

[redis]
url = "env:MIGRATOR_REDIS_URL"

[gates]
legacy_quiet = "2s"
foreign_quiet = "2s"
retire_quiet = "2s"
ack_timeout = "30s"

[swap]
keys = [{{ id = "k1", secret = "env:MIGRATOR_SWAP_KEY" }}]

[[issuers]]
id = "{ISSUER}"
name = "main"
realm = "users"
preset = "simplejwt"
keys = ["env:{app.SECRET_VARIABLE}"]
lifetime = "{before.ACCESS_SECONDS}s"
refresh_lifetime = "{before.REFRESH_SECONDS}s"
leeway = "{before.LEEWAY_SECONDS}s"
transport = [
  {{ header = "Authorization", scheme = "Bearer" }},
  {{ cookie = "{app.LEGACY_COOKIE}" }},
]

[[issuers]]
id = "p1"
name = "partner"
realm = "partners"
algorithms = ["RS256"]
issuer = "{partner.ISSUER}"
audience = ["{partner.AUDIENCE}"]
jwks_url = "%(jwks_url)s"
lifetime = "{partner.TOKEN_SECONDS}s"
leeway = "{before.LEEWAY_SECONDS}s"

[routes]
login = ["/login", "/partner/session"]
refresh = ["/refresh"]
logout = ["/logout"]

[cookie]
secure = false  # plain http on loopback
"""
# What of our own surroundings must reach neither the app nor the operator's commands.
_FOREIGN = ("MIGRATOR_", "DEMO_", "http_proxy", "https_proxy", "all_proxy", "no_proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The directory with `migrator.toml`, and the variables that go with it."""

    directory: Path
    database_url: str
    redis_url: str
    jwt_secret: str = field(repr=False)
    swap_key: str = field(repr=False)

    @property
    def config(self) -> Path:
        """The settings file."""
        return self.directory / CONFIG

    @property
    def app_log(self) -> Path:
        """Where the app's server writes."""
        return self.directory / "app.log"

    def app_log_tail(self) -> str:
        """The last the app's server had to say."""
        said = self.app_log.read_text(errors="replace") if self.app_log.exists() else ""
        return said[-_TAIL_CHARS:]

    def variables(self) -> dict[str, str]:
        """The environment of the app and of every command."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.lower().startswith(tuple(each.lower() for each in _FOREIGN))
        }
        return {**kept, **self.own_variables()}

    def own_variables(self) -> Mapping[str, str]:
        """Those that make the deployment what it is."""
        return {
            "MIGRATOR_CONFIG": str(self.config),
            "MIGRATOR_DATABASE_URL": self.database_url,
            "MIGRATOR_REDIS_URL": self.redis_url,
            "MIGRATOR_SWAP_KEY": self.swap_key,
            "MIGRATOR_OPERATOR": "rehearsal",
            app.SECRET_VARIABLE: self.jwt_secret,
            app.LEDGER_VARIABLE: self.database_url,
            "PYTHONUNBUFFERED": "1",
        }


def deploy(directory: Path, *, database_url: str, redis_url: str, jwks_url: str) -> Deployment:
    """Write `migrator.toml` into `directory` and make the secrets."""
    deployment = Deployment(
        directory=directory,
        database_url=database_url,
        redis_url=redis_url,
        jwt_secret=secrets.token_urlsafe(_KEY_BYTES),
        swap_key=secrets.token_urlsafe(_KEY_BYTES),
    )
    deployment.config.write_text(_SETTINGS % {"jwks_url": jwks_url})
    return deployment
