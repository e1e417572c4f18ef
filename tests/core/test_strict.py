"""What is a compact JWS, and what is JSON that every reader reads alike."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.core import strict
from migrator.core.verdicts import Reason

ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
REFUSED = (b"crit", b"b64", b"zip", b"enc", b"cty")


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
def test_p10_what_readers_read_differently_is_no_json(raw: bytes) -> None:
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


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 31 + "{}" + "}" * 31,
        '{"a":' + "[" * 31 + "]" * 31 + "}",
        '{"a":' * 16 + "[" * 16 + "]" * 16 + "}" * 16,
        '{"x":[' + "[],{}," * 40 + "[]]}",
        '{"x":[[],' + "[" * 30 + "]" * 30 + "]}",
        '{"x":"' + "[" * 99 + '\\"{"}',
    ],
    ids=["objects", "lists", "both", "beside-each-other", "after-one", "in-a-string"],
)
def test_32_levels_are_read_and_a_33rd_is_not(text: str) -> None:
    assert strict.read_object(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 32 + "{}" + "}" * 32,
        '{"a":' + "[" * 32 + "]" * 32 + "}",
        '{"a":' * 17 + "[" * 16 + "]" * 16 + "}" * 17,
        '{"x":[' + "[]," * 40 + "[" * 31 + "]" * 31 + "]}",
    ],
    ids=["objects", "lists", "both", "after-shallow-ones"],
)
def test_a_33rd_level_is_not_read_wherever_it_is(text: str) -> None:
    assert json.loads(text)
    assert strict.read_object(text.encode()) is None


@pytest.mark.parametrize(
    ("text", "largest", "read"),
    [
        ("-9007199254740992", 2**53, True),
        ("-9007199254740993", 2**53, False),
        ("-9223372036854775807", 2**63 - 1, True),
        ("-9223372036854775808", 2**63 - 1, False),
        ("1.7976931348623157e308", 2**53, True),
        ("-1e309", 2**53, False),
    ],
)
def test_a_number_is_read_as_far_as_every_reader_holds_it(
    text: str, largest: int, read: bool
) -> None:
    found = strict.read_object(b'{"a":' + text.encode() + b"}", largest_int=largest)
    assert found == (json.loads(f'{{"a":{text}}}') if read else None)


@pytest.mark.parametrize(
    "segment", [b"ab!", b"A", b"AB", b"AAB", b"AA=", b"AA===", b"AAA==", b"="]
)
def test_another_spelling_of_bytes_is_no_segment(segment: bytes) -> None:
    assert strict.decode(segment) is None


@pytest.mark.parametrize("segment", [b"AA", b"AAA", b"AAAA", b"AA==", b"AAA=", b""])
def test_the_spelling_that_a_signer_writes_is_a_segment(segment: bytes) -> None:
    assert strict.decode(segment) == bytes(len(segment.rstrip(b"=")) * 3 // 4)


def _jws(head: bytes, payload: bytes = b"e30", signature: bytes = b"AAAA") -> bytes:
    return urlsafe_b64encode(head).rstrip(b"=") + b"." + payload + b"." + signature


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b'{"alg":"HS256"}', ("HS256", None, None)),
        (b'{"alg":"HS256","kid":"k","typ":"at+jwt"}', ("HS256", "k", "at+jwt")),
        (b'{"alg":"HS256","kid":"aZ09._~:/+=@#-"}', ("HS256", "aZ09._~:/+=@#-", None)),
        (b'{"alg":"HS256","kid":"' + b"k" * 128 + b'"}', ("HS256", "k" * 128, None)),
        (b'{"alg":"HS256","typ":"","x":"' + b"y" * 999 + b'"}', ("HS256", None, "")),
        (b"{}", None),
        (b'{"alg":7}', None),
        (b'{"alg":"HS256","kid":""}', None),
        (b'{"alg":"HS256","kid":null}', None),
        (b'{"alg":"HS256","kid":7}', None),
        (b'{"alg":"HS256","kid":"' + b"k" * 129 + b'"}', None),
        (b'{"alg":"HS256","kid":"../k y"}', None),
        (b'{"alg":"HS256","typ":null}', None),
        *((b'{"alg":"HS256","%b":1}' % name, None) for name in REFUSED),
    ],
)
def test_a_header_is_believed_in_three_members_or_not_at_all(
    head: bytes, found: tuple[str, str | None, str | None] | None
) -> None:
    """RFC 8725 section 3.10: of what a token says of its own key, the kid alone is looked at."""
    jws = strict.parse(_jws(head))
    if found is None:
        assert jws is Reason.BAD_HEADER
    else:
        assert isinstance(jws, strict.Compact)
        assert jws.header == strict.Header(*found)


def test_padding_is_read_only_where_it_is_asked_for() -> None:
    """CVE-2026-102269."""
    token = _jws(b'{"alg":"HS256"}', b"e30=", b"AA==")
    assert strict.parse(token) is Reason.NOT_A_JWS
    assert isinstance(strict.parse(token, accept_padding=True), strict.Compact)


def test_what_is_signed_is_told_to_the_byte() -> None:
    token = _jws(b'{"alg":"HS256"}', b"e30", b"AQID")
    jws = strict.parse(token)
    assert isinstance(jws, strict.Compact)
    assert (jws.payload, jws.signature) == (b"{}", b"\1\2\3")
    assert jws.signing_input == token.rpartition(b".")[0]


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"a.b",
        _jws(b'{"alg":"HS256"}') + b"\n",
        _jws(b'{"alg":"HS256"}') + b".AAAA",
        _jws(b'{"alg":"HS256"}', b"e31"),
        _jws(b'{"alg":"HS256"}', b"e30", b"AB"),
        b"A" + b".e30.AAAA",
        b".e30.AAAA",
    ],
)
@pytest.mark.parametrize("padded", [False, True])
def test_what_is_no_compact_jws_is_told_so(token: bytes, padded: bool) -> None:
    assert strict.parse(token, accept_padding=padded) is Reason.NOT_A_JWS
