"""Shapes of FastAPI apps."""

from typing import Final

from migrator.core.presets import dangers
from migrator.core.presets.records import ANY, BEARER, TOKEN, BridgeFacts, Hazard, Preset

SHAPES: Final = (
    Preset(
        name="fastapi-users",
        library="fastapi-users, JWTStrategy",
        has={"sub": ANY, "aud": "fastapi-users:auth"},
        telling={"aud": "fastapi-users:auth"},
        weight=4,
        defaults={
            "algorithms": ("HS256",),
            "audience": ("fastapi-users:auth",),
            "lifetime": "1h",
            "transport": BEARER,
            "claims": {"subject": "sub"},
        },
        bridge=BridgeFacts(access=("/access_token",)),
        hazards=(
            dangers.NO_JTI,
            dangers.NO_IAT,
            Hazard(
                "by-audience",
                "Reset and verify tokens are told from logins by their aud alone: never widen "
                "`audience`.",
                "90-what-if#wrong_audience",
            ),
            Hazard(
                "cookies",
                "With CookieTransport the JWT is in the cookie fastapiusersauth, and login "
                'answers 204: transport = [{ cookie = "fastapiusersauth" }].',
                "90-what-if#csrf",
            ),
            Hazard(
                "no-exp",
                "With lifetime_seconds = None there is no exp and no iat either: such tokens are "
                "refused, and their users log in once more.",
                "90-what-if#no_expiry",
            ),
        ),
    ),
    Preset(
        name="fastapi-tutorial",
        library="the FastAPI tutorial, or the full-stack template",
        has={"sub": ANY, "exp": ANY},
        only=frozenset({"sub", "exp", "scopes", "iat"}),
        defaults={
            "algorithms": ("HS256",),
            "lifetime": "8d",  # full-stack-fastapi-template; the tutorial itself gives 30 minutes
            "transport": BEARER,
            "claims": {"subject": "sub"},
            "purpose": {"require": {"nbf": ()}},  # the template's password resets have one
        },
        bridge=BridgeFacts(access=("/access_token",)),
        hazards=(
            dangers.NO_JTI,
            dangers.NO_IAT,
            dangers.MUTABLE_SUBJECT,
            Hazard(
                "reset-tokens",
                "The template's password resets are signed with the same secret and differ by "
                "their nbf alone, which a login must not have here: keep that rule.",
                "90-what-if#wrong_purpose",
            ),
            Hazard(
                "status-codes",
                "The template answered 403 to a bad token and 404 to a missing user: clients may "
                "be keyed to that, see http.refusal.",
                "50-clients#what-the-answers-mean",
            ),
        ),
    ),
    Preset(
        name="fastapi-boilerplate",
        library="the benavlabs FastAPI boilerplate",
        has={"sub": ANY, "exp": ANY, "token_type": ("access", "refresh")},
        only=frozenset({"sub", "exp", "token_type"}),
        defaults={
            "algorithms": ("HS256",),
            "lifetime": "30m",
            "refresh_lifetime": "7d",
            "rotates_refresh": False,
            "transport": BEARER,
            "claims": {"subject": "sub"},
            "purpose": {
                "require": {"token_type": "access"},
                "refresh": {"token_type": "refresh"},
            },
        },
        bridge=BridgeFacts(access=("/access_token",), refresh_cookies=("refresh_token",)),
        hazards=(
            dangers.REFRESH_FIRST,
            dangers.MUTABLE_SUBJECT,
            dangers.RAW_LIST,
            dangers.NO_JTI,
            dangers.NO_IAT,
            Hazard(
                "refresh-cookie",
                "The refresh token is in the cookie refresh_token and nowhere else: name it under "
                "[bridge] refresh_cookies, or read it in the refresh route.",
                "90-what-if#what-if-the-access-token-is-expired-and-only-the-refresh-token-lives",
            ),
        ),
    ),
    Preset(
        name="realworld-fastapi",
        library="the RealWorld example app for FastAPI",
        has={"username": ANY, "sub": "access", "exp": ANY},
        telling={"sub": "access"},
        defaults={
            "algorithms": ("HS256",),
            "lifetime": "7d",
            "transport": TOKEN,
            "claims": {"subject": "username"},
            "purpose": {"require": {"sub": "access"}},  # one sub for everybody
        },
        bridge=BridgeFacts(access=("/user/token",)),
        hazards=(
            dangers.SCHEME,
            Hazard(
                "constant-sub",
                "sub says the same of everybody: mapped as the subject it would make all users "
                "one. The subject is in username; keep claims.subject.",
                "90-what-if#subjects_differ",
            ),
            dangers.MUTABLE_SUBJECT,
            dangers.NO_JTI,
            dangers.NO_IAT,
            dangers.STATUS_CODES,
        ),
    ),
    Preset(
        name="mealie",
        library="Mealie",
        has={"sub": ANY, "exp": ANY},
        only=frozenset({"sub", "exp", "iss", "iat", "rme", "integration_id"}),
        telling={"iss": "mealie"},
        weight=0,
        defaults={
            "algorithms": ("HS256",),
            "issuer": ANY,  # "mealie" since 3, none before
            "lifetime": "14d",  # remember me; 48 hours without
            "transport": (*BEARER, {"cookie": "mealie.access_token"}),
            "claims": {"subject": "sub", "keep": ("rme", "integration_id")},
            "purpose": {"require": {"file": (), "slug": (), "long_token": ()}},
        },
        bridge=BridgeFacts(access=("/access_token",)),
        hazards=(
            dangers.OTHER_PURPOSES,
            dangers.SHARED_SECRET,
            dangers.NO_JTI,
            dangers.NO_IAT,
            Hazard(
                "long-tokens",
                "API tokens are JWTs of the same secret with long_token, and the app finds them "
                "by their exact text: say [[foreign]] claims = { long_token = true }.",
                "90-what-if#wrong_purpose",
            ),
            Hazard(
                "script-cookie",
                "Its pages read the cookie to write the header: an HttpOnly session cookie does "
                "not serve them. Hand the session out by header until they stop.",
                "50-clients#troubleshooting",
            ),
        ),
    ),
)
