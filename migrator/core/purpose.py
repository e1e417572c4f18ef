"""What a token was signed for: only a login token is a credential, only a refresh token exchanges.

One signer's key signs password resets, invitations, file links and ID tokens as well (Mealie
signs all of them with one secret), so a signature that holds says nothing about purpose (RFC 8725
section 3.12). Rules first: what the settings require must be there. Then the tables: what no rule
speaks of must not say that it is something else.
"""

from collections.abc import Mapping
from typing import Final

from migrator.core.claims import Purpose
from migrator.core.facts import claim

ANY: Final = "*"
Rule = Mapping[str, object]

KIND_CLAIMS: Final = ("token_type", "tokenType", "type", "typ", "token_use", "kind", "purpose")

KINDS: Final[dict[Purpose, frozenset[str]]] = {
    "access": frozenset({
        *("access", "access_token", "at+jwt", "auth", "authentication", "bearer", "jwt"),
        *("login", "session", "sliding", "user"),
    }),
    "refresh": frozenset({"offline", "refresh", "refresh_token", "rt", "rt+jwt"}),
}  # fmt: skip

OTHER_KINDS: Final = frozenset({
    *("activate", "activation", "api_key", "change_email", "confirm", "confirmation", "delete"),
    *("download", "dpop+jwt", "email_change", "email_confirmation", "email_verification", "file"),
    *("forgot", "forgot_password", "id", "id_token", "id+jwt", "invitation", "invite", "link"),
    *("logout", "logout+jwt", "magic", "magic_link", "magiclink", "mfa", "one_time", "otp"),
    *("password_reset", "preview", "recovery", "register", "reset", "reset_password"),
    *("secevent+jwt", "share", "state", "totp", "two_factor", "unsubscribe", "upload"),
    *("verification", "verify", "verify_email"),
})  # fmt: skip

# An ID token binds other tokens of its login by hash (OpenID Connect Core 3.1.3.6, 3.3.2.11); a
# logout or security event token carries events (RFC 8417). Neither is ever a credential.
NEVER: Final = ("at_hash", "c_hash", "s_hash", "events")
# Old Keycloak put the nonce into access tokens too, so it tells only where no rule does.
_NONCE: Final = "nonce"
_ABSENCE: Final[tuple[object, ...]] = (None, [], ())  # rules that nothing has to be there for


def holds(rule: Rule, payload: Mapping[str, object]) -> bool:
    """Whether every claim of `rule` is in `payload` with its value.

    A list means any of its values, and an empty one, like None, that the claim must be absent; "*"
    means whatever is there.
    """
    return all(_fits(wanted, claim(payload, name)) for name, wanted in rule.items())


def is_for(
    purpose: Purpose,
    payload: Mapping[str, object],
    *,
    require: Rule,
    refresh: Rule | None,
    own_keys: bool,
) -> bool:
    """Whether `payload` is a token for `purpose`.

    Args:
        payload: the claims.
        require, refresh: the issuer's rules for login and refresh tokens; None = no rule.
        own_keys: refresh tokens are signed with keys of their own, which tells them by itself.
    """
    rule = require if purpose == "access" else refresh
    told = any(wanted not in _ABSENCE for wanted in (rule or {}).values())
    if purpose == "refresh" and not told and not own_keys and not _says_refresh(payload):
        return False
    if not holds(rule or {}, payload) or any(name in payload for name in NEVER):
        return False
    if purpose == "access" and not told and not own_keys and _is_refresh(refresh, payload):
        return False
    if not told and _NONCE in payload:
        return False
    return all(
        _is_harmless(payload[name], purpose, strict=not told)
        for name in KIND_CLAIMS
        if name in payload and name not in (rule or {})
    )


def _is_refresh(refresh: Rule | None, payload: Mapping[str, object]) -> bool:
    """Whether the refresh rule tells this token from others; a "*" tells nothing."""
    if not refresh or ANY in refresh.values():
        return False
    return holds(refresh, payload)


def _says_refresh(payload: Mapping[str, object]) -> bool:
    return any(_word(payload.get(name)) in KINDS["refresh"] for name in KIND_CLAIMS)


def _is_harmless(value: object, purpose: Purpose, *, strict: bool) -> bool:
    kind = _word(value)
    if strict:
        return kind in KINDS[purpose]
    other: Purpose = "refresh" if purpose == "access" else "access"
    return kind not in OTHER_KINDS and kind not in KINDS[other]


def _word(value: object) -> str | None:
    return value.strip().lower().replace("-", "_") if isinstance(value, str) else None


def _fits(wanted: object, found: object) -> bool:
    if isinstance(wanted, list | tuple | set | frozenset):
        return any(_is_same(each, found) for each in wanted) if wanted else found is None
    if wanted == ANY:
        return found is not None
    return _is_same(wanted, found)


def _is_same(wanted: object, found: object) -> bool:
    if isinstance(wanted, str) and isinstance(found, list):  # as aud, one of several
        return wanted in found
    return type(wanted) is type(found) and wanted == found
