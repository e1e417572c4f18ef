"""Who presents legacy tokens, by key and by class of routes: what `status --detail` adds.

Counted when a token is verified anew, about once a minute while it is in use, so the numbers say
where tokens come from and not how many requests they were. Only verified tokens have a kid here.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from migrator.control import revisions
from migrator.stores.queries import in_schema

if TYPE_CHECKING:
    from datetime import datetime

    from migrator.settings import Settings

WINDOW = timedelta(hours=24)
_MOST = 50

_SUMS = """
SELECT issuer, {by}, client, sum(count)::bigint AS verified, max(last_at) AS last_at
FROM {s}.legacy_census
WHERE hour >= date_trunc('hour', cast(:since AS timestamptz)) AND last_at > :since
GROUP BY issuer, {by}, client ORDER BY verified DESC, issuer, {by}, client LIMIT :most"""


def read(settings: Settings, now: datetime) -> dict[str, list[dict[str, Any]]]:
    """The keys `by_kid` and `by_route` of the census: the 24 hours before `now`, most first.

    Raises:
        Stopped: UNREACHABLE.
    """
    facts = {"since": now - WINDOW, "most": _MOST}
    home = settings.database.schema
    with revisions.connected(settings.database.url.get_secret_value()) as connection:
        found = {
            f"by_{by}": [
                {**row, by: row[by] or None, "client": row["client"] or None}
                for row in connection.execute(
                    text(in_schema(_SUMS.replace("{by}", by), home)), facts
                ).mappings()
            ]
            for by in ("kid", "route")
        }
        connection.rollback()
    return found
