"""One soak, from a healthy stage to the verdict: load, moves and faults at once, then an audit."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from psycopg import Error as PostgresError

from tests.rig import sign
from tests.soak import measuring
from tests.soak.checker import Report, check
from tests.soak.crowd import Crowd
from tests.soak.faults import injure
from tests.soak.history import Credential, Ending, Fault, Move, Record, Rows
from tests.soak.measuring import Growth
from tests.soak.recording import Recording
from tests.soak.schedule import planned
from tests.soak.stage import Stage, standing

# To and fro between the phases in which sessions are given; the last one is where the audit asks.
_WAY: Final = (
    ("swap", 10),
    ("swap", 60),
    ("swap", 100),
    ("drain", 100),
    ("cutover", 100),
    ("drain", 100),
)
_HEALTHY_S: Final = 4.0
_QUIET_S: Final = 3.0
_RECOVERS_S: Final = 20.0
# Connections of a worker: ten of its pool, the pulse's, and the ledgers' when they have any.
_CONNECTIONS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a soak is to be.

    Args:
        seconds: of load and faults; the audit comes after them.
        rate: users' own requests a second, the probes besides.
        faults: whether anything is hurt at all.
    """

    seconds: float
    seed: int
    rate: float = 80.0
    faults: bool = True


@dataclass(frozen=True, slots=True)
class Soaked:
    """What came of it."""

    asked: Asked
    records: list[Record]
    report: Report
    grown: list[Growth]
    connections: int
    connections_allowed: int
    users: int
    processes: int
    took_s: float

    @property
    def holds(self) -> bool:
        """Whether the zeros are zeros and nothing was left behind."""
        return self.report.holds and not self.leaks

    @property
    def leaks(self) -> bool:
        """Whether connections, descriptors or threads were."""
        return self.connections > self.connections_allowed or any(one.leaks for one in self.grown)


def soak(asked: Asked, folder: Path, **broken: Any) -> Soaked:
    """Run one."""
    began = time.monotonic()
    recording = Recording()
    with standing(folder, **broken) as stage, measuring.stalls(recording.add):
        crowd = Crowd(stage, recording, seed=asked.seed, rate=asked.rate)
        until = time.monotonic() + asked.seconds
        warm: dict[tuple[str, int], measuring.Held] = {}

        def measure_when_warm() -> None:
            time.sleep(asked.seconds * 0.3)
            known = measuring.measure(stage)
            time.sleep(asked.seconds * 0.1)
            held = measuring.measure(stage)
            # One that just took a killed one's place has not woken yet.
            warm.update({key: held[key] for key in known.keys() & held.keys()})

        side: list[Callable[[], None]] = [
            lambda: _move(stage, recording, asked, until),
            measure_when_warm,
        ]
        if asked.faults:
            side.append(lambda: _injure(stage, recording, asked, until))
        threads = [threading.Thread(target=each, name="soak") for each in side]
        for thread in threads:
            thread.start()
        crowd.run(until)
        for thread in threads:
            thread.join()

        _settle(stage, recording)
        _audit(stage, crowd, recording, asked.seed)
        recording.add(_rows(stage, recording))
        grown = list(measuring.growth(warm, measuring.measure(stage)))
        processes = sum(len(worker.pids()) for worker in stage.workers)
        connections = measuring.connections(stage)
    return Soaked(
        asked,
        recording.records,
        check(recording.records),
        grown,
        connections,
        (processes + 1) * _CONNECTIONS,
        crowd.users,
        processes,
        time.monotonic() - began,
    )


def _injure(stage: Stage, recording: Recording, asked: Asked, until: float) -> None:
    time.sleep(min(_HEALTHY_S, asked.seconds / 10))
    injure(stage, planned(asked.seed, asked.seconds), until, recording.add)


def _move(stage: Stage, recording: Recording, asked: Asked, until: float) -> None:
    drawn = random.Random(f"moves {asked.seed}")
    steps = 0
    while True:
        time.sleep(drawn.uniform(2.0, 6.0))
        over = time.monotonic() > until - 2.0
        if over and steps % len(_WAY) == 0:
            return
        phase, percent = _WAY[steps % len(_WAY)]
        steps += 1
        _move_to(stage, recording, phase, percent)


def _move_to(stage: Stage, recording: Recording, phase: str, percent: int) -> None:
    began = time.monotonic()
    while True:
        with suppress(PostgresError):
            stage.rig.move(phase, percent=percent)
            break
        time.sleep(0.1)
    recording.add(Move(phase=phase, percent=percent, began=began, ended=time.monotonic()))


def _settle(stage: Stage, recording: Recording) -> None:
    """Wait until everybody swaps again."""
    deadline = time.monotonic() + _RECOVERS_S
    for worker in stage.workers:
        while worker.show(sign("settling", secret=stage.secret)).kind != "admitted":
            if time.monotonic() > deadline:
                message = f"{worker.name} does not recover by itself"
                raise RuntimeError(message)
            time.sleep(0.05)
    time.sleep(_QUIET_S)


def _audit(stage: Stage, crowd: Crowd, recording: Recording, seed: int) -> None:
    """Everything is up: the dead are dead on every node, the living are let in."""
    drawn = random.Random(f"audit {seed}")
    ended = {
        key
        for one in recording.records
        if isinstance(one, Ending) and one.acknowledged
        for key in (one.family, one.subject)
        if key is not None
    }
    known = [one for one in recording.records if isinstance(one, Credential) and one.subject]
    dead = [one for one in known if one.family in ended or one.subject in ended]
    alive = [one for one in known if one.family not in ended and one.subject not in ended]
    chosen = drawn.sample(dead, min(len(dead), 3000)) + drawn.sample(alive, min(len(alive), 1500))
    workers = {one.name: drawn.choice(stage.workers) for one in chosen}
    shares = [chosen[number::6] for number in range(6)]

    def ask(share: list[Credential]) -> None:
        for one in share:
            crowd.present(workers[one.name], one, audit=True)

    threads = [threading.Thread(target=ask, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _rows(stage: Stage, recording: Recording) -> Rows:
    alive = stage.rig.execute(
        "SELECT encode(digest, 'hex') FROM migrator.sessions"
        " WHERE revoked_at IS NULL AND digest IS NOT NULL"
    )
    strays = stage.rig.execute(
        "SELECT s.id::text FROM migrator.sessions s WHERE s.origin IN ('swap', 'exchange') AND"
        " (SELECT count(*) FROM migrator.legacy_tokens l WHERE l.session_id = s.id) <> 1"
    )
    names = {hexed[:24] for (hexed,) in alive}
    return Rows(
        alive=tuple(sorted(names & recording.tokens.keys())),
        strays=tuple(sorted(one for (one,) in strays)),
    )


def faults_of(soaked: Soaked) -> list[Fault]:
    """What was hurt."""
    return [
        one for one in soaked.records if isinstance(one, Fault) and one.what != measuring.STALL
    ]
