"""Which route of the settings a path is: `*` is one segment, `**` any number of them.

Exact paths are one dict lookup; only what has a wild card costs a pattern.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from migrator.core.presented import Route
from migrator.settings import Routes

# The first kind that names a path has it.
_KINDS: Final[tuple[Route, ...]] = ("login", "refresh", "logout", "public")
_WILD: Final = re.compile(r"/\*\*|\*\*|\*")
_MEANS: Final = {"/**": "(?:/.*)?", "**": ".*", "*": "[^/]*"}


@dataclass(frozen=True, slots=True)
class RouteTable:
    """The configured routes, ready to be asked on every request."""

    exact: Mapping[str, Route]
    wild: tuple[tuple[re.Pattern[str], Route], ...]

    @classmethod
    def of(cls, routes: Routes) -> Self:
        """The table that `routes` of the settings describes."""
        exact: dict[str, Route] = {}
        wild: list[tuple[re.Pattern[str], Route]] = []
        for kind in _KINDS:
            for pattern in getattr(routes, kind):
                if "*" in pattern:
                    wild.append((_compiled(pattern), kind))
                else:
                    exact.setdefault(pattern, kind)
        return cls(exact, tuple(wild))

    @classmethod
    def listed(cls, patterns: Iterable[str]) -> Self:
        """A table that only says whether a path is under one of `patterns`: as `public`."""
        return cls.of(Routes(public=tuple(patterns)))

    def kind(self, path: str) -> Route | None:
        """What the settings name `path`, None for any other."""
        found = self.exact.get(path)
        if found is not None or not self.wild:
            return found
        return next((kind for pattern, kind in self.wild if pattern.fullmatch(path)), None)


def _compiled(pattern: str) -> re.Pattern[str]:
    plain = [re.escape(part) for part in _WILD.split(pattern)]
    wild = [_MEANS[part] for part in _WILD.findall(pattern)]
    woven = [piece for pair in zip(plain, [*wild, ""], strict=True) for piece in pair]
    return re.compile("".join(woven), re.DOTALL)
