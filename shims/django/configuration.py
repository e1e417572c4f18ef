"""What `MIGRATOR` in a project's settings says, and the toolkit's settings that come of it.

The environment beats migrator.toml, that beats `MIGRATOR["SETTINGS"]`, that what the project says
elsewhere: its issuer and ledger (simplejwt.py), its URLs (routes.py), its database. Read once and
kept, when the middleware is built: not before, since views are imported by reading the URLs.
Nothing connects here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast, get_args
from urllib.parse import quote, urlencode

from django.conf import settings as project
from django.utils.module_loading import import_string

from migrator.core.errors import BadSettings, Problem
from migrator.settings import Settings
from shims.django.routes import issuing_routes

if TYPE_CHECKING:
    from django.http import HttpRequest

    from migrator.core.presented import Route
    from migrator.core.verdicts import Reason
    from migrator.wiring import Resolver
    from shims.answers import Answer

Words: TypeAlias = "Callable[[HttpRequest, Reason, Route | None], Answer | None]"
UserFrom = Literal["principal", "session", "none"]

_MADE_OF: Final = frozenset(
    {"MIGRATOR", "SIMPLE_JWT", "REST_AUTH", "SECRET_KEY", "ROOT_URLCONF", "INSTALLED_APPS"}
)
# What of OPTIONS is libpq's, says which server and schema that is, and holds for us too.
_LIBPQ: Final = frozenset({"service", "options", "target_session_attrs", "channel_binding"})
_POSTGRES: Final = frozenset({"postgresql", "postgis"})
_NO_CLAIM: Final = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The keys of `MIGRATOR`; each may be left out.

    Args:
        CONFIG: the settings file; else as everywhere (MIGRATOR_CONFIG, ./migrator.toml).
        SETTINGS: tables as in that file, laid beneath it; secrets may be given as they are.
        SIMPLEJWT: make an issuer of the project's own SIMPLE_JWT and REST_AUTH, and refuse in its
            words.
        ISSUER: what that issuer says otherwise, for example its id or the claims it keeps.
        LEDGER: what its token_blacklist says otherwise as a ledger, for example how often it is
            read; False: it is not polled.
        BRIDGE: show sessions to the project's own views as JWTs, and their JWTs to clients as
            sessions: what `[bridge]` does, with its keys filled.
        DATABASE: which of DATABASES is used where nothing names another.
        USER_FIELD: the field of the user model that a subject is; simplejwt's USER_ID_FIELD, or
            the primary key.
        USER_FROM: what sets `request.user`: any principal, one of a session only, none.
        USER_RULE: `(user) -> bool`, or where to import it: whether this user may come in;
            simplejwt's USER_AUTHENTICATION_RULE, or whether it is active.
        RESOLVE_SUBJECT: `(subject, realm) -> SubjectState | None`, or where to import it.
    """

    CONFIG: Any = None
    SETTINGS: Any = None
    SIMPLEJWT: Any = False
    ISSUER: Any = None
    LEDGER: Any = None
    BRIDGE: Any = False
    DATABASE: Any = "default"
    USER_FIELD: Any = None
    USER_FROM: Any = "principal"
    USER_RULE: Any = None
    RESOLVE_SUBJECT: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Everything this package needs of a project.

    `password_claim` is the claim that must still fit the user's password, where simplejwt's
    CHECK_REVOKE_TOKEN asks for that; empty where it does not. `words` answers a refusal as the
    project would, see wording.py.
    """

    settings: Settings
    user_field: str
    user_from: UserFrom
    user_rule: Callable[[Any], bool]
    password_claim: str = _NO_CLAIM
    words: Words | None = None
    resolve_subject: Resolver | None = None


@cache
def configuration() -> Configuration:
    """What the project's settings say, read once.

    Raises:
        BadSettings: with every problem found.
    """
    options = _options()
    jwt = _simplejwt() if options.SIMPLEJWT else None
    url = database_url(options.DATABASE)
    told: dict[str, Any] = {} if url is None else {"database": {"url": url}}
    if jwt is not None:
        told |= _told_by(jwt, options, url)
    elif options.BRIDGE:
        told["bridge"] = {}
    rule = _imported(options.USER_RULE) or (jwt.user_rule() if jwt else is_active)
    return Configuration(
        settings=Settings.load(options.CONFIG, beneath=_laid(options.SETTINGS or {}, told)),
        user_field=options.USER_FIELD or (jwt.user_field() if jwt else "pk"),
        user_from=options.USER_FROM,
        user_rule=cast("Callable[[Any], bool]", rule),
        password_claim=jwt.password_claim() if jwt else _NO_CLAIM,
        words=jwt.words() if jwt else None,
        resolve_subject=cast("Resolver | None", _imported(options.RESOLVE_SUBJECT)),
    )


def forget(*, setting: str, **_: object) -> None:
    """Read the settings anew after one of those they are made of was overridden."""
    if setting in _MADE_OF:
        configuration.cache_clear()


def is_active(user: Any) -> bool:
    """Whether Django's own backend would let this user in."""
    return bool(getattr(user, "is_active", True))


def database_url(alias: str) -> str | None:
    """The URL of one of the project's databases; None where it is no Postgres."""
    database = project.DATABASES.get(alias, {})
    if str(database.get("ENGINE", "")).rpartition(".")[2] not in _POSTGRES:
        return None
    options = database.get("OPTIONS") or {}
    parts = {"user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    named = {name: str(database[key]) for name, key in parts.items() if database.get(key)}
    # libpq takes all of it in the query, a socket's directory as host included.
    more = {
        name: value
        for name, value in options.items()
        if isinstance(value, str) and (name.startswith("ssl") or name in _LIBPQ)
    }
    query = urlencode({**named, **more}, quote_via=quote)
    return f"postgresql+psycopg:///{quote(str(database.get('NAME') or ''), safe='')}?{query}"


def _told_by(jwt: Any, options: Options, url: str | None) -> dict[str, Any]:
    """The tables that follow from the project's own settings and URLs."""
    issuer = jwt.issuer(options.ISSUER or {}, bridged=options.BRIDGE)
    ledger = None if options.LEDGER is False else jwt.ledger(issuer["id"], url)
    return {
        "issuers": [issuer],
        "ledgers": [] if ledger is None else [ledger | (options.LEDGER or {})],
        "routes": _routes(),
        **({"bridge": jwt.bridge()} if options.BRIDGE else {}),
    }


def _routes() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path, kind in issuing_routes():
        found.setdefault(kind, []).append(path)
    return found


def _laid(above: Mapping[str, Any], below: Mapping[str, Any]) -> dict[str, Any]:
    """Tables over tables: sections key by key, lists one behind the other."""
    laid = {**below, **above}
    for name in above.keys() & below.keys():
        if isinstance(below[name], Mapping) and isinstance(above[name], Mapping):
            laid[name] = {**below[name], **above[name]}
        elif isinstance(below[name], list) and isinstance(above[name], list | tuple):
            laid[name] = [*above[name], *below[name]]
    return laid


def _options() -> Options:
    given = getattr(project, "MIGRATOR", {})
    known = Options.__dataclass_fields__
    if not isinstance(given, Mapping):
        raise BadSettings((_problem("MIGRATOR", "it is a dict", "write MIGRATOR = {}"),))
    problems = [
        _problem(
            f"MIGRATOR[{key!r}]",
            "there is no such key",
            f"did you mean {near[0]}?"
            if (near := get_close_matches(str(key).upper(), known, 1))
            else f"the keys are {', '.join(known)}",
        )
        for key in given
        if key not in known
    ]
    options = Options(**{key: value for key, value in given.items() if key in known})
    problems += [
        _problem(f"MIGRATOR[{key!r}]", why, "see shims.django.configuration.Options")
        for key, fits, why in (
            ("SETTINGS", isinstance(options.SETTINGS, Mapping | None), "it is a dict of tables"),
            ("ISSUER", isinstance(options.ISSUER, Mapping | None), "it is a dict"),
            ("SIMPLEJWT", isinstance(options.SIMPLEJWT, bool), "it is True or False"),
            ("LEDGER", isinstance(options.LEDGER or None, Mapping | None), "a dict, or False"),
            ("BRIDGE", isinstance(options.BRIDGE, bool), "it is True or False"),
            ("USER_FROM", options.USER_FROM in get_args(UserFrom), f"one of {_user_froms()}"),
            ("DATABASE", options.DATABASE in project.DATABASES, "no such alias in DATABASES"),
        )
        if not fits
    ]
    if problems:
        raise BadSettings(tuple(problems))
    return options


def _user_froms() -> str:
    return ", ".join(get_args(UserFrom))


def _imported(value: object) -> object:
    """A callable, by its dotted path or as it is."""
    if not isinstance(value, str):
        return value
    try:
        return cast("object", import_string(value))
    except ImportError as error:
        problem = _problem(f"MIGRATOR names {value}", str(error), "correct the dotted path")
        raise BadSettings((problem,)) from error


def _simplejwt() -> Any:
    try:
        from shims.django import simplejwt  # noqa: PLC0415 - only where the project has it
    except ImportError as error:
        problem = _problem(
            'MIGRATOR["SIMPLEJWT"]',
            "djangorestframework-simplejwt is not installed",
            "install it, or write the issuer's table yourself",
        )
        raise BadSettings((problem,)) from error
    return simplejwt


def _problem(what: str, why: str, do: str) -> Problem:
    return Problem("django.bad-option", what, why, do)
