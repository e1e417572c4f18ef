"""Flask-JWT-Extended, read where the app configured it: its issuer, its words, its accessors.

Everything is taken from `app.config` and from the callbacks of the app's own JWTManager, as the
library reads them (4.x, config.py and view_decorators.py), so that nothing has to be said twice.
What the library does with a request stays its own business; nothing here admits anybody.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from flask import Flask, current_app, g, request
from flask_jwt_extended import get_jwt, verify_jwt_in_request
from flask_jwt_extended.default_callbacks import (
    default_blocklist_callback,
    default_decode_key_callback,
)
from flask_jwt_extended.exceptions import (
    JWTDecodeError,
    JWTExtendedException,
    NoAuthorizationError,
    RevokedTokenError,
    UserLookupError,
)
from flask_jwt_extended.internal_utils import (
    has_user_lookup,
    user_lookup,
    verify_token_not_blocklisted,
)
from jwt import DecodeError, ExpiredSignatureError, PyJWTError
from jwt.algorithms import requires_cryptography

from migrator.core.errors import BadSettings, Problem
from migrator.core.verdicts import Word
from migrator.settings.secrets import form_of
from shims.flask.state import state_of

if TYPE_CHECKING:
    from flask_jwt_extended import JWTManager

    from migrator.core.verdicts import Principal
    from migrator.settings import Settings

ISSUER_ID: Final = "flask"
PRESET: Final = "flask-jwt-extended"
# The library's own leeway is 0, which its clock can afford: it reads the one it signed by. We
# judge by the database's, which may be a little behind, and `nbf` is the second of the login.
_LEAST_LEEWAY: Final = timedelta(seconds=30)
_ENDLESS: Final = timedelta(days=365)  # how long a token without exp is taken after its iat

_Table = dict[str, object]


def issuer(app: Flask) -> _Table:
    """The `[[issuers]]` table that this app's configuration describes, its keys included.

    Its `id` is part of every fingerprint: keep it, once a database has seen it. `realm` is left
    to the settings. Durations are `timedelta`; the rest is as `tomllib` would have read it.

    Raises:
        BadSettings: a key or `iss` is chosen token by token, so that no table can say which.
    """
    config = app.config
    audience, iss = config["JWT_DECODE_AUDIENCE"], config["JWT_DECODE_ISSUER"]
    access, ends_at = _lifetime(config["JWT_ACCESS_TOKEN_EXPIRES"])
    refresh, refresh_ends_at = _lifetime(config["JWT_REFRESH_TOKEN_EXPIRES"])
    table: _Table = {
        "id": ISSUER_ID,
        "preset": PRESET,
        "algorithms": _algorithms(config),
        "keys": [_key(app)],
        "issuer": "*" if iss is None else _one("JWT_DECODE_ISSUER", iss),
        "audience": ["*"] if audience is None else _listed(audience),
        "leeway": max(_LEAST_LEEWAY, _duration(config["JWT_DECODE_LEEWAY"])),
        "lifetime": access,
        "refresh_lifetime": refresh,
        "transport": transports(config),
        # Nothing is kept for its own sake, and over a bridge everything: the app adds claims.
        "claims": {"subject": config["JWT_IDENTITY_CLAIM"], "keep": []},
        # A token without the claim is an access token to the library.
        "purpose": {"require": {"type": ["access", None]}, "refresh": {"type": "refresh"}},
    }
    if not (ends_at and refresh_ends_at):
        table["max_age"] = _ENDLESS
    return table


def key_named(app: Flask) -> str:
    """Where an operator's file would say that the key is: never the key."""
    config = app.config
    if config["JWT_ALGORITHM"] in requires_cryptography:
        return "file:jwt-public-key.pem"
    return "env:JWT_SECRET_KEY" if config["JWT_SECRET_KEY"] else "env:SECRET_KEY"


def bridge(app: Flask) -> _Table:
    """What the `[bridge]` section needs to know of this app's configuration."""
    config = app.config
    table: _Table = {"refresh_cookies": [], "mirrors": {}, "refresh_mirrors": {}}
    if "cookies" in _listed(config["JWT_TOKEN_LOCATION"]):
        table["refresh_cookies"] = [config["JWT_REFRESH_COOKIE_NAME"]]
        if config["JWT_COOKIE_CSRF_PROTECT"]:
            table["mirrors"] = {"csrf": config["JWT_ACCESS_CSRF_COOKIE_NAME"]}
            table["refresh_mirrors"] = {"csrf": config["JWT_REFRESH_CSRF_COOKIE_NAME"]}
    if config["JWT_VERIFY_SUB"] and config["JWT_IDENTITY_CLAIM"] == "sub":
        table["integer_subject"] = False  # PyJWT takes no other `sub` than text
    return table


def transports(config: Mapping[str, Any]) -> list[dict[str, str]]:
    """Where the library looks for access tokens, as far as the shim can look there too.

    Not the places of refresh tokens: the refresh route alone reads them, over the bridge or by
    `sessions.exchange`, and browsers send that cookie to every other route too.
    """
    found: list[dict[str, str]] = []
    for location in _listed(config["JWT_TOKEN_LOCATION"]):
        if location == "headers":
            header = {"header": config["JWT_HEADER_NAME"]}
            scheme = config["JWT_HEADER_TYPE"]
            found.append(header | ({"scheme": scheme} if scheme else {}))
        elif location == "cookies":
            found.append({"cookie": config["JWT_ACCESS_COOKIE_NAME"]})
        elif location == "query_string" and not config["JWT_QUERY_STRING_VALUE_PREFIX"]:
            found.append({"query": config["JWT_QUERY_STRING_NAME"]})
        elif location == "json":
            found.append({"json": config["JWT_JSON_KEY"]})
    return found


def left_out(app: Flask) -> tuple[str, ...]:
    """What the app reads and the shim does not: tokens there stay the app's own business."""
    is_read = "query_string" in _listed(app.config["JWT_TOKEN_LOCATION"])
    is_prefixed = bool(app.config["JWT_QUERY_STRING_VALUE_PREFIX"])
    return ("JWT_QUERY_STRING_VALUE_PREFIX",) if is_read and is_prefixed else ()


def refused_as(word: Word) -> Exception:
    """The library's exception for a credential that was refused in this request.

    The library is asked first, for its own words about this very token. Where it finds nothing
    wrong, or what was presented is a session token, the reason why we refused decides.
    """
    header: Mapping[str, object] = {}
    payload = _stood_for()
    try:
        # An answer about purpose is for whoever presented a refresh token as a login, alone.
        is_typed = word == "invalid"
        found = verify_jwt_in_request(verify_type=is_typed, skip_revocation_check=True)
        header, payload = found or (header, payload)
    except (DecodeError, NoAuthorizationError) as error:
        if word == "invalid":
            return error
    except (JWTExtendedException, PyJWTError) as error:
        return error
    if word == "invalid":
        return JWTDecodeError("Invalid token")
    if word == "expired":
        return _expired(header, payload)
    return RevokedTokenError(dict(header), dict(payload))


def issuer_in(settings: Settings) -> str | None:
    """The id of the issuer that is this library, None where the settings name none of its kind."""
    return next((each.id for each in settings.issuers if each.preset == PRESET), None)


def blocklist(app: Flask) -> Callable[[Mapping[str, Any], Mapping[str, Any]], bool] | None:
    """What asks the app's `token_in_blocklist_loader` of a token; None where the app has none.

    What it is shown of the token is what we kept of it; `jti` is always there.
    """
    manager: JWTManager = app.extensions[PRESET]
    if manager._token_in_blocklist_callback is default_blocklist_callback:  # noqa: SLF001
        return None

    def is_revoked(header: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
        with app.app_context():
            try:
                verify_token_not_blocklisted(dict(header), dict(payload))
            except RevokedTokenError:
                return True
        return False

    return is_revoked


def verify(*, optional: bool) -> None:
    """Let the library check this request as `jwt_required` does; it raises what it always did."""
    verify_jwt_in_request(optional=optional)


def someone() -> bool:
    """Whether `verify` let somebody in, and not nobody by `optional`."""
    return bool(get_jwt())


def stand_in(principal: Principal) -> None:
    """Let `get_jwt`, `get_jwt_identity` and `current_user` answer from a session.

    Raises:
        UserLookupError: as `jwt_required` would: the app's own callback knows no such user.
    """
    payload = {
        **principal.claims,
        current_app.config["JWT_IDENTITY_CLAIM"]: principal.subject,
        "type": "access",
        "fresh": False,
        "jti": None if principal.session is None else str(principal.session.id),
    }
    user = user_lookup({}, payload)
    if user is None and has_user_lookup():
        raise UserLookupError("user_lookup returned None", {}, payload)
    # What verify_jwt_in_request leaves for its accessors, under the names they read.
    for name, value in {
        "_jwt_extended_jwt": payload,
        "_jwt_extended_jwt_header": {},
        "_jwt_extended_jwt_user": {"loaded_user": user} if has_user_lookup() else None,
        "_jwt_extended_jwt_location": None,
    }.items():
        setattr(g, name, value)


def _stood_for() -> Mapping[str, object]:
    """What loaders are shown of a session token: which of the library's two it was sent as.

    Clients that hear "refresh" show the login screen; those that hear "access" refresh.
    """
    state = state_of(current_app)
    is_refresh = state is not None and state.routes.kind(request.path) == "refresh"
    return {"type": "refresh" if is_refresh else "access"}


def _expired(header: Mapping[str, object], payload: Mapping[str, object]) -> Exception:
    error = ExpiredSignatureError("Token has expired")
    # The library hands these to the app's expired_token_loader, see its _decode_jwt_from_config.
    for name, value in {"jwt_header": dict(header), "jwt_data": dict(payload)}.items():
        setattr(error, name, value)
    return error


def _key(app: Flask) -> bytes:
    config = app.config
    manager: JWTManager = app.extensions[PRESET]
    if manager._decode_key_callback is not default_decode_key_callback:  # noqa: SLF001
        raise _undescribed("a decode_key_loader", "which key fits is known to that function alone")
    if config["JWT_ALGORITHM"] in requires_cryptography:
        return _bytes(config["JWT_PUBLIC_KEY"])
    secret = _bytes(config["JWT_SECRET_KEY"] or config.get("SECRET_KEY"))
    if form_of(secret) == "secret" and not secret.endswith((b"\r", b"\n")):
        return secret
    # Bare, it would be read as what it looks like, or lose a line end that the app signs with.
    encoded = base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
    return json.dumps({"kty": "oct", "k": encoded}).encode()


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""


def _algorithms(config: Mapping[str, Any]) -> list[str]:
    signs = config["JWT_ALGORITHM"]
    return [signs, *(name for name in config["JWT_DECODE_ALGORITHMS"] or () if name != signs)]


def _lifetime(expires: Any) -> tuple[timedelta, bool]:
    """How long a token is good, and whether it says so itself: `False` means it has no exp."""
    if expires is False:
        return _ENDLESS, False
    return _duration(expires), True


def _duration(value: Any) -> timedelta:
    """Seconds, a timedelta, or whatever else can be added to a datetime, as the library takes."""
    if isinstance(value, int | float):
        return timedelta(seconds=value)
    now = datetime.now(UTC)
    length: timedelta = (now + value) - now
    return length


def _listed(value: str | Iterable[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _one(key: str, value: str | Iterable[str]) -> str:
    found = _listed(value)
    if len(found) != 1:
        raise _undescribed(key, "an issuer has one `iss`")
    return found[0]


def _undescribed(what: str, why: str) -> BadSettings:
    do = "write the [[issuers]] tables of this app yourself, one for each key or `iss`"
    return BadSettings((Problem("flask.undescribed-issuer", what, why, do),))
