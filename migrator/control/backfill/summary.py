"""A backfill in words: one line while it goes on, one screen at its end."""

from __future__ import annotations

import textwrap
from datetime import timedelta

from migrator.control.backfill import covered
from migrator.control.backfill.board import Progress
from migrator.control.backfill.order import Report
from migrator.control.backfill.tuning import Standing
from migrator.control.words import at, span

WIDTH = 99

_WORDS = {
    "seeded": "sessions made, each waiting for its legacy token",
    "already": "known already, left as they are",
    "expired": "over by their own exp",
    "denied": "revoked by the ledger, denied from now on",
    "revoked_already": "revoked by the ledger, denied already",
    "barred": "denied or cut off by us, left alone",
    "ended": "living sessions ended, because their token is revoked",
}

_ENDS = {
    "done": "done",
    "limit": "stopped by a limit: what is done is kept, the next run goes on",
    "paused": "paused: what is done is kept, the next run goes on",
    "interrupted": "interrupted: what is done is kept, the next run goes on",
}

REASONS = {
    "no_user": "their user was deleted",
    "unreadable": "they cannot be read at all",
    "not_a_jws": "no JWT where the token should be",
    "bad_header": "a header that no issuer signs",
    "bad_payload": "claims that are no JSON object",
    "not_yet_valid": "signed for a later time",
    "oversized": "longer than a credential may be",
    "bad_subject": "no subject that a row can hold",
    "bad_claim": "a jti, family or client that a row cannot hold",
    "bad_fingerprint": "no 32 bytes in hex or base64",
    "no_expiry": "no exp, and the issuer has no max_age",
    "bad_time": "an exp or iat that no clock can tell",
    "wrong_purpose": "tokens for something else than logging in",
    "unknown_issuer": "tokens of another issuer",
}


def line(progress: Progress) -> str:
    """How far it is; more rows than were counted is words, never more than 100 %."""
    rejected = f", {progress.rejected:,} rejected" if progress.rejected else ""
    far = _far(progress.done, progress.total) + rejected
    if progress.waiting_on and not progress.rate:
        return f"{far}  waiting: {'; '.join(progress.waiting_on)}"
    rate = "" if progress.rate is None else f"{progress.rate:,.0f}/s"
    eta = "" if progress.eta_s is None else f"about {_length(progress.eta_s)} left"
    slower = f"slower: {'; '.join(progress.waiting_on)}" if progress.waiting_on else ""
    return "  ".join(filter(None, (far, rate, eta, slower)))


def standing(found: Standing) -> str:
    """How a backfill stands, in two lines at the most of which each has its own."""
    far = f"{found.done:,} rows" if found.state == "done" else _far(found.done, found.total)
    rejected = f", {found.rejected:,} rejected" if found.rejected else ""
    rate = "" if found.rows_per_second is None else f"  {found.rows_per_second:,}/s"
    eta = "" if found.eta is None else f"  done about {at(found.eta)} (estimate)"
    lines = [found.job, f"  {found.state}: {far}{rejected}{rate}{eta}"]
    if found.state == "running":
        batch = "as long as it takes" if found.batch is None else f"{found.batch:,} rows"
        ranges = f"{found.ranges_done} of {found.ranges} ranges done"
        pace = f"workers {found.workers}, a page {batch}, sleep {found.sleep_ms} ms, {ranges}"
        lines.append(f"  {pace}; by {found.who}")
    lines += [f"  waits for: {reason}" for reason in found.waiting_on]
    if found.state == "stalled":
        lines.append("  nobody is there: run its command again, it goes on where it stopped")
    return "\n".join(lines)


def _length(seconds: float) -> str:
    return span(timedelta(seconds=max(round(seconds), 1)))


def _far(done: int, total: int | None) -> str:
    if total is None:
        return f"{done:,} rows, of how many is unknown"
    if done > total:
        return f"{done:,} rows, {done - total:,} more than were counted at the start"
    share = 100 * done // total if total else 100
    return f"{done:,} of about {total:,} rows ({share} %)"


def text(report: Report) -> str:
    """The report as a screen."""
    outcome = report.outcome
    counts = outcome.tally.counts
    head = f"backfill {report.order.kind} of issuer {report.order.issuer} from {report.place}"
    if report.order.dry_run:
        head += "\nrehearsed: nothing was written"
    rows = [f"{_far(counts['read'], outcome.total)} read: {_ENDS[outcome.end]}"]
    if outcome.why is not None:
        rows.append(f"because {outcome.why}")
    if outcome.resumed:
        rows.append(f"went on from a checkpoint; {outcome.here:,} rows in this run")
    rows += [
        f"{counts[name]:>12,}  {words}"
        for name, words in _WORDS.items()
        if counts[name] or name == "seeded"
    ]
    rows += [
        f"{count:>12,}  rejected, {reason}: {REASONS.get(reason, 'no exchange takes them')}"
        for reason, count in sorted(outcome.tally.rejected.items())
    ]
    if outcome.tally.rejected:
        rows.append(_where(report))
    rows.append("cannot be seeded:")
    for what, why in report.unseedable:
        rows += textwrap.wrap(
            f"{what}: {why}", WIDTH, initial_indent="  ", subsequent_indent="    "
        )
    rows += covered.seen(report.coverage)
    return "\n".join([head, *rows])


def _where(report: Report) -> str:
    if report.order.rejects is not None and not report.order.dry_run:
        return f"              each is in {report.order.rejects}"
    named = "; ".join(row for row, _ in report.outcome.examples[:5])
    return f"              for example {named}  (--rejects PATH writes them all)"
