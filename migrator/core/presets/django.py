"""Shapes of Django apps."""

import re
from typing import Final

from migrator.core.presets import dangers
from migrator.core.presets.records import ANY, BEARER, TOKEN, BridgeFacts, Hazard, Preset

_HEX_UUID: Final = re.compile("[0-9a-f]{32}")

_RENAMED: Final = Hazard(
    "renamed-claims",
    "USER_ID_CLAIM, TOKEN_TYPE_CLAIM, REVOKE_TOKEN_CLAIM, AUTH_HEADER_TYPES and the lifetimes are "
    "settings of the app: compare them with this issuer's.",
    "01-install-and-observe#steps",
)
_COOKIES: Final = Hazard(
    "cookies",
    "dj-rest-auth puts these tokens into cookies (JWT_AUTH_COOKIE) and asks for no CSRF token by "
    "default: name each cookie as a transport of its own.",
    "90-what-if#csrf",
)

SHAPES: Final = (
    Preset(
        name="simplejwt",
        library="djangorestframework-simplejwt",
        has={"token_type": ("access", "refresh"), "jti": ANY, "exp": ANY},
        telling={"user_id": ANY, "jti": _HEX_UUID, "iat": ANY},
        weight=3,
        defaults={
            "algorithms": ("HS256",),
            "integer_subject": True,  # user_id was an int before 5.5.1
            "lifetime": "5m",
            "refresh_lifetime": "1d",
            "rotates_refresh": False,
            "transport": BEARER,
            # CHECK_REVOKE_TOKEN compares hash_password with the user's at every request.
            "claims": {"subject": "user_id", "keep": ("hash_password",)},
            "purpose": {
                "require": {"token_type": "access"},
                "refresh": {"token_type": "refresh"},
            },
        },
        bridge=BridgeFacts(
            access=("/access",),
            refresh=("/refresh",),
            refresh_request=("/refresh",),
            needs_jti=True,
        ),
        hazards=(
            dangers.REFRESH_FIRST,
            dangers.SHARED_SECRET,
            _RENAMED,
            _COOKIES,
            Hazard(
                "ledger-gaps",
                "token_blacklist lists refresh tokens only, and before 5.5.1 not those that a "
                "rotation made: what it does not list is first seen when it comes back.",
                "01-install-and-observe#the-ledger-if-there-is-one",
            ),
        ),
    ),
    Preset(
        name="simplejwt-sliding",
        library="djangorestframework-simplejwt, sliding tokens",
        has={"token_type": "sliding", "jti": ANY, "exp": ANY},
        telling={"refresh_exp": ANY, "jti": _HEX_UUID},
        defaults={
            "algorithms": ("HS256",),
            "integer_subject": True,
            "lifetime": "5m",
            "refresh_lifetime": "1d",
            "transport": BEARER,
            "claims": {"subject": "user_id", "keep": ("hash_password",)},
            "purpose": {"require": {"token_type": "sliding"}},
        },
        bridge=BridgeFacts(access=("/token",), refresh_request=("/token",), needs_jti=True),
        hazards=(
            dangers.SHARED_SECRET,
            _RENAMED,
            _COOKIES,
            Hazard(
                "sliding",
                "One token is both: until refresh_exp the app trades it for a newer one, but only "
                "while it is not over. A session may not outlive it, so there is no refresh "
                "rule: logins move where one is longer than swap.min_remaining, or at `login`.",
                "why#why-are-short-lived-access-tokens-not-swapped",
            ),
        ),
    ),
    Preset(
        name="realworld-django",
        library="the RealWorld example app for Django",
        has={"id": ANY, "exp": ANY},
        only=frozenset({"id", "exp"}),
        defaults={
            "algorithms": ("HS256",),
            "integer_subject": True,
            "lifetime": "60d",
            "transport": TOKEN,
            "claims": {"subject": "id"},
        },
        bridge=BridgeFacts(access=("/user/token",)),
        hazards=(
            dangers.SCHEME,
            dangers.SHARED_SECRET,
            dangers.LONG_LIVED,
            dangers.NO_JTI,
            dangers.NO_IAT,
            dangers.STATUS_CODES,
            Hazard(
                "local-clock",
                "exp is built from the server's local time: a host that is not on UTC is hours "
                "off in one direction. Raise `lifetime` by as much.",
                "30-cutover#gate-drain-horizon",
            ),
            Hazard(
                "every-answer",
                "Every answer with a user in it carries a token, not those of the login alone: "
                "name those routes as login routes.",
                "30-cutover#gate-issuance-stopped",
            ),
        ),
    ),
)
