"""Which route of the settings a path is: `*` is one segment, `**` any number of them.

Exact paths are one dict lookup; only what has a wild card costs a pattern. Whether a route is
strict is asked apart from what it is for, and in doubt it is: too much costs a query, too little
a promise.
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
# What some router or proxy reads as another path than it spells.
_AMBIGUOUS: Final = re.compile(r"//|[\\;%]|(?:^|/)\.{1,2}(?:/|$)|[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class StrictRoutes:
    """The routes where neither memory nor cache may speak; see `[memory] strict_routes`.

    Read broadly: in any case, with or without a slash at the end, and a path that could be read
    as another is one of them.
    """

    pattern: re.Pattern[str]

    def covers(self, path: str, mount: str = "") -> bool:
        """Whether `path` is strict; `mount` is how much of its beginning leads to the app."""
        if _AMBIGUOUS.search(path) is not None:
            return True
        within = path[len(mount) :] if mount and path.startswith(mount) else path
        return any(
            self.pattern.fullmatch(each.rstrip("/") or "/") is not None for each in {within, path}
        )


@dataclass(frozen=True, slots=True)
class RouteTable:
    """The configured routes, ready to be asked on every request."""

    exact: Mapping[str, Route]
    wild: tuple[tuple[re.Pattern[str], Route], ...]
    strict: StrictRoutes | None = None

    @classmethod
    def of(cls, routes: Routes, strict: tuple[str, ...] = ()) -> Self:
        """The table that `routes` and `memory.strict_routes` of the settings describe."""
        exact: dict[str, Route] = {}
        wild: list[tuple[re.Pattern[str], Route]] = []
        for kind in _KINDS:
            for pattern in getattr(routes, kind):
                if "*" in pattern:
                    wild.append((_compiled(pattern), kind))
                else:
                    exact.setdefault(pattern, kind)
        return cls(exact, tuple(wild), _strict(strict))

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

    def is_strict(self, path: str, mount: str = "") -> bool:
        """Whether the store alone speaks for `path`."""
        return self.strict is not None and self.strict.covers(path, mount)


def _strict(patterns: tuple[str, ...]) -> StrictRoutes | None:
    if not patterns:
        return None
    spelt = "|".join(_woven(pattern.rstrip("/") or "/") for pattern in patterns)
    return StrictRoutes(re.compile(spelt, re.DOTALL | re.IGNORECASE))


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(_woven(pattern), re.DOTALL)


def _woven(pattern: str) -> str:
    plain = [re.escape(part) for part in _WILD.split(pattern)]
    wild = [_MEANS[part] for part in _WILD.findall(pattern)]
    woven = [piece for pair in zip(plain, [*wild, ""], strict=True) for piece in pair]
    return "".join(woven)
