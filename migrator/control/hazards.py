"""What about a JWT bites during a migration: a table of looks at one sample, each with its text.

Beside each stands the passage of the playbooks that says more. A text says what follows and what
to set; no claim's value ever stands in one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from migrator.control.sample import Sample
from migrator.core import facts, purpose, strict
from migrator.core.presets import Hazard

if TYPE_CHECKING:
    from migrator.settings import Issuer

_DAY: Final = 86_400
_LONG_S: Final = 30 * _DAY
_MS_FROM: Final = 100_000_000_000  # seconds until the year 5138, milliseconds since 1973
_KEY_MEMBERS: Final = ("jku", "x5u", "jwk", "x5c")
_MUTABLE: Final = frozenset({"email", "username", "preferred_username", "name", "login"})
_PERSONAL: Final = frozenset({"email", "name", "given_name", "family_name", "phone_number"})
# Secrets that tutorials print. A token signed with one is signed by everybody.
_TUTORIAL_SECRETS: Final = (
    *(b"secret", b"secretkey", b"secret-key", b"secret_key", b"SECRET_KEY", b"your-secret-key"),
    *(b"your-256-bit-secret", b"changeme", b"change-me", b"password", b"jwt_secret", b"jwtsecret"),
    *(b"supersecret", b"super-secret", b"shhhhh", b"mysecret", b"my_secret", b"key", b"dev"),
    b"a-string-secret-at-least-256-bits-long",
    b"09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
)
_HASHES: Final = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One sample, the time, and the issuer's settings where there are some."""

    sample: Sample
    credential: bytes
    now: float
    subject_claim: str
    issuer: Issuer | None

    @property
    def subject(self) -> object:
        """The claim that names whom it is about."""
        return facts.claim(self.sample.payload, self.subject_claim)


def found(view: View) -> list[Hazard]:
    """Every hazard of the sample, in the order of the table."""
    if view.sample.kind == "jwe":
        text = (
            "It is encrypted (JWE): nothing of it can be read here, and it is refused. Let the "
            "app exchange such logins by `login` at its refresh route."
        )
        return [Hazard("jwe", text, "90-what-if#not_a_jws")]
    return [Hazard(name, text, see) for name, see, text, bites in _TABLE if bites(view)]


def is_refresh(payload: Mapping[str, object]) -> bool:
    """Whether a payload calls itself a refresh token."""
    said = (_kind(payload.get(name)) for name in purpose.KIND_CLAIMS)
    return any(kind in purpose.KINDS["refresh"] for kind in said)


def _kind(value: object) -> str | None:
    return value.strip().lower().replace("-", "_") if isinstance(value, str) else None


def _is_other(view: View) -> bool:
    payload = view.sample.payload
    kinds = {_kind(payload.get(name)) for name in purpose.KIND_CLAIMS}
    return bool(kinds & purpose.OTHER_KINDS) or any(name in payload for name in purpose.NEVER)


def _alg(view: View) -> str:
    return str(view.sample.header.get("alg", ""))


def _is_milliseconds(view: View) -> bool:
    values = (view.sample.payload.get(name) for name in ("exp", "iat", "nbf"))
    return any(isinstance(value, int | float) and value >= _MS_FROM for value in values)


def _is_odd_time(view: View) -> bool:
    payload = view.sample.payload
    given = [name for name in ("exp", "iat", "nbf") if name in payload]
    return any(view.sample.seconds(name) is None for name in given) and not _is_milliseconds(view)


def _is_known_secret(view: View) -> bool:
    digest = _HASHES.get(_alg(view))
    signed, _, tail = view.credential.rpartition(b".")
    signature = strict.decode(tail)
    if digest is None or not signature:
        return False
    return any(
        hmac.compare_digest(hmac.digest(secret, signed, digest), signature)
        for secret in _TUTORIAL_SECRETS
    )


def _needs_integer(view: View) -> bool:
    takes = view.issuer is not None and view.issuer.integer_subject
    return type(view.subject) is int and not takes


def _lives_long(view: View) -> bool:
    lifetime = view.sample.lifetime_s
    return lifetime is not None and lifetime > _LONG_S


def _is_over(view: View) -> bool:
    exp = view.sample.seconds("exp")
    return exp is not None and exp < view.now


def _is_mutable(view: View) -> bool:
    named = view.subject_claim.rpartition(".")[2] in _MUTABLE
    return named or (isinstance(view.subject, str) and "@" in view.subject)


_TABLE: Final[tuple[tuple[str, str, str, Callable[[View], bool]], ...]] = (
    (
        "alg-none",
        "90-what-if#wrong_algorithm",
        (
            "It is not signed (alg none): anyone can write one. It is refused in every phase "
            "from swap on; find out who still takes it."
        ),
        lambda view: _alg(view).lower() == "none" or not view.credential.rpartition(b".")[2],
    ),
    (
        "known-secret",
        "36-key-leak#steps",
        (
            "It is signed with a secret that tutorials print: anyone can sign one. Rotate the "
            "secret now: `migrator playbook show 36-key-leak`."
        ),
        _is_known_secret,
    ),
    (
        "not-strict",
        "why#why-does-pyjwt-verify-only-the-signature",
        (
            "Two readers may read it differently (repeated names, odd numbers, another "
            "spelling of base64 or JSON), so it is refused."
        ),
        lambda view: view.sample.strictly is not None,
    ),
    (
        "padded",
        "90-what-if#not_a_jws",
        "Its segments are padded with `=` (AWS ALB writes them so): set accept_padding = true.",
        lambda view: view.sample.padded and not (view.issuer and view.issuer.accept_padding),
    ),
    (
        "key-in-header",
        "90-what-if#unknown_key",
        (
            "Its header names a key of its own (jku, x5u, jwk or x5c). That is never read; "
            "keys come from the settings."
        ),
        lambda view: any(name in view.sample.header for name in _KEY_MEMBERS),
    ),
    (
        "no-kid",
        "36-key-leak#what-it-does-not-reach",
        (
            "It names no key (kid): after a rotation every key has to be tried, and a cutoff "
            "by key does not catch it."
        ),
        lambda view: "kid" not in view.sample.header,
    ),
    (
        "refresh-token",
        "90-what-if#wrong_purpose",
        (
            "It is a refresh token: it is exchanged at the refresh route and refused "
            "everywhere else."
        ),
        lambda view: is_refresh(view.sample.payload),
    ),
    (
        "other-purpose",
        "90-what-if#wrong_purpose",
        (
            "It says it is something other than a login (an ID token, reset, invitation, file "
            "link or logout): it is refused. If the app takes it, name it under [[foreign]]."
        ),
        _is_other,
    ),
    (
        "no-subject",
        "90-what-if#bad_subject",
        (
            "The subject's claim is absent: set claims.subject to the one that names whom it "
            "is about."
        ),
        lambda view: view.subject is None,
    ),
    (
        "integer-subject",
        "90-what-if#bad_subject",
        "Its subject is a number: set integer_subject = true.",
        _needs_integer,
    ),
    (
        "mutable-subject",
        "90-what-if#bad_subject",
        (
            "Its subject can change hands (an e-mail address or a user name): a session of "
            "whoever had it before would be the next one's. Map an immutable id if there is "
            "one."
        ),
        _is_mutable,
    ),
    (
        "no-exp",
        "90-what-if#no_expiry",
        (
            "It never ends: without exp it is refused unless the issuer sets max_age and it "
            "has iat, and such tokens never drain by themselves."
        ),
        lambda view: "exp" not in view.sample.payload,
    ),
    (
        "ms-times",
        "90-what-if#bad_time",
        "Its times are in milliseconds: no JWT library reads them as meant, and it is refused.",
        _is_milliseconds,
    ),
    (
        "odd-times",
        "90-what-if#bad_time",
        "A time is not a number of seconds (text, a boolean, negative): it is refused.",
        _is_odd_time,
    ),
    (
        "no-iat",
        "30-cutover#gate-drain-horizon",
        (
            "It does not say when it was issued: cutoffs date it by exp minus `lifetime`, so "
            "set that to what the signer gives."
        ),
        lambda view: "iat" not in view.sample.payload,
    ),
    (
        "no-jti",
        "why#why-is-a-jwt-named-by-its-signing-input",
        "It has no jti: two logins of one user within a second can be one and the same token.",
        lambda view: "jti" not in view.sample.payload,
    ),
    (
        "long-lived",
        "30-cutover#gate-drain-horizon",
        (
            "It lives for more than 30 days: the drain is as long, unless its clients adopt "
            "sessions."
        ),
        _lives_long,
    ),
    (
        "expired",
        "why#why-does-an-expired-jwt-still-reach-the-app",
        (
            "It is over. Clients that send such ones are sent to their refresh route by the "
            "app itself."
        ),
        _is_over,
    ),
    (
        "personal-data",
        "50-clients#troubleshooting",
        (
            "It carries personal data that everybody who holds it can read; claims.keep "
            "copies only what you list."
        ),
        lambda view: not _PERSONAL.isdisjoint(view.sample.payload),
    ),
)
