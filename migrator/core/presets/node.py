"""Shapes of Node apps: habits more than libraries, since jsonwebtoken signs what it is given."""

from typing import Final

from migrator.core.presets import dangers
from migrator.core.presets.records import ANY, BEARER, BridgeFacts, Hazard, Preset

_LACKS: Final = frozenset({"iss", "aud", "jti", "token_use", "fresh", "firebase"})
_SECOND_SECRET: Final = Hazard(
    "second-secret",
    "Refresh tokens are often signed with a secret of their own: give it as refresh_keys. With "
    "one secret for both and nothing in them that tells, they cannot be told: add a claim first.",
    "90-what-if#wrong_purpose",
)

SHAPES: Final = (
    Preset(
        name="jsonwebtoken",
        library="a Node app on jsonwebtoken",
        has={"iat": ANY},
        one_of=(
            *({"id": ANY}, {"userId": ANY}, {"_id": ANY}, {"user_id": ANY}, {"uid": ANY}),
            *({"username": ANY}, {"email": ANY}, {"user.id": ANY}, {"user._id": ANY}),
        ),
        lacks=_LACKS | {"sub", "nbf", "token_type"},
        defaults={
            "algorithms": ("HS256",),
            "integer_subject": True,
            "transport": BEARER,
            "claims": {"subject": "id"},
        },
        bridge=BridgeFacts(
            access=("/token", "/accessToken", "/access_token"),
            refresh=("/refreshToken", "/refresh_token"),
            refresh_request=("/refreshToken", "/refresh_token", "/token"),
        ),
        hazards=(
            Hazard(
                "subject-varies",
                "Each app names the user in a claim of its own (id, userId, _id, username): set "
                "claims.subject to the one that never changes hands.",
                "90-what-if#bad_subject",
            ),
            _SECOND_SECRET,
            dangers.NO_EXP,
            dangers.NO_JTI,
            dangers.FROZEN_ROLES,
            Hazard(
                "any-carrier",
                "The token may come in a cookie, in x-access-token or in x-auth-token instead of "
                "Authorization: each is a transport of its own.",
                "01-install-and-observe#steps",
            ),
        ),
    ),
    Preset(
        name="nestjs",
        library="a NestJS app in the style of its documentation",
        has={"sub": ANY, "username": ANY, "iat": ANY},
        lacks=_LACKS | {"nbf", "token_type"},
        defaults={
            "algorithms": ("HS256",),
            "integer_subject": True,
            "transport": BEARER,
            "claims": {"subject": "sub", "keep": ("username",)},
        },
        bridge=BridgeFacts(
            access=("/access_token", "/accessToken"),
            refresh=("/refresh_token", "/refreshToken"),
            refresh_request=("/refresh_token", "/refreshToken"),
        ),
        hazards=(_SECOND_SECRET, dangers.NO_EXP, dangers.NO_JTI, dangers.FROZEN_ROLES),
    ),
    Preset(
        name="ayunis",
        library="ayunis-core",
        has={"sub": ANY, "email": ANY, "orgId": ANY, "iat": ANY},
        lacks=_LACKS | {"type"},
        telling={"emailVerified": ANY, "role": ANY, "name": ANY},
        defaults={
            "algorithms": ("HS256",),
            "refresh_lifetime": "7d",
            "transport": ({"cookie": "access_token"},),
            "claims": {
                "subject": "sub",
                "keep": ("email", "emailVerified", "orgId", "role", "systemRole", "name"),
            },
            # Kind by absence: a refresh token is a bare sub, special ones name their type.
            "purpose": {
                "require": {"email": ANY, "type": ()},
                "refresh": {"email": (), "type": (None, "refresh")},
            },
        },
        bridge=BridgeFacts(
            access=("/access_token",),
            refresh=("/refresh_token",),
            refresh_cookies=("refresh_token",),
        ),
        hazards=(
            Hazard(
                "kind-by-absence",
                "A refresh token is told by having no email and no type: any other token of the "
                "same secret that carries just a sub would exchange. Look for such signers first.",
                "90-what-if#wrong_purpose",
            ),
            dangers.REFRESH_FIRST,
            dangers.NO_JTI,
            dangers.FROZEN_ROLES,
        ),
    ),
)

UNREADABLE: Final = (
    Preset(
        name="next-auth",
        library="NextAuth.js or Auth.js",
        header={"alg": "dir", "enc": ("A256GCM", "A256CBC-HS512")},
        defaults={},
        hazards=(
            Hazard(
                "session-cookie",
                "NextAuth and Auth.js encrypt their session cookie with a key made from their "
                "secret: no preset can read or swap it. Let the app read it once more and call "
                "`login` where it answers with the session.",
                "50-clients#before-after",
            ),
        ),
    ),
)
