"""Acceptance: `--dry-run` of every command leaves a dump of the database as it was.

The walk over the command line makes it complete: a command without a row in `CASES` fails. Each is
rehearsed where it would really do something; the rows say so by the exit code they expect. Redis
and the directory are held to the same.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from tests.cli.deployment import Deployment
from tests.cli.test_json_outputs import OTHER, SESSION, leaves
from tests.conftest import CacheServer, DatabaseServer
from tests.rig import sign, sign_refresh

CONFIRM = ("--confirm", "staging")
WHY = ("--reason", "CHG-1", "--for", "2h")
LATER = ("--from", "2031-01-01T00:00:00Z")
TABLE = ("--issuer", "a1", "--from", "public.tokens", "--columns", "token=jwt")
DENIED = ("--issuer", "a1", "--from", "public.denylist", "--columns", "jti=jti,until=exp")
USERS = ("--from", "public.users", "--columns", "subject=id,not_before=after")


@dataclass(frozen=True)
class Case:
    """A rehearsal: its words after the command, where the rollout stands, how it ends."""

    args: tuple[str, ...] = ()
    at: str = "drain"
    code: int = 0
    stdin: str = ""


def _of(*args: str, at: str = "drain", code: int = 0, stdin: str = "") -> Case:
    return Case(args, at, code, stdin)


# {name} stands for what `world` made.
CASES: dict[str, tuple[Case, ...]] = {
    "init": (
        _of(
            *("--environment", "dev", "--app", "new", "--output", "{directory}/new.toml"),
            *("--database-url-env", "TEST_DATABASE_URL", "--no-redis", "--issuer-name", "main"),
            *("--algorithm", "HS256", "--key-env", "TEST_JWT_SECRET"),
        ),
        _of("--record"),
    ),
    "doctor": (_of(), _of("--deploy", code=5)),
    "inspect": (_of(stdin=sign("ann", claims={"token_type": "access"})),),
    "db check": (_of(),),
    "db current": (_of(),),
    "db sql": (_of(), _of("--grants", "postgres")),
    "db upgrade": (_of(), _of(at="empty")),
    "serve": (_of(),),
    "demo": (_of(), _of("--keep")),
    "status": (_of(), _of("--line"), _of("--detail"), _of(at="observe"), _of(at="cutover")),
    "nodes": (_of(),),
    "gates": tuple(_of(phase, code=3) for phase in ("swap", "cutover", "retire")),
    "compare ignore add": (_of("deny_allow", "--route", "/me", *WHY),),
    "compare ignore list": (_of(),),
    "compare ignore remove": (_of("1"),),
    "compare show": (_of(),),
    "log": (_of(), _of("--export", "jsonl")),
    "playbook list": (_of(),),
    "playbook show": (_of("30-cutover"),),
    "advance swap": (
        _of("--percent", "10", at="observe"),
        _of("--percent", "60", at="swap"),
    ),
    "advance drain": (_of(at="swap100"), _of("--soak", "10m", at="swap100")),
    "cutover": (
        _of("--all", code=3),
        _of("--segment", "client=bot", "--unseen", code=3),
        _of("--all", "--except", "client=bot", "--unseen", code=3),
        _of("--plan", "{plan}", code=3),
        _of("--all", at="quiet"),
    ),
    "rollback": (
        _of(),
        _of("--to", "swap"),
        _of("--drill", at="quiet"),
        _of(at="swap"),
        _of(at="cutover"),
    ),
    "retire": (_of(at="cutover"), _of(at="retired")),
    "brownout abort": (_of("1"),),
    "brownout cancel": (_of("2"),),
    "brownout list": (_of(),),
    "brownout pause": (_of("2"), _of()),
    "brownout report": (_of("1"),),
    "brownout resume": (_of("3"),),
    "brownout schedule": (_of(*LATER, "--for", "1h", "--percent", "10"),),
    "plan advance drain": (_of(at="swap100"),),
    "plan advance swap": (_of("--percent", "10", at="observe"),),
    "plan cutover": (_of("--all"), _of("--segment", "cohort=10")),
    "plan list": (_of(),),
    "plan retire": (_of(at="cutover"),),
    "plan rollback": (_of(),),
    "plan show": (_of("{plan}"), _of("{plan}", "--markdown")),
    "hold add": (_of(*WHY), _of(*LATER, *WHY)),
    "hold list": (_of(),),
    "hold release": (_of("1"),),
    "override add": (_of("foreign-seen", *WHY, *CONFIRM),),
    "override list": (_of(),),
    "override revoke": (_of("1"),),
    "backfill coverage": (_of(),),
    "backfill csv": (
        _of("--issuer", "a1", "--file", "{directory}/tokens.csv", "--rejects", "{directory}/no"),
    ),
    "backfill denylist": (_of(*DENIED),),
    "backfill jsonl": (_of("--issuer", "a1", "--file", "{directory}/tokens.jsonl"),),
    "backfill ledgers": (_of(),),
    "backfill list": (_of(),),
    "backfill not-before": (_of(*USERS),),
    "backfill pause": (_of("{job}", "--wait", "0", at="running"),),
    "backfill redis": (
        _of("--issuer", "a1", "--redis-url", "env:TEST_REDIS", "--pattern", "blocklist:*"),
    ),
    "backfill simplejwt": (_of("--issuer", "a1"),),
    "backfill table": (_of(*TABLE), _of(*TABLE, "--restart")),
    "backfill tune": (_of("{job}", "--batch", "500", at="running"),),
    "backfill verify": (_of("table", *TABLE, "--all"),),
    "sessions expire": (_of(SESSION, "--at", "2031-01-01T00:00:00Z"),),
    "sessions list": (_of("ann"),),
    "sessions regenerate": (_of(SESSION),),
    "sessions revoke": (
        _of(SESSION),
        _of("--stdin", stdin=sign("ann", claims={"token_type": "access"})),
    ),
    "sessions show": (_of(SESSION),),
    "revoke-subject": (_of("ann", *CONFIRM),),
    "cutoff add": (_of("--subject", "ann"), _of("--issuer", "a1", "--kid", "k1")),
    "cutoff list": (_of(),),
    "cutoff remove": (_of("{cutoff}"),),
    "sweep": (_of(),),
}

_TABLES = f"""
CREATE TABLE public.tokens (id int PRIMARY KEY, jwt text);
CREATE TABLE public.denylist (id int PRIMARY KEY, jti text, exp timestamptz);
INSERT INTO public.denylist VALUES (1, 'j1', now() + interval '1 day');
CREATE TABLE public.users (id text PRIMARY KEY, after timestamptz);
INSERT INTO public.users VALUES ('ann', now());
CREATE TABLE public.token_blacklist_outstandingtoken (id bigint PRIMARY KEY, token text NOT NULL,
  created_at timestamptz, expires_at timestamptz NOT NULL, user_id integer, jti text UNIQUE);
CREATE TABLE public.token_blacklist_blacklistedtoken (id bigint PRIMARY KEY,
  blacklisted_at timestamptz NOT NULL, token_id bigint NOT NULL UNIQUE);
INSERT INTO migrator.sessions (id, digest, kind, realm, subject, expires_at, origin) VALUES
  ('{SESSION}', sha256('a'), 'session', 'users', 'ann', now() + interval '9 days', 'login'),
  ('{OTHER}', sha256('b'), 'session', 'users', 'ann', now() - interval '900 days', 'login')"""
# The rehearsals are done within the hour, and nobody has to write that nodes still live.
_NODES_STAY = """
UPDATE migrator.nodes SET lease_until = now() + interval '1 hour',
  seen_at = now() + interval '1 hour'"""


PLACES = (
    *("empty", "observe", "swap", "swap100", "drain", "running", "quiet", "cutover", "retired"),
)


def world(place: Deployment, name: str, directory: Path) -> dict[str, str]:
    """Bring a deployment to a place of the rollout; what the rows of `CASES` may name."""
    made = {"directory": str(directory)}
    if name == "empty":
        return made
    place.beat("n1", "n2")
    phases = {"swap100": "swap", "quiet": "drain", "running": "drain", "retired": "cutover"}
    phase = phases.get(name, name)
    if phase != "observe":
        place.put(phase, percent=50 if name == "swap" else 100)
    place.beat("n1", "n2")
    if name == "retired":
        place.move("retire", "--wait", "0")
        place.beat("n1", "n2")
        place.json("retire")
    if phase != "drain" or name == "quiet":
        return made
    place.execute(_TABLES)
    token = sign_refresh("ann")
    place.execute("INSERT INTO public.tokens VALUES (1, %s)", token)
    place.json("backfill", "table", *TABLE, "--limit-rows", "1")
    made["job"] = place.value("SELECT name FROM migrator.jobs LIMIT 1")
    if name == "running":
        place.execute(
            "UPDATE migrator.jobs SET state = 'running', updated_at = now() + interval '1 hour'"
        )
        return made
    (directory / "tokens.csv").write_text(f"token\n{token}\n")
    (directory / "tokens.jsonl").write_text(json.dumps({"token": token}) + "\n")
    place.sight("robot-7", "bot")
    wait = ("--wait", "0")
    now = ("--from", "now", "--for", "1h", "--percent", "10", *wait, *CONFIRM)
    later, last = (("--from", f"{year}-01-01T00:00:00Z", *now[2:]) for year in (2032, 2033))
    for window in (now, later, last):
        place.beat("n1", "n2")
        place.json("brownout", "schedule", *window)
    place.json("brownout", "pause", "3", *wait)
    place.json("compare", "ignore", "add", "deny_allow", "--route", "/me", *WHY)
    place.json("hold", "add", "--reason", "later", *LATER, "--for", "2h")
    place.json("override", "add", "legacy-seen", *WHY, *CONFIRM)
    made["cutoff"] = str(place.json("cutoff", "add", "--subject", "eve")["cutoff"]["id"])
    made["plan"] = place.json("plan", "cutover", "--all")["plan"]["id"]
    return made


def dump(server: DatabaseServer, url: str) -> str:
    done = subprocess.run(
        [str(server.bin("pg_dump")), "--inserts", url.replace("+psycopg", "")],
        capture_output=True,
        text=True,
        check=True,
    )
    # The token of the two guard lines is drawn anew for each dump.
    return "\n".join(sorted(one for one in done.stdout.splitlines() if "restrict " not in one))


def test_every_command_has_its_rehearsal() -> None:
    assert {" ".join(words) for words in leaves()} == set(CASES)


@pytest.mark.parametrize("where", PLACES)
def test_p8_a_rehearsal_leaves_everything_as_it_was(
    where: str,
    postgres: DatabaseServer,
    migrated_template: str,
    redis_server: CacheServer,
    tmp_path: Path,
) -> None:
    template = () if where == "empty" else (migrated_template,)
    redis_server.flush()
    with redis.Redis.from_url(redis_server.url) as client:
        client.set("blocklist:j9", "1", ex=3600)
    place = Deployment(postgres.create_database("rehearsed", *template), tmp_path)
    place.environ["TEST_REDIS"] = redis_server.url
    try:
        made = world(place, where, tmp_path)
        if where != "empty":
            place.execute(_NODES_STAY)
        before = dump(postgres, place.url)
        files, keys = contents(tmp_path), stored(redis_server)
        for command, case in those(where):
            at = transactions(place)
            words = [each.format(**made) for each in case.args]
            place.run(*command.split(), *words, "--dry-run", code=case.code, stdin=case.stdin)
            # Where nothing wrote anywhere on the server there is nothing to compare yet.
            if transactions(place) != at:
                changed = {*dump(postgres, place.url).splitlines()} ^ {*before.splitlines()}
                assert not changed, f"{command} {words} wrote: {sorted(changed)}"
            assert contents(tmp_path) == files, f"{command} {words} wrote a file"
        assert dump(postgres, place.url) == before
        assert stored(redis_server) == keys
    finally:
        postgres.drop_database("rehearsed")


def those(where: str) -> list[tuple[str, Case]]:
    """The rehearsals at one place of the rollout."""
    return [
        (command, case) for command, cases in CASES.items() for case in cases if case.at == where
    ]


def transactions(place: Deployment) -> int:
    """Moves on with every transaction of the server that writes anything."""
    xmax: int = place.value("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    return xmax


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def stored(server: CacheServer) -> dict[bytes, bytes]:
    with redis.Redis.from_url(server.url) as client:
        return {key: client.dump(key) or b"" for key in client.scan_iter()}
