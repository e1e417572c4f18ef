"""What a soak writes down: every operation with its start and its end, and every fault.

A history is data. What it means is judged by checker.py, which may read it again years later from
the file. No credential is in it: each has a name that is part of its digest. Times are seconds of
CLOCK_MONOTONIC, taken by whoever asked: before the request was sent, after the answer was read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["admitted", "refused", "passed", "unavailable", "lost"]
Sort: TypeAlias = Literal["access", "refresh", "session", "garbage"]
Store: TypeAlias = Literal["postgres", "redis", "worker", "machine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One credential.

    Args:
        name: of it; a session token that two requests were given is one credential.
        subject: whose it is; "" for what nobody ever issued.
        family: what came from one login ends together.
        issued_at: a moment before it existed.
        made_at: a moment when it did.
        ends_at: when it is over by itself, if that is within reach.
        came_of: the legacy token that it was handed out for.
    """

    name: str
    sort: Sort
    subject: str
    family: str
    issued_at: float
    made_at: float
    ends_at: float | None = None
    came_of: str | None = None

    @property
    def is_legacy(self) -> bool:
        """Whether it is a JWT, or was handed out for one: cutoffs go by the JWT's iat."""
        return self.sort in {"access", "refresh"} or self.came_of is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A credential was presented, to be let in or at the refresh route.

    Args:
        pid: which process answered, where one did.
        subject: whom the answer named.
        handed: name of the token that the answer carried.
        audit: asked after everything had been up for a while again.
    """

    worker: str
    verb: Literal["show", "exchange"]
    credential: str
    began: float
    ended: float
    kind: Kind
    pid: int | None = None
    reason: str | None = None
    subject: str | None = None
    handed: str | None = None
    audit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A logout or a revocation: of a family, or (`subject`) of all that a subject had.

    Args:
        verb: what was called.
        kind: "passed": there was nothing to end, says whoever was asked.
        presented: what named the family.
        keeps: the one session that was to be spared.
    """

    worker: str
    verb: str
    began: float
    ended: float
    kind: Kind
    pid: int | None = None
    family: str | None = None
    subject: str | None = None
    presented: str | None = None
    keeps: str | None = None

    @property
    def acknowledged(self) -> bool:
        """Whether somebody was told that it is in force."""
        return self.kind == "admitted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A login; the credential that it gave has its own record."""

    worker: str
    subject: str
    began: float
    ended: float
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """The rollout was moved."""

    phase: str
    percent: int
    began: float
    ended: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something was hurt, from just before until it was whole again.

    Args:
        store: what could not be reached, or was slow; "machine": nobody here got any time.
        workers: for whom; empty = for everybody.
        wipes: whether what it held is gone.
        excuses: whether a 503 may come of it.
    """

    what: str
    store: Store
    began: float
    ended: float
    workers: tuple[str, ...] = ()
    wipes: bool = False
    excuses: bool = True

    def strikes(self, worker: str) -> bool:
        """Whether this worker felt it."""
        return not self.workers or worker in self.workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What the tables said in the end.

    Args:
        alive: names of the session tokens whose row is not ended.
        strays: ids of swapped or exchanged sessions that no legacy token's row names.
    """

    alive: tuple[str, ...]
    strays: tuple[str, ...]


Record: TypeAlias = Credential | Read | Ending | Login | Move | Fault | Rows
_KINDS: dict[str, type[Record]] = {
    each.__name__: each for each in (Credential, Read, Ending, Login, Move, Fault, Rows)
}


def write(records: Iterable[Record], path: Path) -> None:
    """Keep a history, one record a line."""
    with path.open("w") as file:
        for each in records:
            file.write(json.dumps({"record": type(each).__name__, **asdict(each)}) + "\n")


def read(path: Path) -> Iterator[Record]:
    """A history that was kept."""
    with path.open() as file:
        for line in file:
            facts = json.loads(line)
            made: Callable[..., Record] = _KINDS[facts.pop("record")]
            yield made(**{k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()})
