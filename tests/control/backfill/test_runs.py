"""Stopping a backfill: by SIGKILL, Ctrl-C, a limit, another operator; and going on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from migrator.control.backfill.order import Order, fulfil
from migrator.control.backfill.runner import Limits, Progress, next_size
from migrator.core.errors import Stopped
from migrator.stores.drivers import conninfo
from tests.control.backfill.bulk import fill
from tests.control.backfill.ledgers import (
    SECRET,
    SWAP_KEY,
    Ledger,
    backfill,
    counts,
    refresh,
    settings,
)

CONFIG = """
environment = "test"
[database]
url = "env:DB"
[swap]
keys = [{ id = "k1", secret = "env:SWAP" }]
[[issuers]]
id = "a1"
name = "main"
preset = "simplejwt"
keys = ["env:JWT_SECRET"]
refresh_lifetime = "30d"
"""
# Slow enough to be met mid-way: every page sleeps a little in the database.
SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(0.03); RETURN NULL; END $$;
CREATE TRIGGER slow AFTER INSERT ON migrator.legacy_tokens
FOR EACH STATEMENT EXECUTE FUNCTION slow();
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "migrator.toml"
    path.write_text(CONFIG)
    return path


def start(ledger: Ledger, config: Path, *options: str) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).parent / "migrator"), "--config", str(config), "backfill"]
    return subprocess.Popen(
        [*command, "simplejwt", "--issuer", "a1", "--json", *options],
        env={
            **os.environ,
            "DB": ledger.url,
            "SWAP": SWAP_KEY,
            "JWT_SECRET": SECRET,
            "MIGRATOR_OPERATOR": "dana",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(ledger: Ledger, rows: int) -> None:
    until = time.monotonic() + 30
    while ledger.count("legacy_tokens") < rows:
        assert time.monotonic() < until
        time.sleep(0.01)


def job(ledger: Ledger) -> dict[str, Any]:
    ((state, done, total, rejected, detail),) = ledger.execute(
        "SELECT state, done, total, rejected, detail FROM migrator.jobs"
    )
    return {"state": state, "done": done, "total": total, "rejected": rejected, **detail}


def test_ctrl_c_keeps_what_is_done_and_says_so(ledger: Ledger, config: Path) -> None:
    ledger.fill(2000)
    ledger.execute(SLOW)
    running = start(ledger, config, "--batch", "20")
    wait_for(ledger, 100)
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=30)
    report = json.loads(out)
    assert (running.returncode, report["exit_code"], report["end"]) == (130, 130, "interrupted")
    kept = ledger.count("legacy_tokens")
    assert 100 <= kept == report["seeded"] < 2000
    row = job(ledger)
    assert (row["state"], row["done"]) == ("paused", kept)
    assert counts(backfill(ledger.url)) == {"read": 2000, "seeded": 2000}


def test_a_second_ctrl_c_undoes_the_page_that_is_under_way(ledger: Ledger, config: Path) -> None:
    ledger.fill(200)
    ledger.add(refresh("dead"), revoked=True)
    with psycopg.connect(**conninfo(ledger.url)) as blocker:
        # The one page waits for this lock, and would for ever.
        blocker.execute("LOCK TABLE migrator.denials IN EXCLUSIVE MODE")
        running = start(ledger, config)
        until = time.monotonic() + 30
        while not ledger.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            assert time.monotonic() < until
            time.sleep(0.01)
        for _ in range(2):
            running.send_signal(signal.SIGINT)
            seen = ledger.execute("SELECT updated_at FROM migrator.jobs")
            while running.poll() is None and seen == ledger.execute(
                "SELECT updated_at FROM migrator.jobs"
            ):
                assert time.monotonic() < until
                time.sleep(0.01)
        out, err = running.communicate(timeout=30)
    assert running.returncode == 130, err
    assert json.loads(out)["seeded"] == ledger.count("legacy_tokens") == 0
    assert job(ledger)["state"] == "paused"
    assert counts(backfill(ledger.url)) == {"read": 201, "seeded": 200, "denied": 1}


def test_workers_share_a_limit_of_rows(ledger: Ledger) -> None:
    fill(ledger.url, 20_000, tables=False)
    first = backfill(ledger.url, limits=Limits(rows=7777, workers=3, batch=500))
    # At the end of a range a worker gives rows back that another may have waited for in vain.
    assert 6777 < first.outcome.here <= 7777
    assert (first.exit_code, job(ledger)["done"]) == (13, first.outcome.here)
    assert counts(backfill(ledger.url, limits=Limits(workers=2)))["read"] == 20_000


def test_a_limit_of_rows_or_time_leaves_a_checkpoint(ledger: Ledger) -> None:
    ledger.fill(100)
    first = backfill(ledger.url, limits=Limits(rows=30))
    assert (first.exit_code, first.outcome.here, job(ledger)["state"]) == (13, 30, "paused")
    ledger.execute(SLOW)
    second = backfill(ledger.url, limits=Limits(seconds=0.01, batch=20))
    assert (second.exit_code, second.outcome.here, second.outcome.resumed) == (13, 20, True)
    third = backfill(ledger.url, limits=Limits(rows=50))
    assert (third.exit_code, third.outcome.here) == (0, 50)
    assert counts(third) == {"read": 100, "seeded": 100}


def test_an_unfinished_run_is_not_gone_on_with_otherwise(ledger: Ledger) -> None:
    ledger.execute("CREATE TABLE tokens (id int PRIMARY KEY, a text, b text)")
    for at in range(4):
        ledger.execute("INSERT INTO tokens VALUES (%s, %s, '')", at, refresh(str(at)))
    backfill(ledger.url, "table", place="tokens", columns="token=a", limits=Limits(rows=2))
    before = ledger.execute("SELECT * FROM migrator.jobs")
    with pytest.raises(Stopped) as stopped:
        backfill(ledger.url, "table", place="tokens", columns="token=b")
    assert (stopped.value.problem.id, stopped.value.exit_code) == ("backfill.changed", 3)
    assert "columns" in stopped.value.problem.what
    assert ledger.execute("SELECT * FROM migrator.jobs") == before
    again = backfill(ledger.url, "table", place="tokens", columns="token=a", restart=True)
    assert counts(again) == {"read": 4, "seeded": 2, "already": 2}


def test_a_second_operator_is_told_who_is_at_it(ledger: Ledger, config: Path) -> None:
    ledger.fill(2000)
    ledger.execute(SLOW)
    running = start(ledger, config, "--batch", "20")
    wait_for(ledger, 40)
    with pytest.raises(Stopped) as stopped:
        backfill(ledger.url, who="erin")
    assert stopped.value.exit_code == 8
    assert "dana" in stopped.value.problem.what
    assert running.poll() is None
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)


def test_a_run_that_was_taken_over_commits_nothing_more(ledger: Ledger) -> None:
    ledger.fill(60)

    def steal(progress: Progress) -> None:
        if progress.done == 20:
            ledger.execute(
                'UPDATE migrator.jobs SET detail = detail || \'{"run": "x", "who": "erin"}\''
            )

    order = Order(kind="simplejwt", issuer="a1", who="dana", limits=Limits(batch=10))
    with pytest.raises(Stopped) as stopped:
        fulfil(settings(ledger.url), order, steal)
    assert (stopped.value.problem.id, stopped.value.exit_code) == ("backfill.taken", 8)
    assert "erin" in stopped.value.problem.what
    assert ledger.count("legacy_tokens") == 20


def test_a_database_that_goes_away_fails_the_run_and_the_next_goes_on(ledger: Ledger) -> None:
    ledger.fill(60)

    def cut(progress: Progress) -> None:
        if progress.done == 20:
            ledger.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'migrator' AND datname = current_database()"
            )

    order = Order(kind="simplejwt", issuer="a1", limits=Limits(batch=10))
    with pytest.raises(Stopped) as stopped:
        fulfil(settings(ledger.url), order, cut)
    assert stopped.value.exit_code == 11
    assert ledger.count("legacy_tokens") == 20
    assert counts(backfill(ledger.url)) == {"read": 60, "seeded": 60}


def test_a_deadlock_or_a_lock_is_tried_again(ledger: Ledger) -> None:
    ledger.fill(10)
    ledger.execute(
        """
        CREATE SEQUENCE tries;
        CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF nextval('tries') < 3 THEN RAISE EXCEPTION 'once more' USING ERRCODE = '40P01'; END IF;
          RETURN NULL; END $$;
        CREATE TRIGGER stumble AFTER INSERT ON migrator.legacy_tokens
        FOR EACH STATEMENT EXECUTE FUNCTION stumble();
        """
    )
    assert counts(backfill(ledger.url)) == {"read": 10, "seeded": 10}


def test_an_exchange_waits_for_the_page_that_holds_its_token(ledger: Ledger) -> None:
    from migrator import wiring  # noqa: PLC0415

    ledger.execute("UPDATE migrator.rollout SET phase = 'drain', drain_since = now()")
    ledger.execute(SLOW)
    token = refresh("7")
    ledger.add(token)
    app = wiring.operator(settings(ledger.url))
    issued: list[Any] = []
    with psycopg.connect(**conninfo(ledger.url)) as blocker:
        # Hold the page open: its feed of denials waits for this lock.
        ledger.add(refresh("8"), revoked=True)
        blocker.execute("LOCK TABLE migrator.denials IN EXCLUSIVE MODE")
        run = threading.Thread(target=lambda: backfill(ledger.url))
        run.start()
        time.sleep(0.3)
        use = threading.Thread(
            target=lambda: issued.append(app.exchange(token, legacy=pytest.fail))
        )
        use.start()
        time.sleep(0.1)
        blocker.commit()
        use.join(20)
        run.join(20)
    assert issued[0].kind == "session"
    assert ledger.count("sessions") == ledger.count("legacy_tokens") == 1


def test_pages_follow_how_long_the_last_one_took() -> None:
    assert next_size(1000, 0.05) == 2000
    assert next_size(1000, 0.25) == 1000
    assert next_size(1000, 0.5) == 500
    assert next_size(1000, 10.0) == 500
    assert next_size(100, 10.0) == 100
    assert next_size(20_000, 0.0) == 20_000


def test_rejects_that_cannot_be_written_stop_the_run_before_it_begins(
    ledger: Ledger, tmp_path: Path
) -> None:
    ledger.fill(3)
    with pytest.raises(Stopped) as stopped:
        backfill(ledger.url, rejects=tmp_path / "nowhere" / "rejects.jsonl")
    assert stopped.value.problem.id == "backfill.no_rejects"
    assert ledger.count("legacy_tokens") == 0
    assert counts(backfill(ledger.url)) == {"read": 3, "seeded": 3}
