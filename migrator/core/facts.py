"""What a claim's value may be: text that every store can hold, times that every clock can tell.

Older signers wrote integers, milliseconds, control characters and lone surrogates; each of them
passes PyJWT and then breaks a query (psycopg DataError, UnicodeEncodeError, OverflowError). None
says that a value is not usable; whoever asks decides which refusal that is.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

LONGEST_TEXT_BYTES: Final = 255
LATEST_SECONDS: Final = 253_402_300_799  # 9999-12-31T23:59:59Z; a time in ms is beyond it
_MOST_SCOPES: Final = 256
# A day early, so that no time zone of a database session moves it beyond what Python can hold.
LATEST: Final = datetime(9999, 12, 30, tzinfo=UTC)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def claim(payload: Mapping[str, object], name: str) -> object:
    """The value of the claim `name`, None where it is absent; a dot goes one level down."""
    if name in payload or "." not in name:
        return payload.get(name)
    found: object = payload
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def text(value: object, *, integers: bool = False) -> str | None:
    """`value` as text of 1 to 255 bytes without control characters; an integer only on request."""
    if integers and type(value) is int:  # a bool is an int in Python, not here
        return str(value)
    if not isinstance(value, str) or not value or value.isspace():
        return None
    if _UNFIT.search(value) or len(value.encode()) > LONGEST_TEXT_BYTES:
        return None
    return value


def seconds(value: object) -> float | None:
    """`value` as seconds since 1970 (RFC 7519 NumericDate) that a datetime can hold."""
    if type(value) not in {int, float} or not isinstance(value, int | float):
        return None
    return value if 0 <= value <= LATEST_SECONDS else None


def moment(since_epoch: float) -> datetime:
    """The time that `seconds` found, at the latest LATEST."""
    return min(_EPOCH + timedelta(seconds=since_epoch), LATEST)


def later(start: datetime, by: timedelta) -> datetime:
    """`start` plus `by`, at the latest LATEST."""
    return LATEST if by > LATEST - start else start + by


def words(value: object) -> frozenset[str] | None:
    """The scopes in `value`: a string of words, or a list of them; none where it is absent."""
    if value is None:
        return frozenset()
    found = value.split() if isinstance(value, str) else value
    if not isinstance(found, list) or len(found) > _MOST_SCOPES:
        return None
    usable = [each for each in found if text(each) is not None]
    return frozenset(usable) if len(usable) == len(found) else None


def strings(values: object) -> tuple[str, ...]:
    """A list of texts as a tuple; empty where it is anything else, since unknown is what it is."""
    found = values if isinstance(values, list) else []
    usable = tuple(each for each in found[:32] if isinstance(each, str) and text(each))
    return usable if len(usable) == len(found) else ()


def is_storable(value: object) -> bool:
    """Whether a JSON column can hold `value`: Postgres refuses NUL and surrogates in strings."""
    if isinstance(value, str):
        return _UNSTORABLE.search(value) is None
    if isinstance(value, Mapping):
        return all(is_storable(each) for pair in value.items() for each in pair)
    if isinstance(value, Iterable):
        return all(is_storable(each) for each in value)
    return True
