"""How the session store answers the fleet: the worst of what living nodes said of theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from migrator.control.nodes import Fleet, Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """Of the last minute; a time is None where no node asked its store anything.

    Args:
        node: which one it is; nodes: how many said anything.
        errors: of all nodes together: each is somebody's 503.
        untrusting: how many nodes do not trust their memory, so that every request asks a store.
    """

    node: str
    nodes: int
    p50_ms: float | None
    p99_ms: float | None
    errors: int
    untrusting: int


def worst(fleet: Fleet) -> Worst | None:
    """The slowest living node's; None: no living node says."""
    telling = [node for node in fleet.live if node.vitals]
    if not telling:
        return None
    slowest = max(telling, key=_p99)
    return Worst(
        node=slowest.id,
        nodes=len(telling),
        p50_ms=_number(slowest.vitals, "p50_ms"),
        p99_ms=_number(slowest.vitals, "p99_ms"),
        errors=sum(int(_number(node.vitals, "errors") or 0) for node in telling),
        untrusting=sum(node.vitals.get("trusted") is False for node in telling),
    )


def as_json(vitals: Mapping[str, Any]) -> dict[str, Any] | None:
    """What one node said, as `migrator nodes` prints it; None: it said nothing."""
    if not vitals:
        return None
    names = ("window_s", "asked", "p50_ms", "p99_ms", "errors", "trusted")
    return {name: vitals.get(name) for name in names}


def _p99(node: Node) -> float:
    return _number(node.vitals, "p99_ms") or 0.0


def _number(vitals: Mapping[str, Any], name: str) -> float | None:
    found = vitals.get(name)
    return float(found) if isinstance(found, int | float) else None
