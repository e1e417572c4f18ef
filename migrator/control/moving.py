"""The course of a move: is it legal, is it done, do the gates agree, commit, wait.

Legality comes first and costs nothing, gates before anybody is asked to confirm and once more when
they have answered, and what follows the commit is resumable: running the command again goes on
from wherever it stood.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from migrator.control import evidence, flip, gates, soaking, sunset
from migrator.control.acknowledged import Acknowledged, exit_of
from migrator.control.facts import Facts
from migrator.control.scope import Scope
from migrator.core.errors import Exit, Problem, Stopped
from migrator.core.phases import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from migrator.control.census import Census
    from migrator.control.decisions import Override
    from migrator.control.evidence import Evidence
    from migrator.control.flip import Order
    from migrator.control.gates import Gate
    from migrator.control.nodes import Fleet
    from migrator.control.rollout import Target
    from migrator.core.phases import Rollout
    from migrator.core.soaks import Soak
    from migrator.settings import Settings

_LOOK_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A move that may be made: what stands, what would, and what the gates say of it.

    Args:
        hit: who would be refused, where it is a cutover.
        facts: what it was judged by; None for moves back, which nothing judges.
    """

    before: Rollout
    target: Target
    gates: tuple[Gate, ...]
    hit: Census | None
    facts: Evidence | None = None

    @property
    def fleet(self) -> Fleet | None:
        """The nodes there were."""
        return None if self.facts is None else self.facts.fleet

    @property
    def overrides(self) -> tuple[Override, ...]:
        """Whose name stands for gates that do not pass."""
        return tuple(gate.override for gate in self.gates if gate.override is not None)

    @property
    def exit_code(self) -> Exit:
        """What the gates say together; moves back have none."""
        return gates.exit_of(self.gates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What a move came to."""

    before: Rollout
    after: Rollout
    seen: Acknowledged | None
    changed: bool
    soak: Soak | None = None

    @property
    def exit_code(self) -> Exit:
        """NOT_ACKNOWLEDGED where a wait ended before the nodes did."""
        return exit_of(self.seen)


def plan(
    settings: Settings,
    decide: Callable[[Rollout], Target | None],
    *,
    expected: int | None = None,
    wait_gates: timedelta | None = None,
    tell: Callable[[tuple[Gate, ...]], None] = lambda _: None,
) -> Plan | Rollout:
    """What `decide` asks for, judged; the rollout itself where it stands so already.

    Args:
        decide: one of `control.rollout`'s moves.
        wait_gates: how long to wait for the gates; None is not at all.

    Raises:
        Stopped: an illegal move; WAIT_TIMED_OUT; UNFIT; UNREACHABLE.
    """
    evidence.fit(settings)
    until = time.monotonic() + (wait_gates.total_seconds() if wait_gates else 0)
    while True:
        before, _ = flip.read(settings)
        target = decide(before)
        if target is None:
            return before
        if not target.gated:
            return Plan(before=before, target=target, gates=(), hit=None)
        found = _judged(settings, before, target, expected)
        if found.exit_code is Exit.DONE or wait_gates is None:
            return found
        tell(found.gates)
        if time.monotonic() >= until:
            raise Stopped(_timed_out(found, wait_gates), Exit.WAIT_TIMED_OUT)
        time.sleep(_LOOK_S)


def _judged(settings: Settings, before: Rollout, target: Target, expected: int | None) -> Plan:
    after, entering = target.of(before), _entering(before, target)
    facts = gather_for(settings, entering, expected=expected, before=before, after=after)
    return Plan(
        before=before,
        target=target,
        gates=gates.evaluate(entering, facts),
        hit=facts.open if entering is Phase.CUTOVER else None,
        facts=facts,
    )


def _entering(before: Rollout, target: Target) -> Phase:
    """The phase whose gates judge it: a segment's cutover leaves the phase itself as it is."""
    cuts = target.phase is Phase.CUTOVER or target.phase is before.phase is Phase.DRAIN
    return Phase.CUTOVER if cuts else target.phase


def again(settings: Settings, planned: Plan) -> Plan:
    """The move judged anew, after somebody took their time to confirm it.

    Raises:
        Stopped: EVIDENCE_STALE, naming each fact that got worse meanwhile; UNREACHABLE.
    """
    fleet = planned.fleet
    if flip.read(settings)[0].epoch != planned.before.epoch:
        return planned  # the commit refuses it, and names who moved
    expected = None if fleet is None else fleet.expected
    found = _judged(settings, planned.before, planned.target, expected)
    worse = Facts.of(planned).judged_worse(Facts.of(found))
    if worse:
        raise Stopped(_worse(found, worse), Exit.EVIDENCE_STALE)
    return found


def gather_for(
    settings: Settings,
    entering: Phase,
    *,
    expected: int | None = None,
    before: Rollout | None = None,
    after: Rollout | None = None,
    patient: bool = True,
) -> Evidence:
    """The evidence for entering a phase: a cutover is judged by those it concerns.

    Args:
        before: where everybody stands; None counts those too who are cut over already.
        after: where everybody would stand; a cutover of all unless given.
        patient: as `evidence.gather` has it.
    """
    retiring = entering is Phase.RETIRED
    scope = Scope()
    if entering is Phase.CUTOVER and before is not None:
        everybody = replace(before, phase=Phase.CUTOVER, exceptions=())
        scope = Scope(before=before, after=after or everybody)
    return evidence.gather(
        settings,
        scope=scope,
        quiet=settings.gates.retire_quiet if retiring else settings.gates.legacy_quiet,
        expected=expected,
        patient=patient,
        percent=after.percent if entering is Phase.SWAP and after is not None else None,
    )


def make(
    settings: Settings,
    planned: Plan,
    order: Order,
    *,
    wait: timedelta,
    committed: Callable[[Rollout], None] = lambda _: None,
    revoked: Callable[[Sequence[Override]], None] = lambda _: None,
    tell: Callable[[Acknowledged], None] = lambda _: None,
) -> Moved:
    """Commit the move, then wait for the nodes; a `wait` of 0 does not.

    Args:
        committed: called right after the commit: from here on nothing undoes it but a move.
        revoked: called with the overrides that ended with it.

    Raises:
        Stopped: CONFLICT; UNREACHABLE before the commit.
    """
    after = flip.commit(settings, planned.before, planned.target, order, revoked=revoked)
    committed(after)
    seen = settle(settings, after, wait=wait, who=order.who, tell=tell)
    soak = None if order.soak is None else soaking.standing(settings)
    return Moved(before=planned.before, after=after, seen=seen, changed=True, soak=soak)


def settle(
    settings: Settings,
    rollout: Rollout,
    *,
    wait: timedelta,
    who: str,
    tell: Callable[[Acknowledged], None] = lambda _: None,
) -> Acknowledged | None:
    """Wait for the nodes, then announce the end as it stands; None if there is no waiting."""
    if not wait:
        return None
    seen = flip.await_nodes(settings, rollout, wait=wait, who=who, tell=tell)
    if seen.is_settled and rollout.phase in {Phase.DRAIN, Phase.CUTOVER}:
        sunset.keep(evidence.gather(settings, patient=False))
    return seen


def look(settings: Settings, rollout: Rollout, *, who: str) -> None:
    """Look once whether the nodes have come along since a move was left to itself."""
    settle(settings, rollout, wait=timedelta(microseconds=1), who=who)


def refusal(found: Plan) -> Problem:
    """The page that says which gates hold a move up."""
    holding = [gate for gate in found.gates if gate.blocks]
    first = next((gate for gate in holding if gate.result == "fail"), holding[0])
    return Problem(
        id="gates." + ("failed" if found.exit_code is Exit.GATE_FAILED else "unsure"),
        what="; ".join(f"{gate.id} ({gate.result}): {gate.detail}" for gate in holding),
        why=f"{found.before.phase} → {found.target.phase} is not safe, or not known to be",
        do=first.command,
    )


def _worse(found: Plan, worse: list[str]) -> Problem:
    return Problem(
        id="gates.worse",
        what=f"while this was asked: {'; '.join(worse)}",
        why=f"{found.before.phase} → {found.target.phase} was confirmed by what was shown before; "
        "nothing was changed",
        do=f"migrator gates {_entering(found.before, found.target)}, then decide again",
    )


def _timed_out(found: Plan, waited: timedelta) -> Problem:
    page = refusal(found)
    return Problem(
        id="gates.timed_out",
        what=f"after {waited.total_seconds():g} s the gates still hold it up: {page.what}",
        why="nothing was committed",
        do=page.do,
    )
