"""What `manage.py check` tells: each finding with a stable id, none of it needs a database.

| id | what is wrong |
|---|---|
| migrator.E001 | the middleware is not in MIDDLEWARE |
| migrator.E002 | AuthenticationMiddleware comes behind it, and its user would replace ours |
| migrator.E003 | the settings cannot be run with; the message begins with the problem's own id |
| migrator.E004 | the user model has no field that USER_FIELD names |
| migrator.E005 | the bridge's JWTs lack the id that the project's views ask for |
| migrator.W001 | USER_FIELD is not unique: a subject would be several users, hence nobody |
| migrator.W002 | an issuer's table differs from what the project signs |
| migrator.W003 | pages of other origins send cookies, and none is in http.allowed_origins |
| migrator.W004 | CORS headers are added in front of which refusals leave |
| migrator.W005 | CORS_EXPOSE_HEADERS hides the header that hands tokens out |
| migrator.W006 | DRF's SessionAuthentication would answer for JWTs, without `request.auth` |
| migrator.W007 | URLs that issue, renew or end JWTs are not in [routes] |
| migrator.W008 | JWTs have no `jti`, by which the app's lists name them |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from django.conf import settings as project
from django.contrib.auth import get_user_model
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's names
from django.core.exceptions import FieldDoesNotExist
from django.utils.module_loading import import_string

from migrator import wiring
from migrator.core.errors import BadSettings, Problem
from migrator.settings import no_swap_key
from shims.django.configuration import Configuration, configuration
from shims.django.middleware import DualAcceptMiddleware
from shims.django.routes import issuing_routes
from shims.routes import RouteTable

_OURS: Final = "shims.django.middleware.DualAcceptMiddleware"
_CORS: Final = "corsheaders.middleware.CorsMiddleware"
_DRF_SESSIONS: Final = "rest_framework.authentication.SessionAuthentication"

_SIMPLEJWT: Final = frozenset({"simplejwt", "simplejwt-sliding"})

Check = Callable[[Configuration], Iterator[CheckMessage]]


def check(**_: Any) -> list[CheckMessage]:
    """Everything that can be told without a database."""
    found = [*_middleware()]
    try:
        configured = configuration()
        _try_keys(configured)
    except BadSettings as bad:
        return [*found, *map(_unreadable, bad.problems)]
    return [*found, *(message for each in _CHECKS for message in each(configured))]


def _try_keys(configured: Configuration) -> None:
    settings = configured.settings
    if settings.issuers and not settings.swap.keys:
        raise BadSettings((no_swap_key(),))
    if not any(issuer.jwks_url for issuer in settings.issuers):  # those would be fetched
        wiring.verifier_of(settings)


def _unreadable(problem: Problem) -> CheckMessage:
    return Error(
        f"{problem.id}: {problem.what}: {problem.why}", hint=problem.do, id="migrator.E003"
    )


def _middleware() -> Iterator[CheckMessage]:
    place = _place_of(DualAcceptMiddleware)
    if place is None:
        yield Error(
            "shims.django is installed, and its middleware is not",
            hint=f"put {_OURS!r} into MIDDLEWARE, behind AuthenticationMiddleware",
            id="migrator.E001",
        )
        return
    django = _place_of(AuthenticationMiddleware)
    if django is not None and django > place:
        yield Error(
            "AuthenticationMiddleware comes behind DualAcceptMiddleware and replaces its user",
            hint=f"move {_OURS!r} behind it in MIDDLEWARE",
            id="migrator.E002",
        )
    if _CORS in project.MIDDLEWARE and list(project.MIDDLEWARE).index(_CORS) > place:
        yield Warning(
            "refusals leave in front of CorsMiddleware: pages of other origins cannot read them",
            hint=f"move {_CORS!r} to the front of MIDDLEWARE",
            id="migrator.W004",
        )


def _place_of(kind: type) -> int | None:
    """Where in MIDDLEWARE a class or one derived from it stands."""
    for at, path in enumerate(project.MIDDLEWARE):
        try:
            found = import_string(path)
        except ImportError:
            continue  # Django says so itself when it starts
        if isinstance(found, type) and issubclass(found, kind):
            return at
    return None


def _user_field(configured: Configuration) -> Iterator[CheckMessage]:
    if configured.user_field == "pk":
        return
    model = get_user_model()
    try:
        field = model._meta.get_field(configured.user_field)  # noqa: SLF001 - Django's documented way
    except FieldDoesNotExist:
        yield Error(
            f"{model.__name__} has no field {configured.user_field!r}",
            hint='name in MIGRATOR["USER_FIELD"] the field that the subject claim holds',
            id="migrator.E004",
        )
        return
    if not getattr(field, "unique", False):
        yield Warning(
            f"{model.__name__}.{configured.user_field} is not unique: two users are nobody",
            hint='name a unique field in MIGRATOR["USER_FIELD"], or make this one unique',
            id="migrator.W001",
        )


def _simplejwt(configured: Configuration) -> Iterator[CheckMessage]:
    ours = [each for each in configured.settings.issuers if each.preset in _SIMPLEJWT]
    try:
        from shims.django import simplejwt  # noqa: PLC0415 - only where the project has it
    except ImportError:
        return
    for issuer in ours:
        for difference in simplejwt.differences(issuer) if issuer.preset == "simplejwt" else ():
            yield Warning(
                f"issuer {issuer.name}: {difference}",
                hint='correct it, or let MIGRATOR["SIMPLEJWT"] = True say it',
                id="migrator.W002",
            )
    claim = simplejwt.id_claim()
    if ours and claim != simplejwt.ID_CLAIM:
        yield _unknown_id(claim, is_bridged=configured.settings.bridge is not None)


def _unknown_id(claim: str | None, *, is_bridged: bool) -> CheckMessage:
    if claim is not None and is_bridged:
        return Error(
            f"JTI_CLAIM is {claim!r}: the bridge's JWTs have their id in 'jti', and the project's "
            "views would refuse them or take two for one",
            hint="do without the bridge, or without JTI_CLAIM: older tokens are then logged out",
            id="migrator.E005",
        )
    return Warning(
        f"JTI_CLAIM is {claim!r}: what names revoked tokens by their id alone ends nothing here",
        hint="token_blacklist in Postgres is read whole; end others by their token, or end_all()",
        id="migrator.W008",
    )


def _origins(configured: Configuration) -> Iterator[CheckMessage]:
    settings = configured.settings
    if not any(place.cookie for issuer in settings.issuers for place in issuer.transport):
        return
    trusted: Sequence[str] = (
        *project.CSRF_TRUSTED_ORIGINS,
        *getattr(project, "CORS_ALLOWED_ORIGINS", ()),
    )
    missing = sorted({*trusted} - {*settings.http.allowed_origins})
    if missing:
        yield Warning(
            f"cookies of {', '.join(missing)} will be refused on unsafe methods (CSRF)",
            hint="list in http.allowed_origins those whose pages act for a logged in user",
            id="migrator.W003",
        )


def _exposed(configured: Configuration) -> Iterator[CheckMessage]:
    exposed: Sequence[str] = getattr(project, "CORS_EXPOSE_HEADERS", ())
    header = configured.settings.swap.header
    if exposed and header.lower() not in {each.lower() for each in exposed}:
        yield Warning(
            f"CORS_EXPOSE_HEADERS replaces what we say: pages cannot read {header}",
            hint=f"add {header!r} to CORS_EXPOSE_HEADERS",
            id="migrator.W005",
        )


def _session_authentication(configured: Configuration) -> Iterator[CheckMessage]:
    rest: dict[str, Any] = getattr(project, "REST_FRAMEWORK", None) or {}
    classes = [str(each) for each in rest.get("DEFAULT_AUTHENTICATION_CLASSES", ())]
    if configured.user_from == "principal" and _DRF_SESSIONS in classes[:-1]:
        yield Warning(
            "SessionAuthentication would answer for JWTs with `request.user`, and its views "
            "would find no `request.auth`",
            hint='move it behind the others, or set MIGRATOR["USER_FROM"] = "session"',
            id="migrator.W006",
        )


def _routes(configured: Configuration) -> Iterator[CheckMessage]:
    table = RouteTable.of(configured.settings.routes)
    for path, kind in issuing_routes():
        if table.kind(path) != kind:
            yield Warning(
                f"{path} is a {kind} route of the project, and routes.{kind} does not name it: "
                "an expired token that clients attach there would be refused",
                hint=f'add "{path}" to {kind} under [routes]',
                id="migrator.W007",
            )


_CHECKS: Final[Sequence[Check]] = (
    _user_field,
    _simplejwt,
    _origins,
    _exposed,
    _session_authentication,
    _routes,
)
