"""Which move a command asks for, decided from the one row; nothing here reads or writes.

A move is a target: the phase, percent and exceptions that would stand under the next epoch. None
means that everything already is as asked. The neighbour rule itself is `core/phases.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from migrator.core.errors import Exit, Problem, Stopped
from migrator.core.phases import ORDER, Exemption, Phase, Rollout, back_of, is_legal, next_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

By = Literal["issuer", "client", "cohort"]
COMMANDS: dict[Phase, str] = {
    Phase.SWAP: "migrator advance swap --percent N",
    Phase.DRAIN: "migrator advance drain",
    Phase.CUTOVER: "migrator cutover --all",
    Phase.RETIRED: "migrator retire",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of the traffic that a command names: `issuer=ID`, `client=NAME` or `cohort=N`."""

    by: By
    value: str

    @classmethod
    def parse(cls, text: str, *, issuers: Collection[str]) -> Segment:
        """The segment that `text` names.

        Raises:
            ValueError: saying what is wrong, for the operator.
        """
        by, equals, value = text.partition("=")
        match by:
            case _ if not equals or not value or by not in get_args(By):
                raise ValueError("a segment is issuer=ID, client=NAME or cohort=N")
            case "issuer" if value not in issuers:
                raise ValueError(f"no issuer has the id {value!r}; there are: {_list(issuers)}")
            case "cohort" if not (value.isascii() and value.isdigit() and 0 < int(value) < 100):
                raise ValueError("a cohort is a percentage from 1 to 99")
            case "issuer" | "client" | "cohort":
                return cls(by=by, value=value)
        raise AssertionError(by)

    def at(self, phase: Phase) -> Exemption:
        """This segment, standing in `phase`."""
        return Exemption(by=self.by, value=self.value, phase=phase)

    def __str__(self) -> str:
        return f"{self.by}={self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a move leads. `gated` is false for moves back, which nothing may hold up."""

    phase: Phase
    percent: int
    exceptions: tuple[Exemption, ...] = ()
    gated: bool = True

    def of(self, rollout: Rollout) -> Rollout:
        """The rollout as it would stand after the move."""
        return replace(
            rollout,
            phase=self.phase,
            percent=self.percent,
            exceptions=self.exceptions,
            epoch=rollout.epoch + 1,
        )


def swap(rollout: Rollout, percent: int) -> Target | None:
    """Enter `swap`, or raise its percent."""
    _living(rollout)
    if rollout.phase is Phase.SWAP:
        if percent == rollout.percent:
            return None
        if percent < rollout.percent:
            raise Stopped(_lower(rollout.percent, percent), Exit.GATE_FAILED)
    else:
        _neighbour(rollout, Phase.SWAP)
        if rollout.phase is not Phase.OBSERVE:
            raise Stopped(_backwards(rollout.phase, Phase.SWAP), Exit.GATE_FAILED)
    return Target(phase=Phase.SWAP, percent=percent, exceptions=rollout.exceptions)


def drain(rollout: Rollout) -> Target | None:
    """Stop issuing legacy tokens."""
    _living(rollout)
    if rollout.phase is Phase.DRAIN:
        return None
    _neighbour(rollout, Phase.DRAIN)
    if rollout.phase is Phase.CUTOVER:
        raise Stopped(_backwards(rollout.phase, Phase.DRAIN), Exit.GATE_FAILED)
    return Target(phase=Phase.DRAIN, percent=rollout.percent, exceptions=rollout.exceptions)


def cut_over(rollout: Rollout, *, leaving: Sequence[Segment] = ()) -> Target | None:
    """Stop accepting legacy tokens, `leaving` some segments in `drain`."""
    _living(rollout)
    if rollout.phase is not Phase.CUTOVER:
        _neighbour(rollout, Phase.CUTOVER)
    exceptions = tuple(dict.fromkeys(segment.at(Phase.DRAIN) for segment in leaving))
    if rollout.phase is Phase.CUTOVER and set(exceptions) == set(rollout.exceptions):
        return None
    ahead = rollout.phase is not Phase.CUTOVER or set(rollout.exceptions) - set(exceptions)
    return Target(
        phase=Phase.CUTOVER,
        percent=rollout.percent,
        exceptions=exceptions,
        gated=bool(ahead),
    )


def cut_over_segments(rollout: Rollout, segments: Sequence[Segment]) -> Target | None:
    """Stop accepting legacy tokens of `segments` alone; everybody else stays where they are."""
    _living(rollout)
    named = {(segment.by, segment.value) for segment in segments}
    if rollout.phase is Phase.CUTOVER:
        kept = tuple(one for one in rollout.exceptions if (one.by, one.value) not in named)
        if kept == rollout.exceptions:
            return None
        return Target(phase=Phase.CUTOVER, percent=rollout.percent, exceptions=kept)
    _neighbour(rollout, Phase.CUTOVER)
    added = tuple(
        dict.fromkeys(
            exemption
            for exemption in (segment.at(Phase.CUTOVER) for segment in segments)
            if not _stands(rollout.exceptions, exemption)
        )
    )
    if not added:
        return None
    exceptions = (*_without_smaller(rollout.exceptions, added), *added)
    return Target(phase=rollout.phase, percent=rollout.percent, exceptions=exceptions)


def back(rollout: Rollout) -> Target:
    """Go one phase back, all together: no exception stays ahead of the rest."""
    _living(rollout)
    phase = back_of(rollout.phase)
    if phase is None:
        raise Stopped(NO_WAY_BACK, Exit.GATE_FAILED)
    kept = tuple(one for one in rollout.exceptions if ORDER.index(one.phase) < ORDER.index(phase))
    percent = 0 if phase is Phase.OBSERVE else rollout.percent
    return Target(phase=phase, percent=percent, exceptions=kept, gated=False)


def back_to(rollout: Rollout, phase: Phase) -> Target | None:
    """Go back to `phase`, all together: said twice, it is one move."""
    _living(rollout)
    if phase is back_of(rollout.phase):
        return back(rollout)
    if phase is not rollout.phase:
        raise Stopped(_not_back(rollout.phase, phase), Exit.GATE_FAILED)
    kept = tuple(one for one in rollout.exceptions if ORDER.index(one.phase) < ORDER.index(phase))
    if kept == rollout.exceptions:
        return None
    return Target(phase=phase, percent=rollout.percent, exceptions=kept, gated=False)


def way_back(rollout: Rollout) -> str | None:
    """The command that leads back from here; None: nothing does.

    With segments ahead of the phase it is the one that takes these back: a whole phase back would
    move everybody, for the sake of a few.
    """
    here = ORDER.index(rollout.phase)
    if any(ORDER.index(one.phase) > here for one in rollout.exceptions):
        return f"migrator rollback --to {rollout.phase}"
    return None if back_of(rollout.phase) is None else "migrator rollback"


def ends_drain(before: Rollout, after: Rollout) -> bool:
    """Whether a move back leaves `drain`: what was counted from its beginning begins anew."""
    drain = ORDER.index(Phase.DRAIN)
    return ORDER.index(before.phase) >= drain > ORDER.index(after.phase)


def titled(before: Rollout, after: Rollout) -> str | None:
    """What a move within a phase does, in words; None: it enters a phase, or grows a cohort."""
    if before.phase is not after.phase or before.exceptions == after.exceptions:
        return None
    here = ORDER.index(after.phase)
    added = [one for one in after.exceptions if one not in before.exceptions]
    grown = {one.by for one in added if one.by == "cohort"}
    gone = [
        one for one in before.exceptions if one not in after.exceptions and one.by not in grown
    ]
    said = [
        f"{one.phase} of {one.by}={one.value}"
        if ORDER.index(one.phase) > here
        else f"{one.by}={one.value} back to {one.phase}"
        for one in added
    ]
    said += [
        f"{after.phase} of {one.by}={one.value}"
        if ORDER.index(one.phase) < here
        else f"{one.by}={one.value} back to {after.phase}"
        for one in gone
    ]
    return f"{after.phase}, {', '.join(said)}"


def retire(rollout: Rollout) -> Target | None:
    """Refuse legacy tokens unread, for ever."""
    if rollout.phase is Phase.RETIRED:
        return None
    _neighbour(rollout, Phase.RETIRED)
    return Target(phase=Phase.RETIRED, percent=rollout.percent)


# ---- refusals ----------------------------------------------------------------------------------


NO_WAY_BACK = Problem(
    id="move.first",
    what="there is no phase before observe",
    why="the shim only watches here; nothing was handed out that could be taken back",
    do="to take the shim out, read `migrator playbook show 35-rollback`",
)

RETIRED = Problem(
    id="move.retired",
    what="this rollout is retired",
    why="its legacy tables were taken away; no move leads from here",
    do="migrator log says who retired it, and when",
)


def _living(rollout: Rollout) -> None:
    if rollout.phase is Phase.RETIRED:
        raise Stopped(RETIRED, Exit.IRREVERSIBLE)


def _neighbour(rollout: Rollout, target: Phase) -> None:
    if is_legal(rollout.phase, target):
        return
    ahead = next_of(rollout.phase)
    problem = Problem(
        id="move.not_a_neighbour",
        what=f"from {rollout.phase} no move leads to {target}",
        why="nodes of two neighbouring phases are safe side by side, others are not",
        do="migrator status" if ahead is None else COMMANDS[ahead],
    )
    raise Stopped(problem, Exit.GATE_FAILED)


def _backwards(source: Phase, target: Phase) -> Problem:
    return Problem(
        id="move.backwards",
        what=f"from {source} to {target} is a move back",
        why="`advance` only goes forward",
        do="migrator rollback",
    )


def _not_back(source: Phase, target: Phase) -> Problem:
    before = back_of(source)
    return Problem(
        id="move.not_back",
        what=f"from {source} no way back leads to {target} in one move",
        why="going back is one phase at a time, each in effect before the next",
        do="migrator status" if before is None else f"migrator rollback --to {before}",
    )


def _lower(present: int, percent: int) -> Problem:
    return Problem(
        id="move.lower_percent",
        what=f"the cohort is {present} %, and {percent} % is less",
        why="a cohort only grows: who was handed a session keeps it",
        do="migrator rollback leads to observe, where nothing is handed out",
    )


def _stands(exceptions: Iterable[Exemption], wanted: Exemption) -> bool:
    return any(
        one.phase is wanted.phase
        and one.by == wanted.by
        and (
            one.value == wanted.value
            or (one.by == "cohort" and int(one.value) > int(wanted.value))
        )
        for one in exceptions
    )


def _without_smaller(
    exceptions: Iterable[Exemption], added: Iterable[Exemption]
) -> tuple[Exemption, ...]:
    grown = any(one.by == "cohort" for one in added)
    return tuple(one for one in exceptions if not (grown and one.by == "cohort"))


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
