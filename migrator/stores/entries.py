"""What a cached session looks like as bytes, and what bytes are believed.

A value is the 32 bytes of its own digest, one byte that says what follows, and a JSON list: the
read time, then the fields in the order of `_FIELDS`. The digest is compared on every read: crossed
replies have served one user another's session elsewhere (CVE-2023-28858, CVE-2023-28859). Whatever
is not exactly what `encode` of this version wrote is no entry: it is never half believed, and
reading it never raises.

A change of `_FIELDS` is a change of `_ENTRY`, so that old and new nodes side by side do not
misread each other. Nothing here is a secret: a digest names a session, only its token opens it.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, get_args
from uuid import UUID

from migrator.core.interfaces import TOMBSTONE, Found, Tombstone
from migrator.core.sessions import Kind, Origin, Session

MAX_BYTES: Final = 16 * 1024  # a row is some hundreds; one so large is not worth it
DIGEST_BYTES: Final = 32

_ENTRY: Final = b"\x02"
_TOMBSTONE: Final = b"\x54"


def encode(found: Found) -> bytes | None:
    """The value to cache; None for what is too large, or has claims that JSON cannot say."""
    if len(found.digest) != DIGEST_BYTES:
        return None
    record: list[object] = [_from_time(found.read_at)]
    for name, field in _FIELDS.items():
        value = getattr(found.session, name)
        record.append(None if value is None else field.write(value))
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        value = found.digest + _ENTRY + text.encode()
    except (TypeError, ValueError, RecursionError):
        return None
    return value if len(value) <= MAX_BYTES else None


def tombstone(digest: bytes) -> bytes:
    """The value that says: ask the store."""
    return digest + _TOMBSTONE


def belongs(value: object, digest: bytes) -> bool:
    """Whether `value` was written under `digest`; if not, it answers another question."""
    return (
        isinstance(value, bytes)
        and len(digest) == DIGEST_BYTES
        and hmac.compare_digest(value[:DIGEST_BYTES], digest)
    )


def decode(digest: bytes, value: object) -> Found | Tombstone | None:
    """What was cached under `digest`; None for anything that `encode` would not have written."""
    if not isinstance(value, bytes) or len(value) > MAX_BYTES or not belongs(value, digest):
        return None
    kind, body = value[DIGEST_BYTES : DIGEST_BYTES + 1], value[DIGEST_BYTES + 1 :]
    if kind == _TOMBSTONE:
        return None if body else TOMBSTONE
    if kind != _ENTRY:
        return None
    if b"\\u" in body and b"\\ud" in body.lower():  # a lone surrogate fails later, in a query
        return None
    try:
        return _found(digest, _JSON.decode(body.decode()))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def _found(digest: bytes, record: object) -> Found:
    if not isinstance(record, list):
        raise TypeError
    values: list[Any] = [
        None if value is None and is_optional else read(value)
        for value, (read, is_optional) in zip(record, _READERS, strict=True)
    ]
    session = Session(**dict(zip(_FIELDS, values[1:], strict=True)))
    return Found(digest=digest, session=session, read_at=values[0])


# ---- one row for each field of a session: how it is written, and what is accepted ---------------


@dataclass(frozen=True, slots=True)
class _Field:
    write: Callable[[Any], object]
    read: Callable[[object], Any]
    optional: bool = False


def _refuse(_: str) -> object:
    raise ValueError  # NaN and Infinity are not JSON


def _same(value: object) -> object:
    return value


# What `str` itself does with a str: hands it back, and raises TypeError for anything else.
_text: Final[Callable[[Any], str]] = str.__str__


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(map(_text, value))


def _from_time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat()


def _time(value: Any) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def _claims(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError
    return value


def _one_of(allowed: tuple[str, ...]) -> Callable[[object], str]:
    def read(value: object) -> str:
        text = _text(value)
        if text not in allowed:
            raise ValueError
        return text

    return read


_TIME: Final = _Field(_from_time, _time)
_MAYBE_TIME: Final = _Field(_from_time, _time, optional=True)
_TEXT: Final = _Field(_same, _text)
_MAYBE_TEXT: Final = _Field(_same, _text, optional=True)

_FIELDS: Final[Mapping[str, _Field]] = {
    "id": _Field(str, lambda value: UUID(_text(value))),
    "kind": _Field(_same, _one_of(get_args(Kind))),
    "realm": _TEXT,
    "subject": _TEXT,
    "created_at": _TIME,
    "expires_at": _MAYBE_TIME,
    "origin": _Field(_same, _one_of(get_args(Origin))),
    "client": _MAYBE_TEXT,
    "scopes": _Field(sorted, lambda value: frozenset(_texts(value))),
    "claims": _Field(dict, _claims),
    "last_seen_at": _MAYBE_TIME,
    "user_agent": _MAYBE_TEXT,
    "ip": _MAYBE_TEXT,
    "revoked_at": _MAYBE_TIME,
    "revoked_reason": _MAYBE_TEXT,
    "revoked_by": _MAYBE_TEXT,
    "auth_time": _MAYBE_TIME,
    "amr": _Field(list, _texts),
    "label": _MAYBE_TEXT,
}
_READERS: Final = ((_time, False), *((row.read, row.optional) for row in _FIELDS.values()))
_JSON: Final = json.JSONDecoder(parse_constant=_refuse)
