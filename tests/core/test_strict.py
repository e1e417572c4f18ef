"""What is a compact JWS, and what is JSON that every reader reads alike."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.core import strict
from migrator.core.verdicts import Reason

ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(st.binary(max_size=50))
def test_a_canonical_segment_is_decoded(raw: bytes) -> None:
    assert strict.decode(urlsafe_b64encode(raw).rstrip(b"=")) == raw
    assert strict.decode(urlsafe_b64encode(raw)) == raw


@given(st.lists(st.sampled_from(sorted(ALPHABET)), min_size=1, max_size=9).map(bytes))
def test_bytes_have_one_spelling(segment: bytes) -> None:
    found = strict.decode(segment)
    canonical = len(segment) % 4 != 1 and urlsafe_b64encode(
        urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    ).rstrip(b"=")
    assert (found is not None) == (canonical == segment)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"a": [1, -2.5e3, true, false, null, "x"]}',
        ' \t\r\n{"a":{"b":{}}} ',
        '{"a": "\\ud83d\\ude00 \\u0000 \\"[[[["}',
        '{"a": 9007199254740992}',
        json.dumps({"x": [[]] * 40}),
    ],
)
def test_plain_json_is_read(text: str) -> None:
    assert strict.read_object(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"{} {}",
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": 01}',
        b'{"a": +1}',
        b'{"a": .5}',
        b'{"a": 0x1}',
        b'{"a": "\n"}',
        b'{"a": 1, "a": 1}',
        b'{"a": 1, "\\u0061": 2}',
        b'{"b": [{"a": 1, "a": 2}]}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": 9007199254740993}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": "\\ud800"}',
        b'{"\\udc00": 1}',
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-32-le"),
        b'{"a":' + b"[" * 32 + b"]" * 32 + b"}",
        b'{"a":' * 3000,
        b"/* */ {}",
        b"\xc2\xa0{}",
    ],
)
def test_what_readers_read_differently_is_no_json(raw: bytes) -> None:
    assert strict.read_object(raw) is None


def test_a_larger_integer_is_read_on_request() -> None:
    raw = b'{"a": 9223372036854775807}'
    assert strict.read_object(raw) is None
    assert strict.read_object(raw, largest_int=2**63 - 1) == {"a": 2**63 - 1}


@given(st.binary(max_size=200))
def test_no_bytes_make_the_parser_raise(raw: bytes) -> None:
    strict.read_object(raw)
    assert isinstance(strict.parse(raw), strict.Compact | Reason)
    assert isinstance(strict.parse(raw, accept_padding=True), strict.Compact | Reason)


def test_nothing_of_a_token_is_shown() -> None:
    segment = urlsafe_b64encode(b'{"alg":"HS256"}').rstrip(b"=")
    jws = strict.parse(segment + b".c2VjcmV0.c2lnbmF0dXJl")
    assert isinstance(jws, strict.Compact)
    assert jws.payload == b"secret"
    assert "secret" not in repr(jws)
    assert "signature" not in repr(jws)
