"""The pulse over a real Postgres: what it says of its node, what it writes, and how it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from migrator import wiring
from migrator.core.app import Sessions
from migrator.core.gate import Gate
from tests.faults.nodes import present
from tests.rig import ISSUER, Rig, sign, sign_refresh

BY_SECOND = {"poll_ms": 50, "trust_ms": 900}


@pytest.fixture
def rig(migrated: str, redis_url: str) -> Rig:
    rig = Rig(migrated, redis_url, memory=BY_SECOND)
    rig.move("drain")
    return rig


@pytest.fixture
def app(rig: Rig) -> Iterator[tuple[Gate, Sessions]]:
    settings = rig.settings()
    yield wiring.gate(settings), wiring.sessions(settings)
    wiring.stop()


def comes_true(claim: Callable[[], object], seconds: float = 8.0) -> bool:
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def threads() -> set[str]:
    return {one.name for one in threading.enumerate() if one.name.startswith("migrator-")}


def swapped(gate: Gate, subject: str) -> tuple[bytes, bytes]:
    legacy = sign(subject).encode()
    token = present(gate, legacy).token
    assert token is not None
    return legacy, token


def trusts(gate: Gate) -> bool:
    return gate.node.recent.trusted_until > gate.clock.ticks()


def test_p7_a_node_leases_a_row_and_acknowledges_each_epoch(
    rig: Rig, app: tuple[Gate, Sessions]
) -> None:
    gate, _ = app
    present(gate, sign("ann").encode())
    epoch = rig.execute("SELECT epoch FROM migrator.rollout")[0][0]
    acknowledged = "epoch = {} AND lease_until > now() AND has_keys AND sees_tables"
    assert comes_true(lambda: rig.count("nodes", acknowledged.format(epoch)) == 1)
    assert rig.execute("SELECT key_ids FROM migrator.nodes") == [(["k1"],)]
    rig.move("cutover")
    assert comes_true(lambda: rig.count("nodes", acknowledged.format(epoch + 1)) == 1)
    assert gate.node.rollout is not None
    assert gate.node.rollout.epoch == epoch + 1


def test_p7_an_epoch_is_acted_upon_before_it_is_acknowledged(
    rig: Rig, app: tuple[Gate, Sessions]
) -> None:
    """A remembered verdict of the old phase must not outlive the acknowledgement of the new."""
    gate, _ = app
    legacy, token = swapped(gate, "ann")
    for phase, kind in (("cutover", "refused"), ("drain", "admitted"), ("cutover", "refused")):
        rig.move(phase)
        epoch = rig.execute("SELECT epoch FROM migrator.rollout")[0][0]
        while rig.count("nodes", f"epoch = {epoch}") == 0:
            present(gate, legacy)
            time.sleep(0.001)
        assert present(gate, legacy).kind == kind
        assert present(gate, token).kind == "admitted"


def test_stopping_writes_what_is_buffered_ends_the_lease_and_leaves_no_thread(rig: Rig) -> None:
    wiring.stop()
    assert comes_true(lambda: threads() <= {"migrator-connect"})
    gate = wiring.gate(rig.settings())
    _, token = swapped(gate, "ann")
    assert comes_true(lambda: rig.count("nodes", "lease_until > now()") == 1)
    for _ in range(7):
        present(gate, token)
    wiring.stop()
    assert rig.count("nodes", "lease_until > now()") == 0
    counted = rig.execute(
        "SELECT sum(count)::int FROM migrator.legacy_usage WHERE outcome = 'session'"
    )
    assert counted == [(7,)]
    assert comes_true(lambda: threads() <= {"migrator-connect"}), threads()
    assert comes_true(lambda: not threads(), 4.0), threads()


def test_usage_census_and_adoption_reach_their_tables(
    rig: Rig, app: tuple[Gate, Sessions]
) -> None:
    gate, _ = app
    legacy, token = swapped(gate, "ann")
    for _ in range(3):
        present(gate, legacy)
    seen = "subject = 'ann' AND issuer = 'a1' AND max_exp > now()"
    assert comes_true(lambda: rig.count("legacy_subjects", seen) == 1)
    assert rig.count("legacy_tokens", "adopted_at IS NULL") == 1
    present(gate, token)
    assert comes_true(lambda: rig.count("legacy_tokens", "adopted_at IS NOT NULL") == 1)
    with_session = f"{seen} AND session_seen_at IS NOT NULL"
    assert comes_true(lambda: rig.count("legacy_subjects", with_session) == 1)
    usage = (
        "SELECT outcome, sum(count)::int FROM migrator.legacy_usage"
        " WHERE outcome IN ('swapped', 'session') GROUP BY 1 ORDER BY 1"
    )
    assert comes_true(lambda: rig.execute(usage) == [("session", 1), ("swapped", 4)])


def test_what_a_node_issued_before_it_was_cut_off_is_dated_by_when(
    rig: Rig, app: tuple[Gate, Sessions]
) -> None:
    """Written late, it must not look as if issuing went on after the drain took effect."""
    gate, _ = app
    swapped(gate, "ann")
    issued_at = datetime.now(UTC) - timedelta(minutes=5)
    gate.node.usage.issued(issued_at, None)
    gate.node.usage.count(None, None, "issued:legacy")
    gate.node.usage.count(None, None, "issued:session")
    dated = "SELECT outcome, last_at FROM migrator.legacy_usage WHERE outcome LIKE 'issued:%'"
    assert comes_true(lambda: len(rig.execute(dated)) == 2)
    found: dict[str, datetime] = dict(rig.execute(dated))
    assert found["issued:legacy"] == issued_at
    assert found["issued:session"] > issued_at + timedelta(minutes=4)


def test_last_seen_is_written_in_its_grain(rig: Rig, app: tuple[Gate, Sessions]) -> None:
    gate, _ = app
    _, token = swapped(gate, "ann")
    present(gate, token)
    rig.execute("UPDATE migrator.sessions SET last_seen_at = now() - interval '5 minutes'")
    present(gate, token)
    recently = "last_seen_at > now() - interval '10 s'"
    assert comes_true(lambda: rig.count("sessions", recently) == 1)


def test_p11_a_thousand_hits_write_a_handful_of_rows(rig: Rig, app: tuple[Gate, Sessions]) -> None:
    gate, _ = app
    pairs = [swapped(gate, f"user-{number}") for number in range(5)]
    assert comes_true(lambda: trusts(gate))
    assert comes_true(lambda: rig.count("legacy_subjects") == 5)
    before = writes(rig)
    for _ in range(100):
        for legacy, token in pairs:
            assert present(gate, legacy).kind == "admitted"
            assert present(gate, token).kind == "admitted"
    wiring.stop()  # so that every write is counted
    written = writes(rig)
    changed = {table: written[table] - before.get(table, 0) for table in written}
    # Statistics come late: the five swaps may be in it. Beside them five adoptions and a flush or
    # two; nothing that grows with the thousand.
    assert changed["sessions"] <= 10
    assert changed["legacy_tokens"] <= 10
    assert sum(changed.values()) <= 60, changed


def writes(rig: Rig) -> dict[str, int]:
    """Rows ever written, by table."""
    rig.execute("SELECT pg_stat_force_next_flush()")
    rows = rig.execute(
        "SELECT relname, n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables"
        " WHERE schemaname = 'migrator'"
    )
    return {str(name): int(count) for name, count in rows}


def test_an_unwritten_census_is_kept_until_it_can_be_written(
    rig: Rig, app: tuple[Gate, Sessions]
) -> None:
    """An outage must not make a straggler invisible: cutover counts on who was seen."""
    gate, _ = app
    present(gate, sign("warm").encode())
    assert comes_true(lambda: rig.count("legacy_subjects") == 1)
    rig.execute("ALTER TABLE migrator.legacy_subjects RENAME TO legacy_subjects_away")
    legacy, _ = swapped(gate, "straggler")
    time.sleep(2.5)  # some flushes fail
    rig.execute("ALTER TABLE migrator.legacy_subjects_away RENAME TO legacy_subjects")
    assert comes_true(lambda: rig.count("legacy_subjects", "subject = 'straggler'") == 1), legacy


def test_use_carries_an_exchanged_session_on_where_refresh_tokens_rotate(
    migrated: str, redis_url: str
) -> None:
    """P12: a client that refreshes only on a 401 must not meet its first when all is over."""
    issuer = {**ISSUER, "rotates_refresh": True, "refresh_lifetime": "3s"}
    rig = Rig(migrated, redis_url, memory=BY_SECOND, issuers=[issuer])
    rig.move("drain")
    settings = rig.settings()
    gate, sessions = wiring.gate(settings), wiring.sessions(settings)
    token = str(sessions.exchange(sign_refresh("ann", lasts_s=3), legacy=lambda: "").token)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        assert present(gate, token.encode()).kind == "admitted"
        time.sleep(0.2)
    assert comes_true(lambda: rig.count("sessions", "expires_at < now()"), 6)
    wiring.stop()
