"""Whether Redis is there, new enough, and keeps tombstones as long as they bind."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from migrator.control.diagnosis.finding import Finding
from migrator.stores.redis_clients import blocking_client, parse_address

if TYPE_CHECKING:
    from migrator.settings import Settings

_PATIENCE_S: Final = 2.0
_LEAST: Final = (6, 2)  # SET … PXAT with NX


def looks(settings: Settings) -> list[Finding]:
    """The Redis of the settings."""
    if settings.redis is None:
        text = "no Redis: every miss of memory is a query of Postgres"
        return [Finding("redis.none", "info", text)]
    try:
        address = parse_address(settings.redis.url.get_secret_value())
        client = blocking_client(address, budget_s=_PATIENCE_S, connections=2)
        began = time.monotonic()
        client.ping()
        took_ms = (time.monotonic() - began) * 1000
        info = _flat(client.info())
        client.close()
    except (RedisError, OSError, ValueError) as error:  # a message may quote the URL
        text = f"Redis cannot be used: {type(error).__name__}; requests go to Postgres instead"
        do = "check redis.url, the network and the password"
        return [Finding("redis.unreachable", "fail", text, do)]
    return [*_version(info), *_policy(info), *_speed(took_ms, settings.redis.budget_ms)]


def _flat(info: dict[str, Any]) -> dict[str, Any]:
    """The answer of one node: a cluster's is by node."""
    first = next(iter(info.values()), None)
    return first if "redis_version" not in info and isinstance(first, dict) else info


def _version(info: dict[str, Any]) -> list[Finding]:
    version = str(info.get("redis_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < _LEAST:
        text = f"Redis {version} is older than 6.2: nothing can be cached in it"
        return [Finding("redis.old", "fail", text, "upgrade it to 6.2 or later")]
    return [Finding("redis", "ok", f"Redis {version} answers")]


def _policy(info: dict[str, Any]) -> list[Finding]:
    policy = str(info.get("maxmemory_policy", "unknown"))
    if policy.startswith("allkeys"):
        text = (
            f"maxmemory-policy is {policy}: it may drop a tombstone while an older entry stays, "
            "and a revoked session would be believed again"
        )
        do = "CONFIG SET maxmemory-policy volatile-ttl, or give us a Redis of our own"
        return [Finding("redis.policy", "fail", text, do)]
    if policy == "unknown":
        text = "maxmemory-policy cannot be read; it must not be an allkeys- one"
        return [Finding("redis.policy", "warn", text, "ask whoever runs this Redis")]
    return [Finding("redis.policy", "ok", f"maxmemory-policy is {policy}")]


def _speed(took_ms: float, budget_ms: int) -> list[Finding]:
    if took_ms <= budget_ms:
        return []
    text = f"a PING took {took_ms:.0f} ms, the budget is {budget_ms} ms: it would be passed over"
    do = "put Redis nearer, or raise redis.budget_ms"
    return [Finding("redis.slow", "warn", text, do)]
