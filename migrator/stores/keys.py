"""The keys of one issuer, joined: what the settings hold and what its URL serves.

Which keys are fit is `keyforms`' rule, when a key set is fetched is `jwks`'; this file owns which
of an issuer's keys a token's header can mean.
"""

import time
from collections.abc import Callable, Collection, Sequence

from migrator.core.errors import BadSettings, Problem
from migrator.core.legacy import Key, KeyRing
from migrator.stores.jwks import REFRESH_SECONDS, JwksRing, meant
from migrator.stores.keyforms import Form, KeySource, Loaded, checked, load, load_set

__all__ = [
    "Form",
    "JoinedRing",
    "JwksRing",
    "KeySource",
    "Loaded",
    "StaticRing",
    "key_ring",
    "load",
    "load_set",
]


class StaticRing:
    """Keys that do not change while the process lives."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self.keys = tuple(keys)

    def __repr__(self) -> str:
        return f"StaticRing({list(self.keys)!r})"

    def find(self, kid: str | None, alg: str) -> tuple[Key, ...]:
        """See KeyRing; never Unavailable."""
        return meant(self.keys, kid, alg)


class JoinedRing:
    """Keys of the settings beside a fetched set. What is named in the settings needs no fetch."""

    def __init__(self, static: StaticRing, fetched: JwksRing) -> None:
        self.static = static
        self.fetched = fetched

    def find(self, kid: str | None, alg: str) -> tuple[Key, ...]:
        """See KeyRing."""
        own = self.static.find(kid, alg)
        if kid is not None and any(key.kid == kid for key in own):
            return own
        return self.fetched.find(kid, alg) + own

    def close(self) -> None:
        """End the thread of the fetched set."""
        self.fetched.close()


def key_ring(
    sources: Sequence[KeySource],
    algorithms: Collection[str],
    *,
    jwks_url: str | None = None,
    allow_http_loopback: bool = False,
    refresh_seconds: float = REFRESH_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> KeyRing:
    """The ring of one issuer; with `jwks_url`, its first fetch has begun.

    Args:
        sources: the keys of the settings.
        algorithms: what the issuer lists.
        jwks_url: where more public keys are.
        allow_http_loopback: take `http://127.0.0.1`, for demos and tests.
        refresh_seconds: between two fetches of the set.
        clock: seconds, monotonic.

    Raises:
        BadSettings: a key or the URL is unfit; every problem at once.
    """
    problems: tuple[Problem, ...] = ()
    keys: tuple[Key, ...] = ()
    try:
        if sources or jwks_url is None:
            keys = checked(load(sources, algorithms), algorithms)
        if jwks_url is not None and any(isinstance(key.material, bytes) for key in keys):
            why = "a fetched set holds public keys, and the settings hold a secret"
            do = "make an issuer for the secrets and another for the public keys"
            problems = (Problem("key-mixed-set", "the keys", why, do),)
    except BadSettings as error:
        problems = error.problems
    if problems:
        raise BadSettings(problems)
    static = StaticRing(keys)
    if jwks_url is None:
        return static
    fetched = JwksRing(
        jwks_url,
        algorithms,
        allow_http_loopback=allow_http_loopback,
        refresh_seconds=refresh_seconds,
        clock=clock,
    )
    return JoinedRing(static, fetched) if keys else fetched
