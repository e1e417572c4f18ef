"""What commands about sessions and cutoffs print: as JSON, and as text within 100 columns."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from migrator.cli.context import Context
    from migrator.control.barred import Barred, Denied
    from migrator.control.changes import Expired
    from migrator.control.cutoff_rows import Cutoff
    from migrator.control.cutoffs import Cut
    from migrator.control.endings import Audit, Ending
    from migrator.control.roster import Entry, Root, Whole

_AS_IS = (
    *("id", "realm", "subject", "kind", "origin", "client", "label", "created_at"),
    *("last_seen_at", "expires_at", "user_agent", "ip", "auth_time"),
)
_LONGEST_WORDS = 60


def session(entry: Entry) -> dict[str, object]:
    """A session in JSON; `ended` is null while nobody ended it."""
    one = entry.session
    ended = {"at": one.revoked_at, "why": one.revoked_reason, "by": one.revoked_by}
    return {
        **{name: getattr(one, name) for name in _AS_IS},
        "state": entry.state,
        "scopes": sorted(one.scopes),
        "amr": list(one.amr),
        "ended": ended if one.revoked_at else None,
    }


def whole(found: Whole) -> dict[str, object]:
    """One session in JSON, with its roots and family. Of its claims the names only."""
    return {
        "session": {**session(found.entry), "claims": sorted(found.entry.session.claims)},
        "legacy_tokens": [_root(root) for root in found.roots],
        "family": list(found.family),
    }


def barred(found: Barred) -> dict[str, object]:
    """What bars a subject's legacy tokens, in JSON; `by` null: not on record."""
    names = (
        "fingerprint",
        "issuer",
        "realm",
        "client",
        "purpose",
        "iat",
        "exp",
        "at",
        "why",
        "by",
    )
    return {
        "denied": [
            {**{name: getattr(one, name) for name in names}, "until": one.until}
            for one in found.denied
        ],
        "cutoffs": [cutoff(one) for one in found.cutoffs],
    }


def sessions(entries: Sequence[Entry], found: Barred, *, ended: bool) -> str:
    """Two lines for each session, then what bars the subject's legacy tokens."""
    none = "no sessions" if ended else "no living sessions (--ended shows those that are over)"
    lines = [_two_lines(entry) for entry in entries] or [none]
    lines += [_denial(one) for one in found.denied]
    lines += [
        f"legacy tokens refused by cutoff {one.id}, set {at(one.created_at)}\n"
        f"    {_cutoff_words(one)}"
        for one in found.cutoffs
    ]
    return "\n".join(lines)


def _denial(one: Denied) -> str:
    return (
        f"{one.purpose} JWT {one.fingerprint}… of {one.issuer}, exp {at(one.exp)}  "
        f"{_short(one.client or '')}".rstrip()
        + f"\n    denied {at(one.at)}  {_short(one.why)}, by {_short(one.by or 'unknown')}"
    )


def page(found: Whole) -> str:
    """One session on a screen."""
    one = found.entry.session
    rows = [
        ("session", f"{one.id}  {found.entry.state}"),
        ("subject", f"{_short(one.subject)}  in {one.realm}"),
        ("kind", f"{one.kind}, by {one.origin}" + (f", {one.label}" if one.label else "")),
        ("client", f"{_short(one.client or 'unknown')}  {_short(one.user_agent or '')}".rstrip()),
        ("ip", one.ip or "unknown"),
        ("scopes", " ".join(sorted(one.scopes)) or "none"),
        ("claims", " ".join(sorted(one.claims)) or "none"),
        ("created", at(one.created_at)),
        ("last seen", at(one.last_seen_at)),
        ("expires", at(one.expires_at, none="never")),
    ]
    if one.revoked_at is not None:
        rows.append(("ended", f"{at(one.revoked_at)}  {_because(entry=found.entry)}"))
    rows += [("from", _root_line(root)) for root in found.roots]
    rows += [("family", str(other)) for other in found.family]
    return "\n".join(f"{name:<10}{value}".rstrip() for name, value in rows)


def emit_ending(context: Context, ending: Ending, audit: Audit) -> None:
    """Print what was ended, or would be."""
    verb = "would end" if context.dry_run else "ended"
    lines = [f"{verb} {len(ending.sessions)} session(s)"]
    lines += [f"  {one}" for one in ending.sessions[:20]]
    if len(ending.sessions) > 20:
        lines.append(f"  and {len(ending.sessions) - 20} more")
    if ending.denied:
        whose = "legacy tokens issued until now" if ending.target == "subject" else "the JWT"
        lines.append(f"{'would refuse' if context.dry_run else 'refused from now on:'} {whose}")
    if ending.note:
        lines.append(ending.note)
    result = {
        "target": ending.target,
        "ended": list(ending.sessions),
        "denied": ending.denied,
        "note": ending.note or None,
        "by": audit.who,
        "reason": audit.why,
    }
    context.emit(
        result, lambda: "\n".join(lines), schema="migrator.ending/1", changed=ending.changed
    )


def expired(done: Expired, *, dry_run: bool) -> str:
    """One line."""
    if dry_run:
        return f"{done.session_id} would end at {at(done.now)} instead of {at(done.was)}"
    if not done.changed:
        return f"{done.session_id} ends at {at(done.now)} already: nothing was changed"
    return f"{done.session_id} ends at {at(done.now)} instead of {at(done.was, none='never')}"


def cutoff(one: Cutoff) -> dict[str, object]:
    """A cutoff in JSON."""
    names = ("id", "realm", "subject", "issuer", "kid", "not_before", "created_at")
    return {
        **{name: getattr(one, name) for name in names},
        "by": one.created_by,
        "reason": one.reason,
    }


def cutoffs(found: Sequence[Cutoff]) -> str:
    """A line for each."""
    return "\n".join(f"{one.id:>6}  {_cutoff_words(one)}" for one in found) or "no cutoffs"


def cut(done: Cut, *, dry_run: bool) -> str:
    """The id first: scripts take the first word."""
    if dry_run:
        return f"would refuse {_cutoff_words(done.cutoff)}, and end {done.ended} session(s)"
    said = "" if done.is_new else " (was there already)"
    return f"{done.cutoff.id}  {_cutoff_words(done.cutoff)}{said}; ended {done.ended} session(s)"


def removed(found: Cutoff | None, cutoff_id: int, *, dry_run: bool) -> str:
    """One line."""
    if found is None:
        return f"cutoff {cutoff_id} was removed before: nothing was changed"
    said = "would be removed" if dry_run else "removed: tokens it named are judged as any other"
    return f"{found.id}  {_cutoff_words(found)} {said}"


def at(moment: datetime | None, *, none: str = "unknown") -> str:
    """A time for people, in UTC to the second."""
    return none if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _two_lines(entry: Entry) -> str:
    one = entry.session
    first = f"{one.id}  {entry.state:<8}{one.origin:<11}{one.realm}  {_short(one.client or '')}"
    second = f"    created {at(one.created_at)}  seen {at(one.last_seen_at)}"
    if entry.state == "ended":
        second += f"\n    ended {at(one.revoked_at)}  {_because(entry=entry)}"
    else:
        second += f"  expires {at(one.expires_at, none='never')}"
    return f"{first.rstrip()}\n{second}"


def _because(*, entry: Entry) -> str:
    one = entry.session
    return f"{_short(one.revoked_reason or 'unknown')}, by {_short(one.revoked_by or 'unknown')}"


def _root(root: Root) -> dict[str, object]:
    return {name: getattr(root, name) for name in root.__dataclass_fields__}


def _root_line(root: Root) -> str:
    adopted = f"adopted {at(root.adopted_at)}" if root.adopted_at else "not adopted"
    named = f"  kid {root.kid}" if root.kid else ""
    return f"{root.purpose} token of {root.issuer}{named}, exp {at(root.exp)}, {adopted}"


def _cutoff_words(one: Cutoff) -> str:
    if one.subject is not None:
        words = f"{_short(one.subject)} in {one.realm}, issued until {at(one.not_before)}"
    else:
        words = f"issuer {one.issuer}" + (f", key {one.kid}" if one.kid else ", every key")
    return f"{words}  ({_short(one.reason or '')}, by {_short(one.created_by or 'unknown')})"


def _short(words: str) -> str:
    printable = "".join(each if each.isprintable() else "?" for each in words)
    return printable if len(printable) <= _LONGEST_WORDS else printable[: _LONGEST_WORDS - 1] + "…"
