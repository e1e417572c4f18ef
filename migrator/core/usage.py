"""What happened, counted in memory and written by the pulse: never a write per request (P11).

Counts may miss a few under threads (an increment takes no lock); what matters to a gate, whether
something was seen and when last, is never missed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from migrator.core.comparing import OTHER, PAIR
from migrator.core.counting import Counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from migrator.core.claims import Claims
    from migrator.core.comparing import Difference, Presence

# Clients name themselves (User-Agent), so whoever wants can invent names; more than these count
# as one.
MOST_TALLIES = 2_000
QUIET_TAKES = 180  # a second apart
MOST_SUBJECTS = 200_000
MOST_UNSETTLED = 1_000
# Which figure of a minute an outcome counts for, besides the logins.
MINUTES = {
    "session": "session",
    "legacy": "legacy",
    "swapped": "legacy",
    "refused:legacy_retired": "refused",
}

# A brownout, and whom it refused: realm, subject, issuer, client.
Hit: TypeAlias = tuple[int, str, str, str, str]


@dataclass(frozen=True, slots=True)
class What:
    """One line of the census: an outcome of an issuer's or our own credentials, by client.

    `outcome` is `session`, `legacy`, `swapped`, `issued`, `foreign:<shape>`, `passed:<reason>`,
    `refused:<reason>` or `pair:<comparing.Pair>`.
    """

    issuer: str
    client: str
    outcome: str


class Tally:
    """A counter that the hit path may bump without a lock."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def bump(self) -> None:
        """Count one."""
        self.count += 1


@dataclass(slots=True)
class Sighting:
    """A subject seen with a legacy token since the last flush; the largest exp counts."""

    exp: datetime


@dataclass(slots=True)
class Unsettled:
    """A token that the app turned away and we would admit, until it was asked whether we know.

    The app's own revocation may be on its way to us, by the ledger that is polled.
    """

    claims: Claims
    since: int
    count: int = 1


class Usage:
    """The buffers of one process. `era` counts how often it began anew, in a forked child."""

    __slots__ = (
        "_flushed",
        "_gone",
        "_hits",
        "_quiet",
        "_sightings",
        "_sign_ins",
        "_tallies",
        "_unsettled",
        "differences",
        "era",
        "issued_horizon",
        "last_issued_at",
        "presences",
        "routes",
    )

    def __init__(self) -> None:
        self._tallies: dict[What, Tally] = {}
        self._flushed: dict[What, int] = {}
        self._quiet: dict[What, int] = {}
        self._gone: dict[tuple[str, str], int] = {}
        self.era = 0
        self._sightings: dict[tuple[str, str, str, str], Sighting] = {}
        self._sign_ins = 0
        self._hits: set[Hit] = set()
        self.routes: dict[tuple[str, str], int] = {}
        self.differences: Counts[Difference] = Counts()
        self.presences: Counts[Presence] = Counts()
        self._unsettled: dict[tuple[Difference, bytes], Unsettled] = {}
        self.last_issued_at: datetime | None = None
        self.issued_horizon: datetime | None = None

    def issued(self, now: datetime, exp: datetime | None) -> None:
        """Note a legacy token the app issued through us: the drain horizon counts on it."""
        self.last_issued_at = now
        if exp is not None:
            self.issued_horizon = max(exp, self.issued_horizon or exp)

    def tally(self, issuer: str | None, client: str | None, outcome: str) -> Tally:
        """The counter for this line, the same object each time."""
        what = What(issuer or "", client or "", outcome)
        found = self._tallies.get(what)
        if found is None:
            if len(self._tallies) >= MOST_TALLIES:
                what = What(issuer or "", OTHER, outcome)
            found = self._tallies.setdefault(what, Tally())
        return found

    def count(self, issuer: str | None, client: str | None, outcome: str) -> None:
        """Count one of this line."""
        self.tally(issuer, client, outcome).bump()

    def signed_in(self) -> None:
        """Count a login: what a soak and a brownout are judged by."""
        self._sign_ins += 1

    def take_minutes(self, counted: Iterable[tuple[What, int]]) -> dict[str, int]:
        """What the minute's figures grow by: the logins since the last take, and `counted`."""
        minutes = dict.fromkeys(MINUTES.values(), 0)
        minutes["sign_in"], self._sign_ins = self._sign_ins, 0
        for what, count in counted:
            name = MINUTES.get(what.outcome)
            if name is not None:
                minutes[name] += count
        return {name: count for name, count in minutes.items() if count}

    def give_back_minutes(self, taken: Mapping[str, int]) -> None:
        """Undo a take whose flush failed; the rest comes again with its tallies."""
        self._sign_ins += taken.get("sign_in", 0)

    def take_hits(self) -> frozenset[Hit]:
        """Whom brownouts refused since the last take."""
        taken, self._hits = frozenset(self._hits), set()
        return taken

    def give_back_hits(self, taken: Iterable[Hit]) -> None:
        """Undo a take whose flush failed: what a brownout taught must not be lost."""
        self._hits.update(taken)

    def saw(self, claims: Claims, client: str | None, *, brownout: int | None = None) -> None:
        """Note that a subject still presents legacy tokens, and which brownout refused it."""
        key = (claims.realm, claims.subject, claims.issuer, client or "")
        if brownout is not None and len(self._hits) < MOST_SUBJECTS:
            self._hits.add((brownout, *key))
        found = self._sightings.get(key)
        if found is not None:
            found.exp = max(found.exp, claims.exp)
        elif len(self._sightings) < MOST_SUBJECTS:
            self._sightings[key] = Sighting(claims.exp)

    def observed(self, path: str, reason: str) -> None:
        """Note a route the app answered 2xx where we would have refused (paths are capped)."""
        if len(self.routes) < MOST_TALLIES or (path, reason) in self.routes:
            self.routes[path, reason] = self.routes.get((path, reason), 0) + 1

    def count_routes(self) -> None:
        """Count what `observed` noted since the last time."""
        for (path, reason), count in list(self.routes.items()):
            self.tally(None, path, f"route:{reason}").count += count
            del self.routes[path, reason]

    def differ(self, difference: Difference, count: int = 1) -> None:
        """Count answers of the app that are not what the shim's would be."""
        self.differences.add(difference, count)
        outcome = PAIR + difference.direction
        self.tally(difference.issuer, difference.client, outcome).count += count

    def suspect(self, difference: Difference, claims: Claims, now: int) -> None:
        """Hold a difference back until the store was asked about its token; `now` in ticks."""
        key = difference, claims.fingerprint
        found = self._unsettled.get(key)
        if found is not None:
            found.count += 1
        elif len(self._unsettled) < MOST_UNSETTLED:
            self._unsettled[key] = Unsettled(claims, now)
        else:
            self.differ(difference)

    def take_unsettled(self, before: int) -> dict[tuple[Difference, bytes], Unsettled]:
        """What has been held back since before that tick."""
        due = {key: each for key, each in list(self._unsettled.items()) if each.since <= before}
        for key in due:
            self._unsettled.pop(key, None)
        return due

    def give_back_unsettled(self, taken: Mapping[tuple[Difference, bytes], Unsettled]) -> None:
        """Undo a take whose question had no answer."""
        for key, each in taken.items():
            found = self._unsettled.setdefault(key, each)
            if found is not each:
                found.count += each.count

    def take_tallies(self) -> list[tuple[What, int]]:
        """What was counted since the last take."""
        taken: list[tuple[What, int]] = []
        for what, tally in list(self._tallies.items()):
            new = tally.count - self._flushed.get(what, 0)
            if new > 0:
                taken.append((what, new))
                self._flushed[what] = self._flushed.get(what, 0) + new
                self._quiet.pop(what, None)
            else:
                self._forget_in_time(what)
        return taken

    def _forget_in_time(self, what: What) -> None:
        # Names that clients made up must not keep the real ones out for ever. What memory may
        # still bump lives a minute; this is three at the least.
        self._quiet[what] = self._quiet.get(what, 0) + 1
        if self._quiet[what] > QUIET_TAKES:
            line = what.issuer, what.outcome
            self._gone[line] = self._gone.get(line, 0) + self._tallies[what].count
            for kept in (self._tallies, self._flushed, self._quiet):
                kept.pop(what, None)

    def totals(self) -> dict[tuple[str, str], int]:
        """What was counted since the process began, by issuer and outcome; see `era`.

        Clients name themselves, so no total is kept by them.
        """
        totals = dict(self._gone)
        for what, tally in list(self._tallies.items()):
            line = what.issuer, what.outcome
            totals[line] = totals.get(line, 0) + tally.count
        return totals

    def give_back(self, taken: Iterable[tuple[What, int]]) -> None:
        """Undo a take whose flush failed."""
        for what, new in taken:
            self._flushed[what] = self._flushed.get(what, 0) - new

    def take_sightings(self) -> dict[tuple[str, str, str, str], Sighting]:
        """The subjects seen since the last take."""
        taken, self._sightings = self._sightings, {}
        return taken

    def give_back_sightings(self, taken: Mapping[tuple[str, str, str, str], Sighting]) -> None:
        """Undo a take whose flush failed: an outage must not make a straggler invisible."""
        for key, sighting in taken.items():
            found = self._sightings.get(key)
            if found is not None:
                found.exp = max(found.exp, sighting.exp)
            elif len(self._sightings) < MOST_SUBJECTS:
                self._sightings[key] = sighting

    def drop(self) -> None:
        """Let go of what nobody wants to know any more: the rollout is retired."""
        self.take_minutes(self.take_tallies())
        self.take_sightings()
        self.take_hits()
        self.differences.take()
        self.presences.take()
        self._unsettled.clear()

    def forget(self) -> None:
        """Start anew, in a child process: what the parent counted is the parent's to write."""
        self._tallies.clear()
        self._flushed.clear()
        self._quiet.clear()
        self._gone.clear()
        self.era += 1
        self._sightings.clear()
        self._sign_ins = 0
        self._hits.clear()
        self.routes.clear()
        self.differences.forget()
        self.presences.forget()
        self._unsettled.clear()
        self.last_issued_at = self.issued_horizon = None
