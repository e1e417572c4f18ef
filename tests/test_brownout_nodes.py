"""A brownout on nodes that serve: who is refused and when, what is noted, and what ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from migrator import wiring
from migrator.cli.demo.servers import Postgres
from migrator.core.app import Sessions
from migrator.core.flow import run
from migrator.core.gate import Gate
from migrator.core.phases import Rollout
from migrator.stores import guards
from migrator.stores.drivers import BlockingDriver
from migrator.stores.rollout_row import rollout_of
from tests.faults.nodes import present
from tests.rig import Rig, sign, sign_refresh

POLL_MS = 100
# What a poll takes beside its rhythm, on a machine that is busy.
SLACK_S = 0.6


@pytest.fixture
def rig(migrated: str) -> Rig:
    rig = Rig(migrated, memory={"poll_ms": POLL_MS, "trust_ms": 900})
    rig.move("drain")
    return rig


@contextmanager
def node(rig: Rig) -> Iterator[tuple[Gate, Sessions]]:
    settings = rig.settings()
    yield wiring.gate(settings), wiring.sessions(settings)
    wiring.stop()


def open_window(
    rig: Rig,
    *,
    after_s: float = 0.0,
    lasts_s: float = 600.0,
    percent: int = 100,
    limits: str = "{}",
) -> int:
    """A brownout as the command leaves it; its number."""
    number: int = rig.execute(
        "INSERT INTO migrator.brownouts (created_by, starts_at, ends_at, percent, limits)"
        " VALUES ('dana', clock_timestamp() + make_interval(secs => %s), clock_timestamp()"
        " + make_interval(secs => %s), %s, %s::jsonb) RETURNING id",
        after_s,
        after_s + lasts_s,
        percent,
        limits,
    )[0][0]
    rig.execute(
        "UPDATE migrator.rollout SET epoch = epoch + 1, brownouts = (SELECT jsonb_agg("
        "jsonb_build_object('id', id, 'starts_at', starts_at, 'ends_at', ends_at, 'by', by,"
        " 'value', value, 'percent', percent)) FROM migrator.brownouts WHERE aborted_at IS NULL)"
    )
    return number


def comes_true(claim: Callable[[], object], seconds: float = 8.0) -> bool:
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def kind(gate: Gate, credential: bytes) -> str:
    answer = present(gate, credential)
    return answer.kind if answer.reason is None else f"{answer.kind} {answer.reason}"


def knows(gate: Gate, number: int) -> bool:
    rollout = gate.node.rollout
    return rollout is not None and number in {one.id for one in rollout.brownouts}


REFUSED = "refused legacy_retired"


def test_p4_a_window_refuses_remembered_legacy_tokens_between_its_edges_and_no_session(
    rig: Rig,
) -> None:
    """A verdict in memory must not outlive the edge of a window by more than a poll."""
    with node(rig) as (gate, _):
        legacy = sign("ann").encode()
        first = present(gate, legacy)
        assert first.token is not None
        assert comes_true(lambda: gate.node.recent.trusted_until > gate.clock.ticks())
        assert kind(gate, legacy) == "admitted"  # remembered for a minute, by what stood then
        number = open_window(rig, after_s=1.5, lasts_s=1.5)
        assert comes_true(lambda: knows(gate, number), 1.2)
        starts, ends = (
            float(one)
            for one in rig.execute(
                "SELECT extract(epoch FROM starts_at), extract(epoch FROM ends_at)"
                " FROM migrator.brownouts"
            )[0]
        )
        seen: list[tuple[float, str]] = []
        while gate.clock.now().timestamp() < ends + POLL_MS / 1000 + SLACK_S:
            before = gate.clock.now().timestamp()
            seen.append((before, kind(gate, legacy)))
            assert kind(gate, first.token) == "admitted"
            time.sleep(0.002)
        late = POLL_MS / 1000 + SLACK_S
        assert {what for at, what in seen if at < starts - 0.05} == {"admitted"}
        assert {what for at, what in seen if starts + late < at < ends - 0.05} == {REFUSED}
        assert {what for at, what in seen if at > ends + late - 0.1} == {"admitted"}


def test_a_rollback_to_swap_ends_it_at_once(rig: Rig) -> None:
    with node(rig) as (gate, _):
        legacy = sign("ann").encode()
        present(gate, legacy)
        open_window(rig)
        assert comes_true(lambda: kind(gate, legacy) == REFUSED)
        rig.move("swap")
        assert comes_true(lambda: kind(gate, legacy) == "admitted", 1.5)


def test_a_refresh_token_meets_the_same_refusal(rig: Rig) -> None:
    from migrator.core.errors import Refused  # noqa: PLC0415 - only this test raises it

    with node(rig) as (gate, sessions):
        legacy = sign("ann").encode()
        present(gate, legacy)
        open_window(rig)
        assert comes_true(lambda: kind(gate, legacy) == REFUSED)
        with pytest.raises(Refused, match="legacy_retired"):
            sessions.exchange(sign_refresh("ben"), legacy=lambda: "unused")
        assert sessions.login("cat", legacy=lambda: "unused").kind == "session"
        wiring.stop()
        hits = rig.execute("SELECT brownout, subject FROM migrator.brownout_hits ORDER BY subject")
        assert hits == [(1, "ann"), (1, "ben")]
        figures = dict(
            rig.execute("SELECT outcome, sum(count)::int FROM migrator.minutes GROUP BY 1")
        )
        assert figures["sign_in"] == 1
        assert figures["refused"] >= 2
        assert figures["legacy"] >= 1


def test_a_share_is_refused_and_the_rest_is_not(rig: Rig) -> None:
    with node(rig) as (gate, _):
        tokens = [sign(f"u{n}").encode() for n in range(60)]
        present(gate, tokens[0])
        number = open_window(rig, percent=50)
        assert comes_true(lambda: knows(gate, number))
        first = [kind(gate, token) for token in tokens]
        assert 12 <= first.count(REFUSED) <= 48
        assert [kind(gate, token) for token in tokens] == first


def test_p4_windows_open_and_close_while_the_database_is_away(own_postgres: Postgres) -> None:
    """An outage neither keeps a window open nor shut; and what nobody can say is a 503."""
    from migrator.control import schema  # noqa: PLC0415 - as in conftest

    schema.upgrade(own_postgres.url)
    rig = Rig(own_postgres.url, memory={"poll_ms": POLL_MS, "trust_ms": 900})
    rig.move("drain")
    with node(rig) as (gate, _):
        legacy = sign("ann").encode()
        assert kind(gate, legacy) == "admitted"
        number = open_window(rig, after_s=2.5, lasts_s=2.0)
        assert comes_true(lambda: knows(gate, number), 2.0)
        own_postgres.stop()
        assert comes_true(lambda: kind(gate, legacy) == REFUSED, 5.0)
        assert comes_true(lambda: kind(gate, legacy).startswith("unavailable"), 6.0)
        assert kind(gate, legacy) != REFUSED
        own_postgres.start()
        assert comes_true(lambda: kind(gate, legacy) == "admitted", 10.0)


# ---- what ends one by itself -------------------------------------------------------------------


def feed_of(rig: Rig) -> tuple[guards.Run, Rollout]:
    driver = BlockingDriver(rig.url, budget_s=5.0, room=1)

    def steps(*given: tuple[str, Any]) -> list[list[Any]]:
        filled = ((sql.replace("{s}", '"migrator"'), facts) for sql, facts in given)
        return run(driver.run(*filled))

    from migrator.stores import queries as q  # noqa: PLC0415 - beside its only use

    rows = steps((q.ROLLOUT, None), ("SELECT clock_timestamp()", None))
    return steps, rollout_of(rows[0]).at(rows[1][0][0])


def met(rig: Rig, number: int, subjects: int) -> None:
    rig.execute(
        "INSERT INTO migrator.brownout_hits (brownout, realm, subject, issuer, first_at, last_at)"
        " SELECT %s, 'users', 'u' || n, 'a1', now(), now() FROM generate_series(1, %s) n",
        number,
        subjects,
    )


def logins(rig: Rig, *, minutes_ago: int, count: int) -> None:
    rig.execute(
        "INSERT INTO migrator.minutes SELECT date_trunc('minute', now()) - %s * interval '1 min',"
        " 'sign_in', %s",
        minutes_ago,
        count,
    )


def test_p7_of_many_nodes_that_see_too_much_exactly_one_ends_a_brownout(rig: Rig) -> None:
    first = open_window(rig, limits='{"subjects": 2}')
    second = open_window(rig)
    met(rig, first, 3)
    _, rollout = feed_of(rig)
    nodes = [feed_of(rig)[0] for _ in range(8)]
    start = threading.Barrier(len(nodes))
    ended: list[guards.Ended] = []

    def look(steps: guards.Run) -> None:
        start.wait()
        ended.extend(guards.watch(steps, "migrator", rollout))

    threads = [threading.Thread(target=look, args=(steps,)) for steps in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.who for one in ended] == [f"brownout {first}"]
    left = rig.execute("SELECT epoch, brownouts FROM migrator.rollout")[0]
    assert left[0] == rollout.epoch + 1
    assert [one["id"] for one in left[1]] == [second]
    assert rig.execute("SELECT id FROM migrator.brownouts WHERE aborted_at IS NOT NULL") == [
        (first,)
    ]
    assert rig.execute("SELECT who, command, from_phase FROM migrator.rollout_log") == [
        (f"brownout {first}", "brownout abort", None)
    ]
    assert rig.count("feed", f"key = 'epoch:{rollout.epoch + 1}'") == 1
    steps, after = feed_of(rig)
    assert guards.watch(steps, "migrator", after) == ()


def test_too_many_logins_end_a_brownout(rig: Rig) -> None:
    number = open_window(rig, after_s=-180, limits='{"sign_ins": 2}')
    for minute in range(4, 30):
        logins(rig, minutes_ago=minute, count=2)
    steps, rollout = feed_of(rig)
    logins(rig, minutes_ago=2, count=7)
    assert guards.watch(steps, "migrator", rollout) == ()
    logins(rig, minutes_ago=1, count=40)
    [ended] = guards.watch(steps, "migrator", rollout)
    assert "sign-ins a minute" in ended.why
    why = rig.execute("SELECT aborted_why FROM migrator.brownouts WHERE id = %s", number)
    assert why == [(ended.why,)]


def test_a_running_node_ends_what_goes_too_far_and_its_legacy_tokens_are_admitted_again(
    rig: Rig,
) -> None:
    with node(rig) as (gate, _):
        legacy = sign("ann").encode()
        present(gate, legacy)
        number = open_window(rig, limits='{"subjects": 1}')
        assert comes_true(lambda: kind(gate, legacy) == REFUSED)
        present(gate, sign("ben").encode())
        assert comes_true(lambda: kind(gate, legacy) == "admitted")
        assert rig.count("brownouts", f"id = {number} AND aborted_at IS NOT NULL") == 1


SOAK = (
    "UPDATE migrator.rollout SET soak = jsonb_build_object('since', now() - interval '3 min',"
    " 'until', now() + interval '10 min', 'sign_ins', 2.0, 'baseline_per_min', 1.0,"
    " 'epoch', epoch, 'back', jsonb_build_object('phase', 'drain', 'percent', 100,"
    " 'exceptions', '[]'::jsonb, 'drain_since', drain_since, 'sunset_at', NULL))"
)


def test_a_soak_takes_its_move_back_once_whoever_sees_it_first(rig: Rig) -> None:
    rig.move("cutover")
    rig.execute(SOAK)
    steps, rollout = feed_of(rig)
    assert guards.is_due(rollout, rollout.since)
    assert guards.watch(steps, "migrator", rollout) == ()
    logins(rig, minutes_ago=1, count=40)
    [ended] = guards.watch(steps, "migrator", rollout)
    assert (ended.who, ended.epoch) == ("soak", rollout.epoch + 1)
    assert guards.watch(steps, "migrator", rollout) == ()
    rows = rig.execute("SELECT phase, epoch, drain_since, soak FROM migrator.rollout")
    assert rows == [("drain", rollout.epoch + 1, rollout.drain_since, None)]
    assert rig.execute("SELECT who, command, from_phase, to_phase FROM migrator.rollout_log") == [
        ("soak", "rollback", "cutover", "drain")
    ]


def test_logins_of_the_minute_before_a_soak_do_not_count_against_it(rig: Rig) -> None:
    """A minute's figure is whole: this soak began two seconds before its first one ended."""
    rig.move("cutover")
    rig.execute(SOAK)
    rig.execute(
        "UPDATE migrator.rollout SET soak = soak || jsonb_build_object('baseline_per_min', 25.1,"
        " 'since', date_trunc('minute', now()) - interval '62 s')"
    )
    steps, rollout = feed_of(rig)
    logins(rig, minutes_ago=2, count=100)
    assert guards.watch(steps, "migrator", rollout) == ()


def test_a_running_node_takes_a_cutover_back(rig: Rig) -> None:
    with node(rig) as (gate, _):
        legacy = sign("ann").encode()
        present(gate, legacy)
        rig.move("cutover")
        logins(rig, minutes_ago=1, count=40)
        rig.execute(SOAK)
        assert comes_true(lambda: rig.count("rollout", "phase = 'drain'") == 1)
        assert comes_true(lambda: kind(gate, legacy) == "admitted")


def test_a_move_made_meanwhile_is_never_overwritten(rig: Rig) -> None:
    number = open_window(rig, limits='{"subjects": 2}')
    met(rig, number, 3)
    steps, rollout = feed_of(rig)
    rig.move("swap")
    assert guards.watch(steps, "migrator", rollout) == ()
    assert rig.count("brownouts", "aborted_at IS NULL") == 1
    assert rig.execute("SELECT phase FROM migrator.rollout") == [("swap",)]
