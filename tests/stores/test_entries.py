"""What a cached value says, and that nothing else is believed."""

from __future__ import annotations

import dataclasses
import json
import pickle
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.core.interfaces import TOMBSTONE, Found
from migrator.core.sessions import FAR, Session
from migrator.stores import entries

DIGEST = bytes(range(32))
OTHER = bytes(32)
NOW = datetime(2026, 11, 23, 12, 30, 1, 123456, tzinfo=UTC)

SESSION = Session(
    id=uuid.UUID(int=7),
    kind="session",
    realm="users",
    subject="Zoë\x00\n",
    created_at=NOW,
    expires_at=NOW + timedelta(days=1),
    origin="swap",
    client="app/1",
    scopes=frozenset({"read", "write"}),
    claims={"name": "Zoë", "age": 7, "nested": [1, {"a": None}]},
    last_seen_at=NOW,
    user_agent="ua",
    ip="::1",
    revoked_at=NOW,
    revoked_reason="asked",
    revoked_by="me",
    auth_time=NOW - timedelta(hours=1),
    amr=("pwd", "otp"),
    label="laptop",
)
BARE = Session(
    id=uuid.UUID(int=8),
    kind="api",
    realm="users",
    subject="1",
    created_at=NOW,
    expires_at=None,
    origin="login",
)
NAMES = ("read_at", *entries._FIELDS)


def _found(session: Session = SESSION) -> Found:
    return Found(digest=DIGEST, session=session, read_at=NOW)


def _value(session: Session = SESSION) -> bytes:
    value = entries.encode(_found(session))
    assert value is not None
    return value


def _altered(**changes: object) -> bytes:
    """An entry whose JSON says something else; a change to `...` takes the field away."""
    value = _value()
    record = dict(zip(NAMES, json.loads(value[33:]), strict=True)) | changes
    kept = [field for field in record.values() if field is not ...]
    return value[:33] + json.dumps(kept).encode()


@pytest.mark.parametrize("session", [SESSION, BARE], ids=["full", "bare"])
def test_what_was_encoded_is_read_back_whole(session: Session) -> None:
    assert entries.decode(DIGEST, _value(session)) == _found(session)


def test_every_field_of_a_session_is_kept() -> None:
    """A new field needs a new version byte: this fails to say so."""
    assert {field.name for field in dataclasses.fields(Session)} == set(entries._FIELDS)
    assert entries._ENTRY == b"\x02"


def test_times_come_back_in_utc() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5)))
    session = dataclasses.replace(BARE, created_at=elsewhere, expires_at=FAR)
    found = entries.decode(DIGEST, _value(session))
    assert isinstance(found, Found)
    assert found.session.created_at == NOW
    assert found.session.created_at.tzinfo is UTC
    assert found.session.expires_at == FAR


def test_a_value_begins_with_its_digest_and_holds_no_token() -> None:
    assert _value().startswith(DIGEST)
    assert {"token", "digest"}.isdisjoint(NAMES)
    assert DIGEST.hex().encode() not in _value()


def test_a_tombstone_is_read_as_one() -> None:
    assert entries.decode(DIGEST, entries.tombstone(DIGEST)) is TOMBSTONE


def test_the_value_of_another_digest_is_nothing() -> None:
    assert entries.decode(OTHER, _value()) is None
    assert entries.decode(OTHER, entries.tombstone(DIGEST)) is None
    assert not entries.belongs(_value(), OTHER)


def test_a_digest_cut_short_matches_nothing() -> None:
    assert entries.decode(DIGEST[:31], _value()) is None
    assert entries.decode(b"", b"") is None
    assert entries.encode(Found(digest=b"", session=SESSION, read_at=NOW)) is None


WRONG: dict[str, Any] = {
    "empty": b"",
    "digest alone": DIGEST,
    "no body": DIGEST + b"\x02",
    "an unknown version": DIGEST + b"\x03" + _value()[33:],
    "the version before": DIGEST + b"\x01" + json.dumps({"read_at": NOW.isoformat()}).encode(),
    "a longer tombstone": entries.tombstone(DIGEST) + b"x",
    "pickle": DIGEST + b"\x02" + pickle.dumps(SESSION),
    "pickle alone": pickle.dumps(SESSION),
    "no UTF-8": DIGEST + b"\x02\xff\xfe",
    "an empty list": DIGEST + b"\x02[]",
    "an object": DIGEST + b"\x02{}",
    "null": DIGEST + b"\x02null",
    "nested too deep": DIGEST + b"\x02" + b"[" * 16_000,
    "too many digits": DIGEST + b"\x02" + b"9" * 16_000,
    "too large": _value() + b" " * entries.MAX_BYTES,
    "cut off": _value()[:-1],
    "more after it": _value() + b"{}",
    "not bytes": "text",
    "a number": 7,
    "missing field": _altered(subject=...),
    "further field": _altered(admin=True),
    "no read time": _altered(read_at=...),
    "null subject": _altered(subject=None),
    "integer subject": _altered(subject=1),
    "lone surrogate": _altered(subject="\ud800"),
    "unknown kind": _altered(kind="root"),
    "kind of another type": _altered(kind=["session"]),
    "unknown origin": _altered(origin="nowhere"),
    "id that is none": _altered(id="7"),
    "scopes as text": _altered(scopes="admin"),
    "scopes of numbers": _altered(scopes=[1]),
    "amr as object": _altered(amr={}),
    "claims as list": _altered(claims=[]),
    "infinity": _altered(claims={"x": float("inf")}),
    "not a number": _altered(claims={"x": float("nan")}),
    "time without zone": _altered(created_at="2026-11-23T12:00:00"),
    "time as number": _altered(expires_at=9e99),
    "time that is none": _altered(revoked_at="never"),
    "time out of range": _altered(created_at="0001-01-01T00:00:00+14:00"),
}


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG.keys())
def test_what_encode_would_not_have_written_is_nothing(value: object) -> None:
    assert entries.decode(DIGEST, value) is None


@given(st.binary(max_size=300))
def test_no_bytes_make_reading_raise(value: bytes) -> None:
    assert entries.decode(DIGEST, value) is None
    assert entries.decode(DIGEST, DIGEST + b"\x02" + value) is None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.sampled_from(NAMES), _json)
def test_no_json_in_any_field_makes_reading_raise(name: str, field: object) -> None:
    found = entries.decode(DIGEST, _altered(**{name: field}))
    assert found is None or (isinstance(found, Found) and entries.encode(found) is not None)


@given(st.integers(0, 31), st.integers(1, 255))
def test_one_changed_byte_of_the_digest_is_another_question(at: int, by: int) -> None:
    value = bytearray(_value())
    value[at] ^= by
    assert entries.decode(DIGEST, bytes(value)) is None


@pytest.mark.parametrize(
    "claims",
    [{"x": "y" * entries.MAX_BYTES}, {"x": NOW}, {"x": float("nan")}, {"x": "\ud800"}],
    ids=["too large", "not JSON", "not a number", "lone surrogate"],
)
def test_what_cannot_be_said_is_not_cached(claims: dict[str, object]) -> None:
    assert entries.encode(_found(dataclasses.replace(SESSION, claims=claims))) is None
