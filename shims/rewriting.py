"""How tokens are found in bytes and put in other bytes' place: headers, bodies, streams.

A body keeps its own spelling: nothing is parsed and written anew, only the token itself is
replaced, so key order, spacing and everything else that a client may rely on stay.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

RawHeader: TypeAlias = tuple[bytes, bytes]
Transport: TypeAlias = tuple[str, bytes, bytes]
"""Where a credential goes: "header", "cookie" or "query"; its name; a header's scheme."""

# A JOSE header is an object: "{" and then a quote, or white space, in base64. Nothing is given
# back: what looks like the beginning of a header is read once, or a body of nothing but beginnings
# would cost its length squared. What has no dots is dropped afterwards.
_STARTS: Final = (b"eyJ", b"eyA", b"ewo", b"ew0", b"ewk")
_JWT: Final = re.compile(
    rb"e(?:yJ|yA|wo|w0|wk)[A-Za-z0-9_-]*+(?:\.[A-Za-z0-9_-]++\.[A-Za-z0-9_-]*+)?+"
)
_TOKEN: Final = rb"[0-9A-Za-z]{49}(?![0-9A-Za-z])"
_TEXTUAL: Final = re.compile(
    rb"\s*(?:$|text/|multipart/|application/(?:[\w.-]+\+)?(?:json|xml|jwt|yaml)\b"
    rb"|application/(?:x-)?(?:javascript|www-form-urlencoded|ndjson|json|yaml)\b)",
    re.IGNORECASE,
)
_STREAM: Final = re.compile(
    rb"\s*(?:text/event-stream|multipart/|application/(?:x-ndjson|grpc)|(?:video|audio|image)/)",
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
    """What looks like a JWT in `text`, and like a token of ours where its `prefix` is given.

    Each once, in time linear in the text; how many of them are worth a look is the caller's.
    """
    found: list[bytes] = []
    if b"." in text and any(start in text for start in _STARTS):
        found = [each for each in _JWT.findall(text) if b"." in each]
    if prefix is not None and prefix in text:
        found += re.findall(re.escape(prefix) + _TOKEN, text)
    return list(dict.fromkeys(found))


def pointed(body: bytes, pointers: Iterable[str]) -> list[bytes]:
    """The JWTs that JSON pointers (RFC 6901) lead to, behind a scheme or not, in a JSON body."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return []
    found = (_at(document, pointer) for pointer in pointers)
    texts = (value.encode("utf-8", "replace") for value in found if isinstance(value, str))
    return [jwt for text in texts for jwt in jwts_in(text)]


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
    """`text` with each key of `swaps` replaced by its value, once over, the longest key first."""
    if not any(old in text for old in swaps):
        return text
    return _any_of(swaps).sub(lambda found: swaps[found[0]], text)


def _any_of(swaps: Iterable[bytes]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(re.escape(old) for old in sorted(swaps, key=len, reverse=True)))


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
    kept = [line for line in headers if line[0].lower() not in _OF_THE_BYTES]
    kept = kept if stores else uncached(kept)
    return [*kept, (b"content-length", b"%d" % length)]


def uncached(headers: Sequence[RawHeader]) -> list[RawHeader]:
    """The headers of an answer that hands a credential out: for no cache."""
    kept = [line for line in headers if line[0].lower() not in _CACHE_RULES]
    return [*kept, (b"cache-control", b"no-store")]


def unsized(headers: Sequence[RawHeader]) -> list[RawHeader]:
    """The headers without a length."""
    return [line for line in headers if line[0].lower() != b"content-length"]


def content_type(headers: Sequence[RawHeader]) -> bytes:
    """The media type of a body, empty where none is said."""
    return next((value for name, value in headers if name.lower() == b"content-type"), b"")


def is_textual(media_type: bytes) -> bool:
    """Whether a token could stand in a body of this type in plain sight."""
    return _TEXTUAL.match(media_type) is not None


def is_stream(media_type: bytes) -> bool:
    """Whether a body of this type has no end that anybody waits for."""
    return _STREAM.match(media_type) is not None


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
        self._pattern = _any_of(swaps)
        self._held = b""

    def feed(self, part: bytes, *, last: bool) -> bytes:
        """The next part of the stream as it goes out."""
        text = self._held + part
        if last:
            self._held = b""
            return replaced(text, self._swaps)
        out: list[bytes] = []
        at = 0
        while True:
            found = self._pattern.search(text, at)
            begins = self._begins(text, at)
            # What may yet become a longer key, or begins before, decides first.
            if found is None or begins <= found.start():
                break
            out += (text[at : found.start()], self._swaps[found[0]])
            at = found.end()
        out.append(text[at:begins])
        self._held = text[begins:]
        return b"".join(out)

    def _begins(self, text: bytes, at: int) -> int:
        """Where from `at` on a token may have begun that is not whole yet; else the end."""
        earliest = len(text)
        for old in self._swaps:
            place = text.find(old[:1], max(at, len(text) - len(old) + 1))
            while place != -1 and not old.startswith(text[place:]):
                place = text.find(old[:1], place + 1)
            if place != -1:
                earliest = min(earliest, place)
        return earliest
