"""The app's own active flag and not-before time: who is out is out here, by the app's own line."""

from __future__ import annotations

import time
from typing import Any

import pytest

from migrator import wiring
from tests.control.ledgers.deployment import App, sign

NEVER: Any = pytest.fail
TABLE = (
    "CREATE TABLE accounts (id int PRIMARY KEY, is_active boolean,"
    " password_changed_at timestamptz, state text)"
)
ACTIVE = {
    "kind": "users",
    "table": "accounts",
    "columns": {"subject": "id", "active": "is_active"},
}
CHANGED = {
    "kind": "users",
    "table": "accounts",
    "columns": {"subject": "id", "changed_at": "password_changed_at"},
}


def deployment(url: str, ledger: dict[str, Any]) -> App:
    app = App(url, None, ledger)
    app.execute(TABLE)
    app.execute("INSERT INTO accounts VALUES (7, true, NULL, 'ok'), (8, true, NULL, 'ok')")
    return app


def test_p2_a_user_who_is_not_active_loses_everything_there_is(migrated: str) -> None:
    app = deployment(migrated, ACTIVE)
    _, swapped = app.swapped("7")
    sessions = wiring.sessions(app.settings)
    login = str(sessions.login("7", legacy=NEVER).token).encode()
    api = str(sessions.create_api_token("7", label="ci").token).encode()
    _, other = app.swapped("8")
    unseen = sign("7")
    assert app.poll().tally.denied == 0
    app.execute("UPDATE accounts SET is_active = false WHERE id = 7")
    tally = app.poll().tally
    assert (tally.denied, tally.ended) == (1, 3)
    assert not any(map(app.is_alive, (swapped, login, api)))
    assert app.is_alive(other)
    assert app.standing(unseen) == "cut_off"
    before = app.feed()
    assert app.poll().tally.ended == 0
    assert app.feed() == before


def test_what_a_user_begins_while_not_active_ends_at_the_next_turn(migrated: str) -> None:
    app = deployment(migrated, ACTIVE)
    app.execute("UPDATE accounts SET is_active = false WHERE id = 7")
    app.poll()
    token = str(wiring.sessions(app.settings).login("7", legacy=NEVER).token).encode()
    assert app.poll().tally.ended == 1
    assert not app.is_alive(token)


def test_active_again_lifts_the_cutoff_and_nothing_that_was_ended(migrated: str) -> None:
    app = deployment(migrated, ACTIVE)
    swapped, session = app.swapped("7")
    unseen = sign("7")
    app.execute("UPDATE accounts SET is_active = false")
    assert app.poll().tally.denied == 2
    app.execute("UPDATE accounts SET is_active = true WHERE id = 7")
    app.execute("DELETE FROM accounts WHERE id = 8")
    assert app.poll().tally.lifted == 1
    assert app.standing(unseen) == "admitted"
    assert app.standing(swapped) == "session_ended"
    assert not app.is_alive(session)
    # A user who is gone is not active again.
    assert app.execute("SELECT subject FROM migrator.cutoffs") == [("8",)]


def test_cutoffs_that_an_operator_set_are_left_alone(migrated: str) -> None:
    app = deployment(migrated, ACTIVE)
    app.execute(
        "INSERT INTO migrator.cutoffs (realm, subject, not_before, reason, created_by)"
        " VALUES ('users', '7', now(), 'inactive', 'dana')"
    )
    app.poll()
    assert app.rig.count("cutoffs", "created_by = 'dana'") == 1


def test_a_condition_says_who_is_not_active_where_no_column_does(migrated: str) -> None:
    inactive = {**ACTIVE, "columns": {"subject": "id"}, "inactive": "state = 'a:blocked'"}
    app = deployment(migrated, inactive)
    _, session = app.swapped("7")
    app.execute("UPDATE accounts SET state = 'a:blocked' WHERE id = 7")
    assert app.poll().tally.ended == 1
    assert not app.is_alive(session)


def test_p2_a_changed_password_ends_what_was_issued_before_it(migrated: str) -> None:
    app = deployment(migrated, CHANGED)
    old = int(time.time()) - 60
    before, session = app.swapped("7", iat=old)
    unseen = sign("7", claims={"iat": old})
    _, other = app.swapped("8", iat=old)
    app.poll()
    app.execute("UPDATE accounts SET password_changed_at = now() WHERE id = 7")
    tally = app.poll().tally
    assert (tally.denied, tally.ended) == (1, 1)
    assert not app.is_alive(session)
    assert app.is_alive(other)
    assert app.standing(before) in {"cut_off", "session_ended"}
    assert app.standing(unseen) == "cut_off"


def test_the_jwt_that_a_change_of_password_hands_out_is_admitted(migrated: str) -> None:
    """Its iat is a whole second, and that of the change: the app takes it, so do we."""
    app = deployment(migrated, CHANGED)
    app.execute("UPDATE accounts SET password_changed_at = now() WHERE id = 7")
    (changed,) = app.execute(
        "SELECT extract(epoch FROM password_changed_at)::float8 FROM accounts WHERE id = 7"
    )[0]
    fresh = sign("7", claims={"iat": int(changed)})
    login = str(wiring.sessions(app.settings).login("7", legacy=NEVER).token).encode()
    app.poll()
    assert app.standing(fresh) == "admitted"
    assert app.is_alive(login)
    earlier = sign("7", claims={"iat": int(changed) - 1})
    assert app.standing(earlier) == "cut_off"


def test_a_second_change_moves_the_cutoff_and_adds_no_row(migrated: str) -> None:
    app = deployment(migrated, CHANGED)
    for ago in ("1 hour", "1 minute"):
        app.execute("UPDATE accounts SET password_changed_at = now() - %s::interval", ago)
        assert app.poll().tally.denied == 2
    assert app.rig.count("cutoffs") == 2
    assert app.poll().tally.denied == 0


def test_a_change_too_old_for_any_token_to_live_is_not_written(migrated: str) -> None:
    app = deployment(migrated, CHANGED)
    app.execute("UPDATE accounts SET password_changed_at = now() - interval '200 days'")
    assert app.poll().tally.denied == 0
    assert app.rig.count("cutoffs") == 0


def test_a_change_dated_ahead_refuses_nobody_who_logs_in_now(migrated: str) -> None:
    app = deployment(migrated, CHANGED)
    app.execute("UPDATE accounts SET password_changed_at = now() + interval '1 day'")
    app.poll()
    (later,) = app.execute("SELECT max(not_before) > now() FROM migrator.cutoffs")[0]
    assert later is False
