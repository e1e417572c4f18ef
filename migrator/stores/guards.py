"""What nodes measure of an open brownout and of a soak, and how they end one by themselves.

Every node measures, whoever comes first acts: one statement, a compare-and-set by the epoch that
was measured under, so that of any number of nodes exactly one ends it. What is too much is
decided in core (brownouts.py, soaks.py); nothing here is asked on a request's way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from psycopg.types.json import Jsonb

from migrator.core import brownouts
from migrator.core.brownouts import Limits
from migrator.core.sign_ins import usual
from migrator.core.soaks import Measure, Soak
from migrator.stores.queries import in_schema

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from migrator.core.phases import Rollout
    from migrator.stores.drivers import Row


class Run(Protocol):
    """Runs statements over the pulse's own connection."""

    def __call__(self, *steps: tuple[str, Mapping[str, object] | None]) -> list[list[Row]]:
        """The rows of each."""
        ...


MINUTES = """
INSERT INTO {s}.minutes AS m (minute, outcome, count)
SELECT date_trunc('minute', clock_timestamp()), outcome, count
FROM unnest(%(outcomes)s::text[], %(counts)s::bigint[]) AS c (outcome, count) ORDER BY outcome
ON CONFLICT (minute, outcome) DO UPDATE SET count = m.count + excluded.count"""

HITS = """
INSERT INTO {s}.brownout_hits AS h (
  brownout, realm, subject, issuer, client, first_at, last_at)
SELECT brownout, realm, subject, issuer, client, clock_timestamp(), clock_timestamp()
FROM unnest(%(brownouts)s::bigint[], %(realms)s::text[], %(subjects)s::text[],
  %(issuers)s::text[], %(clients)s::text[]) AS t (brownout, realm, subject, issuer, client)
ORDER BY brownout, realm, subject, issuer, client
ON CONFLICT (brownout, realm, subject, issuer, client) DO UPDATE
SET last_at = greatest(h.last_at, excluded.last_at)"""

# Minutes are whole ones: a window's first begins at most 59 s before it, which only dilutes.
_MEASURE = """
SELECT b.id, b.limits,
  extract(epoch FROM clock_timestamp() - date_trunc('minute', b.starts_at)) / 60,
  (SELECT coalesce(sum(count), 0)::bigint FROM {s}.minutes
   WHERE outcome = 'sign_in' AND minute >= date_trunc('minute', b.starts_at)),
  day.minutes, day.sign_ins,
  (SELECT count(*) FROM (SELECT DISTINCT realm, subject FROM {s}.brownout_hits
   WHERE brownout = b.id) people)
FROM {s}.brownouts b, LATERAL (
  SELECT extract(epoch FROM date_trunc('minute', b.starts_at) - min(minute)) / 60 AS minutes,
    coalesce(sum(count) FILTER (WHERE outcome = 'sign_in'), 0)::bigint AS sign_ins
  FROM {s}.minutes WHERE minute < date_trunc('minute', b.starts_at)
    AND minute >= date_trunc('minute', b.starts_at) - interval '24 hours') day
WHERE b.id = ANY(%(ids)s::bigint[])"""

_SOAKED = """
SELECT r.epoch, r.soak, clock_timestamp(),
  (SELECT coalesce(sum(count), 0)::bigint FROM {s}.minutes WHERE outcome = 'sign_in'
   AND minute >= date_trunc('minute', (r.soak->>'since')::timestamptz))
FROM {s}.rollout r WHERE r.soak IS NOT NULL AND r.epoch = %(epoch)s"""

_ABORT = """
WITH moved AS (
  UPDATE {s}.rollout SET epoch = epoch + 1,
    brownouts = coalesce((SELECT jsonb_agg(one ORDER BY n)
      FROM jsonb_array_elements(brownouts) WITH ORDINALITY AS w (one, n)
      WHERE (one->>'id')::bigint <> %(id)s), '[]'::jsonb),
    soak = CASE WHEN soak->>'epoch' = epoch::text
      THEN jsonb_set(soak, '{epoch}', to_jsonb(epoch + 1)) ELSE soak END
  WHERE epoch = %(epoch)s
    AND brownouts @> jsonb_build_array(jsonb_build_object('id', %(id)s::bigint))
  RETURNING phase, percent, epoch),
ended AS (
  UPDATE {s}.brownouts b SET aborted_at = clock_timestamp(), aborted_why = %(why)s::text
  FROM moved WHERE b.id = %(id)s AND b.aborted_at IS NULL),
told AS (
  INSERT INTO {s}.feed (kind, key) SELECT 'legacy', 'epoch:' || epoch FROM moved)
INSERT INTO {s}.rollout_log (at, who, why, command, to_phase, to_percent, epoch, detail)
SELECT clock_timestamp(), %(who)s::text, %(why)s::text, 'brownout abort', phase, percent, epoch,
  jsonb_build_object('brownout', %(id)s::bigint, 'by_itself', true)
FROM moved RETURNING epoch"""

_TAKE_BACK = """
WITH was AS (
  SELECT phase, percent FROM {s}.rollout WHERE epoch = %(epoch)s FOR UPDATE),
moved AS (
  UPDATE {s}.rollout r SET epoch = r.epoch + 1, since = clock_timestamp(),
    phase = %(phase)s::text, percent = %(percent)s::smallint, exceptions = %(exceptions)s::jsonb,
    drain_since = %(drain_since)s::timestamptz, sunset_at = %(sunset_at)s::timestamptz,
    soak = NULL
  FROM was WHERE r.epoch = %(epoch)s RETURNING r.epoch, was.phase, was.percent),
given AS (
  SELECT id FROM {s}.overrides WHERE revoked_at IS NULL AND until > clock_timestamp()
  FOR UPDATE SKIP LOCKED),
revoked AS (
  UPDATE {s}.overrides o SET revoked_at = clock_timestamp(), revoked_by = 'rollback'
  FROM given, moved WHERE o.id = given.id RETURNING o.id, o.gate),
told AS (
  INSERT INTO {s}.feed (kind, key) SELECT 'legacy', 'epoch:' || epoch FROM moved)
INSERT INTO {s}.rollout_log (at, who, why, command, from_phase, to_phase, from_percent,
  to_percent, epoch, detail)
SELECT clock_timestamp(), 'soak', %(why)s::text, 'rollback', phase, %(phase)s::text, percent,
  %(percent)s::smallint,
  epoch, jsonb_build_object('soak', %(soak)s::jsonb) || coalesce(
    (SELECT jsonb_build_object('revoked', jsonb_agg(jsonb_build_object('id', id, 'gate', gate)
      ORDER BY id)) FROM revoked HAVING count(*) > 0), '{}')
FROM moved RETURNING epoch"""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a node ended by itself: `who` is a brownout or the soak."""

    who: str
    why: str
    epoch: int


def is_due(rollout: Rollout | None, now: datetime) -> bool:
    """Whether there is anything to guard at `now`."""
    if rollout is None:
        return False
    soaks = rollout.soak_until is not None and now < rollout.soak_until
    return soaks or bool(rollout.open)


def watch(run: Run, schema: str, rollout: Rollout) -> tuple[Ended, ...]:
    """Measure what is open, and end what went beyond its limits.

    Raises:
        Unavailable: the database could not be asked.
    """
    ended: list[Ended] = []
    if rollout.open:
        ended += _watch_brownouts(run, schema, rollout)
    if rollout.soak_until is not None and not ended:
        ended += _watch_soak(run, schema, rollout)
    return tuple(ended)


def _watch_brownouts(run: Run, schema: str, rollout: Rollout) -> list[Ended]:
    ids = [one.id for one in rollout.open]
    for row in run((in_schema(_MEASURE, schema), {"ids": ids}))[0]:
        number, limits, minutes, sign_ins, day_minutes, day_sign_ins, subjects = row
        why = brownouts.breach(
            Limits.of(limits),
            brownouts.Measure(
                minutes=float(minutes),
                sign_ins=sign_ins,
                baseline=usual(day_sign_ins, None if day_minutes is None else float(day_minutes)),
                subjects=subjects,
            ),
        )
        if why is None:
            continue
        facts = {
            "id": number,
            "epoch": rollout.epoch,
            "who": f"brownout {number}",
            "why": why,
        }
        found = run((in_schema(_ABORT, schema), facts))[0]
        if found:  # the epoch moved: the next look decides anew
            return [Ended(f"brownout {number}", why, found[0][0])]
    return []


def _watch_soak(run: Run, schema: str, rollout: Rollout) -> list[Ended]:
    found = run((in_schema(_SOAKED, schema), {"epoch": rollout.epoch}))[0]
    if not found:
        return []
    epoch, column, now, counted = found[0]
    soak = Soak.of(column)
    if not soak.lasts(now, epoch=epoch):
        return []
    # Figures are of whole minutes: what came in the first before it began is taken off by share.
    share = (now - soak.since) / (now - soak.since.replace(second=0, microsecond=0))
    why = soak.breach(Measure(at=now, sign_ins=int(counted * share)))
    if why is None:
        return []
    back = soak.back
    facts = {
        "epoch": epoch,
        "why": why,
        "phase": back.phase.value,
        "percent": back.percent,
        "exceptions": Jsonb(back.as_json()["exceptions"]),
        "drain_since": back.drain_since,
        "sunset_at": back.sunset_at,
        "soak": Jsonb(column),
    }
    moved = run((in_schema(_TAKE_BACK, schema), facts))[0]
    return [Ended("soak", why, moved[0][0])] if moved else []


def minutes_of(counted: Mapping[str, int]) -> dict[str, object]:
    """What `MINUTES` is given."""
    return {"outcomes": list(counted), "counts": list(counted.values())}


def hits_of(hits: frozenset[tuple[int, str, str, str, str]]) -> dict[str, object]:
    """What `HITS` is given."""
    names = ("brownouts", "realms", "subjects", "issuers", "clients")
    return {
        name: list(column) for name, column in zip(names, zip(*hits, strict=True), strict=True)
    }
