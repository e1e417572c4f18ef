"""Whether cookies, origins and notices are such as browsers and clients of strangers need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator.control.diagnosis.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrator.settings import Settings


def looks(settings: Settings) -> list[Finding]:
    """What the settings say of them."""
    found = [*_cookie(settings), *_origins(settings), *_notice(settings)]
    return found or [Finding("cookie", "ok", "the session cookie is Secure and bound to its host")]


def _cookie(settings: Settings) -> Iterator[Finding]:
    cookie = settings.cookie
    if not cookie.secure:
        told = "the session cookie is not Secure: it crosses plain http in the clear"
        yield Finding("cookie.insecure", "warn", told, "set cookie.secure = true")
    elif not cookie.name.startswith("__Host-"):
        told = f"cookie {cookie.name} has no __Host- prefix (RFC 6265bis): a sibling may set it"
        yield Finding("cookie.no-host-prefix", "warn", told, 'set cookie.name = "__Host-session"')
    if cookie.same_site == "none":
        told = "the session cookie is SameSite=None: every site may send it along"
        do = 'set cookie.same_site = "lax" unless pages of another site have to'
        yield Finding("cookie.cross-site", "info", told, do)


def _origins(settings: Settings) -> Iterator[Finding]:
    for origin in settings.http.allowed_origins:
        if origin.startswith("http://"):
            told = f"{origin} is an allowed origin, and whoever sits on the network speaks as it"
            yield Finding("http.plain-origin", "warn", told, "take it out of http.allowed_origins")


def _notice(settings: Settings) -> Iterator[Finding]:
    if settings.http.deprecation_link is None:
        told = "Deprecation and Sunset would name no page where clients read what to do"
        do = "set http.deprecation_link to one (playbook 50-clients has the text)"
        yield Finding("http.no-deprecation-link", "warn", told, do)
