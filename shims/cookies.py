"""What a Cookie header holds of the cookies we know, and the header without them.

Sliced, not parsed: `http.cookies` is slow and drops what follows a strange pair. Names are found
as leniently as any framework finds them, since a re-spelt name that only the app understands would
carry a retired token past us; values are returned as they came, and the gate is strict about them.
Some readers (http.cookies, WebOb) end a value at white space or a comma and find the next name
behind it: a JWT there counts as one more value of that name.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from migrator.core.lookalike import resembles_jwt

# What str.strip() takes off a header decoded as latin-1, which is how frameworks read names.
_SPACE: Final = rb"[\t-\r\x1c-\x20\x85\xa0]*"
_STRIPPED: Final = bytes([*range(0x9, 0xE), *range(0x1C, 0x21), 0x85, 0xA0])
_ENDS: Final = rb"\t-\r\x1c-\x20\x85\xa0,"


@dataclass(frozen=True, slots=True)
class CookieReader:
    """Reads and removes the cookies of `names`, and knows no other."""

    names: tuple[bytes, ...]
    pattern: re.Pattern[bytes]
    hidden: re.Pattern[bytes]

    @classmethod
    def of(cls, names: Iterable[bytes]) -> Self:
        """A reader for cookies of exactly these names."""
        wanted = tuple(dict.fromkeys(names))
        any_of = b"|".join(re.escape(name) for name in wanted)
        pair = rb"(?:^|;)%b(%b)%b=([^;]*)" % (_SPACE, any_of, _SPACE)
        behind = rb"[%b](%b)%b=%b([^;]*)" % (_ENDS, any_of, _SPACE, _SPACE)
        return cls(wanted, re.compile(pair), re.compile(behind))

    def read(self, lines: Iterable[bytes]) -> Mapping[bytes, frozenset[bytes]]:
        """The different values of each known cookie; an empty one was taken away and is none."""
        found: dict[bytes, frozenset[bytes]] = {}
        for line in lines:
            for name, raw in self.pattern.findall(line):
                value = _unquoted(raw.strip(b" \t"))
                values = {value} | self._joined(value)
                found[name] = found.get(name, frozenset()) | (values - {b""})
            if any(one in line for one in self.names):
                self._read_hidden(line, found)
        return found

    def _read_hidden(self, line: bytes, found: dict[bytes, frozenset[bytes]]) -> None:
        for at in self.hidden.finditer(line):
            if _is_hidden_jwt(at):
                found[at[1]] = found.get(at[1], frozenset()) | {at[2]}

    def without(self, line: bytes, names: Iterable[bytes]) -> bytes:
        """The header's value without the cookies of `names`, all others byte for byte."""
        gone = frozenset(names)
        kept = self.pattern.sub(lambda pair: b"" if pair[1] in gone else pair[0], line)
        kept = self.hidden.sub(
            lambda at: b"" if at[1] in gone and _is_hidden_jwt(at) else at[0], kept
        )
        return kept if kept == line else kept.lstrip(b"; \t")

    def _joined(self, value: bytes) -> set[bytes]:
        # WSGI servers join two Cookie lines with a comma: `sid=A` and `sid=B` arrive as `A,sid=B`.
        if b"," not in value:
            return set()
        pairs = (part.strip(b" \t").partition(b"=") for part in value.split(b",")[1:])
        return {second for name, _, second in pairs if name in self.names}


def _is_hidden_jwt(at: re.Match[bytes]) -> bool:
    before = at.string[: at.start(1)].rstrip(_STRIPPED)
    return bool(before) and not before.endswith(b";") and resembles_jwt(at[2])


def _unquoted(value: bytes) -> bytes:
    if len(value) > 1 and value[:1] == value[-1:] == b'"':
        return value[1:-1]
    return value
