"""Shapes of identity providers, whose tokens an app verifies and never signs."""

import re
from typing import Final

from migrator.core.presets import dangers
from migrator.core.presets.records import ANY, BEARER, Hazard, Preset

_AUTH0_SUBJECT: Final = re.compile(
    r"(?:auth0|google-oauth2|apple|github|facebook|windowslive|samlp|waad|email|sms)\|.+"
)
_COMMON: Final = (dangers.PROVIDER, dangers.OPAQUE_REFRESH, dangers.NO_BRIDGE_KEY)
_NEEDS_AUDIENCE: Final = Hazard(
    "needs-audience",
    "`audience` must be the API's identifier; without it ID tokens of the tenant could not be "
    "told apart. Where a client asks for none, its access token is no JWT at all.",
    "90-what-if#wrong_audience",
)
_COGNITO_FACTS: Final = {
    "algorithms": ("RS256",),
    "lifetime": "1h",
    "transport": BEARER,
}

SHAPES: Final = (
    Preset(
        name="keycloak",
        library="Keycloak",
        has={"iss": "/realms/", "typ": ANY, "azp": ANY, "exp": ANY, "jti": ANY},
        telling={"typ": ("Bearer", "Refresh", "Offline", "ID")},
        weight=5,
        defaults={
            "algorithms": ("RS256",),
            "audience": (ANY,),
            "lifetime": "5m",
            "refresh_lifetime": "30m",
            "rotates_refresh": True,
            "transport": BEARER,
            "claims": {"subject": "sub", "client": "azp", "scopes": "scope", "family": "sid"},
            "purpose": {"require": {"typ": "Bearer"}},
        },
        hazards=(
            *_COMMON,
            Hazard(
                "audience-open",
                "aud is almost never the API: any is taken until `audience` is set, so a token "
                "that another client of the realm obtained is taken too.",
                "90-what-if#wrong_audience",
            ),
            Hazard(
                "no-sub",
                "Lightweight access tokens may carry no sub: those are refused.",
                "90-what-if#bad_subject",
            ),
            dangers.FROZEN_ROLES,
        ),
    ),
    Preset(
        name="auth0",
        library="Auth0, its own token profile",
        has={"sub": ANY, "aud": ANY, "exp": ANY},
        one_of=({"iss": ".auth0.com/"}, {"sub": _AUTH0_SUBJECT}),
        lacks=frozenset({"client_id"}),
        telling={"azp": ANY, "iss": ".auth0.com/"},
        weight=4,
        defaults={
            "algorithms": ("RS256",),
            "typ": ("JWT", "at+jwt"),
            "lifetime": "1d",
            "transport": BEARER,
            "claims": {"subject": "sub", "client": "azp", "scopes": "scope"},
        },
        hazards=(*_COMMON, dangers.NO_JTI, _NEEDS_AUDIENCE),
    ),
    Preset(
        name="auth0-rfc9068",
        library="Auth0, the RFC 9068 token profile",
        has={"sub": ANY, "aud": ANY, "exp": ANY, "client_id": ANY, "jti": ANY},
        one_of=({"iss": ".auth0.com/"}, {"sub": _AUTH0_SUBJECT}),
        lacks=frozenset({"azp"}),
        telling={"iss": ".auth0.com/"},
        weight=4,
        defaults={
            "algorithms": ("RS256",),
            "typ": ("at+jwt",),
            "lifetime": "1d",
            "transport": BEARER,
            "claims": {"subject": "sub", "client": "client_id", "scopes": "scope"},
        },
        hazards=(*_COMMON, _NEEDS_AUDIENCE),
    ),
    Preset(
        name="firebase",
        library="Firebase Authentication",
        has={"iss": "securetoken.google.com/", "firebase": ANY, "user_id": ANY, "sub": ANY},
        telling={"firebase": ANY},
        weight=6,
        defaults={
            "algorithms": ("RS256",),
            "jwks_url": "https://www.googleapis.com/service_accounts/v1/jwk/"
            "securetoken@system.gserviceaccount.com",
            "lifetime": "1h",
            "transport": BEARER,
            "claims": {"subject": "sub"},
            "purpose": {"require": {"firebase": ANY}},
        },
        hazards=(
            *_COMMON,
            dangers.NO_JTI,
            Hazard(
                "set-project",
                "`issuer` is https://securetoken.google.com/PROJECT and `audience` PROJECT: the "
                "keys are shared by every Firebase project there is.",
                "90-what-if#wrong_audience",
            ),
            Hazard(
                "hourly",
                "A new token comes each hour: each is swapped once, cap by subject.",
                "why#why-one-session-per-jwt-and-not-one-per-login",
            ),
            Hazard(
                "session-cookies",
                "Firebase session cookies say session.firebase.google.com and have keys of their "
                "own: they are an issuer of their own.",
                "90-what-if#unknown_issuer",
            ),
        ),
    ),
    Preset(
        name="cognito",
        library="Amazon Cognito, access tokens",
        has={"iss": "cognito-idp.", "token_use": "access", "sub": ANY},
        telling={"client_id": ANY},
        weight=6,
        defaults={
            **_COGNITO_FACTS,
            "audience": (ANY,),  # access tokens carry none, client_id stands in for it
            "claims": {
                "subject": "sub",
                "client": "client_id",
                "scopes": "scope",
                "family": "origin_jti",
            },
            "purpose": {"require": {"token_use": "access"}},
        },
        hazards=(
            *_COMMON,
            Hazard(
                "client-is-audience",
                "There is no aud: add client_id to purpose.require, else a token of any app "
                "client of the pool is taken.",
                "90-what-if#wrong_audience",
            ),
            Hazard(
                "id-tokens",
                "Apps that send the ID token instead take the preset cognito-id.",
                "90-what-if#wrong_purpose",
            ),
        ),
    ),
    Preset(
        name="cognito-id",
        library="Amazon Cognito, ID tokens",
        has={"iss": "cognito-idp.", "token_use": "id", "sub": ANY},
        telling={"cognito:username": ANY},
        weight=6,
        defaults={
            **_COGNITO_FACTS,
            "claims": {"subject": "sub", "client": "aud", "family": "origin_jti"},
            "purpose": {"require": {"token_use": "id"}},
        },
        hazards=(
            *_COMMON,
            Hazard(
                "id-as-login",
                "An ID token tells an app who logged in and was never meant for an API: "
                "`audience` must be your app client's id, and access tokens are refused beside "
                "it. Those of the hosted login carry at_hash and are refused; send access tokens "
                "there.",
                "00-decide#do-not-do-it-when",
            ),
        ),
    ),
    Preset(
        name="supabase",
        library="Supabase Auth",
        has={"session_id": ANY, "aal": ANY, "role": ANY, "sub": ANY, "app_metadata": ANY},
        telling={"app_metadata": ANY},
        weight=6,
        defaults={
            "algorithms": ("HS256",),
            "audience": ("authenticated",),
            "lifetime": "1h",
            "transport": BEARER,
            "claims": {"subject": "sub", "client": "client_id", "family": "session_id"},
            "purpose": {"require": {"role": "authenticated"}},
        },
        hazards=(
            dangers.OPAQUE_REFRESH,
            dangers.PROVIDER,
            dangers.NO_JTI,
            Hazard(
                "anon-keys",
                "The anon and service_role API keys are JWTs of the same secret: they are no "
                "logins and are refused; name them in [[foreign]] where clients send them.",
                "90-what-if#wrong_purpose",
            ),
            Hazard(
                "user-metadata",
                "user_metadata is edited by users: never a source of rights.",
                "00-decide#do-it-when",
            ),
            Hazard(
                "signing-keys",
                "Newer projects sign with ES256 or RS256: set `algorithms`, and `jwks_url` to the "
                "project's /auth/v1/.well-known/jwks.json.",
                "90-what-if#wrong_algorithm",
            ),
            Hazard(
                "anonymous",
                "An anonymous user has the role authenticated too, and is_anonymous: it becomes a "
                "session like any other.",
                "90-what-if#wrong_purpose",
            ),
        ),
    ),
)
