"""Shapes of Laravel and Rails apps."""

import re
from typing import Final

from migrator.core.presets import dangers
from migrator.core.presets.records import ANY, BEARER, BridgeFacts, Hazard, Preset

_SHA1: Final = re.compile("[0-9a-f]{40}")
_UUID: Final = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

SHAPES: Final = (
    Preset(
        name="tymon",
        library="tymon/jwt-auth (Laravel)",
        has={"iss": "://", "iat": ANY, "exp": ANY, "nbf": ANY, "sub": ANY, "jti": ANY},
        lacks=frozenset({"aud", "azp", "type", "typ", "token_type"}),
        telling={"prv": _SHA1},
        defaults={
            "algorithms": ("HS256",),
            "issuer": "*",  # the URL of the login request, so it varies with host and path
            "integer_subject": True,
            "lifetime": "1h",
            "refresh_lifetime": "14d",
            "transport": BEARER,
            "claims": {"subject": "sub", "keep": ("prv",)},  # lock_subject compares it
            "purpose": {"refresh": {"prv": ANY}},
        },
        bridge=BridgeFacts(
            access=("/access_token", "/token"),
            constants={"iss": "bridge", "nbf": 0},  # both must be there, neither is compared
            needs_jti=True,
        ),
        hazards=(
            Hazard(
                "one-token",
                "The access token is the refresh token: it refreshes for refresh_ttl after its "
                "iat, even when its exp is over. Users away for longer than ttl log in again "
                "unless the refresh route stays as it is until they came back.",
                "90-what-if#legacy_expired",
            ),
            Hazard(
                "iss-varies",
                "iss is the address of the login request: it cannot tell this issuer from another "
                "that shares its transport.",
                "90-what-if#unknown_issuer",
            ),
            dangers.NO_EXP,
        ),
    ),
    Preset(
        name="devise-jwt",
        library="devise-jwt, or warden-jwt_auth (Rails)",
        has={"sub": ANY, "scp": ANY, "iat": ANY, "exp": ANY, "jti": ANY},
        lacks=frozenset({"iss", "nbf", "azp", "type", "token_type"}),
        telling={"jti": _UUID},
        defaults={
            "algorithms": ("HS256",),
            "audience": (ANY,),  # written as null unless the login request names one
            "lifetime": "1h",
            "transport": BEARER,
            "claims": {"subject": "sub", "keep": ("scp",)},  # the warden scope, no OAuth scope
        },
        bridge=BridgeFacts(needs_jti=True),
        hazards=(
            Hazard(
                "answer-in-header",
                "Login answers with the JWT in its Authorization header, not in the body: so must "
                "a session token for clients that nobody can update.",
                "50-clients#before-after",
            ),
            Hazard(
                "jti-matcher",
                "JTIMatcher keeps one jti per user and Denylist one row per token: a swapped "
                "session ends with neither. Wire their revocations to `end` and `end_all`.",
                "90-what-if#denied",
            ),
            Hazard(
                "two-scopes",
                "scp names the Devise model: user 1 and admin 1 share the sub 1. With several "
                "models make each an issuer of its own realm, told by purpose.require.",
                "90-what-if#subjects_differ",
            ),
            Hazard(
                "no-refresh",
                "It has no refresh tokens: who stays away for longer than `lifetime` logs in "
                "again, as before.",
                "90-what-if#legacy_expired",
            ),
        ),
    ),
)
