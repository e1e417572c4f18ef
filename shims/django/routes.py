"""Which of a project's URLs issue, renew and end JWTs, by the classes of their views.

What the settings name under `[routes]` wins, kind by kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import RegexPattern, RoutePattern

from migrator.core.presented import Route

KINDS: Final[Mapping[str, Route]] = {
    "rest_framework_simplejwt.views.TokenObtainPairView": "login",
    "rest_framework_simplejwt.views.TokenObtainSlidingView": "login",
    "rest_framework_simplejwt.views.TokenRefreshView": "refresh",
    "rest_framework_simplejwt.views.TokenRefreshSlidingView": "refresh",
    "rest_framework_simplejwt.views.TokenBlacklistView": "logout",
    "dj_rest_auth.views.LoginView": "login",
    "dj_rest_auth.views.LogoutView": "logout",
}
_CONVERTER: Final = re.compile(r"<(?:(path):)?[^>]*>")
_PLAIN: Final = re.compile(r"\^?([\w./-]*?)(/\?)?(?:\$|\\Z)?")  # dj-rest-auth's `login/?$`


def issuing_routes() -> list[tuple[str, Route]]:
    """Path pattern and kind of every such URL, as `[routes]` writes them."""
    found = [
        (path, kind)
        for path, view in _views(get_resolver().url_patterns, "/")
        if (kind := _kind(view)) is not None
    ]
    return list(dict.fromkeys(found))


def _views(patterns: list[Any], mount: str) -> Iterator[tuple[str, Any]]:
    for each in patterns:
        for path in _paths(each.pattern):
            if isinstance(each, URLResolver):
                yield from _views(each.url_patterns, mount + path)
            elif isinstance(each, URLPattern):
                yield mount + path, each.callback


def _paths(pattern: object) -> list[str]:
    """What `[routes]` can say of a pattern: nothing of a language's prefix or a real regex."""
    if isinstance(pattern, RoutePattern):
        return [_CONVERTER.sub(_star, str(pattern))]
    plain = _PLAIN.fullmatch(str(pattern)) if isinstance(pattern, RegexPattern) else None
    if plain is None:
        return []
    return [plain[1], f"{plain[1]}/"] if plain[2] else [plain[1]]


def _star(converter: re.Match[str]) -> str:
    return "**" if converter[1] else "*"


def _kind(view: Any) -> Route | None:
    kind = getattr(view, "view_class", None) or getattr(view, "cls", None)
    bases = kind.__mro__ if isinstance(kind, type) else ()
    names = (f"{base.__module__}.{base.__qualname__}" for base in bases)
    return next((KINDS[name] for name in names if name in KINDS), None)
