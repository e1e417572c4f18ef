"""Shapes of Flask apps."""

import re
from typing import Final

from migrator.core.presets import dangers
from migrator.core.presets.records import ANY, BEARER, TOKEN, BridgeFacts, Hazard, Preset

_UUID: Final = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_RULES: Final = {"require": {"type": "access"}, "refresh": {"type": "refresh"}}
_LOCATIONS: Final = Hazard(
    "locations",
    "JWT_TOKEN_LOCATION may add cookies (access_token_cookie), the query string or the body: each "
    "is a transport of its own. Refused tokens were answered 401 or 422.",
    "50-clients#what-the-answers-mean",
)
_FRESH: Final = Hazard(
    "fresh",
    "fresh is kept, so that a login may do for a while what asks for a fresh one: the bridge "
    "takes it back after the first access lifetime. Code that reads the principal's claims must "
    "look at the session's age itself.",
    "90-what-if#bad_claim",
)
_DOUBLE_SUBMIT: Final = Hazard(
    "double-submit",
    "Cookie tokens carry csrf, which each unsafe request repeats in a header: the bridge copies "
    "it from the cookie csrf_access_token, so that cookie must reach the app.",
    "90-what-if#csrf",
)
# The same for 3 and 4: a list in the app's hands answers for each jti, and tells logins apart.
_BRIDGE: Final = BridgeFacts(
    access=("/access_token",),
    refresh=("/refresh_token",),
    refresh_cookies=("refresh_token_cookie",),
    constants={"fresh": False},
    refresh_constants={"fresh": False},
    mirrors={"csrf": "csrf_access_token"},
    refresh_mirrors={"csrf": "csrf_refresh_token"},
    expiring={"fresh": False},
    needs_jti=True,
)

SHAPES: Final = (
    Preset(
        name="flask-jwt-extended",
        library="flask-jwt-extended 4",
        has={"type": ("access", "refresh"), "jti": ANY, "sub": ANY, "fresh": ANY},
        telling={"jti": _UUID, "iat": ANY},
        weight=3,
        defaults={
            "algorithms": ("HS256",),
            "integer_subject": True,  # any JSON before PyJWT 2.10
            "lifetime": "15m",
            "refresh_lifetime": "30d",
            "rotates_refresh": False,
            "transport": BEARER,
            "claims": {"subject": "sub", "keep": ("fresh",)},
            "purpose": _RULES,
        },
        bridge=_BRIDGE,
        hazards=(
            dangers.REFRESH_FIRST,
            _LOCATIONS,
            Hazard(
                "no-exp",
                "With JWT_ACCESS_TOKEN_EXPIRES = False there is no exp: set max_age, and know "
                "that these tokens never drain by themselves.",
                "90-what-if#no_expiry",
            ),
            Hazard(
                "object-identity",
                "Before PyJWT 2.10 an identity could be an object: map it, as in subject = "
                '"sub.id".',
                "90-what-if#bad_subject",
            ),
            _FRESH,
            _DOUBLE_SUBMIT,
        ),
    ),
    Preset(
        name="flask-jwt-extended-3",
        library="flask-jwt-extended 3",
        has={"type": ("access", "refresh"), "jti": ANY, "identity": ANY},
        lacks=frozenset({"sub"}),
        telling={"jti": _UUID, "nbf": ANY, "iat": ANY},
        defaults={
            "algorithms": ("HS256",),
            "integer_subject": True,
            "lifetime": "15m",
            "refresh_lifetime": "30d",
            "rotates_refresh": False,
            "transport": BEARER,
            "claims": {"subject": "identity", "keep": ("fresh", "user_claims")},
            "purpose": _RULES,
        },
        bridge=_BRIDGE,
        hazards=(dangers.REFRESH_FIRST, _LOCATIONS, dangers.NO_EXP, _FRESH, _DOUBLE_SUBMIT),
    ),
    Preset(
        name="realworld-flask",
        library="the RealWorld example app for Flask",
        has={"type": ("access", "refresh"), "jti": ANY, "identity": ANY, "fresh": ANY},
        lacks=frozenset({"sub", "csrf"}),
        weight=1,
        defaults={
            "algorithms": ("HS256",),
            "integer_subject": True,
            "lifetime": "15m",
            "transport": TOKEN,
            "claims": {"subject": "identity", "keep": ("fresh",)},
            "purpose": _RULES,
        },
        bridge=BridgeFacts(
            access=("/user/token",),
            constants={"fresh": False},
            expiring={"fresh": False},
            needs_jti=True,
        ),
        hazards=(
            dangers.SCHEME,
            Hazard(
                "endless",
                "Its development settings give tokens a million days: those that leaked into "
                "production end for clients at sessions.absolute, and never drain by themselves.",
                "30-cutover#gate-drain-horizon",
            ),
        ),
    ),
    Preset(
        name="flask-jwt",
        library="flask-jwt, unmaintained since 2015",
        has={"identity": ANY, "iat": ANY, "nbf": ANY, "exp": ANY},
        lacks=frozenset({"sub", "jti", "type"}),
        telling={"identity": ANY},
        defaults={
            "algorithms": ("HS256",),
            "integer_subject": True,
            "lifetime": "5m",
            "transport": ({"header": "Authorization", "scheme": "JWT"},),
            "claims": {"subject": "identity"},
        },
        bridge=BridgeFacts(access=("/access_token",), constants={"nbf": 0}),
        hazards=(
            dangers.NO_JTI,
            dangers.SHARED_SECRET,
            Hazard(
                "no-refresh",
                "It has no refresh tokens: after five minutes its users log in again, unless "
                "JWT_EXPIRATION_DELTA was raised. Set `lifetime` to that.",
                "why#why-are-short-lived-access-tokens-not-swapped",
            ),
        ),
    ),
    Preset(
        name="lemur",
        library="Netflix Lemur",
        has={"sub": re.compile("[0-9]+"), "iat": ANY},
        only=frozenset({"sub", "iat", "exp", "aid"}),
        weight=0,
        defaults={
            "algorithms": ("HS256",),
            "integer_subject": True,  # until 2025
            "lifetime": "1d",
            "transport": BEARER,
            "claims": {"subject": "sub"},
            "purpose": {"require": {"aid": ()}},  # API keys, revoked by a table of the app's
        },
        bridge=BridgeFacts(access=("/token",)),
        hazards=(
            dangers.NO_JTI,
            dangers.STATUS_CODES,
            Hazard(
                "api-keys",
                "API keys are JWTs of the same secret with an aid, often without exp, and the app "
                "revokes them by a table: they are no logins. They pass under "
                '[[foreign]] claims = { aid = "*" }.',
                "90-what-if#wrong_purpose",
            ),
            Hazard(
                "several-secrets",
                "LEMUR_TOKEN_SECRETS lists several, of which the first signs: give all of them as "
                "keys.",
                "90-what-if#bad_signature",
            ),
        ),
    ),
)
