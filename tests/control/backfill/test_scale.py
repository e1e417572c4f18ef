"""Acceptance of backfill at scale: killed five times, and exactly what it should be at the end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from migrator import wiring
from migrator.cli.demo.servers import Postgres
from migrator.control import schema
from migrator.control.backfill.pacing import Limits
from migrator.core.errors import Refused
from migrator.core.verdicts import Reason
from migrator.stores.drivers import conninfo
from tests.bench.backfilling import measure
from tests.control.backfill import bulk
from tests.control.backfill.ledgers import (
    SECRET,
    SWAP_KEY,
    Ledger,
    backfill,
    counts,
    settings,
)

CONFIG = """
environment = "test"
[database]
url = "env:DB"
[redis]
url = "env:CACHE"
[swap]
keys = [{ id = "k1", secret = "env:SWAP" }]
[[issuers]]
id = "a1"
name = "main"
preset = "simplejwt"
keys = ["env:JWT_SECRET"]
refresh_lifetime = "30d"
"""
# Between a page's rows and its checkpoint, so that a kill meets it there too.
HESITANT = """
CREATE FUNCTION hesitate() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(0.01); RETURN NULL; END $$;
CREATE TRIGGER hesitate BEFORE UPDATE ON migrator.job_ranges
FOR EACH STATEMENT EXECUTE FUNCTION hesitate();
"""
SUMS = """
SELECT (SELECT done FROM migrator.jobs),
  (SELECT sum((tally -> 'counts' ->> 'read')::int) FROM migrator.job_ranges),
  (SELECT sum((tally -> 'counts' ->> 'seeded')::int) FROM migrator.job_ranges),
  (SELECT count(*) FROM migrator.legacy_tokens), (SELECT count(*) FROM migrator.sessions),
  (SELECT sum((tally -> 'counts' ->> 'denied')::int) FROM migrator.job_ranges) * 2,
  (SELECT count(*) FROM migrator.denials)"""
THERE = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE application_name = 'migrator' AND datname = current_database()"
)


class Killed:
    """A backfill by the command line that is killed and run again."""

    def __init__(self, url: str, cache: str, directory: Path, seed: int) -> None:
        self.ledger = Ledger(url)
        self.config = directory / "migrator.toml"
        self.config.write_text(CONFIG)
        self.rejects = directory / "rejects.jsonl"
        self.random = random.Random(seed)
        self.environ = {
            **os.environ,
            "DB": url,
            "CACHE": cache,
            "SWAP": SWAP_KEY,
            "JWT_SECRET": SECRET,
            "MIGRATOR_OPERATOR": "dana",
        }
        self.said = ""

    def start(self, *options: str) -> subprocess.Popen[str]:
        program = str(Path(sys.executable).parent / "migrator")
        command = [program, "--config", str(self.config), "backfill", "simplejwt", "--json"]
        return subprocess.Popen(
            [*command, "--issuer", "a1", "--rejects", str(self.rejects), *options],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill_at(self, rows: int, *options: str) -> None:
        """Kill it somewhere behind so many rows, within a page or between two."""
        running = self.start(*options)
        with psycopg.connect(**conninfo(self.ledger.url), autocommit=True) as connection:
            until = time.monotonic() + 60
            while self._done(connection) < rows:
                assert running.poll() is None, running.communicate()
                assert time.monotonic() < until
                time.sleep(0.005)
            time.sleep(self.random.uniform(0, 0.05))
            running.send_signal(signal.SIGKILL)
            self.said += "".join(running.communicate())
            while connection.execute(THERE).fetchone() != (0,):
                assert time.monotonic() < until
                time.sleep(0.01)

    def _done(self, connection: psycopg.Connection[Any]) -> int:
        row = connection.execute("SELECT done FROM migrator.jobs").fetchone()
        return row[0] if row else 0

    def finish(self, *options: str) -> dict[str, Any]:
        done = self.start(*options)
        out, err = done.communicate(timeout=1800)
        assert done.returncode == 0, err
        self.said += out + err
        found: dict[str, Any] = json.loads(out)
        return found


def five_kills(
    server: Postgres, cache: str, directory: Path, rows: int, workers: int, seed: int
) -> tuple[str, bulk.Bulk]:
    """The acceptance; the name of the database with the ledger alone, and what that has."""
    name = f"ledger{workers}"
    template = server.create_database(name)
    schema.upgrade(template)
    held = bulk.fill(template, rows)
    url = server.create_database(f"killed{workers}", name)
    run = Killed(url, cache, directory, seed)
    run.ledger.execute(HESITANT)
    options = ("--workers", str(workers), "--batch", str(max(200, rows // 100)))
    at = 0
    for _ in range(5):
        at += run.random.randint(rows // 20, rows // 7)
        run.kill_at(at, *options)
        done, read, seeded, tokens, sessions, denied, denials = run.ledger.execute(SUMS)[0]
        # Whatever the moment: what is counted is what is there, of each range and of all.
        assert (done, seeded, seeded, denied) == (read, tokens, sessions, denials)
        assert at <= done < rows
    report = run.finish("--workers", str(workers))

    assert report["resumed"]
    assert report["here"] < rows
    told = [report[name] for name in ("read", "seeded", "denied", "expired", "rejected")]
    assert told == [rows, held.seeded, held.denied, held.expired, held.broken]
    assert report["already"] == report["revoked_already"] == 0
    count = run.ledger.count
    assert count("legacy_tokens") == count("sessions") == held.seeded
    assert count("legacy_tokens t JOIN migrator.sessions s ON s.id = t.session_id") == held.seeded
    assert count("denials") == 2 * held.denied
    written = {json.loads(line)["row"] for line in run.rejects.read_text().splitlines()}
    assert len(written) == held.broken
    again = backfill(url, limits=Limits(workers=workers))
    assert counts(again)["already"] == held.seeded
    assert counts(again)["revoked_already"] == held.denied
    assert not again.outcome.changed

    _decides_as_it_should(run, held)
    _shows_no_token(run, held, server, cache)
    server.drop_database(f"killed{workers}")
    return name, held


def _decides_as_it_should(run: Killed, held: bulk.Bulk) -> None:
    run.ledger.execute("UPDATE migrator.rollout SET phase = 'drain', drain_since = now()")
    app = wiring.operator(settings(run.ledger.url))
    assert app.exchange(held.living, legacy=pytest.fail).kind == "session"
    with pytest.raises(Refused) as refused:
        app.exchange(held.revoked, legacy=pytest.fail)
    assert refused.value.reason is Reason.DENIED


def _shows_no_token(run: Killed, held: bulk.Bulk, server: Postgres, cache: str) -> None:
    url = run.ledger.url.replace("+psycopg", "")
    dumped = subprocess.run(
        [server.bin("pg_dump"), "--schema=migrator", "--data-only", "--dbname", url],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    logged = (server.directory / "postgres.log").read_text(errors="replace")
    with redis.Redis.from_url(cache) as client:
        cached = repr([(key, client.dump(key)) for key in client.scan_iter()])
    canary = held.living.split(".")[0]  # every token begins with it
    for token in (held.living, held.revoked):
        for part in (canary, *token.split(".")[1:]):
            for place in (dumped, logged, cached, run.said, run.rejects.read_text()):
                assert part not in place


@pytest.mark.parametrize(("rows", "workers"), [(10_000, 1), (50_000, 3)])
def test_p8_killed_five_times_it_ends_with_exactly_what_the_ledger_says(
    own_postgres: Postgres,
    redis_url: str,
    tmp_path: Path,
    rows: int,
    workers: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, _ = five_kills(own_postgres, redis_url, tmp_path, rows, workers, seed=rows)
    figure = measure(own_postgres, name, rows, workers=workers)
    with capsys.disabled():
        print(f"\n{figure}")  # noqa: T201 - acceptance asks for the figure


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("workers", [1, 3])
def test_p8_a_million_rows_killed_five_times_end_as_the_ledger_says(
    own_postgres: Postgres,
    redis_url: str,
    tmp_path: Path,
    workers: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = 1_000_000
    name, _ = five_kills(own_postgres, redis_url, tmp_path, rows, workers, seed=workers)
    figure = measure(own_postgres, name, rows, workers=workers)
    with capsys.disabled():
        print(f"\n{figure}")  # noqa: T201 - acceptance asks for the figure
