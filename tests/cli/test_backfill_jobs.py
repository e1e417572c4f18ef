"""A backfill that runs, seen and steered from another terminal; and what ends it early."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click.testing
import pytest

from migrator.cli import main
from migrator.control.backfill.health import Limits as HealthLimits
from migrator.control.backfill.health import Signs, judge
from migrator.control.backfill.order import Report
from migrator.control.backfill.pacing import Limits
from migrator.control.backfill.window import Window
from tests.cli.deployment import validate
from tests.control.backfill.bulk import fill
from tests.control.backfill.ledgers import SCHEMA, SECRET, SWAP_KEY, Ledger, backfill
from tests.control.backfill.test_runs import CONFIG, SLOW

JOB = "backfill:simplejwt:a1:public.token_blacklist_outstandingtoken"


class Terminal:
    """Another terminal than the one that a backfill runs in."""

    def __init__(self, url: str, config: Path) -> None:
        self.ledger = Ledger(url)
        self.config = config

    def run(self, *args: str, code: int = 0) -> click.testing.Result:
        result = click.testing.CliRunner().invoke(
            main, ["--config", str(self.config), "backfill", *args]
        )
        assert result.exit_code == code, (result.output, result.exception)
        return result

    def json(self, *args: str, code: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(*args, "--json", code=code).stdout)
        validate(found, found["schema"].split(".")[1].split("/")[0])
        return found

    def job(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json("list")["backfills"][0]
        return found

    def comes_true(self, holds: Any) -> dict[str, Any]:
        """The job, once something holds of it."""
        until = time.monotonic() + 30
        while True:
            rows = self.json("list")["backfills"]
            if rows and holds(rows[0]):
                found: dict[str, Any] = rows[0]
                return found
            assert time.monotonic() < until, rows
            time.sleep(0.02)

    @contextmanager
    def running(self, **limits: Any) -> Iterator[list[Report]]:
        """A slow backfill in a thread; its report is there when the block is left."""
        self.ledger.execute(SLOW)
        reports: list[Report] = []
        thread = threading.Thread(
            target=lambda: reports.append(
                backfill(self.ledger.url, limits=Limits(**limits), who="kim")
            )
        )
        thread.start()
        self.comes_true(lambda job: job["state"] == "running" and job["done"] > 0)
        yield reports
        thread.join(60)
        assert reports


@pytest.fixture
def terminal(migrated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    config = tmp_path / "migrator.toml"
    config.write_text(CONFIG)
    for name, value in {"DB": migrated, "SWAP": SWAP_KEY, "JWT_SECRET": SECRET}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MIGRATOR_OPERATOR", "dana")
    return Terminal(migrated, config)


def test_a_run_is_paused_from_another_terminal_and_goes_on_when_it_is_run_again(
    terminal: Terminal,
) -> None:
    fill(terminal.ledger.url, 6000)
    with terminal.running(batch=20) as reports:
        seen = terminal.job()
        assert (seen["state"], seen["who"], seen["batch"]) == ("running", "kim", 20)
        terminal.run("pause", JOB, "--dry-run")
        assert terminal.job()["state"] == "running"
        paused = terminal.json("pause", JOB)
    assert paused["changed"]
    report = reports[0]
    assert (report.outcome.end, report.exit_code) == ("paused", 13)
    assert report.outcome.why == "asked for by dana"
    job = terminal.job()
    assert (job["state"], job["done"]) == ("paused", report.outcome.here)
    assert 0 < job["done"] < 6000
    assert (job["eta"], job["rows_per_second"], job["waiting_on"]) == (None, None, [])
    assert not terminal.json("pause", JOB)["changed"]
    terminal.run("tune", JOB, "--batch", "5", code=3)

    done = terminal.json("simplejwt", "--issuer", "a1")
    assert (done["resumed"], done["read"], done["end"]) == (True, 6000, "done")
    assert terminal.job()["state"] == "done"


def test_a_run_is_tuned_while_it_goes_on(terminal: Terminal) -> None:
    fill(terminal.ledger.url, 12_000)
    with terminal.running(batch=20) as reports:
        assert not terminal.json("tune", JOB, "--batch", "3000", "--dry-run")["changed"]
        tuned = terminal.json("tune", JOB, "--batch", "2000", "--workers", "2", "--sleep", "1")
        assert tuned["changed"]
        assert not terminal.json("tune", JOB, "--batch", "2000")["changed"]
    outcome = reports[0].outcome
    assert (outcome.end, outcome.workers) == ("done", 2)
    # At the pace it began with it would have waited 0.03 s for each of 600 pages.
    assert outcome.seconds < 15
    assert outcome.tally.counts["read"] == 12_000


def test_a_job_whose_process_is_gone_is_said_to_be_stalled_and_can_be_paused(
    terminal: Terminal,
) -> None:
    fill(terminal.ledger.url, 100)
    backfill(terminal.ledger.url, limits=Limits(rows=40))
    terminal.ledger.execute(
        "UPDATE migrator.jobs SET state = 'running', updated_at = now() - interval '1 minute',"
        " detail = detail || '{\"pid\": 4194303}'"
    )
    assert terminal.job()["state"] == "stalled"
    assert "run its command again" in terminal.run("list").stdout
    assert terminal.json("pause", JOB)["backfills"][0]["state"] == "paused"
    assert terminal.json("simplejwt", "--issuer", "a1")["read"] == 100


def test_a_pause_that_nobody_answers_is_withdrawn(terminal: Terminal) -> None:
    fill(terminal.ledger.url, 100)
    backfill(terminal.ledger.url, limits=Limits(rows=40))
    ((pid,),) = terminal.ledger.execute("SELECT pid FROM pg_stat_activity WHERE pid > 0 LIMIT 1")
    terminal.ledger.execute(
        "UPDATE migrator.jobs SET state = 'running', detail = detail"
        " || jsonb_build_object('pid', %s::int)",
        pid,
    )
    result = terminal.run("pause", JOB, "--wait", "0.2", code=6)
    assert "backfill.not_paused" in result.stderr
    assert terminal.ledger.execute("SELECT detail ? 'asked' FROM migrator.jobs") == [(False,)]
    terminal.run("pause", "backfill:nothing", code=2)
    terminal.run("tune", JOB, code=2)


def test_outside_its_window_it_waits_says_so_and_keeps_to_its_time(terminal: Terminal) -> None:
    fill(terminal.ledger.url, 100)
    ((now,),) = terminal.ledger.execute("SELECT clock_timestamp()")
    begin = now.astimezone(UTC) + timedelta(hours=2)
    window = f"{begin:%H:%M}-{begin + timedelta(hours=1):%H:%M}"
    result = terminal.run(
        *("simplejwt", "--issuer", "a1", "--window", window, "--max-seconds", "0.6"), code=13
    )
    assert f"waiting: the window {window} UTC: it opens at" in result.stderr
    assert terminal.job()["state"] == "paused"
    assert terminal.ledger.count("sessions") == 0
    terminal.run("simplejwt", "--issuer", "a1", "--window", "25:00-1:00", code=2)
    terminal.run("simplejwt", "--issuer", "a1", "--window", window, "--tz", "Nowhere", code=2)
    opened = f"{now.astimezone(UTC) - timedelta(hours=1):%H:%M}-{begin:%H:%M}"
    assert terminal.json("simplejwt", "--issuer", "a1", "--window", opened)["read"] == 100


def test_a_database_that_cannot_bear_it_ends_the_run_with_its_checkpoint(
    terminal: Terminal,
) -> None:
    fill(terminal.ledger.url, 100)
    result = terminal.run("simplejwt", "--issuer", "a1", "--max-latency", "0.001", code=13)
    assert "because reading a session takes" in result.stdout
    assert "waiting: reading a session takes" in result.stderr
    assert terminal.job()["state"] == "paused"
    assert terminal.json("simplejwt", "--issuer", "a1")["read"] == 100


def test_workers_share_a_ledger_and_leave_no_row_out_and_none_twice(terminal: Terminal) -> None:
    held = fill(terminal.ledger.url, 23_456)
    done = terminal.json("simplejwt", "--issuer", "a1", "--workers", "4")
    assert (done["read"], done["seeded"], done["denied"]) == (23_456, held.seeded, held.denied)
    assert (done["workers"], terminal.job()["ranges"]) == (4, 5)
    assert terminal.ledger.count("job_ranges", "state = 'done'") == 5
    # Whoever runs it next may have as many as they like.
    assert terminal.json("simplejwt", "--issuer", "a1")["already"] == held.seeded


def test_workers_share_a_ledger_in_another_database(
    terminal: Terminal, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = fill(database, 11_000)
    monkeypatch.setenv("LEDGER", database)
    done = terminal.json(
        *("simplejwt", "--issuer", "a1", "--source-url", "env:LEDGER", "--workers", "2")
    )
    assert (done["read"], done["seeded"], done["denied"]) == (11_000, held.seeded, held.denied)
    assert terminal.ledger.count("sessions") == held.seeded


def test_a_worker_whose_connection_breaks_loses_its_page_and_no_other(terminal: Terminal) -> None:
    fill(terminal.ledger.url, 15_000)
    with terminal.running(batch=50, workers=3) as reports:
        terminal.comes_true(lambda job: job["done"] > 300)
        until = time.monotonic() + 30
        # The first worker has the connection that all depends on.
        while not terminal.ledger.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname ="
            " current_database() AND query LIKE '%WITH clock%' AND state = 'active'"
            " AND application_name = 'migrator' AND pid <> (SELECT (detail ->> 'pid')::int"
            " FROM migrator.jobs) LIMIT 1"
        ):
            assert time.monotonic() < until
        terminal.json("tune", JOB, "--batch", "3000")
    counts = reports[0].outcome.tally.counts
    assert (reports[0].outcome.end, counts["read"], counts["already"]) == ("done", 15_000, 0)
    assert terminal.ledger.count("sessions") == counts["seeded"]


def test_a_ledger_of_two_columns_and_of_none_is_parted_too(terminal: Terminal) -> None:
    terminal.ledger.execute(SCHEMA)
    assert terminal.json("simplejwt", "--issuer", "a1", "--workers", "3")["read"] == 0
    terminal.ledger.execute(
        "CREATE TABLE pairs (a text, b int, jti text, exp timestamptz, sub text, fp text,"
        ' "odd %" text, PRIMARY KEY (a, b))'
    )
    terminal.ledger.execute(
        "INSERT INTO pairs SELECT 'k' || n / 1000, n, 'j' || n, now() + interval '1 day',"
        " 'u' || n, encode(sha256(n::text::bytea), 'hex') FROM generate_series(1, 12000) n"
    )
    columns = "fingerprint=fp,subject=sub,exp=exp,jti=jti"
    done = terminal.json(
        *("table", "--issuer", "a1", "--from", "pairs", "--columns", columns, "--workers", "3")
    )
    assert (done["read"], done["seeded"]) == (12_000, 12_000)
    assert terminal.ledger.count("job_ranges", "job LIKE '%pairs'") == 3


@pytest.mark.parametrize(
    ("signs", "soft", "hard"),
    [
        (Signs(latency_ms=10), 0, 0),
        (Signs(latency_ms=60), 1, 0),
        (Signs(latency_ms=101), 0, 1),
        (Signs(latency_ms=1, lag_s=6), 1, 0),
        (Signs(latency_ms=1, lag_s=11), 0, 1),
        (Signs(latency_ms=1, waiting=2), 1, 0),
        (Signs(latency_ms=1, connections=0.9), 1, 0),
        (Signs(latency_ms=1, connections=0.97), 0, 1),
    ],
    ids=["well", "slow", "too-slow", "lag", "too-much-lag", "locks", "full", "too-full"],
)
def test_from_half_of_a_limit_it_goes_slower_and_over_it_not_at_all(
    signs: Signs, soft: int, hard: int
) -> None:
    found = judge(signs, HealthLimits(latency_ms=100, lag_s=10))
    assert (len(found.soft), len(found.hard)) == (soft, hard)


def test_a_window_may_span_midnight_and_is_of_its_own_zone() -> None:
    night = Window.parse("22:00-06:00", "Europe/Berlin")
    berlin = ZoneInfo("Europe/Berlin")

    def at(hour: int, minute: int = 0) -> datetime:
        return datetime.combine(datetime(2026, 3, 29, tzinfo=UTC), clock(hour, minute), berlin)

    assert [night.is_open(at(hour)) for hour in (21, 22, 23, 0, 5, 6, 12)] == [
        *(False, True, True, True, True, False, False)
    ]
    assert night.is_open(datetime(2026, 11, 23, 21, 30, tzinfo=UTC))
    assert night.next_open(at(12)) == at(22)
    assert night.next_open(at(23)) == at(22) + timedelta(days=1)
    assert str(night) == "22:00-06:00 Europe/Berlin"
