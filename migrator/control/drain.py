"""When issuing stopped, and the drain horizon: the last moment a legacy token can be good for.

Pure: everything comes in as facts. The horizon is the largest of three: what nodes report they
handed out, what signers we do not see can have signed until issuing stopped, and what was seen and
is still open. Where one of them has no end, the answer is "none" and why, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from migrator.core.phases import ORDER, Phase

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from migrator.control.nodes import Fleet, Node
    from migrator.core.phases import Rollout
    from migrator.settings import Issuer

Bound = Literal["exact", "estimate", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """When the last node stopped issuing; `at` None says, by `why`, that it cannot be told."""

    at: datetime | None = None
    is_exact: bool = False
    why: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """The drain horizon. `at` is None unless `bound` says that there is one."""

    at: datetime | None
    bound: Bound
    why: str | None
    stop: Stop


def stopped(
    rollout: Rollout, fleet: Fleet, *, drain_epoch: int | None, recorded_at: datetime | None
) -> Stop:
    """When `drain` took effect.

    Args:
        drain_epoch: the epoch that entered it, from the journal.
        recorded_at: what the journal says of when it took effect, if it does.
    """
    since = rollout.drain_since
    if since is None or ORDER.index(rollout.phase) < ORDER.index(Phase.DRAIN):
        return Stop(why=f"issuing has not stopped: the phase is {rollout.phase}")
    if recorded_at is not None:
        return Stop(at=recorded_at, is_exact=True)
    # A process that started later has never acted under an earlier phase; one whose lease was over
    # before had stopped before.
    then = [node for node in fleet.nodes if node.started_at <= since and _was_there(node, since)]
    behind = [
        node for node in then if _behind(node, rollout, drain_epoch) and node.lives(fleet.now)
    ]
    if behind:
        return Stop(why=f"{len(behind)} of {len(fleet.live)} nodes have not acknowledged it yet")
    acked = [node.acked_at for node in then if node.acked_at and node.acked_at >= since]
    if acked:
        first = rollout.epoch == drain_epoch
        return Stop(at=max(acked), is_exact=first)
    started = [node.started_at for node in fleet.live]
    if not started:
        return Stop(why="no node has said that it stopped")
    return Stop(at=max(since, *started))


def _was_there(node: Node, since: datetime) -> bool:
    return node.lease_until is None or node.lease_until >= since


def _behind(node: Node, rollout: Rollout, drain_epoch: int | None) -> bool:
    return node.epoch is None or node.epoch < (drain_epoch or rollout.epoch)


def horizon(
    stop: Stop, fleet: Fleet, issuers: Sequence[Issuer], last_open: datetime | None
) -> Horizon:
    """The last moment a legacy token can be good for.

    Args:
        last_open: when the last one ends that was seen and is still open.
    """
    if stop.at is None:
        return Horizon(at=None, bound="none", why=stop.why, stop=stop)
    endless = [issuer.name for issuer in issuers if not _has_end(issuer)]
    if endless:
        why = f"issuer {', '.join(endless)} has no `lifetime` in the settings"
        return Horizon(at=None, bound="none", why=why, stop=stop)
    ends = [stop.at]
    ends += [stop.at + _longest(issuer) + issuer.leeway for issuer in issuers]
    leeway = max((issuer.leeway for issuer in issuers), default=timedelta())
    ends += [node.issued_horizon + leeway for node in fleet.nodes if node.issued_horizon]
    if last_open is not None:
        ends.append(last_open)
    guessed = [issuer.name for issuer in issuers if issuer.lifetime is None]
    if not stop.is_exact:
        why = "the record of when each node stopped is incomplete"
    elif guessed:
        why = f"issuer {', '.join(guessed)} has no `lifetime`; its `max_age` was counted"
    else:
        return Horizon(at=max(ends), bound="exact", why=None, stop=stop)
    return Horizon(at=max(ends), bound="estimate", why=why, stop=stop)


def last_issued_at(fleet: Fleet) -> datetime | None:
    """When a node last handed out a legacy token that we saw."""
    return max(
        (node.last_jwt_issued_at for node in fleet.nodes if node.last_jwt_issued_at), default=None
    )


def _has_end(issuer: Issuer) -> bool:
    refreshes = issuer.purpose.refresh is not None or bool(issuer.refresh_keys)
    if refreshes and issuer.refresh_lifetime is None:
        return False
    return issuer.lifetime is not None or issuer.max_age is not None


def _longest(issuer: Issuer) -> timedelta:
    known = [issuer.lifetime or issuer.max_age, issuer.refresh_lifetime]
    return max(one for one in known if one is not None)
