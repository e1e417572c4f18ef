"""Whom a window would meet: those seen in a window as long as it, and at most all who are open.

Who was seen with a legacy token and has come back with a session since would not be met.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any

from migrator.control import evidence
from migrator.control.census import Census
from migrator.control.scope import Scope
from migrator.core.brownouts import length
from migrator.core.phases import Exemption, Phase

if TYPE_CHECKING:
    from migrator.control.brownouts.teaching import Lesson
    from migrator.core.brownouts import Brownout
    from migrator.core.phases import Rollout
    from migrator.settings import Settings


def of(settings: Settings, rollout: Rollout, window: Brownout, lesson: Lesson) -> dict[str, Any]:
    """The forecast that is kept with a brownout, and shown before it is confirmed.

    `subjects` are those who would be refused if the window were like the same length until now;
    `at_most` all whose legacy tokens are open. What brownouts taught says how they come back.

    Raises:
        Stopped: UNFIT; UNREACHABLE.
    """
    found = evidence.gather(settings, scope=_scope(rollout, window), quiet=length(window))
    nobody = Census(subjects=0, groups=())
    return told(found.seen or nobody, found.open or nobody, lesson, percent=window.percent)


def told(seen: Census, opened: Census, lesson: Lesson, *, percent: int) -> dict[str, Any]:
    """The forecast from what was counted."""
    most = {(group.issuer, group.client): group.subjects for group in opened.groups}
    met = {(group.issuer, group.client): group.subjects for group in seen.groups}
    clients = [
        _client(
            issuer,
            client,
            seen=met.get((issuer, client), 0),
            opened=most.get((issuer, client), 0),
            percent=percent,
            lesson=lesson,
        )
        for issuer, client in {**met, **most}
    ]
    known = [one for one in clients if one["silent"] is not None]
    is_known = bool(clients) and len(known) == len(clients)
    return {
        **_met(seen.subjects, opened.subjects, percent),
        **{
            name: sum(one[name] for one in known) if is_known else None
            for name in ("silent", "sign_in", "breaks")
        },
        "calibrated_by": list(lesson.brownouts),
        "clients": sorted(clients, key=lambda one: (-one["subjects"], one["client"] or "~")),
    }


def _client(
    issuer: str, client: str, *, seen: int, opened: int, percent: int, lesson: Lesson
) -> dict[str, Any]:
    met = _met(seen, opened, percent)
    shares = lesson.about(issuer, client)
    known = None if shares is None else shares.of(met["subjects"])
    silent, sign_in, breaks = known or (None, None, None)
    return {
        "client": client or None,
        "issuer": issuer,
        **met,
        "silent": silent,
        "sign_in": sign_in,
        "breaks": breaks,
    }


def _met(seen: int, opened: int, percent: int) -> dict[str, int]:
    most = ceil(opened * percent / 100)
    return {"subjects": min(round(seen * percent / 100), most), "at_most": most}


def _scope(rollout: Rollout, window: Brownout) -> Scope:
    if window.by is None:
        after = replace(rollout, phase=Phase.CUTOVER, exceptions=())
    else:
        cut = Exemption(by=window.by, value=window.value, phase=Phase.CUTOVER)
        after = replace(rollout, exceptions=(cut, *rollout.exceptions))
    return Scope(before=rollout, after=after)
