"""The settings in the core's own types: terms, issuers with their keys, what mints for the bridge.

Values only, made once and joined in wiring.py; keys are prepared here, and nothing connects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator.core import legacy
from migrator.core.bridge import Minter, Shape, Style
from migrator.core.flow import SwapKey, Terms
from migrator.core.sessions import Limits
from migrator.stores.keys import KeySource, key_ring
from migrator.stores.signers import signer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from migrator.settings import Bridge, Issuer, Key, Settings


def terms_of(settings: Settings) -> Terms:
    """The settings that the flow needs, in its own types."""
    return Terms(
        session_prefix=settings.tokens.session_prefix,
        api_prefix=settings.tokens.api_prefix,
        swap_keys=tuple(
            SwapKey(key.id, key.secret.get_secret_value()) for key in settings.swap.keys
        ),
        min_remaining=settings.swap.min_remaining,
        swaps_per_minute=settings.swap.per_minute,
        limits=Limits(idle=settings.sessions.idle, absolute=settings.sessions.absolute),
        refuses_foreign=settings.http.foreign == "refuse",
        per_subject=settings.sessions.per_subject,
        rolling_by_realm=rolling_of(settings),
        login_realm=settings.sessions.realm,
        store_ip=settings.sessions.store_ip,
        denies_with=settings.http.refusal.status,
        strict=settings.memory.trust_ms == 0,
    )


def rolling_of(settings: Settings) -> dict[str, timedelta]:
    """The lifetime of each new refresh token, of the realms all of whose issuers rotate them.

    A session does not name its issuer, so one that does not rotate speaks for its whole realm:
    else its sessions would outlive its refresh tokens (P3).
    """
    lifetimes: dict[str, list[timedelta | None]] = {}
    for issuer in settings.issuers:
        if issuer.refresh_lifetime is None and not issuer.purpose.refresh:
            continue  # it has no refresh tokens
        rolling = issuer.refresh_lifetime if issuer.rotates_refresh else None
        lifetimes.setdefault(issuer.realm, []).append(rolling)
    all_rolling = {
        realm: [one for one in of if one is not None]
        for realm, of in lifetimes.items()
        if None not in of
    }
    return {realm: min(of) for realm, of in all_rolling.items()}


def minter_of(settings: Settings, bridge: Bridge) -> Minter:
    """What mints the JWTs that the app behind the bridge understands.

    Raises:
        BadSettings: a key signs nothing.
    """
    issuer = next(each for each in settings.issuers if each.id == bridge.issuer)
    own = next((key for key in issuer.keys if key.form == "secret"), None)
    key = bridge.key or own
    assert key is not None  # settings.bridge-key
    refresh_key = bridge.refresh_key or next(
        (each for each in issuer.refresh_keys if each.form == "secret"), key
    )
    typ = next(iter(issuer.typ), None)
    audience = next(iter(issuer.audience), None)
    integers = bridge.integer_subject
    return Minter(
        Shape(
            issuer=issuer.id,
            realm=issuer.realm,
            styles={
                "access": Style(
                    signer=signer(_source(key), issuer.algorithms),
                    purpose=_told(issuer.purpose.require),
                    constants=bridge.constants,
                    mirrors=bridge.mirrors,
                ),
                "refresh": Style(
                    signer=signer(_source(refresh_key), issuer.algorithms),
                    purpose=_told(issuer.purpose.refresh or {}),
                    constants=bridge.refresh_constants,
                    mirrors=bridge.refresh_mirrors,
                ),
            },
            lifetime=bridge.lifetime,
            iss=_unless_any(issuer.issuer),
            audience=_unless_any(audience),
            typ=_unless_any(typ),
            claims=_claim_names(issuer, keep=()),
            integer_subject=issuer.integer_subject if integers is None else integers,
            expiring=bridge.expiring,
            access_lifetime=issuer.lifetime,
        )
    )


def _told(rule: Mapping[str, object]) -> dict[str, object]:
    """The claims by which a purpose rule is kept; what it wants absent or takes any of, is not."""
    told = {}
    for name, wanted in rule.items():
        values = wanted if isinstance(wanted, list | tuple) else (wanted,)
        value = next((each for each in values if each is not None), None)
        if value is not None and value != "*":
            told[name] = value
    return told


def _unless_any(value: str | None) -> str | None:
    return None if value == "*" else value


def _claim_names(issuer: Issuer, *, keep: tuple[str, ...]) -> legacy.ClaimNames:
    return legacy.ClaimNames(
        subject=issuer.claims.subject,
        client=issuer.claims.client,
        scopes=issuer.claims.scopes,
        family=issuer.claims.family,
        keep=keep,
    )


def verifier_of(settings: Settings) -> legacy.Verifier:
    """The verifier of every configured issuer.

    Raises:
        BadSettings: a key cannot be used.
    """
    return legacy.Verifier(
        [
            issuer_of(
                issuer,
                bridge=settings.bridge
                if settings.bridge is not None and settings.bridge.issuer == issuer.id
                else None,
            )
            for issuer in settings.issuers
        ],
        foreign=[
            legacy.ForeignRule(iss=rule.iss, claims=rule.claims, path=rule.path)
            for rule in settings.foreign
        ],
        max_bytes=settings.http.max_credential_bytes,
    )


def issuer_of(issuer: Issuer, *, bridge: Bridge | None = None) -> legacy.Issuer:
    """One issuer with its keys prepared.

    Args:
        bridge: the bridge to an app that reads JWTs of this shape: it is to find its claims there.

    Raises:
        BadSettings: a key cannot be used.
    """
    return legacy.Issuer(
        id=issuer.id,
        name=issuer.name,
        realm=issuer.realm,
        algorithms=issuer.algorithms,
        keys=key_ring(
            _sources(issuer.keys),
            issuer.algorithms,
            jwks_url=issuer.jwks_url,
            allow_http_loopback=True,
        ),
        refresh_keys=(
            key_ring(_sources(issuer.refresh_keys), issuer.algorithms)
            if issuer.refresh_keys
            else None
        ),
        iss=issuer.issuer,
        audience=issuer.audience,
        typ=issuer.typ,
        accept_padding=issuer.accept_padding,
        integer_subject=issuer.integer_subject,
        rotates_refresh=issuer.rotates_refresh,
        leeway=issuer.leeway,
        skew=issuer.skew,
        lifetime=issuer.lifetime,
        refresh_lifetime=issuer.refresh_lifetime,
        max_age=issuer.max_age,
        claims=_claim_names(issuer, keep=_kept(issuer, bridge)),
        require=issuer.purpose.require,
        refresh=issuer.purpose.refresh,
    )


def _kept(issuer: Issuer, bridge: Bridge | None) -> tuple[str, ...]:
    keep = issuer.claims.keep
    if bridge is None:
        return keep
    # The app's own lists and not-before dates go by these two.
    return (*keep, "jti", "iat", *(("*",) if bridge.claims == "all" else ()))


def _sources(keys: Sequence[Key]) -> list[KeySource]:
    return [_source(key) for key in keys]


def _source(key: Key) -> KeySource:
    return KeySource(
        value=key.value.get_secret_value(),
        origin=key.origin,
        form=key.form,
        kid=key.kid,
        alg=key.alg,
    )
