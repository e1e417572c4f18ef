"""`backfill verify`, `redis` and `denylist` through the command line, and the gate they feed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis

from tests.cli.deployment import Deployment
from tests.control.backfill.ledgers import Ledger, refresh
from tests.rig import SECRET


@pytest.fixture
def deployment(migrated: str, tmp_path: Path) -> Deployment:
    made = Deployment(migrated, tmp_path, lifetimes='lifetime = "1h"\nrefresh_lifetime = "30d"')
    text = made.config.read_text().replace("[gates]", '[gates]\nbackfill_within = "24h"')
    made.config.write_text(
        text.replace(
            "[issuers.purpose]", '[issuers.claims]\nsubject = "user_id"\n[issuers.purpose]'
        )
    )
    return made


@pytest.fixture
def ledger(deployment: Deployment) -> Ledger:
    ledger = Ledger(deployment.url).create()
    before = int(time.time()) - 3600
    for user in range(30):
        ledger.add(refresh(str(user), secret=SECRET, iat=before), revoked=user == 0)
    return ledger


VERIFY = ("backfill", "verify", "simplejwt", "--issuer", "a1", "--seed", "7")


def gate(deployment: Deployment) -> tuple[str, str]:
    gates = deployment.json_any("gates", "drain")["gates"]
    (found,) = [one for one in gates if one["id"] == "backfill-verified"]
    assert found["overridable"]
    assert found["command"].startswith("migrator backfill verify")
    return found["result"], found["detail"]


def test_a_verification_is_a_screen_an_exit_code_and_a_line_of_status(
    deployment: Deployment, ledger: Ledger
) -> None:
    deployment.run("backfill", "simplejwt", "--issuer", "a1")
    assert deployment.run(*VERIFY).stdout.splitlines() == [
        "verify simplejwt of issuer a1 from public.token_blacklist_outstandingtoken",
        "30 of 30 rows compared, drawn by --seed 7",
        "          29  as the ledger says",
        "           1  revoked by the ledger, denied here",
        "          29  sessions of ours were looked up in the ledger",
        "no differences",
    ]
    (job,) = deployment.json("status")["backfill"]
    assert (job["verified"]["rows"], job["verified"]["differences"]) == (30, 0)
    assert "s ago, 0 differences" in deployment.run("status").stdout

    ledger.execute("UPDATE migrator.legacy_tokens SET subject = 'x' WHERE subject = '4'")
    said = deployment.run(*VERIFY, code=10).stdout
    assert "✗          1  our row says another subject" in said
    assert "  5: our row says another subject" in said
    found = deployment.json(*VERIFY, "--all", code=10)
    assert found["named"] == [
        {"row": "5", "finding": "wrong_subject", "words": "our row says another subject"}
    ]
    assert (found["all"], found["seed"], found["changed"]) == (True, None, False)
    (job,) = deployment.json("status")["backfill"]
    assert job["verified"]["differences"] == 1


def test_the_gate_goes_from_never_to_verified_to_stale_and_fails_on_a_difference(
    deployment: Deployment, ledger: Ledger
) -> None:
    assert gate(deployment) == ("inconclusive", "no ledger was backfilled")
    deployment.run("backfill", "simplejwt", "--issuer", "a1", "--limit-rows", "10", code=13)
    assert gate(deployment) == ("inconclusive", "the backfill of simplejwt is paused")
    deployment.run(*VERIFY, code=3)
    deployment.run("backfill", "simplejwt", "--issuer", "a1")
    assert gate(deployment)[0] == "inconclusive"
    deployment.run(*VERIFY, "--sample", "5")
    assert gate(deployment) == ("inconclusive", "5 rows of simplejwt are too few to tell")
    deployment.run(*VERIFY)
    result, detail = gate(deployment)
    assert (result, detail[:30]) == ("pass", "30 rows of simplejwt verified ")
    aged = "updated_at = updated_at - interval '25 h', detail = jsonb_set(detail, '{verified,at}'"
    ledger.execute(f"UPDATE migrator.jobs SET {aged}, to_jsonb(now() - interval '24 h 30 min'))")
    assert gate(deployment) == ("stale", "simplejwt was verified 1 d ago, max 1 d")
    ledger.revoke(3)
    deployment.run(*VERIFY, code=10)
    assert gate(deployment)[0] == "fail"
    deployment.run("backfill", "simplejwt", "--issuer", "a1")
    assert gate(deployment)[0] == "inconclusive"


def test_without_its_setting_the_gate_is_absent(deployment: Deployment, ledger: Ledger) -> None:
    deployment.config.write_text(
        deployment.config.read_text().replace('backfill_within = "24h"', "")
    )
    gates = deployment.json_any("gates", "drain")["gates"]
    assert "backfill-verified" not in {one["id"] for one in gates}


def test_blocklists_are_backfilled_and_verified_by_the_same_options(
    deployment: Deployment, redis_url: str
) -> None:
    deployment.environ["THEIRS"] = redis_url
    url = ("--redis-url", "env:THEIRS", "--issuer", "a1")
    with redis.Redis.from_url(redis_url) as theirs:
        theirs.set("blocklist:a", "", ex=60)
        theirs.sadd("revoked", "b", "c")
    rehearsed = deployment.json("backfill", "redis", "--set", "revoked", *url, "--dry-run")
    assert (rehearsed["denied"], rehearsed["changed"]) == (2, False)
    found = deployment.json("backfill", "redis", "--set", "revoked", *url)
    assert (found["denied"], found["total"], found["changed"]) == (2, 2, True)
    assert deployment.json("backfill", "redis", "--pattern", "blocklist:*", *url)["denied"] == 1
    verified = deployment.json("backfill", "verify", "redis", "--set", "revoked", *url)
    assert verified["counts"] == {"denied": 2}
    deployment.run("backfill", "redis", *url, code=2)
    deployment.run("backfill", "redis", "--set", "a", "--hash", "b", *url, code=2)
    deployment.run("backfill", "redis", "--pattern", "a*b*", *url, code=2)
    deployment.run("backfill", "verify", "table", "--issuer", "a1", code=2)
    deployment.environ["THEIRS"] = "redis://127.0.0.1:1/0"
    deployment.run("backfill", "redis", "--set", "revoked", *url, code=11)


def test_a_rehearsed_verification_keeps_nothing(deployment: Deployment, ledger: Ledger) -> None:
    deployment.run("backfill", "simplejwt", "--issuer", "a1")
    before = ledger.execute("SELECT to_jsonb(j) FROM migrator.jobs j")
    found = deployment.json(*VERIFY, "--dry-run")
    assert (found["at"], found["dry_run"], found["differences"]) == (None, True, 0)
    assert ledger.execute("SELECT to_jsonb(j) FROM migrator.jobs j") == before
