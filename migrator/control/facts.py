"""What a plan rests on, and which of it got worse: the gates, who would be hit, the nodes.

Pure. A fact that got better voids nothing: fewer people hit, a gate that passes now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from migrator.control.moving import Plan

_MOST_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one gate said: whether it held the move up, and in which words."""

    blocks: bool
    says: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts of a move. `hit`, `expected` and `live` are None where nobody looked.

    Args:
        gates: by id.
        hit: subjects by client: who would be refused.
        live: the nodes there were, by id.
    """

    gates: Mapping[str, Verdict]
    subjects: int | None
    hit: Mapping[str, int]
    expected: int | None
    live: frozenset[str] | None

    @classmethod
    def of(cls, planned: Plan) -> Facts:
        """The facts that a plan was judged by."""
        fleet = planned.fleet
        hit: dict[str, int] = {}
        for group in planned.hit.groups if planned.hit else ():
            name = group.client or "unknown client"
            hit[name] = hit.get(name, 0) + group.subjects
        return cls(
            gates={
                gate.id: Verdict(
                    blocks=gate.blocks,
                    says=gate.result if gate.override is None else "overridden",
                    detail=gate.detail,
                )
                for gate in planned.gates
            },
            subjects=None if planned.hit is None else planned.hit.subjects,
            hit=hit,
            expected=None if fleet is None else fleet.expected,
            live=None if fleet is None else frozenset(node.id for node in fleet.live),
        )

    def worse(self, now: Facts) -> list[str]:
        """Each fact that got worse until `now`: what it is, from what, to what."""
        return [*self.judged_worse(now), *self._nodes(now)]

    def judged_worse(self, now: Facts) -> list[str]:
        """As `worse`, but nodes that came or went count only by what the gates make of them."""
        return [*self._gates(now), *self._hit(now)]

    def _gates(self, now: Facts) -> Iterator[str]:
        for name, verdict in now.gates.items():
            before = self.gates.get(name)
            if verdict.blocks and (before is None or not before.blocks):
                was = "absent" if before is None else before.says
                yield f"gate {name}: {was} → {verdict.says} ({verdict.detail})"

    def _hit(self, now: Facts) -> Iterator[str]:
        if self.subjects is None or now.subjects is None or now.subjects <= self.subjects:
            return
        grown = [
            f"{client} {self.hit.get(client, 0)} → {count}"
            for client, count in now.hit.items()
            if count > self.hit.get(client, 0)
        ]
        named = f" ({', '.join(grown[:_MOST_NAMED])})" if grown else ""
        yield f"users refused: {self.subjects} → {now.subjects}{named}"

    def _nodes(self, now: Facts) -> Iterator[str]:
        if self.expected != now.expected:
            yield f"expected nodes: {_known(self.expected)} → {_known(now.expected)}"
        if self.live is None or now.live is None or len(self.live) == len(now.live):
            return  # a deployment replaces nodes one for one
        names = [f"+{name}" for name in sorted(now.live - self.live)]
        names += [f"-{name}" for name in sorted(self.live - now.live)]
        changed = ", ".join(names[:_MOST_NAMED])
        yield f"live nodes: {len(self.live)} → {len(now.live)} ({changed})"

    def as_json(self) -> dict[str, Any]:
        """As a plan's body keeps it."""
        return {
            "gates": {
                name: {"blocks": one.blocks, "says": one.says, "detail": one.detail}
                for name, one in self.gates.items()
            },
            "subjects": self.subjects,
            "hit": dict(self.hit),
            "expected": self.expected,
            "live": None if self.live is None else sorted(self.live),
        }

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Facts:
        """Read from what `as_json` wrote."""
        live = found["live"]
        return cls(
            gates={name: Verdict(**one) for name, one in found["gates"].items()},
            subjects=found["subjects"],
            hit=found["hit"],
            expected=found["expected"],
            live=None if live is None else frozenset(live),
        )


def _known(count: int | None) -> str:
    return "unknown" if count is None else str(count)
