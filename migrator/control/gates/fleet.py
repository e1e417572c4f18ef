"""Gates about the nodes and what they need: nodes-acked, schema-head, keys-present."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator.control.gates.model import Gate
from migrator.control.nodes import names

if TYPE_CHECKING:
    from migrator.control.evidence import Evidence
    from migrator.control.gates.model import Result

_TTL_S = 10


def nodes_acked(evidence: Evidence) -> Gate:
    """Every node there should be lives, and acknowledged the present epoch."""
    fleet = evidence.fleet
    result, detail = _judge_nodes(evidence)
    wanted = fleet.expected if fleet.expected is not None else "expected_nodes"
    return Gate(
        id="nodes-acked",
        result=result,
        value=f"{len(fleet.acked)} of {len(fleet.live)} live",
        threshold=wanted,
        as_of=fleet.heard_at,
        ttl_s=_TTL_S,
        overridable=False,
        detail=detail,
        command="migrator nodes",
    )


def _judge_nodes(evidence: Evidence) -> tuple[Result, str]:
    fleet = evidence.fleet
    live = len(fleet.live)
    if fleet.rogue:
        return "fail", f"still seen after their lease was over: {names(fleet.rogue)}"
    if fleet.waiting:
        return "fail", f"not yet at epoch {fleet.epoch}: {names(fleet.waiting)}"
    if fleet.expected is None:
        return "inconclusive", "how many nodes there should be is not said: set expected_nodes"
    if live < fleet.expected:
        return "fail", f"{live} of {fleet.expected} expected nodes are there"
    if live > fleet.expected:
        return "fail", f"{live} nodes live, {fleet.expected} expected: which number is wrong?"
    return "pass", f"all {live} at epoch {fleet.epoch}"


def schema_head(evidence: Evidence) -> Gate:
    """The tables are this release's."""
    state = evidence.schema_state
    return Gate(
        id="schema-head",
        result="pass" if state == "head" else "fail",
        value=state,
        threshold="head",
        as_of=evidence.now,
        ttl_s=_TTL_S,
        overridable=False,
        detail="the schema is this release's" if state == "head" else f"the schema is {state}",
        command="migrator db upgrade",
    )


def keys_present(evidence: Evidence) -> Gate:
    """Every living node holds the swap key that derives."""
    fleet, keys = evidence.fleet, evidence.settings.swap.keys
    first = keys[0].id if keys else None
    without = [node for node in fleet.live if first not in node.key_ids]
    result: Result = "pass"
    if first is None:
        result, detail = "fail", "the settings name no swap key: `migrator init` makes one"
    elif not fleet.live:
        result, detail = "inconclusive", "no node lives that could say"
    elif without:
        result, detail = "fail", f"without swap key {first}: {names(without)}"
    else:
        detail = f"all {len(fleet.live)} hold swap key {first}"
    return Gate(
        id="keys-present",
        result=result,
        value=len(fleet.live) - len(without),
        threshold=len(fleet.live),
        as_of=fleet.heard_at,
        ttl_s=_TTL_S,
        overridable=False,
        detail=detail,
        command="migrator nodes",
    )
