"""Every command's `--json`, in one rollout from end to end, held to the schema published for it.

The walk over the command line at the end is what makes this complete: a command that is not in the
story, or answers with a schema that is not published, fails it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import jsonschema
import pytest

from migrator.cli import main
from tests.cli.deployment import SCHEMAS, Deployment, validate
from tests.rig import sign, sign_refresh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import CacheServer

# Those that do not report and end: their own tests hold them.
APART = {("serve",), ("demo",)}

SESSION = "0190c0de-0000-7000-8000-000000000001"
OTHER = "0190c0de-0000-7000-8000-000000000002"
_SESSIONS = f"""
INSERT INTO migrator.sessions (id, digest, kind, realm, subject, expires_at, origin) VALUES
  ('{SESSION}', sha256('a'), 'session', 'users', 'ann', now() + interval '9 days', 'login'),
  ('{OTHER}', sha256('b'), 'session', 'users', 'ann', now() + interval '9 days', 'login')"""
_LEDGER = """
CREATE TABLE public.tokens (id int PRIMARY KEY, jwt text);
CREATE TABLE public.denylist (id int PRIMARY KEY, jti text, exp timestamptz);
CREATE TABLE public.users (id int PRIMARY KEY, valid_after timestamptz);
INSERT INTO public.users VALUES (7, now());
INSERT INTO public.denylist VALUES (1, 'j1', now() + interval '1 day')"""
_SIMPLEJWT = """
CREATE TABLE public.token_blacklist_outstandingtoken (id bigint PRIMARY KEY, token text NOT NULL,
  created_at timestamptz, expires_at timestamptz NOT NULL, user_id integer, jti text UNIQUE);
CREATE TABLE public.token_blacklist_blacklistedtoken (id bigint PRIMARY KEY,
  blacklisted_at timestamptz NOT NULL, token_id bigint NOT NULL UNIQUE)"""
_RUNS = "UPDATE migrator.jobs SET state = 'running', updated_at = now() WHERE name = %s"
_DIFFERENCE = """
INSERT INTO migrator.differences (hour, direction, issuer, client, route, verdict, count, last_at)
VALUES (date_trunc('hour', now()), 'deny_allow', 'a1', 'web', '/me', 'admitted', 3, now())"""
WEEK = ("--reason", "CHG-1", "--for", "7d")


class Story:
    """One deployment, and which commands were asked of it."""

    def __init__(self, place: Deployment) -> None:
        self.place = place
        self.told: set[tuple[str, ...]] = set()
        self.schemas: set[str] = set()

    def ask(self, *args: str, stdin: str = "") -> dict[str, Any]:
        """Its answer, which tells its own exit code truly and is valid."""
        result = self.place.run(*args, "--json", code=None, stdin=stdin)
        found: dict[str, Any] = json.loads(result.stdout)
        name = found["schema"].removeprefix("migrator.").partition("/")[0]
        assert name != "error", f"{args}: {result.stdout}"
        validate(found, name)
        assert found["exit_code"] == result.exit_code, args
        self.schemas.add(name)
        self.told.add(next(each for each in leaves() if args[: len(each)] == each))
        return found

    def move(self, *args: str) -> dict[str, Any]:
        self.place.beat("n1", "n2")
        return self.ask(*args, "--confirm", "staging", "--wait", "0")


def leaves() -> Iterator[tuple[str, ...]]:
    """Every command that is no group, by the words that call it."""

    def below(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if not isinstance(command, click.Group):
            yield words
            return
        with click.Context(command) as context:
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from below(found, (*words, name))

    yield from below(main, ())


def test_every_command_answers_with_a_published_schema(
    migrated: str, redis_server: CacheServer, tmp_path: Path
) -> None:
    place = Deployment(migrated, tmp_path)
    place.environ["TEST_REDIS"] = redis_server.url
    story = Story(place)
    ask = story.ask
    settings(ask, tmp_path)
    ledgers(story, tmp_path)
    compared(story)
    sessions(story)
    moves(story)
    for words in ("status", "nodes", "log", "sweep"):
        ask(words)
    ask("status", "--detail")
    ask("playbook", "list")
    ask("playbook", "show", "30-cutover")
    assert set(leaves()) - APART == story.told
    apart = {"error", "demo", "demo-kept"}
    published = {path.name.removesuffix("-1.json") for path in SCHEMAS.glob("*.json")}
    assert published - apart == story.schemas


def settings(ask: Any, directory: Path) -> None:
    out = str(directory / "new.toml")
    ask("init", "--dry-run", "--environment", "dev", "--app", "new", "--output", out,
        "--database-url-env", "TEST_DATABASE_URL", "--no-redis", "--issuer-name", "main",
        "--algorithm", "HS256", "--key-env", "TEST_JWT_SECRET")  # fmt: skip
    ask("init", "--record")
    ask("doctor")
    ask("inspect", stdin=sign("ann"))
    for words in ("check", "current", "sql", "upgrade"):
        ask("db", words)


def ledgers(story: Story, directory: Path) -> None:
    ask, place = story.ask, story.place
    place.execute(_LEDGER)
    place.execute(_SIMPLEJWT)
    token = sign_refresh("ann")
    place.execute("INSERT INTO public.tokens VALUES (1, %s)", token)
    table = ("table", "--issuer", "a1", "--from", "tokens", "--columns", "token=jwt")
    ask("backfill", *table)
    ask("backfill", "verify", *table, "--all")
    ask("backfill", "simplejwt", "--issuer", "a1")
    (directory / "tokens.csv").write_text(f"token\n{token}\n")
    (directory / "tokens.jsonl").write_text(json.dumps({"token": token}) + "\n")
    for kind in ("csv", "jsonl"):
        ask("backfill", kind, "--issuer", "a1", "--file", str(directory / f"tokens.{kind}"))
    denied = ("--from", "denylist", "--columns", "jti=jti,until=exp")
    ask("backfill", "denylist", "--issuer", "a1", *denied)
    url = ("--redis-url", "env:TEST_REDIS")
    ask("backfill", "redis", "--issuer", "a1", *url, "--pattern", "blocklist:*")
    since = ("--from", "users", "--columns", "subject=id,not_before=valid_after")
    ask("backfill", "not-before", *since)
    ask("backfill", "ledgers")
    ask("backfill", "coverage")
    job = ask("backfill", "list")["backfills"][0]["job"]
    place.execute(_RUNS, job)
    ask("backfill", "tune", job, "--batch", "500")
    ask("backfill", "pause", job, "--dry-run")


def compared(story: Story) -> None:
    story.place.execute(_DIFFERENCE)
    ask = story.ask
    ask("compare", "show")
    ask("compare", "ignore", "add", "deny_allow", "--route", "/me", *WEEK)
    ask("compare", "ignore", "list")
    ask("compare", "ignore", "remove", "1")
    story.place.execute("DELETE FROM migrator.differences")


def sessions(story: Story) -> None:
    story.place.execute(_SESSIONS)
    ask = story.ask
    ask("sessions", "list", "ann")
    ask("sessions", "show", SESSION)
    ask("sessions", "expire", SESSION, "--at", "2031-01-01T00:00:00Z")
    ask("sessions", "regenerate", SESSION)
    ask("sessions", "revoke", OTHER)
    ask("revoke-subject", "ann", "--confirm", "staging")
    number = str(ask("cutoff", "add", "--subject", "bob")["cutoff"]["id"])
    ask("cutoff", "list")
    ask("cutoff", "remove", number)


def moves(story: Story) -> None:
    ask, move, place = story.ask, story.move, story.place
    story.place.beat("n1", "n2")
    ask("gates", "swap")
    ask("plan", "advance", "swap", "--percent", "100")
    plan = ask("plan", "list")["plans"][0]["id"]
    ask("plan", "show", plan)
    move("advance", "swap", "--percent", "100")
    story.place.beat("n1", "n2")
    ask("plan", "advance", "drain")
    ask("plan", "rollback")
    move("advance", "drain")
    ask("hold", "add", *WEEK)
    ask("hold", "list")
    ask("hold", "release", "1")
    ask("override", "add", "legacy-seen", *WEEK, "--confirm", "staging")
    ask("override", "list")
    ask("override", "revoke", "1")
    brownouts(story)
    place.beat("n1", "n2")
    ask("rollback", "--dry-run")
    ask("plan", "cutover", "--all")
    place.execute("DELETE FROM migrator.legacy_tokens")
    place.put("drain")
    move("cutover", "--all")
    story.place.put("cutover")
    story.place.beat("n1", "n2")
    ask("plan", "retire")
    move("retire", "--dry-run")


def brownouts(story: Story) -> None:
    ask, wait = story.ask, ("--wait", "0")
    when = ("--from", "now", "--for", "1h", "--percent", "10", "--confirm", "staging", *wait)
    later = ("--from", "2031-01-01T00:00:00Z", "--for", "1h", "--percent", "10", *wait)
    story.place.beat("n1", "n2")
    ask("brownout", "schedule", *when)
    ask("brownout", "list")
    ask("brownout", "report", "1")
    ask("brownout", "abort", "1", *wait)
    ask("brownout", "schedule", *later, "--confirm", "staging")
    ask("brownout", "pause", "2", *wait)
    ask("brownout", "resume", "2", *wait)
    ask("brownout", "cancel", "2", *wait)


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.stem)
def test_every_schema_is_one_and_says_which(path: Path) -> None:
    schema = json.loads(path.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == "migrator." + path.stem.removesuffix("-1") + "/1"
    assert schema["additionalProperties"] in {True, False}, "say whether further keys are allowed"
