"""What the old system refused, in bulk: blocklists in Redis and tables of revoked tokens."""

from __future__ import annotations

import io
import json
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from migrator import wiring
from migrator.control.backfill.order import Order
from migrator.control.backfill.runner import Limits
from migrator.control.backfill.verifying import Draw, verify
from migrator.core.errors import Refused, Stopped
from migrator.core.tokens import fingerprint
from migrator.stores.drivers import conninfo
from migrator.stores.postgres import issuer_lock
from tests.control.backfill.ledgers import Ledger, backfill, body, counts, refresh, settings

NEVER: Any = pytest.fail


def block(ledger: Ledger, url: str, place: str, **order: Any) -> Any:
    return backfill(
        ledger.url, "redis", place=place, source_url=url, source_name="env:THEIRS", **order
    )


def jtis(ledger: Ledger) -> dict[str, datetime | None]:
    return dict(ledger.execute("SELECT jti, until FROM migrator.denials WHERE jti IS NOT NULL"))


@pytest.fixture
def theirs(redis_url: str) -> Any:
    client = redis.Redis.from_url(redis_url)
    yield client
    client.close()


def test_keys_that_are_named_after_a_jti_are_denied_as_long_as_a_token_may_live(
    ledger: Ledger, redis_url: str, theirs: Any
) -> None:
    """As flask-jwt-extended documents it: `set(jti, "", ex=ACCESS_EXPIRES)`."""
    token = refresh("7")
    theirs.set(f"blocklist:{body(token)['jti']}", "", ex=3600)
    theirs.set("blocklist:years", "", ex=400 * 86_400)
    theirs.set("blocklist:forever", "")
    theirs.set("session:9", "other people's")
    theirs.lpush("blocklist:a-list", "other people's")

    report = block(ledger, redis_url, "blocklist:*")

    assert counts(report) == {"read": 3, "denied": 3}
    found = jtis(ledger)
    now = datetime.now(UTC)
    soon, years = found[body(token)["jti"]], found["years"]
    assert soon is not None
    assert years is not None
    assert timedelta(days=29) < soon - now < timedelta(days=31), "a refresh token lives longer"
    assert timedelta(days=399) < years - now < timedelta(days=401)
    assert found["forever"] is None
    with pytest.raises(Refused):
        wiring.sessions(settings(ledger.url)).exchange(token, legacy=NEVER)


def test_what_a_blocked_token_became_is_ended(ledger: Ledger, redis_url: str, theirs: Any) -> None:
    token = refresh("7")
    ledger.add(token)
    backfill(ledger.url)
    theirs.set(f"blocklist:{body(token)['jti']}", "")
    assert counts(block(ledger, redis_url, "blocklist:*")) == {"read": 1, "denied": 1, "ended": 1}
    assert ledger.count("sessions", "revoked_reason = 'ledger'") == 1


@pytest.mark.parametrize("kind", ["set", "zset", "hash"])
def test_a_collection_of_jtis_is_read_member_by_member(
    ledger: Ledger, redis_url: str, theirs: Any, kind: str
) -> None:
    names = [uuid.uuid4().hex for _ in range(700)]
    match kind:
        case "set":
            theirs.sadd("revoked", *names)
        case "zset":
            theirs.zadd("revoked", dict.fromkeys(names, time.time() + 60))
        case _:
            theirs.hset("revoked", mapping=dict.fromkeys(names, "1"))
    report = block(ledger, redis_url, "revoked", collection=kind, limits=Limits(batch=100))
    assert counts(report) == {"read": 700, "denied": 700}
    assert report.outcome.total == 700
    assert set(jtis(ledger)) == set(names)
    again = block(ledger, redis_url, "revoked", collection=kind)
    assert counts(again) == {"read": 700, "revoked_already": 700}
    assert not again.outcome.changed


def test_a_score_is_an_exp_or_the_moment_of_the_revocation_and_both_are_held_to(
    ledger: Ledger, redis_url: str, theirs: Any
) -> None:
    at = time.time()
    scores = {"exp": at + 90 * 86_400, "ms": (at + 90 * 86_400) * 1000, "revoked": at - 60}
    theirs.zadd("z", {**scores, "mark": 1, "past": at - 60 * 86_400})
    assert counts(block(ledger, redis_url, "z", collection="zset")) == {
        "read": 5,
        "denied": 4,
        "expired": 1,
    }
    now = datetime.now(UTC)
    days = {
        name: None if until is None else round((until - now) / timedelta(days=1))
        for name, until in jtis(ledger).items()
    }
    assert days == {"exp": 90, "ms": 90, "revoked": 30, "mark": None}


def test_whole_tokens_that_an_app_lists_become_fingerprints_and_are_kept_nowhere(
    ledger: Ledger, redis_url: str, theirs: Any
) -> None:
    token = refresh("7")
    odd = "eyJhbGciOiJub25lIn0.{}.x"
    theirs.set(f"bl:{token}", "1")
    theirs.set(f"bl:{odd}", "1")
    report = block(ledger, redis_url, "bl:*")
    assert counts(report) == {"read": 2, "denied": 1, "bad_claim": 1}
    named = fingerprint("a1", token.rpartition(".")[0].encode())
    assert ledger.execute("SELECT fingerprint, jti FROM migrator.denials") == [(named, None)]
    rows = ledger.execute("SELECT to_jsonb(j)::text FROM migrator.jobs j")
    said = str(rows) + str(report.outcome.examples) + str(report.as_json())
    assert token not in said
    assert odd not in said


def test_a_run_that_was_stopped_goes_on_and_denies_everything_exactly_once(
    ledger: Ledger, redis_url: str, theirs: Any
) -> None:
    pipeline = theirs.pipeline()
    for number in range(3000):
        pipeline.set(f"blocklist:j{number}", "", ex=3600)
        pipeline.set(f"noise:{number}", "")
    pipeline.execute()
    ends = []
    while True:
        report = block(ledger, redis_url, "blocklist:*", limits=Limits(rows=800, batch=200))
        ends.append(report.outcome.end)
        if report.outcome.end == "done":
            break
    assert len(ends) > 2
    assert report.outcome.resumed
    assert counts(report) == {"read": 3000, "denied": 3000}
    assert ledger.count("denials") == 3000


def test_a_cursor_of_a_server_that_was_restarted_is_not_believed(
    ledger: Ledger, redis_url: str, theirs: Any
) -> None:
    theirs.mset({f"blocklist:j{number}": "" for number in range(2000)})
    block(ledger, redis_url, "blocklist:*", limits=Limits(rows=500, batch=500))
    ledger.execute(
        "UPDATE migrator.jobs SET checkpoint = jsonb_set(checkpoint, '{after,0}', '\"another\"')"
    )
    report = block(ledger, redis_url, "blocklist:*")
    assert report.outcome.end == "done"
    assert len(jtis(ledger)) == 2000


def test_a_rehearsal_counts_and_writes_nothing(
    ledger: Ledger, redis_url: str, theirs: Any
) -> None:
    theirs.sadd("revoked", "a", "b")
    report = block(ledger, redis_url, "revoked", collection="set", dry_run=True)
    assert counts(report) == {"read": 2, "denied": 2}
    assert ledger.count("denials") == ledger.count("jobs") == ledger.count("feed") == 0


@pytest.mark.parametrize(
    ("url", "place", "collection", "problem", "code"),
    [
        ("redis://127.0.0.1:1/0", "bl:*", None, "backfill.no_redis", 11),
        ("redis+cluster://127.0.0.1:1", "bl:*", None, "backfill.no_redis", 2),
        (None, "scored", "set", "backfill.no_collection", 2),
    ],
    ids=["silent", "cluster", "another-kind"],
)
def test_a_redis_that_is_not_what_was_said_is_refused(
    ledger: Ledger,
    redis_url: str,
    theirs: Any,
    url: str | None,
    place: str,
    collection: Any,
    problem: str,
    code: int,
) -> None:
    theirs.zadd("scored", {"a": 1})
    with pytest.raises(Stopped) as stopped:
        block(ledger, url or redis_url, place, collection=collection)
    assert (stopped.value.problem.id, stopped.value.exit_code) == (problem, code)
    assert ledger.count("denials") == 0


def test_a_swap_that_was_under_way_when_its_token_was_denied_is_ended(
    ledger: Ledger, redis_url: str, theirs: Any
) -> None:
    """It read the denials before ours was there and commits after the last page."""
    theirs.set("blocklist:racing", "")
    lock = issuer_lock("a1")
    with psycopg.connect(**conninfo(ledger.url)) as swap:
        swap.execute("SELECT pg_advisory_xact_lock_shared(%s)", [lock])
        swap.execute(
            "WITH s AS (INSERT INTO migrator.sessions (id, kind, realm, subject, expires_at,"
            " origin, digest) VALUES (gen_random_uuid(), 'session', 'users', '7',"
            " now() + interval '1 h', 'swap', sha256('t')) RETURNING id)"
            " INSERT INTO migrator.legacy_tokens (fingerprint, issuer, jti, realm, subject,"
            " percent_bucket, purpose, exp, keep_until, session_id) SELECT sha256('f'), 'a1',"
            " 'racing', 'users', '7', 1, 'access', now() + interval '1 h',"
            " now() + interval '1 h', id FROM s"
        )
        done: list[Any] = []
        run = threading.Thread(
            target=lambda: done.append(block(ledger, redis_url, "blocklist:*")), daemon=True
        )
        run.start()
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        deadline = time.monotonic() + 20
        while not done and not ledger.execute(waits)[0][0] and time.monotonic() < deadline:
            time.sleep(0.005)
        swap.commit()
    run.join()
    assert counts(done[0]) == {"read": 1, "denied": 1, "ended": 1}
    assert ledger.count("sessions", "revoked_reason = 'ledger'") == 1


# Tables.

DEVISE = """
CREATE TABLE jwt_denylist (id bigserial PRIMARY KEY, jti character varying NOT NULL,
  exp timestamp NOT NULL)"""
FLASK = """
CREATE TABLE token_blocklist (id serial PRIMARY KEY, jti varchar(36) NOT NULL,
  created_at timestamp NOT NULL)"""


def test_devises_denylist_is_denied_until_its_exp(ledger: Ledger) -> None:
    ledger.execute(DEVISE)
    ledger.execute(
        "INSERT INTO jwt_denylist (jti, exp) VALUES ('a', now() AT TIME ZONE 'UTC' + interval"
        " '1 day'), ('b', now() AT TIME ZONE 'UTC' - interval '1 day'),"
        " ('a', now() AT TIME ZONE 'UTC' + interval '1 day')"
    )
    report = backfill(ledger.url, "denylist", place="jwt_denylist")
    assert counts(report) == {"read": 3, "denied": 2, "expired": 1}
    (until,) = jtis(ledger).values()
    assert until is not None
    assert timedelta(hours=23) < until - datetime.now(UTC) < timedelta(hours=25)


def test_a_flask_blocklist_without_an_end_is_denied_for_good(ledger: Ledger) -> None:
    ledger.execute(FLASK)
    token = refresh("7")
    ledger.execute(
        "INSERT INTO token_blocklist (jti, created_at) VALUES (%s, now())", body(token)["jti"]
    )
    report = backfill(ledger.url, "denylist", place="token_blocklist")
    assert counts(report) == {"read": 1, "denied": 1}
    assert jtis(ledger) == {body(token)["jti"]: None}
    with pytest.raises(Refused):
        wiring.sessions(settings(ledger.url)).exchange(token, legacy=NEVER)


def test_listed_tokens_become_fingerprints_in_the_database(ledger: Ledger) -> None:
    ledger.execute("CREATE TABLE dead (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), jwt text)")
    token = refresh("7")
    for value in (token, "rubbish", refresh("8", days=-2)):
        ledger.execute("INSERT INTO dead (jwt) VALUES (%s)", value)
    report = backfill(ledger.url, "denylist", place="dead", columns="token=jwt")
    assert counts(report) == {"read": 3, "denied": 1, "expired": 1, "not_a_jws": 1}
    with pytest.raises(Refused):
        wiring.sessions(settings(ledger.url)).exchange(token, legacy=NEVER)
    assert ledger.count("denials", f"jti LIKE '%{token[-20:]}%'") == 0


def test_a_token_in_the_place_of_a_jti_is_refused_as_one(ledger: Ledger) -> None:
    ledger.execute(FLASK.replace("varchar(36)", "text"))
    for jti in (refresh("7"), "", "good"):
        ledger.execute("INSERT INTO token_blocklist (jti, created_at) VALUES (%s, now())", jti)
    report = backfill(ledger.url, "denylist", place="token_blocklist")
    assert counts(report) == {"read": 3, "denied": 1, "bad_claim": 2}
    assert jtis(ledger) == {"good": None}


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ("until=exp", "backfill.bad_columns"),
        ("subject=jti", "backfill.bad_columns"),
        ("jti=nowhere", "backfill.no_columns"),
        ("jti=jti,until=flag", "backfill.bad_columns"),
    ],
)
def test_a_mapping_that_denies_nothing_is_refused(
    ledger: Ledger, columns: str, problem: str
) -> None:
    ledger.execute("CREATE TABLE dead (id int PRIMARY KEY, jti text, exp bigint, flag boolean)")
    with pytest.raises(Stopped) as stopped:
        backfill(ledger.url, "denylist", place="dead", columns=columns)
    assert (stopped.value.problem.id, stopped.value.exit_code) == (problem, 2)
    assert ledger.count("jobs") == 0


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_an_exported_denylist_is_denied_like_a_table(
    ledger: Ledger, tmp_path: Path, form: str
) -> None:
    token = refresh("7")
    soon, past = str(int(time.time()) + 3600), "2001-01-01T00:00:00"
    rows = [("a", soon), ("b", past), (token, soon), ("", soon), ("c", "")]
    path = tmp_path / f"revoked.{form}"
    path.write_text(
        "jti,until\n" + "".join(f"{jti},{until}\n" for jti, until in rows)
        if form == "csv"
        else "".join(json.dumps({"jti": jti, "until": until}) + "\n" for jti, until in rows)
        + "no json\n"
    )
    file: dict[str, Any] = {
        "place": str(path),
        "is_file": True,
        "standard_input": io.BytesIO(),
    }
    report = backfill(ledger.url, "denylist", **file)
    unreadable = {} if form == "csv" else {"unreadable": 1}
    assert counts(report) == {
        "read": 5 + len(unreadable),
        "denied": 3,
        "expired": 1,
        "bad_claim": 1,
        **unreadable,
    }
    found = jtis(ledger)
    assert set(found) == {"a", "c"}
    assert found["c"] is None
    assert ledger.count("denials", "fingerprint IS NOT NULL") == 1
    checked = verify(
        settings(ledger.url), Order(kind="denylist", issuer="a1", **file), Draw(size=None)
    )
    assert dict(checked.counts) == {"denied": 3, "over": 1, "unseedable": 1 + len(unreadable)}
