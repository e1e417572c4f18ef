"""Tokens found in bytes and put in other bytes' place: whatever the bytes, in linear time."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from base64 import urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote_from_bytes

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.core.bridge import MARK, is_marked
from shims.bodies import inflated, is_plain
from shims.rewriting import Replacing, Transport, jwts_in, placed, pointed, replaced
from tests.rig import SECRET, sign

_bits = st.text("abe.y", max_size=40).map(str.encode)
_keys = st.text("abey", min_size=1, max_size=5).map(str.encode)


def _derived() -> bytes:
    """What a library makes of a bridge JWT: the mark is among the claims, wherever."""
    claims = {"token_type": "access", "sub": "ada", MARK: True, "exp": 4_000_000_000}
    return jwt.encode(claims, SECRET, algorithm="HS256").encode()


@settings(max_examples=300, deadline=None)
@given(
    swaps=st.dictionaries(_keys, _bits, min_size=1, max_size=4),
    parts=st.lists(_bits, max_size=8),
)
def test_any_cut_of_a_stream_gives_what_the_whole_of_it_gives(
    swaps: dict[bytes, bytes], parts: list[bytes]
) -> None:
    stream = Replacing(swaps)
    fed = [stream.feed(part, last=False) for part in parts]
    assert b"".join([*fed, stream.feed(b"", last=True)]) == replaced(b"".join(parts), swaps)


def test_a_stream_holds_back_no_more_than_may_begin_a_token() -> None:
    token = sign("ada").encode()
    stream = Replacing({token: b"sess"})
    assert stream.feed(b"data: 1\n\n", last=False) == b"data: 1\n\n"
    assert stream.feed(b"data: " + token[:9], last=False) == b"data: "
    assert stream.feed(b" no\n\n", last=False) == token[:9] + b" no\n\n"
    assert stream.feed(token[:-1], last=False) == b""
    assert stream.feed(token[-1:] + b".", last=False) == b"sess."


@settings(max_examples=200, deadline=None)
@given(text=st.binary(max_size=200), at=st.integers(0, 200))
def test_a_jwt_is_found_in_any_bytes(text: bytes, at: int) -> None:
    token = sign("ada").encode()
    whole = b"%b %b\n%b" % (text[:at], token, text[at:])
    found = jwts_in(whole)
    assert token in found or any(each.endswith(b"." + token) for each in found)
    assert all(each in whole for each in found)


@pytest.mark.parametrize("space", ["", " ", "\n", "\r\n", "\t"])
def test_a_jwt_is_found_however_its_signer_sets_its_header(space: str) -> None:
    header = f'{{{space}"alg": "HS256"}}'.encode()
    token = b"%b.eyJzdWIiOiJhZGEifQ.c2ln" % urlsafe_b64encode(header).rstrip(b"=")
    assert jwts_in(b'{"access": "%b"}' % token) == [token]


@pytest.mark.parametrize("unit", [b"eyJ", b"eyJ.", b"eyJ.a", b"eyJa.a ", b"ey", b".", b"sess_0"])
def test_a_million_bytes_of_beginnings_cost_no_more_than_a_look_at_each(unit: bytes) -> None:
    text = (unit * 1_000_000)[:1_000_000]
    began = time.process_time()
    jwts_in(text, b"sess_")
    Replacing({sign("ada").encode(): b""}).feed(text, last=False)
    is_marked(text[:65_536])
    assert time.process_time() - began < 3  # squared it would be minutes


@pytest.mark.parametrize("scheme", ["", "Bearer ", "JWT "])
def test_a_pointer_leads_to_a_token_behind_its_scheme(scheme: str) -> None:
    token = sign("ada")
    body = json.dumps({"user": {"a/b": [scheme + token]}, "n": 1}).encode()
    assert pointed(body, ["/user/a~1b/0", "/n", "/user/none", "/user/a~1b/1"]) == [token.encode()]
    assert pointed(b"\xff", ["/user"]) == []


@settings(max_examples=100, deadline=None)
@given(
    kind=st.sampled_from(["header", "cookie", "query"]),
    other=st.text("abc=;&, ", max_size=20).map(str.encode),
)
def test_a_jwt_is_placed_once_and_all_else_stays(kind: str, other: bytes) -> None:
    token = sign("ada").encode()
    transport: Transport = (kind, b"x-token", b"Token" if kind == "header" else b"")
    lines = [(b"accept", other), (b"cookie", other)]
    headers, query = placed(transport, token, lines, other)
    sent = b"\n".join([*(b"%b: %b" % line for line in headers), query])
    assert sent.count(token) == 1
    assert sent.count(other) >= 3
    assert headers[0] == lines[0]


SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "a JSON escape": lambda text: b"\\u00%02x%b" % (text[0], text[1:]),
    "an escape of a later character": lambda text: text[:20] + b"\\u002e" + text[20:],
    "a JavaScript escape": lambda text: b"\\x%02x%b" % (text[0], text[1:]),
    "a code point": lambda text: b"\\u{%x}%b" % (text[0], text[1:]),
    "a needless backslash": lambda text: text[:1] + b"\\y" + text[2:],
    "a continued line": lambda text: text[:9] + b"\\\n" + text[9:],
    "a percent code": lambda text: b"%%%02x%b" % (text[0], text[1:]),
    "percent codes": lambda text: quote_from_bytes(text).replace(".", "%2E").encode(),
    "an entity": lambda text: b"&#%d;%b" % (text[0], text[1:]),
    "a hexadecimal entity": lambda text: b"&#x%x;%b" % (text[0], text[1:]),
    "UTF-16": lambda text: text.decode().encode("utf-16"),
    "UTF-16 without a mark": lambda text: text.decode().encode("utf-16-be"),
    "UTF-32": lambda text: text.decode().encode("utf-32-le"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("whole", [b'{"refresh": "%b"}', b'{refresh: "%b", a: "\xe9",}', b"r=%b"])
def test_a_token_that_only_another_reader_finds_is_not_plain(spelling: str, whole: bytes) -> None:
    token = sign("ada").encode()
    respelt = SPELLINGS[spelling](token)
    assert not is_plain(whole % respelt, b"application/json", jwts_in)


@pytest.mark.parametrize(
    "charset", ["utf-7", "utf-16", "cp037", "UTF-32LE", "unicode_escape", "hz", '"utf-7"']
)
def test_a_body_in_a_charset_that_is_not_like_ascii_is_not_plain(charset: str) -> None:
    kind = f"application/json; charset={charset}".encode()
    assert not is_plain(b"{}", kind, jwts_in)
    assert not is_plain(b"{}", b"application/json; charset=utf-8; x, a; " + kind, jwts_in)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"refresh": "%b", "note": "a\\nb \\u00e9 50%% \\"\\/"}', b"application/json"),
        (b'{"refresh": "%b"}', b"application/json; charset=UTF-8"),
        (b"refresh=%b&next=%%2Fhome%%3Fa", b"application/x-www-form-urlencoded;charset=latin-1"),
        (
            (
                b'--b\r\nContent-Disposition: form-data; name="refresh"\r\n'
                b"Content-Type: text/plain; charset=UTF-8\r\n"
                b"Content-Transfer-Encoding: 8bit\r\n\r\n%b\r\n--b--\r\n"
            ),
            b"multipart/form-data; boundary=b",
        ),
        (b"\xff\x00 %b", None),
    ],
)
def test_what_clients_do_send_is_plain(body: bytes, kind: bytes | None) -> None:
    assert is_plain(body % sign("ada").encode(), kind, jwts_in)


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "x-uuencode", ""])
def test_an_encoded_part_is_not_plain(encoding: str) -> None:
    part = (
        'preamble\r\n--b\r\nContent-Disposition: form-data; name="refresh"\r\n'
        f"Content-Transfer-Encoding:\t{encoding}\r\n\r\nZXlK\r\n--b--\r\n"
    )
    assert not is_plain(part.encode(), b"text/plain", jwts_in)


def test_what_is_inflated_has_an_end() -> None:
    plain = b"refresh=1" * 10
    assert inflated(gzip.compress(plain), b" GZIP", 1000) == plain
    assert inflated(zlib.compress(plain), b"deflate", 1000) == plain
    assert inflated(gzip.compress(plain), b"gzip", len(plain) - 1) is None
    assert inflated(gzip.compress(plain)[:-9], b"gzip", 1000) is None
    assert inflated(gzip.compress(plain) * 2, b"gzip", 1000) is None
    assert inflated(gzip.compress(b"0" * 10_000_000), b"gzip", 1000) is None
    assert inflated(plain, b"gzip", 1000) is None
    assert inflated(plain, b"br", 1000) is None


@pytest.mark.parametrize(
    "wrapped",
    [
        "%s",
        "Bearer %s",
        "theme=dark; a.b=c; jwt=%s; z=1.2",
        '"%s"',
        "%s=",
        "x %s",
        "a.b.c.d.e.f.g %s",
        "?next=/a.b&t=%s#x",
    ],
)
@pytest.mark.parametrize("spelling", ["as it is", "percent", "dots only", "octal"])
def test_what_was_made_of_a_bridge_jwt_is_known_in_any_place_and_spelling(
    wrapped: str, spelling: str
) -> None:
    token = _derived().decode()
    respelt = {
        "as it is": token,
        "percent": token.replace("e", "%65"),
        "dots only": token.replace(".", "%252E"),
        "octal": token.replace("e", "\\145"),
    }[spelling]
    assert is_marked((wrapped % respelt).encode())
    assert not is_marked((wrapped % sign("ada")).encode())


@settings(max_examples=200, deadline=None)
@given(text=st.binary(max_size=400))
def test_no_bytes_are_too_strange_to_be_looked_at(text: bytes) -> None:
    assert not is_marked(text)
    jwts_in(text, b"sess_")
    is_plain(text, text[:40], jwts_in)
    inflated(text, b"gzip", 100)
