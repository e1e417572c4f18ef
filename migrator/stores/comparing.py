"""The pulse's side of what `observe` compares, and of who presents which keys where.

A token that the app turned away and we would admit is not believed to be a difference before the
store was asked about it: the app's own revocation comes to us by a ledger that is polled, and
what we know by then is late, and no difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator.core.comparing import PAIR
from migrator.core.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from migrator.core.claims import Claims
    from migrator.core.comparing import Difference, Presence
    from migrator.core.usage import Usage
    from migrator.stores.guards import Run

_DIFFER = """
INSERT INTO {s}.differences AS d (
  hour, direction, issuer, client, route, verdict, count, last_at)
SELECT date_trunc('hour', clock_timestamp()), direction, issuer, client, route, verdict, count,
  clock_timestamp()
FROM unnest(%(directions)s::text[], %(issuers)s::text[], %(clients)s::text[], %(routes)s::text[],
  %(verdicts)s::text[], %(counts)s::bigint[])
  AS c (direction, issuer, client, route, verdict, count)
ORDER BY direction, issuer, client, route, verdict
ON CONFLICT (hour, direction, issuer, client, route, verdict) DO UPDATE
SET count = d.count + excluded.count, last_at = excluded.last_at"""

_PRESENT = """
INSERT INTO {s}.legacy_census AS l (hour, issuer, client, kid, route, count, last_at)
SELECT date_trunc('hour', clock_timestamp()), issuer, client, kid, route, count, clock_timestamp()
FROM unnest(%(issuers)s::text[], %(clients)s::text[], %(kids)s::text[], %(routes)s::text[],
  %(counts)s::bigint[]) AS c (issuer, client, kid, route, count)
ORDER BY issuer, client, kid, route
ON CONFLICT (hour, issuer, client, kid, route) DO UPDATE
SET count = l.count + excluded.count, last_at = excluded.last_at"""

# Which tokens we would not admit any more: what the gate would be told of each.
_KNOWN = """
SELECT t.fingerprint
FROM unnest(%(fingerprints)s::bytea[], %(issuers)s::text[], %(jtis)s::text[],
  %(families)s::text[], %(kids)s::text[], %(realms)s::text[], %(subjects)s::text[],
  %(iats)s::timestamptz[])
  AS t (fingerprint, issuer, jti, family, kid, realm, subject, iat)
WHERE EXISTS (SELECT FROM {s}.denials d
    WHERE (d.until IS NULL OR d.until > clock_timestamp()) AND (d.fingerprint = t.fingerprint
      OR (d.issuer = t.issuer AND (d.jti = t.jti OR d.family = t.family))))
  OR EXISTS (SELECT FROM {s}.cutoffs c WHERE c.realm = t.realm AND c.subject = t.subject
    AND (t.iat IS NULL OR date_trunc('second', t.iat) <= c.not_before))
  OR EXISTS (SELECT FROM {s}.cutoffs c
    WHERE c.issuer = t.issuer AND (c.kid IS NULL OR c.kid = t.kid))
  OR EXISTS (SELECT FROM {s}.legacy_tokens l LEFT JOIN {s}.sessions s ON s.id = l.session_id
    WHERE l.fingerprint = t.fingerprint AND l.session_id IS NOT NULL
      AND (s.id IS NULL OR s.revoked_at IS NOT NULL))"""


def flush(run: Run, usage: Usage, *, before: int) -> None:
    """Write what was counted; what could not be written is counted again.

    Args:
        before: tokens held back since that tick are asked about now.

    Raises:
        Unavailable: the database could not be asked.
    """
    _settle(run, usage, before)
    differences = usage.differences.take()
    try:
        if differences:
            run((_DIFFER, _differing(differences)))
    except Unavailable:
        usage.differences.give_back(differences)
        raise
    presences = usage.presences.take()
    try:
        if presences:
            run((_PRESENT, _present(presences)))
    except Unavailable:
        usage.presences.give_back(presences)
        raise


def _settle(run: Run, usage: Usage, before: int) -> None:
    held = usage.take_unsettled(before)
    if not held:
        return
    try:
        known = _known(run, [each.claims for each in held.values()])
    except Unavailable:
        usage.give_back_unsettled(held)
        raise
    for (difference, fingerprint), each in held.items():
        if fingerprint in known:
            tally = usage.tally(difference.issuer, difference.client, PAIR + "agree_deny")
            tally.count += each.count
        else:
            usage.differ(difference, each.count)


def _known(run: Run, several: Sequence[Claims]) -> frozenset[bytes]:
    facts: dict[str, object] = {
        "fingerprints": [one.fingerprint for one in several],
        "issuers": [one.issuer for one in several],
        "jtis": [one.jti for one in several],
        "families": [one.family for one in several],
        "kids": [one.kid for one in several],
        "realms": [one.realm for one in several],
        "subjects": [one.subject for one in several],
        "iats": [one.effective_iat for one in several],
    }
    rows = run((_KNOWN, facts))[0]
    return frozenset(bytes(row[0]) for row in rows)


def _differing(counted: Mapping[Difference, int]) -> dict[str, object]:
    return {
        "directions": [one.direction for one in counted],
        "issuers": [one.issuer for one in counted],
        "clients": [one.client for one in counted],
        "routes": [one.route for one in counted],
        "verdicts": [one.verdict for one in counted],
        "counts": list(counted.values()),
    }


def _present(counted: Mapping[Presence, int]) -> dict[str, object]:
    return {
        "issuers": [one.issuer for one in counted],
        "clients": [one.client for one in counted],
        "kids": [one.kid for one in counted],
        "routes": [one.route for one in counted],
        "counts": list(counted.values()),
    }
