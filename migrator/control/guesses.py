"""What one sample JWT tells about its issuer: the facts that `init` writes into the settings.

A guess from unverified claims, for a person to check; names and rules go into the file, values of
claims do not, except those that say which tokens are logins (`iss`, `aud`, `token_type` and such).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from migrator.control import hazards
from migrator.control.inspection import subject_claim
from migrator.core import facts, purpose
from migrator.core.presets import PRESETS, Preset, recognise
from migrator.settings.values import FAMILY_OF

if TYPE_CHECKING:
    from migrator.control.sample import Sample

_CLIENTS: Final = ("azp", "client_id", "clientId")
_SCOPES: Final = ("scope", "scopes", "scp", "permissions")
_FAMILIES: Final = ("sid", "session_id", "origin_jti", "session_state")
_TOLD_BY: Final = ("token_type", "type", "typ", "token_use", "purpose")
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_MOST_AUDIENCES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """Facts of an `[[issuers]]` table; None or empty: the sample does not say.

    Args:
        preset: a shape that the sample fits, and whose subject it carries.
        rivals: other presets that the sample fits as well, where none of them is sure.
    """

    preset: str | None = None
    rivals: tuple[str, ...] = ()
    algorithm: str | None = None
    iss: str | None = None
    audience: tuple[str, ...] = ()
    typ: str | None = None
    jwks_url: str | None = None
    accept_padding: bool = False
    integer_subject: bool = False
    lifetime: str | None = None
    refresh_lifetime: str | None = None
    endless: bool = False
    claims: Mapping[str, str] = field(default_factory=dict)
    require: Mapping[str, str] = field(default_factory=dict)


def guess(sample: Sample) -> Guess:
    """What `sample` tells of its issuer."""
    payload = sample.payload
    shapes = [each for each in recognise(sample.header, payload) if each.preset.name in PRESETS]
    preset = next((each.preset.name for each in shapes if _names_whom(each.preset, payload)), None)
    lifetime = duration(sample.lifetime_s)
    refreshes = hazards.is_refresh(payload)
    subject = subject_claim(sample, None, shapes)
    claims = {
        "subject": subject,
        **_named(payload, client=_CLIENTS, scopes=_SCOPES, family=_FAMILIES),
    }
    alg = sample.word("alg")
    typ = sample.word("typ")
    iss = payload.get("iss")
    return Guess(
        preset=preset,
        rivals=tuple(
            each.preset.name
            for each in shapes
            if not shapes[0].is_sure and each.preset.name != preset
        ),
        algorithm="EdDSA" if alg == "Ed25519" else alg if alg in FAMILY_OF else None,
        iss=iss if isinstance(iss, str) and iss.isprintable() else None,
        audience=_audience(payload.get("aud")),
        typ=typ if typ is not None and typ.upper() != "JWT" else None,
        jwks_url=_jwks_url(preset, iss if isinstance(iss, str) else ""),
        accept_padding=sample.padded,
        integer_subject=type(facts.claim(payload, subject)) is int,
        lifetime=None if refreshes else lifetime,
        refresh_lifetime=lifetime if refreshes else None,
        endless="exp" not in payload,
        claims=claims,
        require={} if refreshes else _told_by(payload),
    )


def _names_whom(preset: Preset, payload: Mapping[str, object]) -> bool:
    """Whether a login of `preset` would name its subject as `payload` does."""
    mapping = preset.defaults.get("claims")
    subject = mapping.get("subject", "sub") if isinstance(mapping, Mapping) else "sub"
    return bool(preset.one_of) or facts.claim(payload, str(subject)) is not None


def duration(seconds: float | None) -> str | None:
    """Seconds as the settings write them, in the largest unit that says it exactly."""
    whole = round(seconds or 0)
    if whole < 1:
        return None
    count, unit = next((whole // size, unit) for size, unit in _UNITS if whole % size == 0)
    return f"{count}{unit}"


def _named(payload: Mapping[str, object], **names: Sequence[str]) -> dict[str, str]:
    found = {
        fact: next((name for name in candidates if name in payload), None)
        for fact, candidates in names.items()
    }
    return {fact: name for fact, name in found.items() if name is not None}


def _audience(aud: object) -> tuple[str, ...]:
    named = [aud] if isinstance(aud, str) else aud if isinstance(aud, list) else []
    fit = [each for each in named if isinstance(each, str) and each.isprintable() and each]
    return tuple(fit[:_MOST_AUDIENCES])


def _told_by(payload: Mapping[str, object]) -> dict[str, str]:
    """The first claim that says in so many words that this is a login token."""
    for name in _TOLD_BY:
        value = payload.get(name)
        if isinstance(value, str) and value.lower() in purpose.KINDS["access"]:
            return {name: value}
    return {}


def _jwks_url(preset: str | None, iss: str) -> str | None:
    if preset is None or not iss.startswith("https://") or not iss.isprintable():
        return None
    if "jwks_url" in PRESETS[preset].defaults:
        return None
    path = _JWKS_PATHS.get(preset)
    return None if path is None else iss.rstrip("/") + path


_JWKS_PATHS: Final = {
    "keycloak": "/protocol/openid-connect/certs",
    "auth0": "/.well-known/jwks.json",
    "auth0-rfc9068": "/.well-known/jwks.json",
    "cognito": "/.well-known/jwks.json",
    "cognito-id": "/.well-known/jwks.json",
}
