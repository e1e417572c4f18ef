"""How tokens are found in bytes and put in other bytes' place: headers, bodies, streams.

A body keeps its own spelling: nothing is parsed and written anew, only the token itself is
replaced, so key order, spacing and everything else that a client may rely on stay.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias
from urllib.parse import unquote_to_bytes

RawHeader: TypeAlias = tuple[bytes, bytes]
Transport: TypeAlias = tuple[str, bytes, bytes]
"""Where a credential goes: "header", "cookie" or "query"; its name; a header's scheme."""

_JWT: Final = re.compile(rb"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_TOKEN: Final = rb"[0-9A-Za-z]{49}(?![0-9A-Za-z])"
_UNKNOWABLE: Final = b"eyJ0.eyJ0.0"
_MOST: Final = 32  # tokens looked at in one text: each may cost a signature
_TEXTUAL: Final = re.compile(
    rb"\s*(?:text/|application/(?:[\w.-]+\+)?(?:json|xml)\b"
    rb"|application/(?:javascript|x-www-form-urlencoded|x-ndjson))",
    re.IGNORECASE,
)
# What describes the very bytes of a body that is no longer there.
_OF_THE_BYTES: Final = frozenset(
    {
        *(b"content-length", b"etag", b"content-md5", b"digest", b"content-digest"),
        *(b"repr-digest", b"accept-ranges", b"transfer-encoding"),
    }
)
_CACHE_RULES: Final = frozenset({b"cache-control", b"expires", b"surrogate-control"})


def jwts_in(text: bytes, prefix: bytes | None = None) -> list[bytes]:
    """What looks like a JWT in `text`, and like a token of ours where its `prefix` is given."""
    found = _JWT.findall(text) if b"eyJ" in text else []
    if prefix is not None and prefix in text:
        found += re.findall(re.escape(prefix) + _TOKEN, text)
    return list(dict.fromkeys(found))[:_MOST]


def unescaped(body: bytes) -> bytes:
    """What a lenient reader makes of a request's body, whatever type it says it is.

    JSON may spell any character by its number, and in UTF-16; a form by its percent code; a part
    of a multipart body in base64, which is not undone: it reads as a token that is not there.
    """
    if b"content-transfer-encoding" in body.lower():
        return _UNKNOWABLE
    try:
        return json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "replace")
    except (ValueError, RecursionError):
        return unquote_to_bytes(body) if b"%" in body else body


def pointed(body: bytes, pointers: Iterable[str]) -> list[bytes]:
    """The strings that JSON pointers (RFC 6901) lead to; none where `body` is not JSON."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return []
    found = (_at(document, pointer) for pointer in pointers)
    return [value.encode() for value in found if isinstance(value, str)]


def _at(document: object, pointer: str) -> object:
    found = document
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping):
            found = found.get(name)
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found


def replaced(text: bytes, swaps: Mapping[bytes, bytes]) -> bytes:
    """`text` with each key of `swaps` replaced by its value, the longest first."""
    for old in sorted(swaps, key=len, reverse=True):
        if old in text:
            text = text.replace(old, swaps[old])
    return text


def placed(
    transport: Transport, jwt: bytes, headers: Sequence[RawHeader], query: bytes
) -> tuple[list[RawHeader], bytes]:
    """The request with `jwt` in its place, and nothing else there."""
    kind, name, scheme = transport
    if kind == "header":
        kept = [line for line in headers if line[0].lower() != name]
        return [*kept, (name, b"%b %b" % (scheme, jwt) if scheme else jwt)], query
    if kind == "cookie":
        pair = b"%b=%b" % (name, jwt)
        lines = [value for key, value in headers if key.lower() == b"cookie"]
        kept = [line for line in headers if line[0].lower() != b"cookie"]
        return [*kept, (b"cookie", b"; ".join([*lines, pair]))], query
    pair = b"%b=%b" % (name, jwt)
    return list(headers), b"%b&%b" % (query, pair) if query else pair


def amended(headers: Sequence[RawHeader], length: int, *, stores: bool) -> list[RawHeader]:
    """The headers of a body that was rewritten to `length` bytes.

    Args:
        stores: whether caches may keep it as the app said; not what hands a credential out.
    """
    gone = _OF_THE_BYTES if stores else _OF_THE_BYTES | _CACHE_RULES
    kept = [line for line in headers if line[0].lower() not in gone]
    rules: list[RawHeader] = [] if stores else [(b"cache-control", b"no-store")]
    return [*kept, *rules, (b"content-length", b"%d" % length)]


def content_type(headers: Sequence[RawHeader]) -> bytes:
    """The media type of a body, empty where none is said."""
    return next((value for name, value in headers if name.lower() == b"content-type"), b"")


def is_textual(media_type: bytes) -> bool:
    """Whether a token could stand in a body of this type in plain sight."""
    return _TEXTUAL.match(media_type) is not None


def is_encoded(headers: Sequence[RawHeader]) -> bool:
    """Whether a body is compressed, so that nothing in it can be found."""
    return any(
        name.lower() == b"content-encoding" and value.strip().lower() != b"identity"
        for name, value in headers
    )


def length_of(headers: Sequence[RawHeader]) -> int | None:
    """What a body says of its length in bytes."""
    value = next((value for name, value in headers if name.lower() == b"content-length"), b"")
    return int(value) if value.isdigit() else None


class Replacing:
    """Replaces tokens in a stream; holds back only what may be the beginning of one."""

    def __init__(self, swaps: Mapping[bytes, bytes]) -> None:
        self._swaps = swaps
        self._held = b""

    def feed(self, part: bytes, *, last: bool) -> bytes:
        """The next part of the stream as it goes out."""
        text = replaced(self._held + part, self._swaps)
        at = len(text) if last else self._begins(text)
        self._held = text[at:]
        return text[:at]

    def _begins(self, text: bytes) -> int:
        """Where a token may have begun that is not whole yet; the end of the text if nowhere."""
        earliest = len(text)
        for old in self._swaps:
            at = text.find(old[:1], max(0, len(text) - len(old) + 1))
            while at != -1 and not old.startswith(text[at:]):
                at = text.find(old[:1], at + 1)
            if at != -1:
                earliest = min(earliest, at)
        return earliest
