"""Many revocations made one after another in one process, while others go on presenting.

What is measured of each is the time from its acknowledgement to the beginning of the last request
that was still admitted. All live credentials are presented in turn, so that this is seen as
closely as one round is short; `Hammered.rounds` says how many there were.
"""

from __future__ import annotations

import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import redis

from migrator import wiring
from migrator.cli.desk import seated
from migrator.control import cutoff_rows, cutoffs, endings
from migrator.core.app import Sessions
from migrator.core.errors import Unavailable
from migrator.core.gate import Gate
from migrator.core.presented import Credential, Presented
from migrator.core.verdicts import Admitted, Refused
from migrator.settings import Settings

Verb: TypeAlias = Literal["token", "jwt", "id", "denial", "end_all", "kid", "issuer"]
_SETTLED_S: Final = 0.06  # refused for so long, it is only looked at once more, at the end
_ISSUERS: Final = frozenset({"a1", "a2"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One revocation to be: what it ends, and by which verb."""

    verb: Verb
    subject: str
    legacy: bytes
    token: bytes | None
    kid: str | None = None
    unseen: bytes | None = None

    @property
    def credentials(self) -> tuple[bytes, ...]:
        """All that is presented before and after."""
        return (self.legacy,) if self.token is None else (self.token, self.legacy)

    @property
    def dead(self) -> tuple[bytes, ...]:
        """All that must be refused afterwards: what nobody has ever presented included."""
        return self.credentials if self.unseen is None else (*self.credentials, self.unseen)


@dataclass(slots=True)
class Fate:
    """What one target met."""

    admitted_at: float | None = None
    refused_at: float | None = None


@dataclass(slots=True)
class Hammered:
    """What all of them met.

    Args:
        fates: in the order of the targets.
        others: every kind of answer besides admitted and refused.
        presented: how often one was presented.
        rounds: how often all of them were.
        alive: what was admitted after all had been refused.
    """

    fates: list[Fate]
    others: set[str] = field(default_factory=set)
    presented: int = 0
    rounds: int = 0
    alive: int = 0


def ask(gate: Gate, credential: bytes, *, strict: bool) -> str:
    """Present a credential as a shim does, on a strict route or another."""
    presented = Presented(header=Credential(credential, "header", _ISSUERS), strict=strict)
    try:
        outcome = gate.peek(presented) or gate.admit(presented)
    except Unavailable:
        return "unavailable"
    match outcome.verdict:
        case Admitted():
            return "admitted"
        case Refused():
            return "refused"
        case _:
            return "passed"


def hammer(
    gate: Gate,
    targets: Sequence[Target],
    *,
    over: Path,
    strict: bool = False,
    window: int | None = None,
) -> Hammered:
    """Present everything over and over, until all was refused for a while or it is over.

    Args:
        over: a file that is there once everything has been revoked for longer than any bound.
        window: only so many of the first that still live, where each costs a query.
    """
    seen = Hammered([Fate() for _ in targets])
    live = list(range(len(targets)))
    while live and not over.exists():
        for number in live[:window]:
            fate = seen.fates[number]
            for credential in targets[number].credentials:
                began = time.monotonic()
                kind = ask(gate, credential, strict=strict)
                if kind == "admitted":
                    fate.admitted_at, fate.refused_at = began, None
                elif kind == "refused":
                    fate.refused_at = fate.refused_at or began
                else:
                    seen.others.add(kind)
                seen.presented += 1
        now = time.monotonic()
        settled_s = 0.0 if strict else _SETTLED_S  # a strict answer is final, and costs a query
        live = [one for one in live if not _is_settled(seen.fates[one], now - settled_s)]
        seen.rounds += 1
        time.sleep(0.002)  # the pulse is a thread of the same process
    for target in targets:
        for credential in target.dead:
            seen.alive += ask(gate, credential, strict=strict) == "admitted"
    return seen


def _is_settled(fate: Fate, by: float) -> bool:
    return fate.refused_at is not None and fate.refused_at < by


# ---- whoever revokes ----------------------------------------------------------------------------


def revoke(
    settings: Settings,
    targets: Sequence[Target],
    *,
    hinting: bool = True,
    dying: bool = False,
    wiping: str | None = None,
    threads: int = 1,
) -> list[float]:
    """Revoke one after another; says when each was acknowledged.

    Args:
        hinting: whether anybody is told over Redis.
        dying: whether each is made by a process that is killed right after its commit.
        wiping: a Redis that is emptied after each acknowledgement.
        threads: how many revoke at once.
    """
    operator = wiring.operator(settings)
    if dying:  # nothing of it is connected yet: each child connects for itself
        return [_in_child(operator, settings, target) for target in targets]
    if not hinting:
        _silence(operator)
    with _wiper(wiping) as wipe, ThreadPoolExecutor(threads) as crowd:

        def one(target: Target) -> float:
            act(operator, settings, target)
            acknowledged = time.monotonic()
            wipe()
            return acknowledged

        return list(crowd.map(one, targets))


def act(sessions: Sessions, settings: Settings, target: Target) -> None:
    """Revoke what a target names, by its verb; returns when that was acknowledged."""
    match target.verb:
        case "token":
            assert target.token is not None
            ended = sessions.end(target.token)
        case "jwt" | "denial":
            ended = sessions.end(target.legacy)
        case "id":
            (session,) = sessions.list(target.subject)
            ended = sessions.end(session.id)
        case "end_all":
            ended = sessions.end_all(target.subject)
        case "kid" | "issuer":
            audit = endings.Audit(who="test", why="measured")
            with seated(settings) as desk:
                place = cutoff_rows.Place(desk.connection, desk.schema, desk.app.cache)
                issuer = "a2" if target.verb == "issuer" else "a1"
                cut = cutoffs.cut_issuer(place, issuer, kid=target.kid, audit=audit, dry_run=False)
                ended = cut.ended
    assert ended == 1 or target.verb == "issuer", (target.verb, ended)


def _silence(sessions: Sessions) -> None:
    async def lost(kinds: object) -> None:
        """Say nothing."""

    sessions.cache.hint = lost  # type: ignore[method-assign] # a message lost on the way


@contextmanager
def _wiper(url: str | None) -> Iterator[Callable[[], object]]:
    if url is None:
        yield lambda: None
        return
    with redis.Redis.from_url(url) as client:
        yield client.flushall


class _Dying:
    """A driver that says when an ending was committed, and has its process killed then."""

    blocks = True

    def __init__(self, driver: Any, pipe: int) -> None:
        self._driver = driver
        self._pipe = pipe

    async def run(self, *steps: Any, **how: Any) -> Any:
        rows = await self._driver.run(*steps, **how)
        if steps[-1][0] == "COMMIT":
            os.write(self._pipe, struct.pack("d", time.monotonic()))
            os.kill(os.getpid(), signal.SIGKILL)
        return rows


def _in_child(sessions: Sessions, settings: Settings, target: Target) -> float:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            store: Any = sessions.store
            store._driver = _Dying(store._driver, writing)
            act(sessions, settings, target)
        finally:
            os._exit(3)  # it did not die of what it was to die of
    os.close(writing)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), status
    told = os.read(reading, 8)
    os.close(reading)
    at: float = struct.unpack("d", told)[0]
    return at


# ---- the same process ---------------------------------------------------------------------------


def revoke_among_readers(
    gate: Gate, sessions: Sessions, settings: Settings, targets: Sequence[Target], readers: int
) -> tuple[int, int]:
    """Revoke where others present: how many were presented, and admitted after the call returned.

    Each thread presents every target in turn, and says when each admitted request began.
    """
    fates = [[0.0] * len(targets) for _ in range(readers)]
    presented = [0] * readers
    over = threading.Event()

    def read(reader: int) -> None:
        while not over.is_set():
            for number, target in enumerate(targets):
                for credential in target.credentials:
                    began = time.monotonic()
                    if ask(gate, credential, strict=False) == "admitted":
                        fates[reader][number] = began
                    presented[reader] += 1

    crowd = [threading.Thread(target=read, args=(number,)) for number in range(readers)]
    for thread in crowd:
        thread.start()
    returned = []
    for target in targets:
        act(sessions, settings, target)
        returned.append(time.monotonic())
    over.set()
    for thread in crowd:
        thread.join()
    late = sum(of[number] > returned[number] for of in fates for number in range(len(targets)))
    late += sum(
        ask(gate, credential, strict=False) == "admitted"
        for target in targets
        for credential in target.dead
    )
    return sum(presented), late
