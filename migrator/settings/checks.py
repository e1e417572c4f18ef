"""What single values cannot show: settings that contradict each other, and secrets that are none.

Keys are not parsed here (stores/keys.py does); this judges only what values alone can tell.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from migrator.settings.issuers import Issuer, Key
from migrator.settings.model import Cookie, Memory, Routes, Swap, Tokens
from migrator.settings.problems import Findings
from migrator.settings.secrets import decode
from migrator.settings.strength import DIGEST_BYTES, SHORTEST, weakness_of
from migrator.settings.values import FAMILY_OF, Family

PRODUCTION: Final = frozenset({"prod", "production", "live"})


def check_memory(memory: Memory, findings: Findings) -> None:
    """Trust that ends before the next poll would never be there."""
    if 0 < memory.trust_ms < memory.poll_ms:
        why = f"{memory.trust_ms} ms of trust end before the next poll, {memory.poll_ms} ms later"
        findings.add("settings.trust-below-poll", ("memory", "trust_ms"), why)


def check_tokens(tokens: Tokens, findings: Findings) -> None:
    """A token's kind is read from what it begins with."""
    one, other = f"{tokens.session_prefix}_", f"{tokens.api_prefix}_"
    if one.startswith(other) or other.startswith(one):
        why = "a token that begins with one prefix also begins with the other"
        findings.add("settings.same-prefix", ("tokens", "api_prefix"), why)


def check_cookie(cookie: Cookie, environment: str, findings: Findings) -> None:
    """A session cookie travels in the clear in development only, and nothing clears it."""
    ours = (cookie.effective_name, None, "/")
    for at, old in enumerate(cookie.clear):
        if (old.name, old.domain, old.path) == ours or old.name == cookie.hint:
            why = "that is a cookie in use: clearing it would log its user out"
            findings.add("settings.cookie-in-use", ("cookie", "clear", at), why)
    if cookie.hint == cookie.effective_name:
        why = "it would put `1` in the place of the session token"
        findings.add("settings.cookie-in-use", ("cookie", "hint"), why)
    if cookie.secure:
        return
    if environment.lower() in PRODUCTION:
        why = f"the environment is called {environment}, and the cookie would travel in the clear"
        findings.add("settings.cookie-insecure", ("cookie", "secure"), why)
    if cookie.same_site == "none":
        why = "browsers drop a SameSite=None cookie that is not Secure"
        findings.add("settings.cookie-insecure", ("cookie", "same_site"), why)


def check_routes(routes: Routes, findings: Findings) -> None:
    """A path has one meaning."""
    seen: dict[str, str] = {}
    for name in ("login", "refresh", "logout", "public"):
        for at, pattern in enumerate(getattr(routes, name)):
            first = seen.setdefault(pattern, name)
            if first != name:
                why = f"routes.{first} has the same pattern"
                findings.add("settings.route-twice", ("routes", name, at), why)


def check_swap_keys(swap: Swap, findings: Findings) -> None:
    """Rows remember the id of the key their digest came from."""
    for at, key in enumerate(swap.keys):
        if key.id in {other.id for other in swap.keys[:at]}:
            findings.add("settings.duplicate-swap-key", ("swap", "keys", at, "id"), "used twice")


def check_issuers(issuers: Mapping[int, Issuer], swap: Swap, findings: Findings) -> None:
    """Everything about the issuers, by their place in the list."""
    for at, issuer in issuers.items():
        earlier = [other for place, other in issuers.items() if place < at]
        for field in ("id", "name"):
            if getattr(issuer, field) in {getattr(other, field) for other in earlier}:
                why = "two issuers answer to it"
                findings.add("settings.duplicate-issuer", ("issuers", at, field), why)
        if issuer.rotates_refresh and issuer.refresh_lifetime is None:
            why = "rotates_refresh carries a session on by refresh_lifetime, which is not set"
            path = ("issuers", at, "refresh_lifetime")
            findings.add("settings.missing-refresh-lifetime", path, why)
        _check_twin(issuer, earlier, ("issuers", at, "keys"), findings)
        _check_sources(issuer, at, findings)
        for field, keys in (("keys", issuer.keys), ("refresh_keys", issuer.refresh_keys)):
            _check_kids(keys, ("issuers", at, field), findings)
            for key in keys:
                _check_key(key, issuer, (("issuers", at, field), findings))
                _check_shared(key, swap, ("issuers", at, field), findings)


def _check_twin(
    issuer: Issuer, earlier: Sequence[Issuer], path: tuple[str | int, ...], findings: Findings
) -> None:
    """One token is one issuer's: as another's it would be a token that nobody has revoked."""
    for other in earlier:
        is_told_apart = (
            (issuer.issuer != other.issuer and "*" not in {issuer.issuer, other.issuer})
            or issuer.audience != other.audience
            or issuer.purpose.require != other.purpose.require
        )
        shared = {key.value.get_secret_value() for key in issuer.keys} & {
            key.value.get_secret_value() for key in other.keys
        }
        is_told = issuer.id == other.id or issuer.name == other.name  # settings.duplicate-issuer
        if shared and not is_told_apart and not is_told:
            why = f"a token of {other.name} would hold as one of {issuer.name} too, after logout"
            findings.add("settings.twin-issuers", path, why)


def _check_sources(issuer: Issuer, at: int, findings: Findings) -> None:
    if issuer.jwks_url is None:
        return
    families = {FAMILY_OF[name] for name in issuer.algorithms}
    if "public" not in families:
        why = "a key set that anyone can fetch holds no secrets, and every algorithm is an HMAC"
        findings.add("settings.key-family-mismatch", ("issuers", at, "jwks_url"), why)
    elif any("public" in families_of(key) for key in issuer.keys):
        why = "public keys from jwks_url and from keys: one that the signer withdrew would stay"
        findings.add("settings.two-key-sources", ("issuers", at, "jwks_url"), why)


def _check_kids(keys: Sequence[Key], path: tuple[str | int, ...], findings: Findings) -> None:
    kids = [key.kid for key in keys if key.kid is not None]
    for kid in sorted({kid for kid in kids if kids.count(kid) > 1}):
        findings.add("settings.duplicate-kid", path, f"{kid} names two keys")


def _check_key(key: Key, issuer: Issuer, say: tuple[tuple[str | int, ...], Findings]) -> None:
    path, findings = say
    allowed = (key.alg,) if key.alg else issuer.algorithms
    if key.alg and key.alg not in issuer.algorithms:
        why = f"{key.origin} is pinned to {key.alg}, which the issuer does not list"
        findings.add("settings.alg-not-allowed", path, why)
    if not allowed:
        return  # told as settings.no-algorithms
    families = {FAMILY_OF[name] for name in allowed}
    if len(families) > 1:  # ASVS 9.1.2: who may choose the algorithm chooses the key's meaning
        why = f"HS* and others are both allowed, and nothing says which {key.origin} is for"
        findings.add("settings.mixed-families", path, why)
    elif not families_of(key) <= families:
        is_one = "is a public key" if "public" in families_of(key) else "is an HMAC secret"
        why = f"{key.origin} {is_one}, not a key of {', '.join(allowed)}"
        findings.add("settings.key-family-mismatch", path, why)
    else:
        need = max((DIGEST_BYTES.get(name, SHORTEST) for name in allowed), default=SHORTEST)
        for secret in secrets_in(key):
            _check_strength(secret, need, key.origin, (path, findings))


def _check_strength(
    secret: bytes, need: int, origin: str, say: tuple[tuple[str | int, ...], Findings]
) -> None:
    path, findings = say
    match weakness_of(secret, at_least=need):
        case "public":
            why = f"the secret in {origin} is on public lists of JWT secrets"
            findings.add("settings.public-hmac", path, why)
        case "short":
            why = f"the secret in {origin} is shorter than {need} bytes, its hash's size"
            findings.add("settings.weak-hmac", path, f"{why} (RFC 7518 section 3.2)")
        case "not random":
            why = f"the secret in {origin} repeats itself, or few characters"
            findings.add("settings.weak-hmac", path, why)


def _check_shared(key: Key, swap: Swap, path: tuple[str | int, ...], findings: Findings) -> None:
    ours = {each.secret.get_secret_value() for each in swap.keys}
    found = key.value.get_secret_value()
    if key.form == "secret" and ({found, decode(found, "base64url")} & ours):
        why = f"{key.origin} is also a swap key: every signer could compute session tokens"
        findings.add("settings.shared-secret", path, why)


def families_of(key: Key) -> frozenset[Family]:
    """The families of algorithms this key could serve, judged by its looks alone."""
    if key.form == "secret":
        return frozenset({"hmac"})
    if key.form != "json":
        return frozenset({"public"})
    kinds: list[Family] = ["hmac" if jwk.get("kty") == "oct" else "public" for jwk in _jwks(key)]
    return frozenset(kinds or ["public"])


def secrets_in(key: Key) -> Iterator[bytes]:
    """The HMAC secrets of a key: itself, or those of its JWKs."""
    if key.form == "secret":
        yield key.value.get_secret_value()
    elif key.form == "json":
        for jwk in _jwks(key):
            if jwk.get("kty") == "oct":
                yield decode(str(jwk.get("k", "")).encode(errors="replace"), "base64url") or b""


def _jwks(key: Key) -> list[dict[str, Any]]:
    document = json.loads(key.value.get_secret_value().removeprefix(b"\xef\xbb\xbf"))
    listed = document.get("keys", [document]) if isinstance(document, dict) else document
    return [jwk for jwk in listed if isinstance(jwk, dict)] if isinstance(listed, list) else []
