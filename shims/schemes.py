"""What one header line presents: a credential, a fault of the request, or nobody's business.

`Bearer x` and its relatives (RFC 9110 section 11.4, RFC 6750 section 2.1). A line under another
scheme is foreign unless it looks like a JWT: whoever moves a retired token to another scheme must
not get it past us. The token itself is never trimmed or decoded.
"""

import re
from collections.abc import Mapping
from typing import Final, TypeAlias

from migrator.core.lookalike import resembles_jwt
from migrator.core.presented import Credential
from migrator.core.verdicts import Reason

Schemes: TypeAlias = Mapping[bytes, frozenset[str]]
"""Scheme → ids of the issuers that use it; the empty scheme: the line is the token.

Every scheme is there in lower case; a usual spelling beside it is found faster.
"""

_LONGEST_SCHEME_BYTES: Final = 64
_ROOM_BYTES: Final = (
    65_536  # what is searched for a second credential; servers take no longer lines
)
_SCHEME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_TOKEN68: Final = re.compile(rb"[0-9A-Za-z._~+/=-]+[ \t]*")  # RFC 9110 section 11.2
_OPTIONAL_SPACE: Final = b" \t"
# Looked for as numbers: that is four times as fast as looking for bytes.
_SPACE, _TAB, _COMMA = b" \t,"


def read(
    line: bytes, schemes: Schemes, *, prefixes: tuple[bytes, ...], room: int
) -> Credential | Reason | None:
    """What `line` presents; None for what is nobody's here (Basic, an empty line).

    Args:
        prefixes: what tokens of ours begin with.
        room: the longest credential that is looked into; a longer one goes to the gate as it is.
    """
    scheme, _, rest = line.partition(b" ")
    issuers = schemes.get(scheme) if scheme else None
    if issuers is not None and rest and not (_SPACE in rest or _COMMA in rest or _TAB in rest):
        return Credential(rest, "header", issuers)  # nearly always

    line = line.lstrip(_OPTIONAL_SPACE)
    scheme, _, rest = line.partition(b" ")
    issuers = schemes.get(scheme[: _LONGEST_SCHEME_BYTES + 1].lower()) if scheme else None
    if issuers is None:
        return _unlisted(line, schemes, prefixes, room) if line else None
    token = rest.lstrip(b" ")
    if not token:
        return Reason.MALFORMED_REQUEST
    if len(token) <= room and (_SPACE in token or _COMMA in token or _TAB in token):
        fault = _fault(token, schemes, prefixes)
        if fault is not None:
            return fault
    return Credential(token, "header", issuers)


def usual(line: bytes, schemes: Schemes) -> tuple[bytes, frozenset[str]] | None:
    """The value of a line in its usual form, with its issuers; None: `read` it.

    Only good for looking the value up in memory: where it is not known, the line has to be read.
    """
    scheme, _, value = line.partition(b" ")
    issuers = schemes.get(scheme) if scheme else None  # a blank may come before a usual line
    return None if issuers is None else (value, issuers)


def is_listed(line: bytes, schemes: Schemes) -> bool:
    """Whether `line` begins with one of `schemes`, whatever stands where the space belongs."""
    word = _SCHEME.match(line.lstrip(_OPTIONAL_SPACE)[: _LONGEST_SCHEME_BYTES + 1])
    return b"" in schemes or (word is not None and word[0].lower() in schemes)


def is_likely(value: bytes, prefixes: tuple[bytes, ...]) -> bool:
    """Whether `value` looks like a token of ours or of an issuer, in whatever spelling."""
    return value.startswith(prefixes) or resembles_jwt(value)


def _fault(token: bytes, schemes: Schemes, prefixes: tuple[bytes, ...]) -> Reason | None:
    """Why a value with white space or a comma in it is more than a bad token, if it is."""
    first, comma, _ = token.partition(b",")
    if comma and (_TOKEN68.fullmatch(first) or _is_joined(token, schemes)):
        return Reason.REPEATED_CREDENTIAL
    inner = token.rstrip(_OPTIONAL_SPACE)
    is_split = b" " in inner or b"\t" in inner
    return Reason.MALFORMED_REQUEST if is_split and not is_likely(token, prefixes) else None


def _unlisted(
    line: bytes, schemes: Schemes, prefixes: tuple[bytes, ...], room: int
) -> Credential | Reason | None:
    """A line that does not begin with one of its schemes and a space."""
    if _is_joined(line, schemes):
        return Reason.REPEATED_CREDENTIAL
    word = _SCHEME.match(line[: _LONGEST_SCHEME_BYTES + 1])
    issuers = schemes.get(word[0].lower()) if word is not None else None
    if word is not None and issuers is not None:  # something else stands where the space belongs
        rest = line[word.end() :]
        return Credential(rest, "header", issuers) if rest.strip() else Reason.MALFORMED_REQUEST
    bare = schemes.get(b"")
    if bare is not None and b" " not in line.rstrip(_OPTIONAL_SPACE):
        fault = _fault(line, schemes, prefixes) if len(line) <= room else None
        return fault or Credential(line, "header", bare)
    if resembles_jwt(line):
        rest = line.partition(b" ")[2].lstrip(b" ")
        # Whole, unless the word before the blank is a mere scheme: some apps want none.
        return Credential(rest if resembles_jwt(rest) else line, "header")
    return None


def _is_joined(line: bytes, schemes: Schemes) -> bool:
    """Whether two header lines were joined by a comma, as WSGI servers do."""
    if b"," not in line:
        return False
    later = (part.split(maxsplit=1) for part in line[:_ROOM_BYTES].split(b",")[1:])
    return any(words and words[0].lower() in schemes for words in later)
