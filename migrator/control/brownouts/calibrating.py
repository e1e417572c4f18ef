"""What a cutover would do to those it hits, by what brownouts taught: silent, sign in, break.

A client that no brownout met is unknown, and then the sum of all is unknown too: half a number
would look like the whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from migrator.control.brownouts.teaching import Lesson

NAMES = ("silent", "sign_in", "breaks")
_UNTAUGHT = "no finished brownout met {whom} and saw them again: migrator brownout schedule"


def calibrated(hit: dict[str, Any], lesson: Lesson, unknown: dict[str, str]) -> dict[str, Any]:
    """The forecast `hit` of status, with how its subjects would come back.

    Args:
        unknown: takes the reason of what is not known, by its path.
    """
    clients = [_client(one, lesson) for one in hit["clients"]]
    untaught = [one["client"] or "unknown client" for one in clients if one["silent"] is None]
    known = hit["subjects"] is not None and not untaught
    if not known:
        whom = ", ".join(untaught[:4]) or "anybody"
        for name in NAMES:
            unknown[f"if_cut_over.{name}"] = _UNTAUGHT.format(whom=whom)
    sums = {name: sum(one[name] for one in clients) if known else None for name in NAMES}
    return {**hit, **sums, "clients": clients, "calibrated_by": list(lesson.brownouts)}


def _client(one: dict[str, Any], lesson: Lesson) -> dict[str, Any]:
    shares = lesson.about(one["issuer"], one["client"] or "")
    found = (None, None, None) if shares is None else shares.of(one["subjects"])
    return {**one, **dict(zip(NAMES, found, strict=True))}
