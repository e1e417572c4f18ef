"""What a project's own SIMPLE_JWT and REST_AUTH say of its JWTs, as an `[[issuers]]` table.

Read from djangorestframework-simplejwt itself, so that its defaults are those of the release that
is installed. The shape is the preset's; what a project may rename is told here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Final

from django.conf import settings as project
from rest_framework_simplejwt import settings as simplejwt

from migrator.settings import Issuer

ID_CLAIM: Final = "jti"  # what everything of ours reads, as RFC 7519 has it

_ID: Final = "simplejwt"
_NO_TYPE: Final[Mapping[str, object]] = {}
_PARTS: Final = ("claims", "purpose")


def issuer(given: Mapping[str, Any], *, bridged: bool = False) -> dict[str, Any]:
    """The table of the issuer that this project is; what is `given` wins, key by key.

    Args:
        bridged: the project's own views go on reading JWTs, so every claim is kept for them.
    """
    jwt = _settings()
    table = {
        "id": _ID,
        "preset": "simplejwt-sliding" if _types(jwt) == ["sliding"] else "simplejwt",
        "algorithms": [jwt.ALGORITHM],
        "audience": _listed(jwt.AUDIENCE),
        "leeway": _duration(jwt.LEEWAY),
        "rotates_refresh": bool(jwt.ROTATE_REFRESH_TOKENS),
        "transport": transports(),
        **_keys(jwt),
        **_lifetimes(jwt),
        **({"issuer": jwt.ISSUER} if jwt.ISSUER else {}),
    }
    parts: dict[str, dict[str, Any]] = {
        "claims": {
            "subject": jwt.USER_ID_CLAIM,
            "keep": [] if bridged else [*filter(None, [password_claim()])],
        },
        "purpose": _purpose(jwt),
    }
    for name in _PARTS:
        table[name] = {**parts[name], **given.get(name, {})}
    return {**table, **{key: value for key, value in given.items() if key not in _PARTS}}


def transports() -> list[dict[str, str]]:
    """Where the project's JWTs are presented: its header under each scheme, its access cookie.

    dj-rest-auth's refresh cookie is none: it comes with every request, and would be judged there.
    """
    jwt = _settings()
    header = str(jwt.AUTH_HEADER_NAME).removeprefix("HTTP_").replace("_", "-").title()
    schemes = _listed(jwt.AUTH_HEADER_TYPES)
    headers = [{"header": header, "scheme": str(scheme)} for scheme in schemes]
    cookie = access_cookie()
    return headers if cookie is None else [*headers, {"cookie": cookie}]


def access_cookie() -> str | None:
    """The cookie in which dj-rest-auth looks for an access token."""
    return _rest_auth("JWT_AUTH_COOKIE")


def refresh_cookie() -> str | None:
    """The cookie in which dj-rest-auth's refresh route looks for a refresh token."""
    return _rest_auth("JWT_AUTH_REFRESH_COOKIE")


def user_field() -> str:
    """The field of the user model that USER_ID_CLAIM holds."""
    return str(_settings().USER_ID_FIELD)


def user_rule() -> Callable[[Any], bool]:
    """The project's own rule about who may come in."""
    rule: Callable[[Any], bool] = _settings().USER_AUTHENTICATION_RULE
    return rule


def password_claim() -> str:
    """The claim that CHECK_REVOKE_TOKEN compares with the user's password; empty: it does not."""
    jwt = _settings()
    return str(jwt.REVOKE_TOKEN_CLAIM) if jwt.CHECK_REVOKE_TOKEN else ""


def id_claim() -> str | None:
    """The claim that the project's views ask for as a token's id; None: they ask for none."""
    claim = _settings().JTI_CLAIM
    return None if claim is None else str(claim)


def words() -> Any:
    """What answers a refusal as the library does; its views are loaded with it."""
    from shims.django import wording  # noqa: PLC0415 - loads the library's views

    return wording.answer


def ledger(issuer_id: str, url: str | None) -> dict[str, Any] | None:
    """The `[[ledgers]]` table of the project's token_blacklist; None: there is none to poll.

    Args:
        issuer_id: whose tokens it names.
        url: of the project's own database; None where it is no Postgres.
    """
    if url is None or "rest_framework_simplejwt.token_blacklist" not in project.INSTALLED_APPS:
        return None
    return {"kind": "simplejwt", "issuer": issuer_id, "url": url}


def bridge() -> dict[str, Any]:
    """The `[bridge]` table: what the preset does not know of this project's tokens and answers."""
    cookie = refresh_cookie()
    table = {"integer_subject": _writes_integers()}
    return table if cookie is None else {**table, "refresh_cookies": [cookie]}


def differences(configured: Issuer) -> list[str]:
    """In what an issuer written by hand differs from what the project signs; never a secret."""
    jwt = _settings()
    told = issuer({})
    schemes = {(place.header, place.scheme) for place in configured.transport}
    cookies = {place.cookie for place in configured.transport}
    facts: Sequence[tuple[str, object, object]] = (
        ("algorithms", configured.algorithms, (jwt.ALGORITHM,)),
        ("claims.subject", configured.claims.subject, jwt.USER_ID_CLAIM),
        ("purpose.require", dict(configured.purpose.require), told["purpose"]["require"]),
        ("audience", configured.audience, tuple(_listed(jwt.AUDIENCE))),
        ("issuer", configured.issuer, jwt.ISSUER),
        ("lifetime", configured.lifetime, told["lifetime"]),
        ("refresh_lifetime", configured.refresh_lifetime, told["refresh_lifetime"]),
        ("rotates_refresh", configured.rotates_refresh, told["rotates_refresh"]),
    )
    found = [
        f"{key} is {_spelt(ours)}, the project's is {_spelt(theirs)}"
        for key, ours, theirs in facts
        if ours != theirs
    ]
    missing = [
        str(place)
        for place in told["transport"]
        if (place.get("header"), place.get("scheme")) not in schemes
        and place.get("cookie") not in cookies - {None}
    ]
    if missing:
        found.append(f"transport lacks {', '.join(missing)}")
    keys = {bytes(key) for key in told.get("keys", ())}
    if keys and not keys & {key.value.get_secret_value() for key in configured.keys}:
        found.append("keys lacks the key that the project signs with")
    claim = password_claim()
    if claim and not {claim, "*"} & {*configured.claims.keep}:
        found.append(f"claims.keep lacks {claim!r}, which CHECK_REVOKE_TOKEN compares")
    return found


def _spelt(value: object) -> str:
    return str(value) if isinstance(value, timedelta) else repr(value)


def _settings() -> Any:
    return simplejwt.api_settings  # looked up each time: overriding a setting replaces it


def _keys(jwt: Any) -> dict[str, Any]:
    if str(jwt.ALGORITHM).startswith("HS"):
        return {"keys": [_bytes(jwt.SIGNING_KEY)]}
    if jwt.JWK_URL:
        return {"jwks_url": jwt.JWK_URL}
    return {"keys": [_bytes(jwt.VERIFYING_KEY)]}


def _types(jwt: Any) -> list[str]:
    """What the classes that the project takes as logins write into TOKEN_TYPE_CLAIM."""
    return sorted({str(each.token_type) for each in jwt.AUTH_TOKEN_CLASSES})


def _purpose(jwt: Any) -> dict[str, Any]:
    types = _types(jwt)
    if not jwt.TOKEN_TYPE_CLAIM:  # the project cannot tell a refresh token from a login either
        return {"require": {**_NO_TYPE}, "refresh": None}
    is_sliding = types == ["sliding"]  # such a token refreshes itself: there is no other
    return {
        "require": {jwt.TOKEN_TYPE_CLAIM: types[0] if len(types) == 1 else types},
        "refresh": None if is_sliding else {jwt.TOKEN_TYPE_CLAIM: "refresh"},
    }


def _writes_integers() -> bool:
    """Whether the installed release leaves a user's number a number; 5.5 makes text of it."""
    from rest_framework_simplejwt.tokens import Token  # noqa: PLC0415 - needs the apps

    class Unlisted(Token):  # no list takes note of it
        token_type = "unlisted"  # noqa: S105 - a kind, not a secret
        lifetime = timedelta(0)

    jwt = _settings()
    user: Any = SimpleNamespace(**{"id": 1, "password": "", jwt.USER_ID_FIELD: 1})
    return isinstance(Unlisted.for_user(user)[jwt.USER_ID_CLAIM], int)


def _lifetimes(jwt: Any) -> dict[str, timedelta]:
    """The longest of each: a sliding token refreshes itself, for as long as it may."""
    types = _types(jwt)
    access = [jwt.ACCESS_TOKEN_LIFETIME] if types != ["sliding"] else []
    refresh = [jwt.REFRESH_TOKEN_LIFETIME] if types != ["sliding"] else []
    if "sliding" in types:
        access.append(jwt.SLIDING_TOKEN_LIFETIME)
        refresh.append(jwt.SLIDING_TOKEN_REFRESH_LIFETIME)
    return {"lifetime": max(access), "refresh_lifetime": max(refresh)}


def _rest_auth(key: str) -> str | None:
    """The name of a cookie of dj-rest-auth's; None where the project does without."""
    given = getattr(project, "REST_AUTH", None) or {}
    legacy = getattr(project, key, None)  # a setting of its own before dj-rest-auth 3.0
    named = given.get(key, legacy) if isinstance(given, Mapping) else legacy
    return str(named) if named else None


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return [*value] if isinstance(value, list | tuple | set | frozenset) else [value]


def _duration(value: Any) -> timedelta:
    return value if isinstance(value, timedelta) else timedelta(seconds=float(value))


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
