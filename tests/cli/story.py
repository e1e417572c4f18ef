"""Rollouts for screens: what the database says of them is the same each time it is told.

Ages are relative to now and longer than a test takes by far, so that only clock times differ.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.deployment import Deployment

WEEK_OF_TRAFFIC = """
INSERT INTO migrator.legacy_usage (hour, issuer, client, outcome, count, last_at)
SELECT h, 'a1', client, outcome, CASE outcome WHEN 'session' THEN 4000
    WHEN 'legacy' THEN round(share * 900
      * 0.74 ^ (extract(epoch FROM h - date_trunc('hour', now())) / 86400 + 7))
    ELSE 2 END, h + interval '59 min'
FROM generate_series(date_trunc('hour', now()) - interval '7 days',
    date_trunc('hour', now()) - interval '1 hour', interval '1 hour') h,
  (VALUES ('ios/7.2.1', 0.61), ('partner-sync', 0.22), ('cron-7', 0.09)) c (client, share),
  unnest(ARRAY['session', 'legacy', 'foreign:credential']) outcome"""
_ROOM_S = 40
PEOPLE = (("ios/7.2.1", 61), ("partner-sync", 22), ("cron-7", 9), ("", 4))
BACKFILL = """
INSERT INTO migrator.jobs (name, source, state, done, total, rejected, started_at, updated_at)
VALUES ('backfill:simplejwt:a1:public.tokens', 'simplejwt', 'done', 8204611, 8204611, 12,
  now() - interval '6 h', now() - interval '5 h 10 min')"""


def beat(place: Deployment, *names: str) -> None:
    """Nodes that acknowledged the present epoch 3.2 s after it was committed."""
    place.beat(*names)
    place.execute(
        "UPDATE migrator.nodes SET acked_at = r.since + interval '3.2 s' FROM migrator.rollout r"
    )


def people(place: Deployment) -> None:
    """Ninety-six subjects on four clients, seen some hours ago."""
    for client, number in PEOPLE:
        place.execute(
            "INSERT INTO migrator.legacy_subjects (realm, subject, issuer, client, first_seen_at,"
            " last_seen_at, max_exp) SELECT 'users', %s || i, 'a1', %s, now() - interval '9 days',"
            " now() - interval '5 h 30 min', now() + interval '7 d 19 h 30 min'"
            " FROM generate_series(1, %s::int) i",
            f"{client}-",
            client,
            number,
        )


def traffic(place: Deployment) -> None:
    """A week of it, the legacy part falling by a quarter a day, and a backfill that is done."""
    clear_of_the_hour(place)
    place.execute(WEEK_OF_TRAFFIC)
    place.execute(BACKFILL)


# What differs between two tellings, and what stands in its place.
_CLOCKS = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?"), "YYYY-MM-DD hh:mm:ssZ"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\dZ"), "YYYY-MM-DD hh:mmZ"),
    (re.compile(r"\b20\d\d-\d\d-\d\d\b"), "YYYY-MM-DD"),
    (re.compile(r"(?<=→ )(YYYY-MM-DD hh:mm:ssZ|\d\d:\d\d:\d\dZ)"), "TIME"),
    (re.compile(r"data ≤ .*? old +"), "data ≤ N s old  "),
    (re.compile(r"last counted .*? ago"), "last counted N min ago"),
    (re.compile(r"\b\d+ min( \d+ s)? ago\b"), "N min ago"),
    (re.compile(r"\b\d+(\.\d)? s ago\b"), "N s ago"),
    (re.compile(r"\b\d+(\.\d)? s(?= in this phase)"), "N s"),
    (re.compile(r"(?<=oldest evidence )\d+(\.\d)? s"), "N s"),
    (re.compile(r" in 2\d h( \d+ min)?,"), " in 23 h N min,"),
    (re.compile(r"\d+ d( \d+ h)? of data"), "N d of data"),
    (re.compile(r"≈ \d+ users?"), "≈ N users"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r"\btest_[0-9a-f]{8}_\w+"), "DATABASE"),
    (re.compile(r"(?<=[Pp]lan )[0-9a-f]{4,}"), "ID"),
)
_APART = re.compile(r"(?<=\S) {2,}")


def normal(text: str, *, is_table: bool = False) -> str:
    """The text with every clock time in general terms; a table without its alignment."""
    lines = []
    for line in text.splitlines():
        said = line
        for found, general in _CLOCKS:
            said = found.sub(general, said)
        lines.append((_APART.sub("  ", said) if is_table else said).rstrip())
    return "\n".join(lines) + "\n"


def clear_of_the_hour(place: Deployment) -> None:
    """Wait, seldom, for the hour that counts are kept by to begin anew."""
    left = "SELECT extract(epoch FROM date_trunc('hour', now()) + interval '1 h' - now())"
    while place.value(left) < _ROOM_S:
        time.sleep(1)
