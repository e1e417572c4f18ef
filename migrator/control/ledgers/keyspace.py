"""Jtis in a Redis: keys that are named after one, or a collection of them, read by SCAN.

What must live here: how a Redis is asked, some entries at a time, whatever else lives there. What
an entry's own end means is said here too: no less than the longest life of a token, because apps
give a blocklist the life of an access token and put refresh tokens into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from redis.exceptions import RedisError

from migrator.control.ledgers.reading import SourceFailed, as_text, longest
from migrator.core import facts, strict, tokens
from migrator.core.verdicts import Reason
from migrator.stores import redis_clients
from migrator.stores.redis_clients import blocking_client, parse_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from migrator.settings import Issuer

Kind: TypeAlias = Literal["set", "zset", "hash"]

FAILURES: Final = (RedisError, OSError)
_BUDGET_S: Final = 2.0
_SPECIAL: Final = str.maketrans({each: f"\\{each}" for each in "\\[]?"})
_STRING: Final = b"string"
_MS: Final = timedelta(milliseconds=1)
_LONGEST_BYTES: Final = 65_536
# A score is a time from 2001 on, in seconds or milliseconds; any other number is a mark.
_SECONDS_FROM: Final = 1e9
_MILLISECONDS_FROM: Final = 1e11


@dataclass(frozen=True, slots=True)
class Entry:
    """One jti that a Redis names.

    Args:
        name: as it stands there, not yet known to be text.
        ttl: how long its key lives on; None: for ever, or it has no key of its own.
        score: of a sorted set's member.
    """

    name: bytes
    ttl: timedelta | None = None
    score: float | None = None


def connected(url: str) -> Any:
    """A client for one reading.

    Raises:
        SourceFailed: the URL is none that can be scanned.
    """
    try:
        address = parse_address(url)
    except ValueError:
        raise SourceFailed("its url cannot be read") from None
    if address.form == "cluster":
        raise SourceFailed("a cluster cannot be scanned as one; name one of its nodes")
    return blocking_client(address, budget_s=_BUDGET_S, connections=2)


def close(client: Any) -> None:
    """Let go of it."""
    redis_clients.close(client)


def named_keys(
    client: Any, pattern: str, cursor: int, *, room: int, value: str | None = None
) -> tuple[int, int, list[Entry]]:
    """Keys that `pattern` fits, from `cursor` on: the next cursor, how many, and what counts.

    Args:
        pattern: what its one `*` stands for is the jti.
        room: how many keys are looked at, about.
        value: keys with another value do not count, nor do keys that are no strings.
    """
    before, _, after = pattern.partition("*")
    match = f"{before.translate(_SPECIAL)}*{after.translate(_SPECIAL)}"
    cursor, keys = client.scan(cursor, match=match, count=room)
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.type(key)
        pipeline.pttl(key)
        if value is not None:
            pipeline.get(key)
    told = pipeline.execute(raise_on_error=False) if keys else []
    width = 2 if value is None else 3
    entries = [
        Entry(
            key[len(before.encode()) :].removesuffix(after.encode()),
            ttl=_ttl(told[at * width + 1]),
        )
        for at, key in enumerate(keys)
        if _counts(told[at * width : (at + 1) * width], value)
    ]
    return cursor, len(keys), entries


def kind_of(client: Any, name: str) -> Kind | None:
    """Which kind of collection a key is; None where it is none, or not there."""
    kind = client.type(name).decode()
    return kind if kind in _SCANS else None


def members(
    client: Any, name: str, kind: Kind, cursor: int, *, room: int
) -> tuple[int, list[Entry]]:
    """Members of a set or a sorted set, or fields of a hash, from `cursor` on."""
    cursor, found = getattr(client, _SCANS[kind])(name, cursor, count=room)
    if kind == "zset":
        return cursor, [Entry(member, score=score) for member, score in found]
    return cursor, [Entry(member) for member in found]


@dataclass(frozen=True, slots=True)
class Named:
    """What an entry names: a jti, or a whole token that became its fingerprint here."""

    jti: str | None = None
    fingerprint: bytes | None = None

    @property
    def key(self) -> str:
        """What it may be called in a report."""
        if self.fingerprint is not None:
            return f"token {self.fingerprint.hex()[:16]}"
        return "(no text)" if self.jti is None else ascii(self.jti)


def named(entry: Entry, issuer: Issuer) -> Named:
    """What an entry names. Some apps list whole tokens; none of them is kept."""
    if len(entry.name) > _LONGEST_BYTES:
        return Named()
    jws = strict.parse(entry.name, accept_padding=issuer.accept_padding)
    if isinstance(jws, Reason):
        looks_like_one = entry.name.startswith(b"eyJ") and entry.name.count(b".") == 2
        return Named() if looks_like_one else Named(jti=as_text(entry.name))
    return Named(fingerprint=tokens.fingerprint(issuer.id, jws.signing_input))


def ends_at(entry: Entry, issuer: Issuer, now: datetime) -> datetime | None:
    """Until when a token of that name can be good; None: that cannot be told.

    A score may be the token's exp or the moment of the revocation: both readings are held to.
    """
    lives = longest(issuer)
    if lives is None:
        return None
    if entry.ttl is not None:
        return facts.later(now, max(entry.ttl, lives))
    if entry.score is None or entry.score < _SECONDS_FROM:
        return None
    said = entry.score / 1000 if entry.score >= _MILLISECONDS_FROM else entry.score
    seconds = facts.seconds(said)
    if seconds is None:
        return None
    moment = facts.moment(seconds)
    return max(moment, facts.later(min(moment, now), lives))


_SCANS: Final[Mapping[str, str]] = {"set": "sscan", "zset": "zscan", "hash": "hscan"}


def _ttl(told: Any) -> timedelta | None:
    return told * _MS if isinstance(told, int) and told >= 0 else None


def _counts(told: list[Any], value: str | None) -> bool:
    if told[0] != _STRING:  # gone meanwhile, or somebody else's
        return False
    return value is None or told[2] == value.encode()
