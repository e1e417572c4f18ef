"""A JWT becomes claims or a refusal: whose it is, whether it holds, what it says in our words.

The order: shape, header, key, signature, payload, issuer, audience, purpose, claims, times. This
file owns that order; strict.py reads, purpose.py guards, translate.py reads the claims. It knows
no store, no key format and no clock. All of them are deleted when the migration is over.

Signatures are checked by PyJWT's algorithm objects, not by `jwt.decode`: that would decode every
segment again (24 µs for HS256, against 1.4), more laxly than strict.py did, under an options dict
that other callers may have changed (CVE-2026-103001), and would judge times by a clock that is not
the database's. What `decode` guards besides is guarded here or where keys are loaded: one
algorithm for each key, key types and lengths.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from jwt.algorithms import get_default_algorithms
from jwt.exceptions import PyJWTError

from migrator.core import facts, purpose, strict
from migrator.core.bridge import is_marked
from migrator.core.claims import Claims, Purpose
from migrator.core.errors import Unavailable
from migrator.core.issuers import ClaimNames, ForeignRule, Issuer, Key, KeyRing
from migrator.core.lookalike import resembles_jwt
from migrator.core.translate import translate
from migrator.core.verdicts import Reason, Refused

__all__ = [
    "ALGORITHMS",
    "FOREIGN",
    "ClaimNames",
    "Foreign",
    "ForeignRule",
    "Issuer",
    "Key",
    "KeyRing",
    "Legacy",
    "Owner",
    "Verifier",
    "Wrong",
    "resembles_jwt",
    "signed_by",
]

ALGORITHMS: Final = (
    *("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
_CHECKS: Final = {
    name: algorithm for name, algorithm in get_default_algorithms().items() if name in ALGORITHMS
}
# RFC 9864 renames what PyJWT calls EdDSA. Both names mean the same maths over the same key (only
# Ed25519 keys are loaded), and the header is signed, so taking the new name gives nobody a choice.
_RENAMED: Final = {"Ed25519": "EdDSA"}

_SNOWFLAKE: Final = 2**63 - 1  # integer ids of databases are this large; by `integer_subject` only
_ABSENT: Final = object()

# How far a token came: of several candidates, the refusal of the one that came furthest is told.
_PROGRESS: Final = {
    reason: place
    for place, reason in enumerate(
        (
            Reason.OVERSIZED,
            Reason.NOT_A_JWS,
            Reason.BAD_HEADER,
            Reason.UNKNOWN_ISSUER,
            Reason.WRONG_TYPE,
            Reason.WRONG_ALGORITHM,
            Reason.UNKNOWN_KEY,
            Reason.BAD_SIGNATURE,
            Reason.BAD_PAYLOAD,
            Reason.WRONG_AUDIENCE,
            Reason.WRONG_PURPOSE,
            Reason.BAD_SUBJECT,
            Reason.BAD_CLAIM,
            Reason.BAD_TIME,
            Reason.NO_EXPIRY,
            Reason.NOT_YET_VALID,
            Reason.LEGACY_EXPIRED,
        )
    )
}
_VERIFIED: Final = _PROGRESS[Reason.BAD_SIGNATURE]


@dataclass(frozen=True, slots=True)
class Legacy:
    """A JWT that, by what it says of itself, one of these issuers signed."""

    candidates: tuple[Issuer, ...]


@dataclass(frozen=True, slots=True)
class Foreign:
    """Neither ours nor a configured issuer's: the app's business.

    Args:
        named: a rule of the settings says so, so nobody has to wonder whose it is.
    """

    named: bool = False


@dataclass(frozen=True, slots=True)
class Wrong:
    """Like a JWT, where an issuer's credential is presented, and nobody's."""

    reason: Reason


FOREIGN: Final = Foreign()
_NAMED: Final = Foreign(named=True)
Owner: TypeAlias = Legacy | Foreign | Wrong


class Verifier:
    """Tells whose a credential is, and turns a legacy token into claims or a refusal.

    Args:
        issuers: in the order of the settings; the first that a token holds for has it.
        foreign: what is nobody's login.
        max_bytes: longer credentials are not read.
    """

    def __init__(
        self, issuers: Sequence[Issuer], *, foreign: Sequence[ForeignRule] = (), max_bytes: int
    ) -> None:
        self._issuers = tuple(issuers)
        self._foreign = tuple(foreign)
        self._max_bytes = max_bytes

    def whose(
        self,
        credential: bytes,
        *,
        allowed: Collection[str] | None = None,
        path: str = "/",
        marked: bool = False,
    ) -> Owner:
        """Whose `credential` is by what it says of itself; nothing is verified, and no key read.

        Args:
            credential: exactly as it was sent.
            allowed: ids of the issuers whose transport it came by; None = any.
            path: of the request, for foreign rules.
            marked: read a bridge JWT as any other; of the app's own answers, never of a request.
        """
        if not marked and is_marked(credential):
            return Wrong(Reason.BRIDGE_TOKEN)
        issuers = tuple(each for each in self._issuers if allowed is None or each.id in allowed)
        if not issuers:
            return self._out_of_place(credential, path)
        read = self._read(credential, padded=False)
        if isinstance(read, Reason):
            issuers_padded = tuple(each for each in issuers if each.accept_padding)
            if issuers_padded and b"=" in credential:
                issuers, read = issuers_padded, self._read(credential, padded=True)
        payload = None if isinstance(read, Reason) else read
        if payload is None and not resembles_jwt(credential):
            return FOREIGN
        if any(rule.names(payload, path) for rule in self._foreign):
            return _NAMED
        if isinstance(read, Reason):
            return Wrong(read)
        iss = read.get("iss", _ABSENT)
        fits = tuple(
            each for each in issuers if iss is not None and each.signs_as(_none_if_absent(iss))
        )
        return Legacy(fits) if fits else Wrong(Reason.UNKNOWN_ISSUER)

    def _out_of_place(self, credential: bytes, path: str) -> Owner:
        """Where no issuer's tokens belong, only another's JWT is foreign.

        One of ours, moved to another scheme or mangled, must not reach the app's own, laxer check:
        many take whatever follows the first blank.
        """
        if not self._issuers:
            return FOREIGN
        owner = self.whose(credential, path=path)
        if isinstance(owner, Legacy):
            return Wrong(Reason.UNKNOWN_ISSUER)
        return FOREIGN if owner == Wrong(Reason.UNKNOWN_ISSUER) else owner

    def _read(self, credential: bytes, *, padded: bool) -> Mapping[str, object] | Reason:
        """The unverified claims of `credential`, or why there are none."""
        if len(credential) > self._max_bytes:
            return Reason.OVERSIZED
        jws = strict.parse(credential, accept_padding=padded)
        if isinstance(jws, Reason):
            return jws
        return strict.read_object(jws.payload, largest_int=_SNOWFLAKE) or Reason.BAD_PAYLOAD

    def verify(
        self,
        credential: bytes,
        candidates: Sequence[Issuer],
        *,
        now: datetime,
        purpose: Purpose = "access",
    ) -> Claims | Refused:
        """What `credential` says, or why it does not hold. No input makes it raise anything else.

        Args:
            credential: exactly as it was sent.
            candidates: issuers it may be of; the first whose keys and rules it holds for has it.
            now: by the database's clock.
            purpose: what it is presented for.

        Raises:
            Unavailable: the keys that could tell were never fetched.
        """
        furthest, unknown = Reason.OVERSIZED, None
        if len(credential) > self._max_bytes:
            return Refused(furthest)
        for issuer in candidates:
            try:
                found = _verified_by(issuer, credential, now.timestamp(), purpose)
            except Unavailable as error:
                unknown = error
                continue
            if isinstance(found, Claims):
                return found
            furthest = max(furthest, found, key=_PROGRESS.__getitem__)
        if unknown is not None and _PROGRESS[furthest] <= _VERIFIED:
            raise unknown
        return Refused(furthest if candidates else Reason.UNKNOWN_ISSUER)

    def exp_of(self, credential: bytes) -> datetime | None:
        """When a token that the app has just issued ends, by its own word; None: unknown."""
        read = self._read(credential, padded=False)
        exp = None if isinstance(read, Reason) else facts.seconds(read.get("exp"))
        return None if exp is None else facts.moment(exp)


def signed_by(jws: strict.Compact, algorithms: Collection[str], ring: KeyRing) -> Key | Reason:
    """The key of `ring` whose signature `jws` carries, or why there is none.

    Raises:
        Unavailable: as `KeyRing.find`.
    """
    alg = _RENAMED.get(jws.header.alg, jws.header.alg)
    check = _CHECKS.get(alg)
    if check is None or alg not in {_RENAMED.get(name, name) for name in algorithms}:
        return Reason.WRONG_ALGORITHM
    keys = ring.find(jws.header.kid, alg)
    for key in keys:
        try:
            if key.alg == alg and check.verify(jws.signing_input, key.material, jws.signature):
                return key
        # What a backend raises for a key of another family or an impossible signature is a no.
        except (PyJWTError, ValueError, TypeError, AttributeError, ArithmeticError):
            continue
    return Reason.BAD_SIGNATURE if keys else Reason.UNKNOWN_KEY


def _verified_by(
    issuer: Issuer, credential: bytes, now: float, wanted: Purpose
) -> Claims | Reason:
    jws = strict.parse(credential, accept_padding=issuer.accept_padding)
    if isinstance(jws, Reason):
        return jws
    if not _has_type(jws.header.typ, issuer.typ):
        return Reason.WRONG_TYPE
    own_keys = issuer.refresh_keys is not None
    ring = issuer.keys
    if wanted == "refresh" and issuer.refresh_keys is not None:
        ring = issuer.refresh_keys
    key = signed_by(jws, issuer.algorithms, ring)
    if isinstance(key, Reason):
        return key

    largest = _SNOWFLAKE if issuer.integer_subject else strict.LARGEST_INT
    payload = strict.read_object(jws.payload, largest_int=largest)
    if payload is None:
        return Reason.BAD_PAYLOAD
    iss = payload.get("iss", _ABSENT)
    if iss is None or not issuer.signs_as(_none_if_absent(iss)):
        return Reason.UNKNOWN_ISSUER
    if not _is_meant_for(payload.get("aud", _ABSENT), issuer.audience):
        return Reason.WRONG_AUDIENCE
    if not purpose.is_for(
        wanted, payload, require=issuer.require, refresh=issuer.refresh, own_keys=own_keys
    ):
        return Reason.WRONG_PURPOSE
    return translate(issuer, jws, payload, key_id=key.kid, now=now, wanted=wanted)


def _has_type(typ: str | None, expected: tuple[str, ...]) -> bool:
    if typ is None or "*" in expected:
        return True
    media_type = typ.lower().removeprefix("application/")  # RFC 7515 section 4.1.9
    return any(media_type == each.lower().removeprefix("application/") for each in expected)


def _is_meant_for(aud: object, audience: tuple[str, ...]) -> bool:
    if "*" in audience:
        return True
    if not audience:
        return aud is _ABSENT
    named = [aud] if isinstance(aud, str) else aud
    return (
        isinstance(named, list)
        and all(isinstance(each, str) for each in named)
        and any(each in audience for each in named)
    )


def _none_if_absent(claim: object) -> object:
    return None if claim is _ABSENT else claim
