"""Whom a move concerns: what two rollouts differ by, asked of a segment or of rows in SQL."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from migrator.core.phases import Phase

if TYPE_CHECKING:
    from migrator.core.phases import Exemption, Rollout

_NOBODY = "false"
_REFUSING = frozenset({Phase.CUTOVER, Phase.RETIRED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whom a move concerns: who would stand in `cutover` and does not now. None: everybody."""

    before: Rollout | None = None
    after: Rollout | None = None

    def concerns(self, issuer: str, client: str) -> bool:
        """Whether anybody of this issuer and client is concerned."""
        buckets = range(100) if self.needs_buckets else (0,)
        return any(self._concerns(issuer, client, bucket) for bucket in buckets)

    def _concerns(self, issuer: str, client: str, bucket: int) -> bool:
        def cut(rollout: Rollout | None) -> bool:
            if rollout is None:
                return False
            phase = rollout.phase_for(issuer=issuer, client=client or None, bucket=bucket)
            return phase in _REFUSING

        return self.after is None or (cut(self.after) and not cut(self.before))

    def sql(self) -> tuple[str, dict[str, Any]]:
        """The same question over columns issuer, client and bucket of `l`."""
        if self.after is None:
            return "true", {}
        after, given = _cut(self.after, "a")
        if self.before is None:
            return after, given
        before, more = _cut(self.before, "b")
        if before == _NOBODY:
            return after, given
        if before == "true":
            return _NOBODY, {}
        return f"({after}) AND NOT ({before})", {**given, **more}

    @property
    def is_of_nobody(self) -> bool:
        """Whether it can concern nobody: who stands in `cutover` already is not cut over."""
        return self.sql()[0] == _NOBODY

    @property
    def needs_buckets(self) -> bool:
        """Whether a cohort decides somewhere."""
        both = [rollout for rollout in (self.before, self.after) if rollout is not None]
        return any(one.by == "cohort" for rollout in both for one in rollout.exceptions)


EVERYBODY = Scope()


def all_left(rollout: Rollout) -> Scope:
    """Everybody who is not cut over yet."""
    after = replace(rollout, phase=Phase.CUTOVER, exceptions=())
    return Scope(before=rollout, after=after)


def _cut(rollout: Rollout, name: str) -> tuple[str, dict[str, Any]]:
    branches: list[str] = []
    given: dict[str, Any] = {}
    for number, one in enumerate(rollout.exceptions):
        key = f"{name}{number}"
        condition, value = _covers(one, key)
        given[key] = value
        branches.append(f"WHEN {condition} THEN {_truth(one.phase)}")
    default = _truth(rollout.phase)
    return (f"CASE {' '.join(branches)} ELSE {default} END" if branches else default), given


def _covers(one: Exemption, key: str) -> tuple[str, str | int]:
    match one.by:
        case "issuer":
            return f"l.issuer = :{key}", one.value
        case "client":
            return f":{key} IN (l.client, split_part(l.client, '/', 1))", one.value
        case "cohort":
            return f"l.bucket < :{key}", int(one.value)


def _truth(phase: Phase) -> str:
    return "true" if phase in _REFUSING else "false"
