"""What bodies present, and whether what is found in one is all that a reader would find there.

A credential in a JSON member is looked for where an issuer's transport says so
(`{ json = "access_token" }`), and only in requests that may change something. A body that is too
long to be read, or spelt so that the app may read another token in it than we do, is refused: what
is not read cannot be vouched for, and the app would read it.
"""

import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

from migrator.core.presented import Credential
from shims.csrf import SAFE_METHODS

ROOM_BYTES: Final = 65_536

# JSON, and what is laxer than JSON, may spell a character by its number or put a backslash before
# it; XML has entities; a form has percent codes; UTF-16 has a NUL beside each character.
_ESCAPE: Final = re.compile(
    rb"\\(?:u\{0*([0-9A-Fa-f]{1,6})\}|u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|(\r\n|.))", re.DOTALL
)
_ENTITY: Final = re.compile(rb"&#(?:[xX]0*([0-9A-Fa-f]{1,6})|0*([0-9]{1,7}));?")
_MEANS: Final = {
    **dict.fromkeys((b"\n", b"\r", b"\r\n"), b""),
    **dict.fromkeys((b"n", b"r", b"t", b"b", b"f", b"v"), b" "),
}
_CHARSET: Final = re.compile(rb"charset[*0-9]*[ \t]*=[ \t]*[\"']?([^\"';,\s]*)", re.IGNORECASE)
_AS_ASCII: Final = re.compile(
    rb"utf-?8(?:-sig)?|us-ascii|ascii|iso-?8859-\d+|latin-?1|windows-125\d|", re.IGNORECASE
)
_PART: Final = re.compile(rb"content-(?:disposition|transfer-encoding)", re.IGNORECASE)
_ENCODED_PART: Final = re.compile(
    rb"content-transfer-encoding(?!\s*:[ \t]*(?:7bit|8bit|binary)[ \t]*\r?\n)", re.IGNORECASE
)
_CONTENT: Final = re.compile(rb"\r?\n\r?\n(.*?)\r?\n--", re.DOTALL)
CODINGS: Final = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}


def may_present(
    members: Mapping[str, frozenset[str]], *, method: str, content_type: bytes | None
) -> bool:
    """Whether a request's body may carry a credential.

    Args:
        members: names of a JSON body's members in which issuers' tokens come.
    """
    if not members or method in SAFE_METHODS:
        return False
    kind = (content_type or b"").partition(b";")[0].strip().lower()
    return kind == b"application/json" or kind.endswith(b"+json")


def presented_in(body: bytes, members: Mapping[str, frozenset[str]]) -> tuple[Credential, ...]:
    """What a JSON body presents. Of a name that is said twice readers take either: both."""
    found: list[Credential] = []

    def read(pairs: list[tuple[str, object]]) -> dict[str, object]:
        for name, value in pairs:
            if name in members and isinstance(value, str) and value:
                text = value.encode("utf-8", "surrogatepass")
                found.append(Credential(text, "body", members[name]))
        return dict(pairs)

    try:
        json.loads(body, object_pairs_hook=read)
    except (ValueError, RecursionError):
        return ()
    return tuple(found)


def is_plain(
    body: bytes, content_type: bytes | None, find: Callable[[bytes], list[bytes]]
) -> bool:
    """Whether `find` finds in `body` what any reader would, whatever it takes the body for.

    Args:
        content_type: of the body, which may say another encoding than it has.
    """
    parts = body if _PART.search(body) else b""
    charsets = _CHARSET.findall(content_type or b"") + _CHARSET.findall(parts)
    if not all(map(_AS_ASCII.fullmatch, charsets)) or _ENCODED_PART.search(parts):
        return False
    found = set(find(body))
    return all(set(find(text)) == found for text in _readings(body) if text != body)


def says_anything(body: bytes) -> bool:
    """Whether any member, field or part of a body has a value: it may be a token of the app's."""
    try:
        return any(_leaves(json.loads(body)))
    except (ValueError, RecursionError):
        pass
    if _PART.search(body):
        return any(match[1].strip() for match in _CONTENT.finditer(body))
    return any(pair.partition(b"=")[2].strip() for pair in body.split(b"&"))


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)
    elif value is not True:
        yield value


def _readings(body: bytes) -> list[bytes]:
    narrow = body.replace(b"\0", b"")
    spelt_out = _ESCAPE.sub(_unescaped, narrow)
    resolved = _ENTITY.sub(_entity, spelt_out)
    return [narrow, spelt_out, resolved, unquote_to_bytes(narrow), unquote_to_bytes(resolved)]


def _unescaped(at: re.Match[bytes]) -> bytes:
    number = at[1] or at[2] or at[3]
    return _MEANS.get(at[4], at[4]) if number is None else _character(int(number, 16))


def _entity(at: re.Match[bytes]) -> bytes:
    return _character(int(at[1], 16) if at[1] is not None else int(at[2]))


def _character(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else b"?"  # none of a token's


def inflated(body: bytes, coding: bytes, room: int) -> bytes | None:
    """What `body` is without its Content-Encoding; None: longer than `room`, or not to be told."""
    window = CODINGS.get(coding.strip().lower())
    if window is None:
        return None
    inflating = zlib.decompressobj(window)
    try:
        plain = inflating.decompress(body, room + 1)
    except zlib.error:
        return None
    is_whole = inflating.eof and not inflating.unused_data and len(plain) <= room
    return plain if is_whole else None
