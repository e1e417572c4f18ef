"""What a verified payload says, in our words: the issuer's claim names and clocks applied.

Whether a token is over is asked last, so that "expired" is only said of an otherwise right one:
the app's answer to that sends old clients to their refresh route and not to a login screen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from migrator.core import facts
from migrator.core.bridge import MARK
from migrator.core.claims import Claims, Purpose
from migrator.core.issuers import Issuer
from migrator.core.strict import Compact
from migrator.core.tokens import fingerprint
from migrator.core.verdicts import Reason

ALL: Final = "*"
# Claims about one token and not about its login.
_OF_THE_TOKEN: Final = frozenset({"exp", "nbf", "iss", "aud", MARK})
_UNFIT: Final = object()


def translate(
    issuer: Issuer,
    jws: Compact,
    payload: Mapping[str, object],
    *,
    now: float,
    wanted: Purpose,
    key_id: str | None = None,
) -> Claims | Reason:
    """What the `payload` of a token that `issuer` signed says, or why it cannot be used now.

    Args:
        issuer: whose token it is.
        jws: where the payload is from; its signature holds.
        payload: its claims; `iss`, `aud` and purpose are right.
        now: seconds since 1970 by the database's clock.
        wanted: what the token is presented for.
        key_id: the kid of the key whose signature it carries; None: that key has none, or nobody
        checked.
    """
    names = issuer.claims
    subject = facts.text(facts.claim(payload, names.subject), integers=issuer.integer_subject)
    if subject is None:
        return Reason.BAD_SUBJECT

    jti = facts.text(payload.get("jti"))
    client = _optional(payload, names.client)
    family = _optional(payload, names.family)
    scopes = facts.words(facts.claim(payload, names.scopes)) if names.scopes else frozenset()
    kept = _kept(payload, names.keep, issuer)
    unfit = ("jti" in payload and jti is None) or scopes is None or not facts.is_storable(kept)
    if unfit or client is _UNFIT or family is _UNFIT:
        return Reason.BAD_CLAIM

    times = _times(issuer, payload, now, wanted)
    if isinstance(times, Reason):
        return times
    rolling = issuer.refresh_lifetime if wanted == "refresh" and issuer.rotates_refresh else None
    auth_time = facts.seconds(payload.get("auth_time"))
    return Claims(
        issuer=issuer.id,
        realm=issuer.realm,
        subject=subject,
        fingerprint=fingerprint(issuer.id, jws.signing_input),
        exp=times.exp,
        keep_until=facts.later(times.exp, issuer.leeway + issuer.skew),
        purpose=wanted,
        # Whoever holds a leaked key writes the header's kid, or none, at will: cutting that key
        # off must reach what it signed, so what the key itself is called decides.
        kid=key_id or jws.header.kid,
        iat=times.iat,
        effective_iat=times.effective_iat,
        jti=jti,
        family=family if isinstance(family, str) else None,
        client=client if isinstance(client, str) else None,
        scopes=scopes or frozenset(),
        kept=kept,
        auth_time=None if auth_time is None else facts.moment(auth_time),
        amr=facts.strings(payload.get("amr")),
        rolling_seconds=None if rolling is None else int(rolling.total_seconds()),
    )


def _kept(
    payload: Mapping[str, object], names: tuple[str, ...], issuer: Issuer
) -> dict[str, object]:
    """The claims that are echoed; "*" is every one about the login that can be stored."""
    found = {
        name: value
        for name in names
        if name != ALL and (value := facts.claim(payload, name)) is not None
    }
    if ALL in names:
        purpose = {*issuer.require, *(issuer.refresh or {})}
        found |= {
            name: value
            for name, value in payload.items()
            if name not in purpose | _OF_THE_TOKEN
            and value is not None
            and facts.is_storable((name, value))
        }
    return found


def _optional(payload: Mapping[str, object], name: str | None) -> object:
    """The text of a claim, None where it is absent, _UNFIT where it cannot be used."""
    value = facts.claim(payload, name) if name else None
    return None if value is None else facts.text(value, integers=True) or _UNFIT


@dataclass(frozen=True, slots=True)
class _Times:
    exp: datetime
    iat: datetime | None
    effective_iat: datetime | None


def _times(
    issuer: Issuer, payload: Mapping[str, object], now: float, wanted: Purpose
) -> _Times | Reason:
    """When a token begins and ends, or why not now; what is over is told last."""
    found = {
        name: facts.seconds(payload[name]) for name in ("exp", "nbf", "iat") if name in payload
    }
    if None in found.values():
        return Reason.BAD_TIME
    exp, nbf, iat = found.get("exp"), found.get("nbf"), found.get("iat")
    if exp is None:
        if issuer.max_age is None or iat is None:
            return Reason.NO_EXPIRY
        exp = iat + issuer.max_age.total_seconds()

    leeway, skew = issuer.leeway.total_seconds(), issuer.skew.total_seconds()
    if nbf is not None and nbf > now + leeway:
        return Reason.NOT_YET_VALID
    if iat is not None and iat > now + leeway + skew:
        return Reason.NOT_YET_VALID
    if now >= exp + leeway:
        return Reason.LEGACY_EXPIRED

    ends = facts.moment(min(exp, facts.LATEST_SECONDS))
    lifetime = issuer.lifetime if wanted == "access" else issuer.refresh_lifetime
    begins = None if iat is None else facts.moment(iat)
    dated = begins or (ends - lifetime if lifetime else None)
    return _Times(ends, begins, None if dated is None else dated - issuer.skew)
