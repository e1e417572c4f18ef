"""Nodes of a deployment as real processes: each joins the shim for itself, as an app does.

A test tells a node what to present and gets back how that was answered. Nodes are spawned, never
forked, so that they share nothing with the test but the servers. Times are CLOCK_MONOTONIC, which
all processes of one machine read alike.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal, TypeAlias

from migrator import wiring
from migrator.core.app import Sessions
from migrator.core.errors import Refused as RefusedError
from migrator.core.errors import Unavailable
from migrator.core.gate import Gate
from migrator.core.presented import Credential, Presented
from migrator.core.verdicts import Admitted, Refused, Verdict
from migrator.settings import Settings
from tests.faults import hammering
from tests.faults.hammering import Hammered
from tests.rig import Rig

_PATIENCE_S = 60.0
Kind: TypeAlias = Literal["admitted", "refused", "passed", "unavailable"]


@dataclass(frozen=True, slots=True)
class Answer:
    """How a node answered: what, why, whose, and the token it handed out."""

    kind: Kind
    reason: str | None = None
    subject: str | None = None
    token: bytes | None = None


@dataclass(frozen=True, slots=True)
class Watched:
    """What one credential met over a while.

    Args:
        admitted_at: when the last request that was admitted began.
        refused_at: when the first that was refused after it began.
        others: every other kind of answer that was seen.
    """

    admitted_at: float | None
    refused_at: float | None
    others: frozenset[str]


class Node:
    """One process running the shim."""

    def __init__(self, settings: Settings) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._here, there = spawn.Pipe()
        self.process = spawn.Process(target=_live, args=(there, settings), daemon=True)
        self.process.start()
        there.close()

    def tell(self, command: str, **arguments: Any) -> None:
        """Begin something without waiting for it."""
        self._here.send((command, arguments))

    def hear(self) -> Any:
        """What the command begun first came to."""
        if not self._here.poll(_PATIENCE_S):
            raise TimeoutError("the node says nothing")
        answer = self._here.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ask(self, command: str, **arguments: Any) -> Any:
        """Do something and wait for what it came to."""
        self.tell(command, **arguments)
        return self.hear()

    def show(self, token: bytes) -> Answer:
        """Present a credential."""
        answer: Answer = self.ask("show", token=token)
        return answer

    def freeze(self) -> None:
        """SIGSTOP the process."""
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self._pid, signal.SIGCONT)

    def join(self) -> int | None:
        """Wait until it died of what it was told, and say of which signal (negative)."""
        self.process.join(_PATIENCE_S)
        return self.process.exitcode

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):
            self._here.close()
        if self.process.is_alive():
            self.thaw()
            self.process.join(5)
            self.process.kill()
        self.process.join(5)

    @property
    def _pid(self) -> int:
        pid = self.process.pid
        assert pid is not None
        return pid


@contextmanager
def nodes(*settings: Settings) -> Iterator[list[Node]]:
    """A node for each of the settings, all ready to serve."""
    started = [Node(each) for each in settings]
    try:
        for node in started:
            node.tell("ready")
        for node in started:
            node.hear()
        yield started
    finally:
        for node in started:
            node.close()


# ---- within the process ------------------------------------------------------------------------


def _live(pipe: Connection, settings: Settings) -> None:
    life = _Life(settings)
    with suppress(EOFError, ConnectionError):
        while True:
            command, arguments = pipe.recv()
            try:
                answer = getattr(life, command)(**arguments)
            except Exception as error:  # noqa: BLE001 - the test hears of it, whatever it was
                answer = AssertionError(f"{type(error).__name__}: {error}")
            pipe.send(answer)
    wiring.stop()


class _Life:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._gate = wiring.gate(settings)
        self._sessions = wiring.sessions(settings)

    def ready(self) -> str:
        """Trust memory: the pulse has beaten."""
        node = self._gate.node
        node.wake()
        until = time.monotonic() + _PATIENCE_S
        while node.recent.trusted_until == 0 and time.monotonic() < until:
            time.sleep(0.005)
        return "ready"

    def show(self, token: bytes) -> Answer:
        """Present a credential as a shim does: memory first, then the gate."""
        return present(self._gate, token)

    def exchange(self, token: bytes) -> Answer:
        """Present a refresh token at the refresh route."""
        return exchange(self._sessions, token)

    def crowd(self, token: bytes, route: str, threads: int, at: float) -> list[Answer]:
        """Present one credential from many threads at one moment."""
        present_once = self.show if route == "any" else self.exchange
        answers: list[Answer] = []
        barrier = threading.Barrier(threads)

        def one() -> None:
            barrier.wait()
            time.sleep(max(0.0, at - time.monotonic()))
            answers.append(present_once(token))

        crowd = [threading.Thread(target=one) for _ in range(threads)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        return answers

    def watch(self, token: bytes, seconds: float) -> Watched:
        """Present a credential over and over, until it was refused for a while."""
        admitted_at = refused_at = None
        others: set[str] = set()
        until = time.monotonic() + seconds
        while (began := time.monotonic()) < until:
            answer = self.show(token)
            if answer.kind == "admitted":
                admitted_at, refused_at = began, None
            elif answer.kind == "refused":
                refused_at = refused_at or began
            else:
                others.add(answer.kind)
            if refused_at is not None and began - refused_at > 0.3:
                break
            time.sleep(0.001)
        return Watched(admitted_at, refused_at, frozenset(others))

    def hammer(self, **how: Any) -> Hammered:
        """Present many credentials over and over, see hammering.py."""
        return hammering.hammer(self._gate, **how)

    def revoke(self, **how: Any) -> list[float]:
        """Revoke many, see hammering.py."""
        return hammering.revoke(self._settings, **how)

    def end(self, token: bytes, *, hinting: bool = True) -> float:
        """End a session as a command does; returns when that was acknowledged."""
        operator = wiring.operator(self._settings)
        if not hinting:
            _silence(operator)
        assert operator.end(token) >= 1
        return time.monotonic()

    def end_all(self, subject: str) -> float:
        """End a subject as a command does; returns when that was acknowledged."""
        wiring.operator(self._settings).end_all(subject)
        return time.monotonic()

    def end_and_die(self, token: bytes) -> None:
        """Die of SIGKILL as soon as the ending was committed, before anybody can be told."""
        operator = wiring.operator(self._settings)
        _DiesAfterCommit.over(operator)
        operator.end(token)

    def stop(self) -> list[str]:
        """End the pulse; says which threads of ours are left."""
        wiring.stop()
        return [one.name for one in threading.enumerate() if one.name.startswith("migrator-")]


def present(gate: Gate, token: bytes) -> Answer:
    """Present a credential as a shim does: memory first, then the gate."""
    presented = Presented(header=Credential(token, "header", _ISSUERS))
    try:
        outcome = gate.peek(presented) or gate.admit(presented)
    except Unavailable:
        return Answer("unavailable")
    return answer_of(outcome.verdict)


def answer_of(verdict: Verdict) -> Answer:
    """What came of a credential, as tests compare it."""
    match verdict:
        case Admitted() as admitted:
            return Answer("admitted", None, admitted.principal.subject, admitted.hand_out)
        case Refused(reason):
            return Answer("refused", reason.value)
        case _:
            return Answer("passed")


def exchange(sessions: Sessions, token: bytes) -> Answer:
    """Present a refresh token as an app's refresh route does."""
    try:
        issued = sessions.exchange(token, legacy=_never)
    except Unavailable:
        return Answer("unavailable")
    except RefusedError as refused:
        return Answer("refused", refused.reason.value)
    assert isinstance(issued.token, str)
    return Answer("admitted", None, None, issued.token.encode())


def _never() -> str:
    raise AssertionError("the refresh route issued a JWT")


_ISSUERS = frozenset({"a1", "a2"})


def _silence(operator: Sessions) -> None:
    """Lose every hint."""

    async def lost(kinds: object) -> None:
        """Say nothing."""

    operator.cache.hint = lost  # type: ignore[method-assign] # a message lost on the way


class _DiesAfterCommit:
    """A driver whose process is killed as soon as an ending is known to be committed."""

    blocks = True

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    async def run(self, *steps: Any, **how: Any) -> Any:
        rows = await self._driver.run(*steps, **how)
        if steps[-1][0] == "COMMIT":
            os.kill(os.getpid(), signal.SIGKILL)
        return rows

    @classmethod
    def over(cls, operator: Sessions) -> None:
        store: Any = operator.store
        store._driver = cls(store._driver)


def fleet(rig: Rig, size: int, **tables: Any) -> list[Settings]:
    """The same settings, for so many nodes."""
    return [rig.settings(**tables)] * size
