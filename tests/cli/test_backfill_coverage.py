"""`backfill coverage`: what the ledgers gave, what they cannot, and who is seen without them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import redis

from migrator.control.backfill.coverage import DANGERS
from tests.cli.deployment import Deployment
from tests.control.backfill.ledgers import Ledger, refresh
from tests.rig import SECRET


@pytest.fixture
def deployment(migrated: str, tmp_path: Path) -> Deployment:
    made = Deployment(migrated, tmp_path, lifetimes='lifetime = "1h"\nrefresh_lifetime = "30d"')
    claims = '[issuers.claims]\nsubject = "user_id"\n[issuers.purpose]'
    made.config.write_text(made.config.read_text().replace("[issuers.purpose]", claims))
    return made


@pytest.fixture
def ledger(deployment: Deployment) -> Ledger:
    ledger = Ledger(deployment.url).create()
    for user in range(4):
        ledger.add(refresh(str(user), secret=SECRET))
    ledger.add(refresh("9", secret=SECRET), revoked=True)
    ledger.add(refresh("9", secret=SECRET, days=-1))
    ledger.add("broken")
    return ledger


def covered(deployment: Deployment, *args: str) -> dict[str, Any]:
    (one,) = deployment.json("backfill", "coverage", *args)["issuers"]
    return dict(one)


def test_what_nobody_counted_is_unknown_and_not_nought(deployment: Deployment) -> None:
    found = covered(deployment, "--issuer", "a1")
    assert found["subjects"] == {"seen": 0, "with_row": 0, "percent": None}
    assert found["ledgers"] == []
    said = deployment.run("backfill", "coverage").stdout
    assert "  subjects: unknown, none was counted" in said
    deployment.run("backfill", "coverage", "--issuer", "nobody", code=2)


def test_who_is_seen_is_held_against_the_rows_of_the_ledgers(
    deployment: Deployment, ledger: Ledger
) -> None:
    for subject in ("0", "1", "stranger"):
        deployment.sight(subject, "ios")
    deployment.sight("1", "web")
    deployment.sight("2", "long-ago", ago="25 h")
    report = deployment.json("backfill", "simplejwt", "--issuer", "a1")
    assert report["coverage"]["subjects"] == {"seen": 3, "with_row": 2, "percent": 66.67}

    ledger.execute(
        "UPDATE migrator.legacy_tokens SET last_seen_at = now() WHERE subject IN ('0', '1')"
    )
    ledger.execute(
        "INSERT INTO migrator.legacy_tokens (fingerprint, issuer, realm, subject, percent_bucket,"
        " purpose, exp, keep_until, last_seen_at) VALUES (sha256('x'), 'a1', 'users', '1', 1,"
        " 'access', now(), now(), now())"
    )
    found = covered(deployment)
    assert found["tokens"] == {
        "access": {"seen": 1, "with_row": 0, "percent": 0.0},
        "refresh": {"seen": 2, "with_row": 2, "percent": 100.0},
    }
    (listed,) = found["ledgers"]
    assert (listed["read"], listed["seeded"], listed["denied"], listed["expired"]) == (7, 4, 1, 1)
    assert listed["rejected"] == {"not_a_jws": 1}
    assert "access tokens" in {one["what"] for one in listed["unseedable"]}


def test_blanking_is_offered_once_all_was_read_and_is_never_run(
    deployment: Deployment, ledger: Ledger
) -> None:
    deployment.run("backfill", "simplejwt", "--issuer", "a1", "--limit-rows", "2", code=13)
    assert covered(deployment)["ledgers"][0]["blanking"] is None
    deployment.run("backfill", "simplejwt", "--issuer", "a1")
    before = ledger.execute("SELECT token FROM token_blacklist_outstandingtoken ORDER BY id")
    blanks = "SET \"token\" = '' WHERE \"token\" <> '';"
    screen = deployment.run("backfill", "coverage").stdout.splitlines()
    assert screen == [
        "issuer main (a1)",
        "  seen with a legacy token in 1 d:",
        "    subjects: unknown, none was counted",
        "  simplejwt from public.token_blacklist_outstandingtoken: done",
        "    7 rows read · 4 with a session · 1 denied · 1 expired · 1 rejected as not_a_jws",
        "    not verified since it ran:",
        "      migrator backfill verify simplejwt --issuer a1",
        "    its raw tokens are needed no more; this would blank them, and is yours to run:",
        f"      UPDATE public.token_blacklist_outstandingtoken {blanks}",
        *(f"      - {danger}" for danger in DANGERS),
    ]
    assert ledger.execute("SELECT token FROM token_blacklist_outstandingtoken ORDER BY id") == (
        before
    )
    blanking = covered(deployment)["ledgers"][0]["blanking"]
    ledger.execute(blanking["sql"])
    verified = deployment.json("backfill", "verify", "simplejwt", "--issuer", "a1", "--all")
    assert verified["differences"] == 0
    assert "verified" in deployment.run("backfill", "coverage").stdout


def test_the_command_that_verifies_a_ledger_is_printed_as_it_was_read_and_works(
    deployment: Deployment, tmp_path: Path, redis_url: str
) -> None:
    deployment.environ["THEIRS"] = redis_url
    deployment.execute('CREATE TABLE "Odd Name" (id int PRIMARY KEY, jwt text, gone boolean)')
    deployment.execute('INSERT INTO "Odd Name" VALUES (1, %s, false)', refresh("1", secret=SECRET))
    revoked = tmp_path / "revoked.csv"
    revoked.write_text("jti\na\n")
    table = ("--from", '"Odd Name"', "--columns", "token=jwt,revoked=gone")
    deployment.run("backfill", "table", "--issuer", "a1", *table)
    deployment.run("backfill", "denylist", "--issuer", "a1", "--file", str(revoked))
    with redis.Redis.from_url(redis_url) as theirs:
        theirs.set("blocklist:b", "")
    url = ("--redis-url", "env:THEIRS")
    deployment.run("backfill", "redis", "--issuer", "a1", "--pattern", "blocklist:*", *url)
    commands = [one["verify"] for one in covered(deployment)["ledgers"]]
    assert len(commands) == 3
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "migrator"
        assert deployment.json(*words[1:], schema="verified")["differences"] == 0
