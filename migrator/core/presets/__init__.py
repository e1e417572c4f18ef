"""Shapes of legacy tokens in the wild, as tables of facts read in the libraries' own source.

A preset fills one `[[issuers]]` table of the settings; anything given there wins. Its hazards are
what an operator should know before the first swap; `recognise` guesses presets from one sample.
Nothing here decides about a token: the verifier reads the settings only.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from migrator.core.presets.records import ANY, BridgeFacts, Hazard, Preset, Table

__all__ = ["ANY", "PRESETS", "BridgeFacts", "Hazard", "Preset", "Table", "recognise"]

_BEARER: Final = ({"header": "Authorization", "scheme": "Bearer"},)


_SHARED_SECRET = Hazard(
    "shared-secret",
    "One secret signs these tokens and much else (password resets, signed cookies): end legacy "
    "tokens by cutover, and rotate the secret later, as a change of its own.",
)
_NO_JTI = Hazard(
    "no-jti",
    "There is no jti: two logins of one user within the same second are one and the same token, "
    "and share one session.",
)
_NO_IAT = Hazard(
    "no-iat",
    "There is no iat: cutoffs date a token by exp minus `lifetime`; set it to what the signer "
    "gave the longest-lived tokens that are still about.",
)
_REFRESH_FIRST = Hazard(
    "refresh-first",
    "Access tokens live for minutes: most users come back with an expired one and a refresh "
    "token, so wire the refresh route to `exchange` before anything else.",
)
_OPAQUE_REFRESH = Hazard(
    "opaque-refresh",
    "Refresh tokens are not JWTs an app can verify: a login moves when its access token is "
    "swapped, or at its next refresh through the provider followed by `login`.",
)
_PROVIDER = Hazard(
    "provider-signs-on",
    "The provider goes on signing tokens after cutover for whoever logs in there: its login must "
    "lead to `login` of this toolkit.",
)

_ALL: Final = (
    Preset(
        name="simplejwt",
        weight=3,
        has={"token_type": ANY, "user_id": ANY, "jti": ANY, "exp": ANY},
        defaults={
            "algorithms": ("HS256",),
            "integer_subject": True,  # user_id was an int before 5.5.1
            "lifetime": "5m",
            "refresh_lifetime": "1d",
            "rotates_refresh": False,
            "transport": _BEARER,
            "claims": {"subject": "user_id"},
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
            _REFRESH_FIRST,
            _SHARED_SECRET,
            Hazard(
                "renamed-claims",
                "USER_ID_CLAIM, TOKEN_TYPE_CLAIM, AUTH_HEADER_TYPES and the lifetimes are "
                "settings of the app: compare them with this issuer's.",
            ),
            Hazard(
                "sliding",
                "SlidingToken logins say token_type = sliding: require that instead, and give "
                "them no refresh rule.",
            ),
        ),
    ),
    Preset(
        name="flask-jwt-extended",
        weight=3,
        has={"fresh": ANY, "type": ANY, "jti": ANY, "nbf": ANY, "sub": ANY},
        defaults={
            "algorithms": ("HS256",),
            "integer_subject": True,  # any JSON before PyJWT 2.10
            "lifetime": "15m",
            "refresh_lifetime": "30d",
            "rotates_refresh": False,
            "transport": _BEARER,
            "claims": {"subject": "sub"},
            "purpose": {"require": {"type": "access"}, "refresh": {"type": "refresh"}},
        },
        bridge=BridgeFacts(
            access=("/access_token",),
            refresh=("/refresh_token",),
            constants={"fresh": False},
            mirrors={"csrf": "csrf_access_token"},
            expiring={"fresh": False},
            needs_jti=True,
        ),
        hazards=(
            _REFRESH_FIRST,
            Hazard(
                "locations",
                "JWT_TOKEN_LOCATION may add cookies (access_token_cookie), the query string or "
                "the body: each is a transport of its own. Refused tokens answered 401 or 422.",
            ),
            Hazard(
                "no-exp",
                "With JWT_ACCESS_TOKEN_EXPIRES = False there is no exp: set max_age, and know "
                "that these tokens never drain by themselves.",
            ),
            Hazard(
                "object-identity",
                "Before PyJWT 2.10 an identity could be an object: map it, as in subject = "
                '"sub.id".',
            ),
        ),
    ),
    Preset(
        name="fastapi-users",
        weight=4,
        has={"sub": ANY, "aud": "fastapi-users:auth", "exp": ANY},
        defaults={
            "algorithms": ("HS256",),
            "audience": ("fastapi-users:auth",),
            "lifetime": "1h",
            "transport": _BEARER,
            "claims": {"subject": "sub"},
        },
        bridge=BridgeFacts(access=("/access_token",)),
        hazards=(
            _NO_JTI,
            _NO_IAT,
            Hazard(
                "by-audience",
                "Reset and verify tokens are told from logins by their aud alone: never widen "
                "`audience`.",
            ),
        ),
    ),
    Preset(
        name="fastapi-tutorial",
        weight=1,
        has={"sub": ANY, "exp": ANY},
        only=frozenset({"sub", "exp", "scopes", "iat"}),
        defaults={
            "algorithms": ("HS256",),
            "lifetime": "8d",  # full-stack-fastapi-template; the tutorial itself gives 30 minutes
            "transport": _BEARER,
            "claims": {"subject": "sub"},
            "purpose": {"require": {"nbf": ()}},  # the template's password resets have one
        },
        bridge=BridgeFacts(access=("/access_token",)),
        hazards=(
            _NO_JTI,
            _NO_IAT,
            Hazard(
                "mutable-subject",
                "sub is often a username or an e-mail address: a renamed or reassigned one is "
                "another person to a session. Move to ids before the swap where they can change.",
            ),
            Hazard(
                "reset-tokens",
                "The template's password resets are signed with the same secret and differ by "
                "their nbf alone, which a login must not have here: keep that rule.",
            ),
            Hazard(
                "status-codes",
                "The template answered 403 to a bad token and 404 to a missing user: clients may "
                "be keyed to that, see http.refusal.",
            ),
        ),
    ),
    Preset(
        name="tymon",
        weight=4,
        has={"iss": ANY, "iat": ANY, "exp": ANY, "nbf": ANY, "sub": ANY, "jti": ANY, "prv": ANY},
        defaults={
            "algorithms": ("HS256",),
            "issuer": "*",  # the URL of the login request, so it varies with host and path
            "integer_subject": True,
            "lifetime": "1h",
            "refresh_lifetime": "14d",
            "transport": _BEARER,
            "claims": {"subject": "sub"},
            "purpose": {"refresh": {"prv": ANY}},
        },
        hazards=(
            Hazard(
                "one-token",
                "The access token is the refresh token: it refreshes for refresh_ttl after its "
                "iat, even when its exp is over. Users away for longer than ttl log in again "
                "unless the refresh route stays as it is until they came back.",
            ),
            Hazard(
                "iss-varies",
                "iss is the address of the login request: it cannot tell this issuer from another "
                "that shares its transport.",
            ),
        ),
    ),
    Preset(
        name="keycloak",
        weight=5,
        has={"iss": "/realms/", "typ": ANY, "azp": ANY, "exp": ANY, "jti": ANY},
        defaults={
            "algorithms": ("RS256",),
            "audience": (ANY,),
            "lifetime": "5m",
            "refresh_lifetime": "30m",
            "rotates_refresh": True,
            "transport": _BEARER,
            "claims": {"subject": "sub", "client": "azp", "scopes": "scope", "family": "sid"},
            "purpose": {"require": {"typ": "Bearer"}},
        },
        hazards=(
            _PROVIDER,
            _OPAQUE_REFRESH,
            Hazard(
                "audience-open",
                "aud is almost never the API: any is taken until `audience` is set, so a token "
                "that another client of the realm obtained is taken too.",
            ),
            Hazard("no-sub", "Lightweight access tokens may carry no sub: those are refused."),
        ),
    ),
    Preset(
        name="auth0",
        weight=4,
        has={"iss": ".auth0.com/", "sub": ANY, "aud": ANY, "exp": ANY},
        defaults={
            "algorithms": ("RS256",),
            "typ": ("JWT", "at+jwt"),
            "lifetime": "1d",
            "transport": _BEARER,
            "claims": {"subject": "sub", "client": "azp", "scopes": "scope"},
        },
        hazards=(
            _PROVIDER,
            _OPAQUE_REFRESH,
            _NO_JTI,
            Hazard(
                "needs-audience",
                "`audience` must be the API's identifier; without it ID tokens of the tenant "
                "could not be told apart. RFC 9068 profiles put the client into client_id instead "
                "of azp.",
            ),
        ),
    ),
    Preset(
        name="firebase",
        weight=6,
        has={"iss": "securetoken.google.com/", "firebase": ANY, "user_id": ANY, "sub": ANY},
        defaults={
            "algorithms": ("RS256",),
            "jwks_url": "https://www.googleapis.com/service_accounts/v1/jwk/"
            "securetoken@system.gserviceaccount.com",
            "lifetime": "1h",
            "transport": _BEARER,
            "claims": {"subject": "sub"},
            "purpose": {"require": {"firebase": ANY}},
        },
        hazards=(
            _PROVIDER,
            _OPAQUE_REFRESH,
            _NO_JTI,
            Hazard(
                "set-project",
                "`issuer` is https://securetoken.google.com/PROJECT and `audience` PROJECT: the "
                "keys are shared by every Firebase project there is.",
            ),
            Hazard("hourly", "A new token comes each hour: each is swapped once, cap by subject."),
        ),
    ),
    Preset(
        name="cognito",
        weight=6,
        has={"iss": "cognito-idp.", "token_use": ANY, "sub": ANY, "auth_time": ANY},
        defaults={
            "algorithms": ("RS256",),
            "audience": (ANY,),  # access tokens carry none, client_id stands in for it
            "lifetime": "1h",
            "transport": _BEARER,
            "claims": {
                "subject": "sub",
                "client": "client_id",
                "scopes": "scope",
                "family": "origin_jti",
            },
            "purpose": {"require": {"token_use": "access"}},
        },
        hazards=(
            _PROVIDER,
            _OPAQUE_REFRESH,
            Hazard(
                "client-is-audience",
                "There is no aud: add client_id to purpose.require, else a token of any app "
                "client of the pool is taken.",
            ),
            Hazard("id-tokens", "Apps that send the ID token instead require token_use = id."),
        ),
    ),
    Preset(
        name="supabase",
        weight=6,
        has={"session_id": ANY, "aal": ANY, "role": ANY, "sub": ANY, "app_metadata": ANY},
        defaults={
            "algorithms": ("HS256",),
            "audience": ("authenticated",),
            "lifetime": "1h",
            "transport": _BEARER,
            "claims": {"subject": "sub", "client": "client_id", "family": "session_id"},
            "purpose": {"require": {"role": "authenticated"}},
        },
        hazards=(
            _OPAQUE_REFRESH,
            _NO_JTI,
            Hazard(
                "anon-keys",
                "The anon and service_role API keys are JWTs of the same secret: they are no "
                "logins and are refused; name them in [[foreign]] where clients send them.",
            ),
            Hazard("user-metadata", "user_metadata is edited by users: never a source of rights."),
        ),
    ),
)

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType({each.name: each for each in _ALL})


def recognise(header: Table, payload: Table) -> list[str]:
    """The names of the presets that a sample token fits, the likeliest first.

    A guess from unverified claims, for `inspect` and `doctor`: nothing is admitted by it.
    """
    alg = str(header.get("alg", ""))
    scores = {
        preset.name: preset.weight * 10 + len(preset.has) + _family_fits(preset, alg)
        for preset in _ALL
        if all(_fits(name, wanted, payload) for name, wanted in preset.has.items())
        and (not preset.only or preset.only.issuperset(payload))
    }
    return sorted(scores, key=lambda name: -scores[name])


def _fits(name: str, wanted: object, payload: Table) -> bool:
    found = payload.get(name)
    if wanted == ANY or found is None:
        return found is not None
    if name == "iss":
        return isinstance(found, str) and str(wanted) in found
    return wanted in found if isinstance(found, list) else wanted == found


def _family_fits(preset: Preset, alg: str) -> int:
    algorithms = preset.defaults.get("algorithms", ())
    return int(isinstance(algorithms, tuple) and any(alg[:2] == each[:2] for each in algorithms))
