"""The kinds of value a setting can have, and what each refuses.

A refusal never contains the value: what was written may be a secret in the wrong place. Its type
is the id of a problem (problems.py), its message the reason.
"""

import re
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, StringConstraints
from pydantic_core import PydanticCustomError

_DURATION: Final = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)", re.ASCII)
_UNITS: Final = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_LONGEST: Final = timedelta(days=36_500)  # a sum with today's date must stay a date
_REDIS: Final = re.compile(
    r"(redis|rediss|unix|(redis|rediss)\+(cluster|sentinel))://.+", re.DOTALL
)
_POSTGRES: Final = re.compile(r"(?:postgresql(?:\+psycopg)?|postgres)(://.+)", re.DOTALL)
_TOKEN68: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110 section 5.6.2, token


def parse_duration(value: object) -> timedelta:
    """`14d`, `24h`, `10m`, `30s` or `1500ms` as a length of time; a bare number is refused."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise PydanticCustomError(
            "settings.bad-duration", "a duration is a whole number and ms, s, m, h or d"
        )
    count, unit = int(match[1]), match[2]
    if count * _UNITS[unit].total_seconds() > _LONGEST.total_seconds():
        raise PydanticCustomError("settings.bad-duration", "longer than a hundred years")
    return count * _UNITS[unit]


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise PydanticCustomError("settings.bad-duration", "nothing can last for no time")
    return value


def _number(value: object) -> object:
    if isinstance(value, bool):  # a bool is an int in Python
        raise PydanticCustomError("settings.bad-value", "a number, not true or false")
    return value


def _postgres(value: SecretStr) -> SecretStr:
    match = _POSTGRES.fullmatch(value.get_secret_value())
    if match is None:
        raise PydanticCustomError(
            "settings.bad-database-url",
            "not a postgresql+psycopg:// URL; Postgres is the only database",
        )
    return SecretStr("postgresql+psycopg" + match[1])


def _redis(value: SecretStr) -> SecretStr:
    if _REDIS.fullmatch(value.get_secret_value()) is None:
        raise PydanticCustomError(
            "settings.bad-redis-url",
            "not a redis://, rediss:// or unix:// URL, nor one of redis+cluster://, redis+sentinel://",
        )
    return value


def _safe_url(value: str) -> str:
    """HTTPS, or plain HTTP to this machine: who alters a key set on its way signs tokens."""
    try:
        parts = urlsplit(value)
        host = parts.hostname or ""
    except ValueError:
        parts, host = None, ""
    if parts is None or not host or "@" in parts.netloc or not value.isprintable() or " " in value:
        raise PydanticCustomError("settings.bad-url", "not an http(s) URL without a login in it")
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)):
        return value
    raise PydanticCustomError(
        "settings.insecure-jwks-url", "keys fetched in the clear can be exchanged on the way"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _origin(value: str) -> str:
    try:
        parts = urlsplit(value)
        plain = bool(parts.hostname) and f"{parts.scheme}://{parts.netloc}" == value
        plain = (
            plain and parts.scheme in {"http", "https"} and "@" not in value and "*" not in value
        )
        _ = parts.port
    except ValueError:
        plain = False
    if not plain:
        raise PydanticCustomError(
            "settings.bad-origin", "an origin is scheme://host or scheme://host:port, spelled out"
        )
    return value.lower()


def _pattern(value: str) -> str:
    if not value.startswith("/") or "?" in value or "#" in value or not value.isprintable():
        raise PydanticCustomError(
            "settings.bad-path", "a path pattern begins with / and has no query; * and ** are wild"
        )
    return value


def _algorithm(value: object) -> object:
    if value not in FAMILY_OF:
        raise PydanticCustomError("settings.bad-algorithm", "not one of " + ", ".join(FAMILY_OF))
    return value


def _or_none(value: object) -> object:
    return None if value == "" else value


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Family: TypeAlias = Literal["hmac", "public"]

FAMILY_OF: Final[dict[str, Family]] = {
    **dict.fromkeys(("HS256", "HS384", "HS512"), "hmac"),
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "public"),
    **dict.fromkeys(("ES256", "ES384", "ES512", "EdDSA"), "public"),
}

Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
PositiveDuration = Annotated[Duration, AfterValidator(_positive)]
Count = Annotated[int, BeforeValidator(_number), Field(ge=1)]
Whole = Annotated[int, BeforeValidator(_number), Field(ge=0)]
Percent = Annotated[float, BeforeValidator(_number), Field(ge=0, le=100)]
Factor = Annotated[float, BeforeValidator(_number), Field(gt=1, le=1000)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")]
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,1024}$")]
"""Text that may stand in a header, a label or a row: no control characters."""
OptionalText = Annotated[Text | None, BeforeValidator(_or_none)]
"""An empty string takes away what a preset said."""
Texts = Annotated[tuple[Text, ...], BeforeValidator(_listed)]
HeaderName = Annotated[str, StringConstraints(pattern=f"^{_TOKEN68}$", max_length=64)]
Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,62}$")]
Prefix = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*$", max_length=24)
]
Algorithm = Annotated[str, BeforeValidator(_algorithm)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_postgres)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis)]
SafeUrl = Annotated[str, AfterValidator(_safe_url)]
Link = Annotated[str, StringConstraints(pattern=r"^https?://[^\s<>\"\x00-\x1f\x7f]+$")]
Origin = Annotated[str, AfterValidator(_origin)]
CookieDomain = Annotated[
    str, StringConstraints(pattern=r"^\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$", max_length=253)
]
CookiePath = Annotated[str, StringConstraints(pattern=r"^/[^;\x00-\x1f\x7f]*$", max_length=1024)]
PathPattern = Annotated[str, AfterValidator(_pattern)]
