"""Keys of legacy issuers: from PEM, JWK, key set or secret to what core verifies with.

What must live here: which keys are fit at all, each judged alone and all of them together. A key
that is not is refused at start-up, by id, and never printed. PyJWT and cryptography take RSA-1024,
short secrets, repeated kids, sets that mix secrets with public keys, keys for encryption and ROCA
moduli; Wycheproof's key vectors say why none of them may verify.
"""

import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
    load_ssh_public_key,
)
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from migrator.core import strict
from migrator.core.errors import BadSettings, Problem
from migrator.core.legacy import ALGORITHMS, Key
from migrator.settings.strength import DIGEST_BYTES, is_public
from migrator.stores.moduli import is_roca

Form: TypeAlias = Literal["secret", "pem", "ssh", "der", "json"]
Public: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

_RSA_BITS: Final = 2048
_MOST_KEYS: Final = 256
_RSA_ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVE_ALGORITHMS: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_RENAMED: Final = {"Ed25519": "EdDSA"}  # RFC 9864
_PUBLIC_MEMBERS: Final = {
    "RSA": ("kty", "n", "e"),
    "EC": ("kty", "crv", "x", "y"),
    "OKP": ("kty", "crv", "x"),
}
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*={0,2}")
_UNREADABLE = (ValueError, TypeError, KeyError, UnsupportedAlgorithm, PyJWTError)

_DO: Final = {
    "key-unreadable": "give a PEM public key, a JWK, a JWK set, or an HMAC secret",
    "key-algorithm": "list the algorithm under the issuer, or pin the key to one that is listed",
    "key-curve": "use P-256 with ES256, P-384 with ES384, P-521 with ES512, Ed25519 with EdDSA",
    "key-rsa-small": "move the signer to 2048 bits or more, then migrate",
    "key-rsa-exponent": "replace this key: its public exponent makes signatures forgeable",
    "key-roca": "replace this key: its private half can be computed (CVE-2017-15361)",
    "key-too-short": "replace the secret by 32 random bytes or more, then migrate",
    "key-well-known": "replace the secret: it is on public lists of JWT secrets",
    "key-public-as-secret": "list RS*, PS*, ES* or EdDSA, or give the HMAC secret itself",
    "key-mixed-set": "make an issuer for the secrets and another for the public keys",
    "key-duplicate-kid": "leave one key under each kid",
    "key-use": "leave keys for encryption out of this set",
    "key-none": "give at least one key that can verify what the issuer lists",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySource:
    """A key as the settings found it.

    Args:
        value: the bytes of a secret (decoded already), or the text of a key or key set.
        origin: `env:NAME` or `file:PATH`; stands in problems, so it is never the value.
        form: what the value is; None = judge by its looks.
        kid, alg: what the settings pin the key to.
    """

    value: bytes
    origin: str
    form: Form | None = None
    kid: str | None = None
    alg: str | None = None

    def __repr__(self) -> str:
        return f"KeySource({self.origin})"


class _Bad(Exception):
    """A key that is unfit: the id of its problem, and why. Never leaves this file."""

    def __init__(self, identity: str, why: str) -> None:
        self.id = identity
        self.why = why
        super().__init__(identity)


@dataclass(frozen=True, slots=True)
class _Raw:
    """One key before it is bound to an algorithm."""

    kid: str | None
    alg: str | None
    material: Public | bytes


@dataclass(frozen=True, slots=True)
class Loaded:
    """The keys that are fit, and why the others are not."""

    keys: tuple[Key, ...]
    problems: tuple[Problem, ...]


def load(sources: Sequence[KeySource], algorithms: Collection[str]) -> Loaded:
    """Every key of `sources` that `algorithms` can use, and a problem for each unfit one."""
    problems: list[Problem] = []
    raws: list[_Raw] = []
    keys: list[Key] = []
    for source in sources:
        for raw in _raws(source, problems):
            raws.append(raw)
            _collect(keys, problems, source.origin, raw, algorithms)
    if len({isinstance(raw.material, bytes) for raw in raws}) > 1:
        problems.append(_problem("key-mixed-set", "the keys", "secrets stand among public keys"))
        return Loaded((), tuple(problems))
    return Loaded(_without_ambiguous(keys, problems), tuple(problems))


def load_set(text: bytes, algorithms: Collection[str], *, origin: str) -> Loaded:
    """The public keys of a fetched key set. A bad key costs itself only; a secret is never taken.

    Raises:
        ValueError: `text` is not a key set.
    """
    found = strict.read_object(text)
    entries = (found or {}).get("keys")
    if not isinstance(entries, list):
        raise ValueError("not a JWK set")  # noqa: TRY004 - what came is wrong, not its type
    problems: list[Problem] = []
    keys: list[Key] = []
    for entry in entries[:_MOST_KEYS]:
        if isinstance(entry, dict) and entry.get("kty") == "oct":
            why = "a secret that anyone can fetch is none"
            problems.append(_problem("key-mixed-set", origin, why))
            continue
        try:
            raw = _jwk(entry)
        except _Bad as bad:
            problems.append(_problem(bad.id, origin, bad.why))
            continue
        _collect(keys, problems, origin, raw, algorithms)
    return Loaded(_without_ambiguous(keys, problems), tuple(problems))


def checked(loaded: Loaded, algorithms: Collection[str]) -> tuple[Key, ...]:
    """The keys of `loaded`.

    Raises:
        BadSettings: one of them is unfit, or none is left.
    """
    problems = loaded.problems
    if not loaded.keys and not problems:
        why = "no key is for " + ", ".join(algorithms)
        problems = (_problem("key-none", "the keys", why),)
    if problems:
        raise BadSettings(problems)
    return loaded.keys


def _collect(
    keys: list[Key],
    problems: list[Problem],
    origin: str,
    raw: _Raw,
    algorithms: Collection[str],
) -> None:
    try:
        keys += _bound(raw, algorithms)
    except _Bad as bad:
        problems.append(_problem(bad.id, origin, bad.why))


def _raws(source: KeySource, problems: list[Problem]) -> list[_Raw]:
    try:
        form = source.form or _form_of(source.value)
        if form == "json":
            return [_pinned(raw, source) for raw in _from_json(source, problems)]
        return [_Raw(source.kid, source.alg, _FROM[form](source.value))]
    except _Bad as bad:
        problems.append(_problem(bad.id, source.origin, bad.why))
    except _UNREADABLE as error:
        why = f"it could not be read as {source.form or 'a key'} ({type(error).__name__})"
        problems.append(_problem("key-unreadable", source.origin, why))
    return []


def _form_of(value: bytes) -> Form:
    text = value.strip()
    if b"-----BEGIN" in text:
        return "pem"
    if text.startswith((b"ssh-", b"ecdsa-sha2-")):
        return "ssh"
    return "json" if text.startswith(b"{") and b'"k' in text else "secret"


def _pinned(raw: _Raw, source: KeySource) -> _Raw:
    return _Raw(source.kid or raw.kid, source.alg or raw.alg, raw.material)


def _from_json(source: KeySource, problems: list[Problem]) -> list[_Raw]:
    found = strict.read_object(source.value.strip())
    if found is None:
        raise _Bad("key-unreadable", "neither a JWK nor a JWK set")
    entries = found.get("keys", [found])
    if not isinstance(entries, list) or len(entries) > _MOST_KEYS:
        raise _Bad("key-unreadable", "not a JWK set")
    if source.kid is not None and len(entries) > 1:
        raise _Bad("key-duplicate-kid", "one kid is given for a set of keys")
    raws = []
    for entry in entries:
        try:
            raws.append(_jwk(entry))
        except _Bad as bad:
            if len(entries) > 1 and bad.id == "key-use":  # a set may hold other keys as well
                continue
            problems.append(_problem(bad.id, source.origin, bad.why))
    return raws


def _jwk(entry: object) -> _Raw:
    """The public half, or the secret, of a JWK (RFC 7517), whatever private members it has."""
    if not isinstance(entry, dict):
        raise _Bad("key-unreadable", "not a JWK")
    kty, alg, kid = entry.get("kty"), entry.get("alg"), entry.get("kid")
    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list):
        raise _Bad("key-use", "its use is not sig")
    if "verify" not in operations and "sign" not in operations:
        raise _Bad("key-use", "its key_ops do not allow to verify")
    if not isinstance(alg, str | None) or not isinstance(kid, str | None):
        raise _Bad("key-unreadable", "its alg or kid is not text")
    alg = _RENAMED.get(alg, alg) if alg else None
    if alg is not None and alg not in ALGORITHMS:
        raise _Bad("key-algorithm", "its alg is none that verifies signatures here")
    try:
        return _Raw(kid, alg, _material(entry, kty))
    except _UNREADABLE as error:
        why = f"its numbers make no key ({type(error).__name__})"
        raise _Bad("key-unreadable", why) from error


def _material(entry: Mapping[str, object], kty: object) -> Public | bytes:
    if kty == "oct":
        k = entry.get("k")
        if not isinstance(k, str) or _BASE64URL.fullmatch(k) is None:
            raise _Bad("key-unreadable", "its k is not base64url")
        return urlsafe_b64decode(k.rstrip("=") + "==")
    if not isinstance(kty, str) or kty not in _PUBLIC_MEMBERS:
        raise _Bad("key-unreadable", "its kty is not one of RSA, EC, OKP and oct")
    public = {name: entry[name] for name in _PUBLIC_MEMBERS[kty]}
    if kty == "RSA":
        _judge_exponent(int.from_bytes(urlsafe_b64decode(f"{public['e']}==")))
    read: Callable[[dict[str, object]], object] = {
        "RSA": RSAAlgorithm.from_jwk,
        "EC": ECAlgorithm.from_jwk,
        "OKP": OKPAlgorithm.from_jwk,
    }[kty]
    return _public(read(public))


def _pem(text: bytes) -> Public:
    if b"BEGIN CERTIFICATE" in text:
        return _public(x509.load_pem_x509_certificate(text).public_key())
    if b"PRIVATE KEY" in text:
        return _public(load_pem_private_key(text, password=None))
    return _public(load_pem_public_key(text))


def _secret(value: bytes) -> bytes:
    try:
        return HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(value)
    except PyJWTError as error:  # CVE-2022-29217, CVE-2026-48526: a key's text is no secret
        raise _Bad("key-public-as-secret", "an empty value or the text of a key") from error


_FROM: Final[dict[Form, Callable[[bytes], Public | bytes]]] = {
    "pem": _pem,
    "ssh": lambda text: _public(load_ssh_public_key(text)),
    "der": lambda text: _public(load_der_public_key(text)),
    "secret": _secret,
}


def _public(key: object) -> Public:
    if isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey):
        return key.public_key()
    if isinstance(key, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey):
        return key
    raise _Bad("key-curve", "a kind of key that signs no JWT here")


def _bound(raw: _Raw, algorithms: Collection[str]) -> list[Key]:
    """`raw` as one key for each of `algorithms` that it is for; a declared alg settles it."""
    fitting = _fitting(raw.material)
    if raw.alg is not None and _RENAMED.get(raw.alg, raw.alg) not in fitting:
        raise _Bad("key-curve", f"it is declared for {raw.alg}, which such a key cannot verify")
    listed = {_RENAMED.get(name, name) for name in algorithms}
    wanted = listed & fitting if raw.alg is None else listed & {_RENAMED.get(raw.alg, raw.alg)}
    if not wanted and raw.alg is None and isinstance(raw.material, bytes):
        raise _Bad("key-algorithm", "a secret, and no HS* is listed")
    if isinstance(raw.material, bytes):
        _judge_secret(raw.material, wanted or fitting)
    elif isinstance(raw.material, RSAPublicKey):
        _judge_rsa(raw.material)
    return [Key(raw.kid, alg, raw.material) for alg in sorted(wanted)]


def _fitting(material: Public | bytes) -> frozenset[str]:
    match material:
        case bytes():
            return frozenset(DIGEST_BYTES)
        case RSAPublicKey():
            return _RSA_ALGORITHMS
        case EllipticCurvePublicKey():
            return frozenset({_CURVE_ALGORITHMS.get(material.curve.name, "")})
        case Ed25519PublicKey():
            return frozenset({"EdDSA"})


def _judge_secret(secret: bytes, algorithms: Collection[str]) -> None:
    need = max(DIGEST_BYTES[alg] for alg in algorithms)
    if len(secret) < need:
        raise _Bad("key-too-short", f"shorter than {need} bytes (RFC 7518 section 3.2)")
    if is_public(secret):
        raise _Bad("key-well-known", "whoever reads the list can sign")


def _judge_exponent(exponent: int) -> None:
    if exponent < 3 or exponent % 2 == 0:
        raise _Bad("key-rsa-exponent", "an exponent below 3, or an even one")


def _judge_rsa(key: RSAPublicKey) -> None:
    numbers = key.public_numbers()
    if key.key_size < _RSA_BITS:
        raise _Bad("key-rsa-small", f"{key.key_size} bits (RFC 7518 section 3.3)")
    _judge_exponent(numbers.e)
    if is_roca(numbers.n):
        raise _Bad("key-roca", "its modulus has the fingerprint of a broken generator")


def _without_ambiguous(keys: Sequence[Key], problems: list[Problem]) -> tuple[Key, ...]:
    """`keys` without repeats, and without any whose kid names different keys."""
    once: dict[tuple[str | None, str], list[Key]] = {}
    for key in keys:
        named = once.setdefault((key.kid, key.alg), [])
        if all(other.material != key.material for other in named):
            named.append(key)
    kept: list[Key] = []
    for (kid, _), named in once.items():
        if kid is not None and len(named) > 1:
            problems.append(_problem("key-duplicate-kid", "the keys", f"{kid!r:.80} is repeated"))
            continue
        kept += named
    return tuple(kept)


def _problem(identity: str, what: str, why: str) -> Problem:
    return Problem(identity, what, why, _DO[identity])
