"""A deployment for tests of the control plane: settings, commands, and nodes that answer."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import psycopg
from click.testing import CliRunner, Result

from migrator.cli import main
from migrator.settings import Settings
from migrator.stores.drivers import conninfo
from tests.rig import SECRET, SWAP_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMAS = Path(__file__).parents[2] / "migrator" / "schemas"
VARIABLES = {
    "TEST_SWAP_KEY": SWAP_KEY,
    "TEST_JWT_SECRET": SECRET,
    "MIGRATOR_OPERATOR": "dana",
}
CONFIG = """
environment = "staging"
app = "acme"
{top}
[database]
url = "env:TEST_DATABASE_URL"
[gates]
legacy_quiet = "{quiet}"
foreign_quiet = "{quiet}"
retire_quiet = "{quiet}"
ack_timeout = "3s"
[swap]
keys = [{{ id = "k1", secret = "env:TEST_SWAP_KEY" }}]
[[issuers]]
id = "a1"
name = "main"
algorithms = ["HS256"]
keys = ["env:TEST_JWT_SECRET"]
leeway = "0s"
skew = "0s"
{lifetimes}
[issuers.purpose]
require = {{ token_type = "access" }}
refresh = {{ token_type = "refresh" }}
"""
LIFETIMES = 'lifetime = "1s"\nrefresh_lifetime = "1s"'

_BEAT = """
INSERT INTO migrator.nodes (id, build, epoch, acked_at, lease_until, seen_at, started_at,
  sees_tables, has_keys, key_ids)
SELECT %(id)s, %(build)s, r.epoch, clock_timestamp(), clock_timestamp() + interval '10 s',
  clock_timestamp(), clock_timestamp() - interval '40 days', true, true, '{k1}'
FROM migrator.rollout r
ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until, seen_at = excluded.seen_at,
  acked_at = CASE WHEN nodes.epoch IS DISTINCT FROM excluded.epoch THEN excluded.acked_at
    ELSE nodes.acked_at END,
  epoch = excluded.epoch
"""


class Deployment:
    """One rollout in one database."""

    def __init__(
        self,
        url: str,
        directory: Path,
        *,
        expected: int | None = 2,
        quiet: str = "0s",
        lifetimes: str = LIFETIMES,
    ) -> None:
        self.url = url
        self.config = directory / "migrator.toml"
        top = "" if expected is None else f"expected_nodes = {expected}"
        self.config.write_text(CONFIG.format(top=top, quiet=quiet, lifetimes=lifetimes))
        self.environ = {**VARIABLES, "TEST_DATABASE_URL": url}

    @property
    def settings(self) -> Settings:
        return Settings.load(self.config, environ=self.environ)

    def run(self, *args: str, code: int | None = 0, stdin: str = "") -> Result:
        """Run a command in this process, and hold it to its exit code."""
        result = CliRunner(env=self.environ).invoke(
            main, ["--config", str(self.config), *args], input=stdin
        )
        if code is not None:
            assert result.exit_code == code, f"{result.stdout}\n{result.stderr}"
        return result

    def json(self, *args: str, code: int = 0, schema: str | None = None) -> dict[str, Any]:
        """Run a command with `--json`; its answer, held to the published schema."""
        found: dict[str, Any] = json.loads(self.run(*args, "--json", code=code).stdout)
        name = schema or found.get("schema", "migrator.error/1").split(".")[1].split("/")[0]
        validate(found, name)
        assert found["exit_code"] == code
        return found

    def json_any(self, *args: str) -> dict[str, Any]:
        """As `json`, whatever the exit code, which the answer has to tell truly."""
        result = self.run(*args, "--json", code=None)
        found: dict[str, Any] = json.loads(result.stdout)
        validate(found, found["schema"].split(".")[1].split("/")[0])
        assert found["exit_code"] == result.exit_code
        return found

    def move(self, *args: str, code: int = 0) -> dict[str, Any]:
        return self.json(*args, "--confirm", "staging", code=code)

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(**conninfo(self.url), autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, *values: object) -> Any:
        return self.execute(statement, *values)[0][0]

    def phase(self) -> tuple[str, int]:
        rows = self.execute("SELECT phase, percent FROM migrator.rollout")
        return rows[0][0], rows[0][1]

    def beat(self, *names: str, build: str | None = None) -> None:
        """Let nodes say that they live and act under the present epoch."""
        with psycopg.connect(**conninfo(self.url), autocommit=True) as connection:
            for name in names:
                connection.execute(_BEAT, {"id": name, "build": build})

    @contextmanager
    def nodes(self, *names: str) -> Iterator[None]:
        """Nodes that go on beating until the block is left."""
        over = threading.Event()

        def run() -> None:
            with psycopg.connect(**conninfo(self.url), autocommit=True) as connection:
                while not over.wait(0.05):
                    for name in names:
                        connection.execute(_BEAT, {"id": name, "build": None})

        self.beat(*names)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def put(self, phase: str, *, percent: int = 100, ago: str = "1 hour") -> None:
        """Put the rollout into a phase entered, and in effect, some time ago."""
        if phase == "cutover":
            self.put("drain", ago=ago)
        before = {"swap": "observe", "drain": "swap", "cutover": "drain"}.get(phase, "observe")
        self.execute(
            "UPDATE migrator.rollout SET phase = %s, percent = %s, epoch = epoch + 1,"
            " since = now() - %s::interval, drain_since ="
            " CASE %s WHEN 'drain' THEN now() - %s::interval WHEN 'cutover' THEN drain_since END",
            phase,
            percent,
            ago,
            phase,
            ago,
        )
        self.execute(
            "INSERT INTO migrator.rollout_log (at, who, command, from_phase, to_phase,"
            " to_percent, epoch) SELECT since, 'kim', 'test', %s, phase, percent, epoch"
            " FROM migrator.rollout",
            before,
        )
        self.execute(
            "INSERT INTO migrator.rollout_log (at, who, command, to_phase, epoch, detail)"
            " SELECT since, 'kim', 'in effect', phase, epoch,"
            " jsonb_build_object('in_effect_at', since) FROM migrator.rollout"
        )

    def sight(
        self, subject: str, client: str, *, ago: str = "0 s", lasts: str = "30 days"
    ) -> None:
        """Note a subject seen with a legacy token, as the pulse does."""
        self.execute(
            "INSERT INTO migrator.legacy_subjects (realm, subject, issuer, client, first_seen_at,"
            " last_seen_at, max_exp) VALUES ('users', %s, 'a1', %s, now() - %s::interval,"
            " now() - %s::interval, now() + %s::interval)",
            subject,
            client,
            ago,
            ago,
            lasts,
        )


def validate(found: dict[str, Any], name: str) -> None:
    """Hold JSON to the schema that is published for it."""
    schema = json.loads((SCHEMAS / f"{name}-1.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(found)
