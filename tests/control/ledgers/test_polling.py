"""Redis and functions as ledgers, and the turns: who reads, when, and what a failure stops."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest
import redis

from migrator import wiring
from migrator.control.ledgers.poller import Poller
from migrator.core.errors import Unavailable
from migrator.stores.ledgers import NotDue
from tests.control.ledgers.deployment import App, comes_true, jti, sign
from tests.faults.nodes import Node

BLOCKLIST = "CREATE TABLE blocklist (id serial PRIMARY KEY, jti text)"
BY_JTI = {"kind": "table", "table": "blocklist", "columns": {"jti": "jti", "revoked_at": "id"}}
REVOKED: set[str] = set()


def is_revoked(_: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
    return payload["jti"] in REVOKED


async def is_revoked_later(_: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
    return bool(payload)


# ---- Redis --------------------------------------------------------------------------------------


def test_p2_keys_named_after_jtis_are_a_ledger(migrated: str, redis_url: str) -> None:
    app = App(migrated, redis_url, {"kind": "redis", "keys": "blocked:*"})
    swapped, session = app.swapped("7")
    kept, other = app.swapped("8")
    with redis.Redis.from_url(redis_url) as theirs:
        theirs.set(f"blocked:{jti(swapped)}", "", ex=3600)
        theirs.set(f"allowed:{jti(kept)}", "")
        theirs.sadd("blocked:a-set", jti(kept))
        turn = app.poll()
        assert (turn.why, turn.tally.ended) == (None, 1)
        theirs.delete(f"blocked:{jti(swapped)}")
    app.poll()
    assert (app.is_alive(session), app.is_alive(other)) == (False, True)
    # As long as a refresh token can live, although the key lived an hour.
    long = "until BETWEEN now() + interval '29 days' AND now() + interval '31 days'"
    assert app.rig.count("denials", long) == 1


def test_only_keys_of_the_value_that_means_revoked_count(migrated: str, redis_url: str) -> None:
    ledger = {"kind": "redis", "url": redis_url, "keys": "*", "value": "true"}
    app = App(migrated, None, ledger)
    one, first = app.swapped("7")
    two, second = app.swapped("8")
    with redis.Redis.from_url(redis_url) as theirs:
        theirs.set(jti(one), "true")
        theirs.set(jti(two), "false")
    app.poll()
    assert (app.is_alive(first), app.is_alive(second)) == (False, True)


@pytest.mark.parametrize("kind", ["set", "zset", "hash", "absent"])
def test_a_collection_of_jtis_is_a_ledger(migrated: str, redis_url: str, kind: str) -> None:
    app = App(migrated, None, {"kind": "redis", "url": redis_url, "keys": "revoked"})
    token, session = app.swapped("7")
    with redis.Redis.from_url(redis_url) as theirs:
        match kind:
            case "set":
                theirs.sadd("revoked", jti(token))
            case "zset":
                theirs.zadd("revoked", {jti(token): 1.0})
            case "hash":
                theirs.hset("revoked", jti(token), "1")
    turn = app.poll()
    assert turn.why is None
    assert app.is_alive(session) is (kind == "absent")


# ---- a function of the app ----------------------------------------------------------------------


def test_p2_a_function_of_the_app_ends_sessions_off_the_request_path(migrated: str) -> None:
    app = App(migrated, None, {"kind": "callback", "every": "100ms"})
    asked: list[tuple[Any, Any, str]] = []
    revoked: set[str] = set()

    def loader(header: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
        asked.append((header, payload, threading.current_thread().name))
        return payload["jti"] in revoked

    wiring.blocklist(loader, settings=app.settings)
    token, session = app.swapped("7", sid="login-7")
    _, other = app.swapped("8")
    assert comes_true(lambda: asked)
    header, payload, thread = next(each for each in asked if each[1]["sub"] == "7")
    assert header == {"typ": "JWT", "alg": "HS256"}
    assert payload["jti"] == jti(token)
    assert payload["sid"] == "login-7"
    assert {"exp", "iat"} <= payload.keys()
    assert thread == "migrator-ledger-callback"
    revoked.add(jti(token))
    assert comes_true(lambda: not app.is_alive(session))
    assert app.is_alive(other)
    assert app.standing(token) in {"denied", "session_ended"}


def test_a_function_begins_to_be_asked_where_the_settings_name_no_ledger(migrated: str) -> None:
    app = App(migrated, None)
    token, session = app.swapped("7")
    asked = threading.Event()

    def loader(_: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
        asked.set()
        return bool(payload["jti"] == jti(token))

    wiring.blocklist(loader, settings=app.settings)
    assert asked.wait(8)
    assert comes_true(lambda: not app.is_alive(session))


def test_a_function_that_the_settings_name_is_asked(migrated: str) -> None:
    call = f"{__name__}:is_revoked"
    app = App(migrated, None, {"kind": "callback", "call": call})
    token, session = app.swapped("7")
    poller = app.poller(asked=is_revoked)
    assert app.turn(poller).tally.ended == 0
    REVOKED.add(jti(token))
    assert app.turn(poller).tally.ended == 1
    poller.close()
    assert not app.is_alive(session)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("no.such.module:f", "call names nothing: ModuleNotFoundError"),
        ("json:no_such_name", "call names nothing: AttributeError"),
    ],
)
def test_a_function_that_is_not_there_is_told(migrated: str, call: str, why: str) -> None:
    app = App(migrated, None, {"kind": "callback", "call": call})
    assert app.poll().why == why


def test_a_function_that_fails_for_one_token_is_asked_about_the_others(migrated: str) -> None:
    app = App(migrated, None, {"kind": "callback", "call": "json:dumps"})
    tokens = [app.swapped(f"user-{at}") for at in range(6)]
    poisoned = {jti(token) for token, _ in tokens[:2]}

    def loader(_: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
        if payload["jti"] in poisoned:
            raise RuntimeError("a secret of the app")
        return True

    turn = app.poll(asked=loader)
    assert (turn.why, turn.tally.ended) == ("it raised RuntimeError 2 times", 4)
    assert "a secret" not in str(app.execute("SELECT detail FROM migrator.jobs"))


def test_a_coroutine_function_is_refused_in_words(migrated: str) -> None:
    app = App(migrated, None, {"kind": "callback", "call": "json:dumps"})
    app.swapped("7")
    assert "coroutine" in str(app.poll(asked=is_revoked_later).why)


# ---- turns --------------------------------------------------------------------------------------


def test_a_node_reads_its_ledgers_by_itself_and_others_hear_of_it(
    migrated: str, redis_url: str
) -> None:
    app = App(migrated, redis_url, {**BY_JTI, "every": "200ms"})
    app.execute(BLOCKLIST)
    token, session = app.swapped("7")
    elsewhere = Node(app.settings)
    try:
        assert elsewhere.show(session).kind == "admitted"
        app.execute("INSERT INTO blocklist (jti) VALUES (%s)", jti(token))
        assert comes_true(lambda: app.show(session).reason == "session_ended")
        assert comes_true(lambda: elsewhere.show(session).reason == "session_ended", 2.0)
    finally:
        elsewhere.close()


def test_one_node_at_a_time_has_the_turn_and_a_dead_one_loses_it(migrated: str) -> None:
    app = App(migrated, None, BY_JTI)
    app.execute(BLOCKLIST)
    one, two = app.poller(), app.poller()
    app.turn(one)
    with pytest.raises(NotDue) as soon:
        two.turn()
    assert 3500 < soon.value.seconds <= 3600
    # It died in the middle of its turn: its lease holds for a while, and then another goes on.
    app.execute(
        "UPDATE migrator.jobs SET state = 'running', detail = detail || jsonb_build_object("
        "'run', 'dead', 'due', extract(epoch FROM now()) + 45)"
    )
    with pytest.raises(NotDue):
        two.turn()
    with pytest.raises(NotDue):
        two.turn(at_once=True)
    app.execute("UPDATE migrator.jobs SET detail = detail || '{\"due\": 0}'")
    assert two.turn().why is None
    for poller in (one, two):
        poller.close()


def test_who_was_taken_over_stops_and_writes_nothing_more(
    migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App(migrated, None, BY_JTI)
    app.execute(BLOCKLIST)
    poller: Poller = app.poller()
    steps = poller.source.turn

    def slow(*args: Any) -> Any:
        app.execute('UPDATE migrator.jobs SET detail = detail || \'{"run": "another"}\'')
        yield from steps(*args)

    monkeypatch.setattr(poller.source, "turn", slow)
    with pytest.raises(NotDue):
        app.turn(poller)
    poller.close()
    assert app.execute("SELECT detail ->> 'run', checkpoint FROM migrator.jobs") == [
        ("another", {})
    ]


def test_a_source_that_fails_stops_neither_the_pulse_nor_a_request(migrated: str) -> None:
    app = App(
        migrated,
        None,
        {**BY_JTI, "name": "broken", "url": "postgresql://nobody@127.0.0.1:1/none"},
        {**BY_JTI, "every": "200ms"},
        {**BY_JTI, "name": "absent", "table": "nowhere", "every": "200ms"},
    )
    app.execute(BLOCKLIST)
    token, session = app.swapped("7")
    failed = "name = 'ledger:absent' AND state = 'failed' AND detail ->> 'why' = 'UndefinedTable'"
    assert comes_true(lambda: app.rig.count("jobs", failed) == 1)
    assert app.show(session).kind == "admitted"
    app.execute("INSERT INTO blocklist (jti) VALUES (%s)", jti(token))
    assert comes_true(lambda: app.show(session).kind == "refused")
    gate = app.gate
    assert comes_true(lambda: gate.node.recent.trusted_until > gate.clock.ticks())


def test_the_threads_end_with_the_pulse_and_begin_again_with_it(migrated: str) -> None:
    app = App(migrated, None, {**BY_JTI, "every": "200ms"})
    app.execute(BLOCKLIST)

    def polling() -> bool:
        return any(each.name == "migrator-ledger-table" for each in threading.enumerate())

    app.show(sign("7"))
    assert comes_true(polling)
    wiring.stop()
    assert not polling()
    app.show(sign("8"))
    assert comes_true(polling)


def test_nothing_is_read_any_more_once_legacy_tokens_are_retired(migrated: str) -> None:
    app = App(migrated, None, {**BY_JTI, "every": "100ms"})
    app.execute(BLOCKLIST)
    app.rig.move("retired")
    gate = app.gate
    app.show(sign("7"))
    assert comes_true(lambda: gate.node.rollout is not None)
    (before,) = app.execute("SELECT max(done) FROM migrator.jobs")[0]
    app.execute("INSERT INTO blocklist (jti) VALUES ('x')")
    assert not comes_true(lambda: app.rig.count("denials"), 0.5)
    assert before in {0, None}


def test_our_own_database_gone_is_unavailable_and_the_turn_is_taken_up_again(
    migrated: str,
) -> None:
    app = App(migrated, None, BY_JTI)
    app.execute(BLOCKLIST)
    app.execute("INSERT INTO blocklist (jti) VALUES ('x')")
    poller = app.poller()
    app.execute("ALTER TABLE migrator.denials RENAME TO away")
    with pytest.raises(Unavailable):
        app.turn(poller)
    app.execute("ALTER TABLE migrator.away RENAME TO denials")
    assert poller.turn().tally.denied == 1
    poller.close()
