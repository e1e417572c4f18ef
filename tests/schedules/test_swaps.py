"""P2: a swap that races a revocation leaves nothing alive: stepped statement by statement.

The shipped scripts run on two real connections, and every order of their statements is tried. A
trigger of these tests also stops the swap inside its inserting statement, after its snapshot was
taken: that is where a lock taken by that very statement would come too late. The last test takes
it there, and must find the hole.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, event

from migrator import prepared
from migrator.control import cutoffs
from migrator.control.cutoff_rows import Place
from migrator.control.endings import Audit
from migrator.core.claims import Claims
from migrator.core.flow import run
from migrator.core.ids import uuid7
from migrator.core.interfaces import Ticket
from migrator.core.legacy import Legacy
from migrator.core.sessions import Session
from migrator.stores import queries as q
from migrator.stores import tables
from migrator.stores.drivers import conninfo
from migrator.stores.memory import NoCache
from migrator.stores.postgres import Postgres, locks_of
from tests.rig import Rig, sign
from tests.schedules.interleave import Tried, every_schedule

_PATIENCE_S = 10.0
_LOOK_S = 0.003
# A statement-level trigger fires once the statement has its snapshot, before it reads anything.
_GATE = """
CREATE FUNCTION stop_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF coalesce(current_setting('gate.key', true), '') <> '' THEN
    PERFORM pg_advisory_xact_lock_shared(current_setting('gate.key')::bigint);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER stop_at_gate BEFORE INSERT ON migrator.legacy_tokens
  FOR EACH STATEMENT EXECUTE FUNCTION stop_at_gate()"""
# Without effect on the other: no reason to let it come between.
_SILENT = ("BEGIN", "SET LOCAL", "SELECT clock_timestamp()", 'INSERT INTO "migrator".feed')
_numbers = itertools.count(1)


class Actor:
    """A thread that waits before each statement until it is told to go on."""

    def __init__(self, pid: int, work: Callable[[Actor], object]) -> None:
        self.pid = pid
        self.is_over = False
        self.failed: BaseException | None = None
        self._work = work
        self._go, self._arrived = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self.arrives(_PATIENCE_S)

    def _run(self) -> None:
        try:
            self._work(self)
        except BaseException as error:  # noqa: BLE001 - the test raises it
            self.failed = error
        self.is_over = True
        self._arrived.set()

    def pause(self) -> None:
        """Called by the work: let others come between."""
        self._arrived.set()
        assert self._go.wait(_PATIENCE_S)
        self._go.clear()

    def go_on(self) -> None:
        """Called by the conductor: run to the next pause."""
        self._arrived.clear()
        self._go.set()

    def arrives(self, seconds: float) -> bool:
        """Whether it got to a pause or its end."""
        return self._arrived.wait(seconds)


class SteppedDriver:
    """Runs the shipped scripts on one connection, pausing before each statement."""

    blocks = True

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self.actor: Actor | None = None

    async def run(self, *steps: Any, by_anyone: bool = False) -> list[list[Any]]:
        del by_anyone
        rows = []
        for statement, facts in steps:
            if self.actor is not None and not statement.lstrip().startswith(_SILENT):
                self.actor.pause()
            # Whoever is stepped may wait for long; the timeout is tried where nothing is stepped.
            text = "SELECT 1" if statement == q.LOCK_TIMEOUT else statement
            cursor = self._connection.execute(text, facts, binary=True)
            rows.append(cursor.fetchall() if cursor.description else [])
        return rows


class Stage:
    """The connections that every schedule is played on, each with a subject of its own."""

    def __init__(self, url: str) -> None:
        self.rig = Rig(url)
        self.rig.move("drain")
        self.rig.execute(_GATE)
        settings = self.rig.settings()
        self.verifier, self.terms = prepared.verifier_of(settings), prepared.terms_of(settings)
        self.conductor, self.swapper, self.revoker = (
            psycopg.connect(**conninfo(url), autocommit=True, prepare_threshold=1)
            for _ in range(3)
        )
        self.engine = create_engine(url)
        self.number, self.now = 0, datetime.now(UTC)

    def begin(self) -> Claims:
        """A legacy token nobody has seen, and the gate that its swap stops at."""
        self.number, self.now = next(_numbers), datetime.now(UTC)
        self.conductor.execute("SELECT pg_advisory_unlock_all()")
        self.conductor.execute("SELECT pg_advisory_lock(%s)", (self.number,))
        self.swapper.execute("SELECT set_config('gate.key', %s, false)", (str(self.number),))
        jwt = sign(f"user-{self.number}", headers={"kid": f"k{self.number}"}).encode()
        owner = self.verifier.whose(jwt, allowed=None, path="")
        assert isinstance(owner, Legacy)
        claims = self.verifier.verify(jwt, owner.candidates, now=self.now)
        assert isinstance(claims, Claims)
        return claims

    def ticket(self, claims: Claims) -> Ticket:
        session = Session(
            id=uuid7(),
            kind="session",
            realm=claims.realm,
            subject=claims.subject,
            created_at=self.now,
            expires_at=claims.exp,
            origin="swap",
        )
        return Ticket(
            session=session,
            digest=claims.fingerprint[::-1],
            swap_key_id="k1",
            percent_bucket=1,
        )

    def blockers(self, actor: Actor) -> set[int]:
        """The backends that an actor waits for; none while it is merely busy."""
        rows = self.conductor.execute("SELECT pg_blocking_pids(%s)", (actor.pid,)).fetchall()
        return set(rows[0][0])

    def open_gate(self) -> None:
        self.conductor.execute("SELECT pg_advisory_unlock(%s)", (self.number,))

    def close(self) -> None:
        for connection in (self.conductor, self.swapper, self.revoker):
            connection.close()
        self.engine.dispose()

    # ---- who plays -----------------------------------------------------------------------------

    def swap(self, claims: Claims, make: type[Postgres] = Postgres) -> Actor:
        driver = SteppedDriver(self.swapper)
        store, ticket = make(driver, "migrator"), self.ticket(claims)

        def work(actor: Actor) -> None:
            driver.actor = actor
            run(store.swap(claims, ticket))

        return Actor(self.swapper.info.backend_pid, work)

    def end_subject(self, claims: Claims) -> Actor:
        """The shipped script of `end_all` and `revoke-subject`."""
        driver = SteppedDriver(self.revoker)
        store = Postgres(driver, "migrator")

        def work(actor: Actor) -> None:
            driver.actor = actor
            run(
                store.end_subject(
                    claims.subject, realm=claims.realm, reason="x", by="x", legacy=True
                )
            )

        return Actor(self.revoker.info.backend_pid, work)

    def cut_kid_off(self, claims: Claims) -> Actor:
        """What `cutoff add --kid` calls, stopped by SQLAlchemy's own hooks."""
        connection = self.engine.connect()
        driver_connection: Any = connection.connection.driver_connection

        committed = itertools.count()

        def work(actor: Actor) -> None:
            def before(*hook: Any) -> tuple[str, Any]:
                statement, parameters = hook[2], hook[3]
                if statement == q.LOCK_TIMEOUT:
                    return "SELECT 1", ()
                if any(mark in statement for mark in _STEPS_OF_CUTOFF):
                    actor.pause()
                return statement, parameters

            def commits(*_: Any) -> None:
                if next(committed) == 0:
                    actor.pause()

            event.listen(connection, "before_cursor_execute", before, retval=True)
            event.listen(connection, "commit", commits)
            with connection:
                cutoffs.cut_issuer(
                    Place(connection, "migrator", NoCache()),
                    claims.issuer,
                    kid=claims.kid,
                    audit=Audit(who="x", why="x"),
                    dry_run=False,
                )

        return Actor(driver_connection.info.backend_pid, work)

    def alive(self, claims: Claims) -> int:
        """How many sessions of the subject live, at the very end."""
        rows = self.conductor.execute(
            "SELECT count(*) FROM migrator.sessions WHERE subject = %s AND revoked_at IS NULL",
            (claims.subject,),
        )
        living: int = rows.fetchall()[0][0]
        return living


# Its row, the lock that waits for swaps, and what it ends; of its commits the one of the row.
_STEPS_OF_CUTOFF = ("INTO migrator.cutoffs", "pg_advisory_xact_lock(", "ORDER BY t.fingerprint")


def play(stage: Stage, actors: list[Actor], choices: Sequence[int]) -> Tried:
    """Follow one schedule. Who waits for another in the database cannot be chosen meanwhile."""
    tried = Tried([], [])
    waiting: set[int] = set()
    at_gate: set[int] = set()

    def settle(actor: Actor) -> None:
        while not actor.arrives(_LOOK_S):
            blockers = stage.blockers(actor)
            if stage.conductor.info.backend_pid in blockers:
                at_gate.add(id(actor))
                return
            if blockers:
                waiting.add(id(actor))
                return
        waiting.discard(id(actor))

    while running := [actor for actor in actors if not actor.is_over]:
        free = [actor for actor in running if id(actor) not in waiting]
        assert free, "a deadlock"
        position = len(tried.choices)
        chosen = choices[position] if position < len(choices) else 0
        tried.choices.append(chosen)
        tried.ways.append(len(free))
        actor = free[chosen]
        if id(actor) in at_gate:
            at_gate.discard(id(actor))
            stage.open_gate()
        else:
            actor.go_on()
        settle(actor)
        for other in actors:
            if id(other) in waiting and other is not actor:
                settle(other)
    for actor in actors:
        if actor.failed is not None:
            raise actor.failed
    return tried


@pytest.fixture
def stage(migrated: str) -> Iterator[Stage]:
    built = Stage(migrated)
    yield built
    built.close()


def survivors(
    stage: Stage,
    revoke: Callable[[Claims], Actor],
    *,
    make: type[Postgres] = Postgres,
    backfilled: bool = False,
    enough: int = 2**63,
) -> tuple[int, list[list[int]]]:
    """How many schedules were played, and those after which a session lived."""
    found: list[list[int]] = []

    def one(choices: Sequence[int]) -> Tried:
        claims = stage.begin()
        if backfilled:
            backfill(stage, claims)
        tried = play(stage, [stage.swap(claims, make), revoke(claims)], choices)
        if stage.alive(claims):
            found.append(tried.choices)
        return tried

    played = 0
    for _ in every_schedule(one):
        played += 1
        if len(found) >= enough:
            break
    return played, found


def backfill(stage: Stage, claims: Claims) -> None:
    session_id = uuid7()
    stage.conductor.execute(
        "INSERT INTO migrator.sessions (id, kind, realm, subject, expires_at, origin)"
        " VALUES (%s, 'session', %s, %s, %s, 'backfill')",
        (session_id, claims.realm, claims.subject, claims.exp),
    )
    stage.conductor.execute(
        "INSERT INTO migrator.legacy_tokens (fingerprint, issuer, realm, subject, purpose, exp,"
        " session_id, keep_until, percent_bucket)"
        " VALUES (%s, %s, %s, %s, 'access', %s, %s, %s, 1)",
        (
            claims.fingerprint,
            claims.issuer,
            claims.realm,
            claims.subject,
            claims.exp,
            session_id,
            claims.exp + timedelta(hours=1),
        ),
    )


@pytest.mark.parametrize("backfilled", [False, True], ids=["unseen", "backfilled"])
def test_p2_a_swap_racing_the_end_of_its_subject_leaves_nothing_alive(
    stage: Stage, backfilled: bool
) -> None:
    played, found = survivors(stage, stage.end_subject, backfilled=backfilled)
    assert found == []
    assert played >= 50


def test_p2_a_swap_racing_a_cutoff_of_its_kid_leaves_nothing_alive(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A command copies the tables once or twice, hundreds of them need not.
    monkeypatch.setattr(tables, "in_schema", functools.cache(tables.in_schema))
    played, found = survivors(stage, stage.cut_kid_off)
    assert found == []
    assert played >= 50


class LocksTooLate(Postgres):
    """Takes its locks inside the inserting statement, after that statement's snapshot."""

    async def swap(self, claims: Claims, ticket: Any) -> Any:
        outer = self._driver

        class Driver:
            blocks = True

            async def run(self, *steps: Any, by_anyone: bool = False) -> Any:
                del by_anyone
                merged = []
                for statement, facts in steps:
                    if statement.lstrip().startswith("SELECT pg_advisory_xact_lock_shared"):
                        continue
                    if "INSERT INTO" in statement and "legacy_tokens (" in statement:
                        merged.append(
                            (
                                statement.replace("WHERE NOT", f"WHERE {_LOCKING} AND NOT", 1),
                                {**facts, "locks": locks_of(claims)},
                            )
                        )
                    else:
                        merged.append((statement, facts))
                rows = await outer.run(*merged)
                return [rows[0], [], *rows[1:]]

        return await Postgres(Driver(), "migrator").swap(claims, replace(ticket))


_LOCKING = (
    "(SELECT count(pg_advisory_xact_lock_shared(key)) FROM unnest(%(locks)s::bigint[]) l(key)) > 0"
)


def test_locks_inside_the_inserting_statement_show_their_hole(stage: Stage) -> None:
    _, found = survivors(stage, stage.end_subject, make=LocksTooLate, enough=1)
    assert found != []
