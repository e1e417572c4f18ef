"""A backfill of dates in words."""

from __future__ import annotations

from typing import Final

from migrator.control.backfill.not_before import Outcome
from migrator.control.words import count

_ENDS: Final = {
    "done": "done",
    "limit": "stopped by a limit: what is done is kept, the next run goes on",
    "interrupted": "interrupted: what is done is kept, the next run goes on",
}
_WORDS: Final = {
    "cut": "subjects cut off, newly or later than before",
    "already": "cut off already",
    "unset": "without a date",
    "past": "dates before any token that still lives",
    "ended": "sessions ended that began before",
}
_REASONS: Final = {
    "unreadable": "their date cannot be read",
    "bad_subject": "no subject that a row can hold",
    "unknown_realm": "a realm that no issuer is of",
}


def text(found: Outcome) -> str:
    """The outcome as a screen."""
    lines = [f"backfill not-before from {found.place}"]
    if found.dry_run:
        lines.append("rehearsed: nothing was written")
    lines.append(
        f"{count(found.counts['read'])} of about {count(found.total)} rows read:"
        f" {_ENDS[found.end]}"
    )
    lines += [
        f"{count(found.counts[name]):>12}  {words}"
        for name, words in _WORDS.items()
        if found.counts[name] or name == "cut"
    ]
    lines += [
        f"{count(n):>12}  rejected, {reason}: {_REASONS[reason]}"
        for reason, n in sorted(found.rejected.items())
    ]
    return "\n".join(lines)
