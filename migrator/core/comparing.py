"""Where the app and the shim differ: in `observe` the app decides, and this says who was right.

A pair is one answer of the app to a JWT of a configured issuer, beside what the shim would have
done with it. Two directions are no agreement. `deny_allow`: the app turned away what the shim
would admit, so it knows of a revocation that we do not; from `swap` on that person is in.
`allow_deny`: the app served what the shim would refuse, so somebody is logged out by us.

What proves nothing is no pair: an answer that comes before anybody asked who it is (a 404, 429,
redirect), one of a route where a wrong password is a 401 too, an error. Whatever an app may mean
by a status, it is never taken for agreement unless it has to be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias

from migrator.core.seen import plain

if TYPE_CHECKING:
    from datetime import datetime

    from migrator.core.claims import Claims
    from migrator.core.reasons import Reason

Direction: TypeAlias = Literal["deny_allow", "allow_deny"]
# `agree`: both let it in; `agree_deny`: both turned it away, which proves nothing about who is let
# in, and which anybody can have as often as they like.
Pair: TypeAlias = Literal["agree", "agree_deny", "deny_allow", "allow_deny"]

PAIR = "pair:"
ADMITTED = "admitted"  # the shim's verdict in a `deny_allow`
OTHER = "(other)"

UNAUTHORIZED = 401
_FORBIDDEN = 403
# Said to somebody the app knows: not allowed, in conflict, not as it should be.
_TO_SOMEBODY = frozenset({304, _FORBIDDEN, 409, 410, 412, 422})

_ENDING = timedelta(seconds=10)
_ROUTE_CHARS = 128
_MOST_SEGMENTS = 8
_KID_CHARS = 64
# What names one thing and not a kind of thing: numbers, uuids, hashes, tokens, addresses.
_ONE_THING = re.compile(
    r"\d+|[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}"
    r"|(?=\D*\d)[0-9a-fA-F]{8,}|(?=\D*\d).{20,}|.{40,}|.*@.*"
)


@dataclass(frozen=True, slots=True)
class Shadow:
    """What the shim would do with a request that the app decides.

    Args:
        issuer: the id of the token's issuer; "" where none claims it.
        reason: why it would be refused; None: it would be admitted.
        claims: of a token that would be admitted. Holds no credential.
    """

    issuer: str
    client: str | None
    reason: Reason | None = None
    claims: Claims | None = None

    def is_ending(self, now: datetime) -> bool:
        """Whether it may be over by the app's clock, or without our leeway: no revocation."""
        return self.claims is not None and self.claims.exp - now < _ENDING

    def refusing(self, reason: Reason) -> Shadow:
        """The same for a request that is refused for more than its token."""
        return replace(self, reason=reason, claims=None)

    def differs(self, direction: Direction, path: str) -> Difference:
        """What it is called that the app answered otherwise."""
        verdict = ADMITTED if self.reason is None else str(self.reason)
        return Difference(direction, self.issuer, self.client or "", route_class(path), verdict)


@dataclass(frozen=True, slots=True)
class Difference:
    """One kind of disagreement; `verdict` is the shim's reason, or `admitted`."""

    direction: Direction
    issuer: str
    client: str
    route: str
    verdict: str

    def folded(self) -> Difference:
        """What stands for one more than there is room for: its route and client are left out."""
        return replace(self, route=OTHER, client=OTHER)


@dataclass(frozen=True, slots=True)
class Presence:
    """Who was seen with a verified legacy token: by client, key and class of routes."""

    issuer: str
    client: str
    kid: str
    route: str

    @classmethod
    def of(cls, claims: Claims, *, client: str | None, route: str) -> Presence:
        """That of a token whose signature was good: only then does its kid mean anything."""
        return cls(claims.issuer, client or "", plain(claims.kid, _KID_CHARS) or "", route)

    def folded(self) -> Presence:
        """See `Difference.folded`."""
        return replace(self, route=OTHER, client=OTHER)


def pair_of(*, would_admit: bool, answered: int, denies_with: int = UNAUTHORIZED) -> Pair | None:
    """What one answer makes of a verdict; None: it proves nothing.

    Args:
        would_admit: the shim's verdict.
        answered: the app's status.
        denies_with: by which the app says, besides 401, that it does not know who that is.
    """
    served = 100 < answered < 300
    denied = answered in {UNAUTHORIZED, denies_with}
    if would_admit:
        if denied:
            return "deny_allow"
        return "agree" if served or answered in _TO_SOMEBODY else None
    if served:
        return "allow_deny"
    return "agree_deny" if denied or answered == _FORBIDDEN else None


def route_class(path: str) -> str:
    """The kind of route a path is of: what names one thing in it becomes `*`.

    Plain text, bounded, and without what a path may hold of a person or of a secret.
    """
    kept = plain(path.partition("?")[0], _ROUTE_CHARS + 1) or "/"
    first, *segments = kept.split("/")
    if len(kept) > _ROUTE_CHARS or len(segments) > _MOST_SEGMENTS:
        segments = [*segments[: _MOST_SEGMENTS - 1], "**"]
    folded = ("*" if _ONE_THING.fullmatch(each) else each for each in segments)
    return "/".join([first and "*", *folded]) or "/"
