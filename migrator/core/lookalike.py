"""Whether some lax reader could take a credential for a JWT, however it is spelt.

A retired JWT that is re-spelt (padded, spaced, in the other base64 alphabet, percent-encoded, as
JSON) must not slip past us as foreign into the app's own, laxer check. So this file knows no
verdict and no issuer; it undoes every spelling it has heard of and looks for a JOSE header. A
signature covers the decoded header, so a re-spelt token always has one.
"""

import re
from base64 import b64decode, urlsafe_b64encode
from typing import Final
from urllib.parse import unquote_to_bytes

ROOM_BYTES: Final = 8192  # of one token, after what readers skip was dropped
_RAW_ROOM_BYTES: Final = 65_536  # hardly a server takes longer headers
_MOST_UNESCAPES: Final = 2  # a framework's and the app's own
_MOST_SEGMENTS: Final = 6  # a JWE has 5

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_SKIPPED = bytes(set(range(256)) - set(_ALPHABET) - set(b"-_."))
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_OCTAL = re.compile(rb"\\([0-3][0-7]{2})")  # in quoted cookies, http.cookies undoes them
_BYTE_OF = {b"%03o" % byte: bytes([byte]) for byte in range(256)}
_JSON_SPACE = b" \t\r\n\xef\xbb\xbf\xff\xfe"  # and byte order marks

# A JOSE header says its algorithm, or at least that it is a JWT; members may be escaped.
_HEADER = re.compile(
    rb'"(?:a|\\u0061)(?:l|\\u006[cC])(?:g|\\u0067)"\s*:|"typ"\s*:\s*"[^"]{0,40}[jJ][wW][tT]',
)


def resembles_jwt(credential: bytes) -> bool:
    """Whether `credential` could be read as a JWS or JWE by somebody, in time linear in its size.

    Wherever in it a token begins: apps take the word after the first blank, or the last one.
    """
    if len(credential) > _RAW_ROOM_BYTES:
        return True  # nobody can vouch for what is not looked at
    return any(_holds_jwt(text) for text in {credential, unescaped(credential)})


def _holds_jwt(text: bytes) -> bool:
    if b"." not in text and b"{" not in text:
        return False
    text = text.translate(None, _SKIPPED).translate(_TO_STANDARD)
    # Dots are dropped too: a quantum that spans one begins or ends a segment, and the header is
    # whole at one of the four places where a quantum can begin.
    joined = text.replace(b".", b"")
    if any(_HEADER.search(_decoded(joined[at:])) for at in range(4)):
        return True
    # Whatever its header: what stands in the middle is an object of claims.
    segments = text[:ROOM_BYTES].split(b".", 2)
    return len(segments) > 1 and _decoded(segments[1]).lstrip(_JSON_SPACE)[:1] == b"{"


def as_signed(credential: bytes) -> bytes:
    """`credential` in the one spelling that a signer writes, whatever it says then."""
    text = unescaped(credential[:_RAW_ROOM_BYTES]).translate(None, _SKIPPED)[:ROOM_BYTES]
    segments = text.translate(_TO_STANDARD).split(b".")[:_MOST_SEGMENTS]
    return b".".join(urlsafe_b64encode(_raw(segment)).rstrip(b"=") for segment in segments)


def unescaped(raw: bytes) -> bytes:
    """`raw` as readers see it that undo percent codes and the octal ones of quoted cookies."""
    text = raw
    for _ in range(_MOST_UNESCAPES):
        if b"%" not in text:
            break
        text = unquote_to_bytes(text)  # as Express does with cookies
    if b"\\" in text:
        text = _OCTAL.sub(lambda found: _BYTE_OF[found[1]], text)
    return text


def _decoded(segment: bytes) -> bytes:
    # Dropping NULs makes UTF-16 and UTF-32 read like ASCII.
    return _raw(segment).replace(b"\0", b"")


def _raw(segment: bytes) -> bytes:
    whole = segment[: len(segment) - (len(segment) % 4 == 1)]
    return b64decode(whole + b"=" * (-len(whole) % 4))
