"""`backfill verify`: whatever was changed by hand, lost or revoked since is found and named."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from migrator.control.backfill.order import Order
from migrator.control.backfill.verifying import Draw, Verification, verify
from migrator.core.errors import Stopped
from tests.control.backfill.ledgers import Ledger, backfill, body, refresh, settings

ALL = Draw(size=None)


def verified(
    ledger: Ledger, draw: Draw = ALL, kind: Any = "simplejwt", **order: Any
) -> Verification:
    made = Order(kind=kind, issuer="a1", **order)
    return verify(settings(ledger.url), made, draw)


def found(verification: Verification) -> dict[str, int]:
    return {name: n for name, n in sorted(verification.counts.items()) if n}


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    """Ids 1 to 40 living, 41 revoked, 42 over, 43 broken."""
    hour_ago = int(time.time()) - 3600
    for user in range(1, 41):
        ledger.add(refresh(str(user), iat=hour_ago))
    ledger.add(refresh("41"), revoked=True)
    ledger.add(refresh("42", days=-1))
    ledger.add("broken")
    backfill(ledger.url)
    return ledger


RIGHT = {"denied": 1, "over": 1, "same": 40, "unseedable": 1}


@pytest.mark.parametrize("draw", [ALL, Draw(size=1000, seed=3)], ids=["all", "sample"])
def test_what_was_backfilled_has_no_differences(filled: Ledger, draw: Draw) -> None:
    verification = verified(filled, draw)
    assert found(verification) == RIGHT
    assert (verification.rows, verification.of, verification.extra_of) == (43, 43, 40)
    assert verification.exit_code == 0


_TOKEN_OF_7 = "subject = '7'"
_SESSION_OF_7 = "id IN (SELECT session_id FROM migrator.legacy_tokens WHERE subject = '7')"


@pytest.mark.parametrize(
    ("finding", "change"),
    {
        "missing": "DELETE FROM legacy_tokens",
        "wrong_subject": "UPDATE legacy_tokens SET subject = '8'",
        "wrong_realm": "UPDATE legacy_tokens SET realm = 'x'",
        "wrong_issuer": "UPDATE legacy_tokens SET issuer = 'x'",
        "wrong_jti": "UPDATE legacy_tokens SET jti = 'x'",
        "wrong_exp": "UPDATE legacy_tokens SET exp = exp + interval '1 day'",
        "no_session": "DELETE FROM sessions",
        "wrong_session": "UPDATE sessions SET subject = '8'",
        "outlives": "UPDATE sessions SET expires_at = expires_at + interval '1 h'",
        "session_over": "UPDATE sessions SET expires_at = now()",
    }.items(),
    ids=lambda value: value if " " not in value else "",
)
def test_each_row_that_was_altered_is_found_and_named_by_its_key(
    filled: Ledger, finding: str, change: str
) -> None:
    which = _TOKEN_OF_7 if "legacy_tokens" in change else _SESSION_OF_7
    filled.execute(f"SET search_path = migrator; {change} WHERE {which}")
    for draw in (ALL, Draw(size=43, seed=5)):
        verification = verified(filled, draw)
        named = [(row, what) for row, what in verification.named if what != "extra"]
        assert named == [("7", finding)]
        assert verification.exit_code == 10


def test_a_token_that_was_revoked_since_is_a_difference_until_the_backfill_runs_again(
    filled: Ledger,
) -> None:
    filled.revoke(7)
    assert verified(filled).named == [("7", "not_denied")]
    backfill(filled.url)
    assert found(verified(filled)) == {**RIGHT, "denied": 2, "same": 39}


def test_a_lost_denial_and_a_session_that_outlived_it_are_differences(filled: Ledger) -> None:
    filled.execute("DELETE FROM migrator.denials")
    assert verified(filled).named == [("41", "not_denied")]
    filled.revoke(7)
    backfill(filled.url)
    filled.execute("UPDATE migrator.sessions SET revoked_at = NULL")
    assert verified(filled).named == [("7", "alive")]


def test_what_we_ended_or_cut_off_ourselves_is_no_difference(filled: Ledger) -> None:
    filled.execute(f"UPDATE migrator.sessions SET revoked_at = now() WHERE {_SESSION_OF_7}")
    filled.execute(
        "INSERT INTO migrator.cutoffs (realm, subject, not_before)"
        " VALUES ('users', '8', now() + interval '1 h')"
    )
    filled.execute("DELETE FROM migrator.legacy_tokens WHERE subject = '8'")
    verification = verified(filled)
    assert found(verification) == {**RIGHT, "barred": 1, "ended": 1, "same": 38}
    assert verification.exit_code == 0


def test_tokens_issued_since_are_told_apart_and_are_no_difference(filled: Ledger) -> None:
    filled.add(refresh("50", iat=4_000_000_000, exp=4_000_100_000))
    assert found(verified(filled)) == {**RIGHT, "newer": 1}


@pytest.mark.parametrize("draw", [ALL, Draw(size=1000, seed=3)], ids=["all", "sample"])
def test_a_session_that_the_ledger_no_longer_lists_is_named_by_its_id(
    filled: Ledger, draw: Draw
) -> None:
    session = filled.execute(f"SELECT id FROM migrator.sessions WHERE {_SESSION_OF_7}")[0][0]
    filled.execute("DELETE FROM token_blacklist_outstandingtoken WHERE id = 7")
    verification = verified(filled, draw)
    assert verification.named == [(f"session {session}", "extra")]
    assert verification.exit_code == 10


def test_a_blanked_column_of_tokens_leaves_the_jtis_to_compare_by(filled: Ledger) -> None:
    filled.execute("UPDATE token_blacklist_outstandingtoken SET token = ''")
    sample = Draw(size=1000, seed=1)
    assert found(verified(filled, sample)) == RIGHT
    filled.execute(f"DELETE FROM migrator.sessions WHERE {_SESSION_OF_7}")
    assert verified(filled, sample).named == [("7", "no_session")]


def test_the_same_seed_draws_the_same_rows_and_another_draws_others(filled: Ledger) -> None:
    filled.execute("UPDATE migrator.legacy_tokens SET jti = 'x' || jti")
    first, again, other = (
        {row for row, what in verified(filled, Draw(size=12, seed=seed)).named if what != "extra"}
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert 0 < len(first) <= 12


def test_the_result_is_kept_until_the_ledger_is_read_again(filled: Ledger) -> None:
    assert verified(filled, dry_run=True).at is None
    detail = "SELECT detail -> 'verified' FROM migrator.jobs"
    assert filled.execute(detail) == [(None,)]
    kept = verified(filled, Draw(size=20, seed=1))
    ((recorded,),) = filled.execute(detail)
    assert recorded == {
        "at": kept.at.isoformat() if kept.at else None,
        "who": "operator",
        "rows": 20,
        "of": 43,
        "differences": 0,
    }
    backfill(filled.url)
    assert filled.execute(detail) == [(None,)]


def test_nothing_is_verified_before_a_backfill_came_to_its_end(ledger: Ledger) -> None:
    with pytest.raises(Stopped) as stopped:
        verified(ledger)
    assert (stopped.value.problem.id, stopped.value.exit_code) == ("backfill.unfinished", 3)
    ledger.execute(
        "INSERT INTO migrator.jobs (name, source, state, started_at) VALUES"
        " ('backfill:simplejwt:a1:public.token_blacklist_outstandingtoken', 'simplejwt',"
        " 'running', now())"
    )
    with pytest.raises(Stopped) as stopped:
        verified(ledger)
    assert stopped.value.exit_code == 8


def test_a_ledger_read_by_another_mapping_is_not_verified(ledger: Ledger) -> None:
    ledger.execute("CREATE TABLE tokens (id int PRIMARY KEY, jwt text, old text)")
    ledger.execute("INSERT INTO tokens VALUES (1, %s, NULL)", refresh("7"))
    backfill(ledger.url, "table", place="tokens", columns="token=jwt")
    good = verified(ledger, kind="table", place="tokens", columns="token=jwt")
    assert found(good) == {"same": 1}
    with pytest.raises(Stopped) as stopped:
        verified(ledger, kind="table", place="tokens", columns="token=old")
    assert stopped.value.problem.id == "backfill.changed"


def test_files_and_blocklists_are_verified_like_tables(
    ledger: Ledger, redis_url: str, tmp_path: Path
) -> None:
    tokens = [refresh(str(user)) for user in range(30)]
    path = tmp_path / "tokens.jsonl"
    path.write_text("".join(json.dumps({"token": token}) + "\n" for token in tokens))
    file: dict[str, Any] = {"place": str(path), "standard_input": io.BytesIO()}
    backfill(ledger.url, "jsonl", **file)
    for draw in (ALL, Draw(size=10, seed=1)):
        verification = verified(ledger, draw, "jsonl", **file)
        assert (verification.differences, verification.of) == (0, 30)
        assert verification.rows == (30 if draw is ALL else 10)

    blocked: dict[str, Any] = {
        "place": "bl",
        "collection": "set",
        "source_url": redis_url,
        "source_name": "env:R",
    }
    with redis.Redis.from_url(redis_url) as theirs:
        theirs.sadd("bl", *(body(token)["jti"] for token in tokens[:5]))
        backfill(ledger.url, "redis", **blocked)
        assert found(verified(ledger, kind="redis", **blocked)) == {"denied": 5}
        theirs.sadd("bl", "another")
    assert verified(ledger, kind="redis", **blocked).named == [("'another'", "not_denied")]
    assert verified(ledger, kind="jsonl", **file).named == []
