"""The situations of design section 8, what each does to a deployment, and how it is measured.

One table: the tests assert it, `python -m tests.bench.bounds` prints what it measured of it. A
situation is measured at two nodes at once: on an ordinary route of one, on a strict route of
another.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from tests.faults.deployment import Deployment, deployment
from tests.faults.hammering import Hammered, Target, Verb
from tests.faults.nodes import Node, nodes
from tests.rig import ISSUER, SECRET, sign

# A lifetime below `swap.min_remaining`: verified, checked and admitted, without a row.
_UNSWAPPED_S: Final = 300
_MANY: Final[tuple[Verb, ...]] = ("token", "jwt", "id", "denial", "end_all")
_VERBS: Final[tuple[Verb, ...]] = (*_MANY, *_MANY, "kid")  # a key's cutoff takes the longest
_SESSIONS: Final[tuple[Verb, ...]] = ("token", "jwt", "id")
_MAIN: Final[dict[str, Any]] = {**ISSUER, "realm": "users"}
OTHER_ISSUER: Final[dict[str, Any]] = {
    **_MAIN,
    "id": "a2",
    "name": "other",
    "issuer": "https://other.example",
    "keys": [SECRET + " of the other"],
}
ENTRY_S: Final = 3
FEED_S: Final = 1.0
WINDOW: Final = 6
_AT_ONCE: Final = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is done, and what is promised then.

    Args:
        name: as the README's table has it.
        bound_s: on admitting what was revoked, on an ordinary route.
        hurts: methods of the deployment's parts, called before anything is revoked.
        how: see `hammering.revoke`.
        unreachable: whether the revoker has no Redis: then no tombstone is written.
        cached: whether each session is in Redis before.
        refused: whether the ordinary node can say so; cut off from Postgres nobody can.
        asked: whether a strict node can ask Postgres.
    """

    name: str
    bound_s: float = FEED_S
    hurts: tuple[tuple[str, str], ...] = ()
    verbs: tuple[Verb, ...] = _VERBS
    how: tuple[tuple[str, Any], ...] = ()
    unreachable: bool = False
    cached: bool = False
    refused: bool = True
    asked: bool = True


SITUATIONS: Final = (
    Situation(name="everything up"),
    Situation(name="Redis dead", hurts=(("redis", "kill"),)),
    Situation(
        name="Redis frozen", hurts=(("redis", "pause"),), how=(("threads", 8),), verbs=_SESSIONS
    ),
    Situation(name="Redis wiped after each", how=(("wiping", True),)),
    Situation(name="revoker cut off from Redis", unreachable=True, cached=True),
    Situation(name="hints lost", how=(("hinting", False),), verbs=_SESSIONS),
    Situation(
        name="revoker killed right after its commit", how=(("dying", True),), verbs=_SESSIONS
    ),
    Situation(
        name="node cut off from Postgres",
        hurts=(("to_postgres", "refuse"),),
        verbs=_SESSIONS,
        cached=True,
        refused=False,
        asked=False,
    ),
    Situation(
        name="the same, and no tombstone",
        bound_s=ENTRY_S + 0.1,
        hurts=(("to_postgres", "refuse"),),
        verbs=_SESSIONS,
        unreachable=True,
        cached=True,
        refused=False,
        asked=False,
    ),
    Situation(
        name="node cut off from both",
        hurts=(("to_postgres", "refuse"), ("to_redis", "refuse")),
        refused=False,
        asked=False,
    ),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one situation came to at one node, in seconds from the acknowledgement."""

    situation: Situation
    bounds_s: tuple[float, ...]
    hammered: Hammered

    @property
    def accepts(self) -> int:
        """How many revocations saw a request admitted that began after the acknowledgement."""
        return sum(bound > 0 for bound in self.bounds_s)

    def percentile(self, share: float) -> float:
        """The bound that such a share of the revocations kept."""
        ranked = sorted(self.bounds_s)
        return ranked[max(0, math.ceil(share * len(ranked)) - 1)]

    def __str__(self) -> str:
        """p50, p99 and the largest, in milliseconds."""
        figures = (self.percentile(0.5), self.percentile(0.99), max(self.bounds_s))
        return " ".join(f"{each * 1000:8.1f}" for each in figures)


@dataclass(frozen=True, slots=True)
class Stand:
    """A deployment with the nodes that take part."""

    up: Deployment
    strict: Node
    revokers: dict[bool, Node]
    other: Node

    def recover(self) -> None:
        """Everything up, and trusted."""
        self.up.heal()
        for node in (self.up.node, self.strict):
            node.ask("ready")
        credential = sign("anybody").encode()
        deadline = time.monotonic() + 20
        while {node.show(credential).kind for node in (self.up.node, self.strict)} != {"admitted"}:
            assert time.monotonic() < deadline, "it does not recover"
            time.sleep(0.1)
        time.sleep(0.5)  # a poll, so that what comes next begins with a memory that is trusted

    def targets(self, count: int, verbs: Sequence[Verb]) -> list[Target]:
        """So many live logins, the verbs in turn."""
        made, mark = [], f"s{time.time_ns()}"
        for number in range(count):
            verb = verbs[number % len(verbs)]
            subject, kid = f"{mark}-{number}", f"{mark}-{number}" if verb == "kid" else None
            legacy = sign(
                subject,
                lasts_s=_UNSWAPPED_S if verb == "denial" else 3600,
                headers={"kid": kid} if kid else None,
                claims={"iss": "https://other.example"} if verb == "issuer" else None,
                secret=OTHER_ISSUER["keys"][0] if verb == "issuer" else SECRET,
            ).encode()
            token = self.up.node.show(legacy).token
            assert (token is None) == (verb == "denial")
            unseen = sign(subject).encode() if verb == "end_all" else None
            made.append(
                Target(
                    verb=verb, subject=subject, legacy=legacy, token=token, kid=kid, unseen=unseen
                )
            )
        return made

    def warm(self, targets: Sequence[Target], *, cached: bool) -> None:
        """Have every token remembered by both nodes and, as others' requests do, in Redis."""
        tokens = [one.token for one in targets if one.token is not None]
        asked = (self.up.node, self.strict, *((self.other,) if cached else ()))
        for token in tokens:
            for node in asked:
                node.tell("show", token=token)
            for node in asked:
                assert node.hear().kind == "admitted"


def measure(stand: Stand, situation: Situation, count: int) -> tuple[Measured, Measured]:
    """What so many revocations come to on an ordinary route, and on a strict one."""
    targets = stand.targets(count, situation.verbs)
    stand.warm(targets, cached=situation.cached)
    for part, what in situation.hurts:
        getattr(getattr(stand.up, part), what)()
    how = dict(situation.how)
    if how.get("wiping"):
        how["wiping"] = stand.up.redis.url
    pair = (stand.up.node, stand.strict)
    with TemporaryDirectory() as folder:
        over = Path(folder) / "over"
        pair[0].tell("hammer", targets=targets, over=over)
        pair[1].tell("hammer", targets=targets, over=over, strict=True, window=WINDOW)
        time.sleep(0.05)
        revoker = stand.revokers[situation.unreachable]
        acknowledged: list[float] = []
        for start in range(0, count, _AT_ONCE):  # a command each, as an operator's script runs
            few = targets[start : start + _AT_ONCE]
            acknowledged += revoker.ask("revoke", targets=few, **how)
        time.sleep(situation.bound_s if situation.refused else situation.bound_s + 0.5)
        over.touch()
        seen: list[Hammered] = [node.hear() for node in pair]
    found = []
    for of_node in seen:
        bounds = tuple(
            max(0.0, (fate.admitted_at or 0.0) - at)
            for fate, at in zip(of_node.fates, acknowledged, strict=True)
        )
        found.append(Measured(situation, bounds, of_node))
    return found[0], found[1]


@contextmanager
def standing(**tables: Any) -> Iterator[Stand]:
    """A deployment as shipped but for the life of an entry, its two nodes and two revokers."""
    usual: dict[str, Any] = {
        "redis": {"entry_seconds": ENTRY_S},
        "issuers": [_MAIN, OTHER_ISSUER],
    }
    with deployment(**{**usual, **tables}) as up:
        unreachable = up.rig.settings(redis={"url": "redis://127.0.0.1:1/0"})
        with nodes(up.through.settings(), up.rig.settings()) as (strict, other):
            revokers = {False: Node(up.rig.settings()), True: Node(unreachable)}
            try:
                yield Stand(up, strict, revokers, other)
            finally:
                for revoker in revokers.values():
                    revoker.close()
