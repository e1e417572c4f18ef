"""The other way: a session becomes a short-lived JWT that an unchanged app understands.

A bridge JWT has the legacy shape, and bears a reserved claim by which everything of ours refuses
it first: it is made for one app behind the shim, and the outside world can never present one. This
file mints and recognises; it knows no request, no store and no clock. Like legacy.py, it is
deleted when the app no longer verifies JWTs.
"""

import json
import re
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, cast

from jwt.algorithms import get_default_algorithms

from migrator.core import facts
from migrator.core.claims import Purpose
from migrator.core.issuers import ClaimNames
from migrator.core.lookalike import as_signed, unescaped
from migrator.core.sessions import Session

MARK: Final = "urn:migrator:bridge"
# The mark is the first member, and a segment begins a quantum: every bridge JWT has these bytes
# behind its first dot, so nothing has to be decoded to know one.
_HEAD: Final = f'{{"{MARK}":true,'.encode()
_MARKED: Final = b"." + urlsafe_b64encode(_HEAD[: len(_HEAD) - len(_HEAD) % 3])
_SHORTEST: Final = len(_MARKED)
_CLAIM: Final = f'"{MARK}"'.encode()
_LEAST_CHARS: Final = len(_CLAIM) * 4 // 3  # of a segment that bears it

_ALGORITHMS: Final = get_default_algorithms()
_MOST_KEPT: Final = 50_000
# Younger halves are handed out again, so a JWT always has half its life left when the app gets it.
_FRESH_SHARE: Final = 2
_NUMBER: Final = re.compile(r"0|-?[1-9][0-9]{0,18}")
_SPACED: Final = frozenset({"scope"})  # RFC 8693 section 4.2; every other name holds a list


def is_marked(credential: bytes) -> bool:
    """Whether `credential` is a bridge JWT, in whatever spelling a lax reader would take it.

    One that a library made from a bridge JWT is one too: simplejwt copies claims that it does not
    know from a refresh token to what it issues for it.
    """
    if len(credential) < _SHORTEST:
        return False
    text = unescaped(credential)
    if _MARKED in credential or _MARKED in text:
        return True
    return any(_CLAIM in _decoded(part) for part in text.split(b".") if len(part) >= _LEAST_CHARS)


def _decoded(segment: bytes) -> bytes:
    signed = as_signed(segment)
    return urlsafe_b64decode(signed + b"=" * (-len(signed) % 4))


@dataclass(frozen=True, slots=True)
class Signer:
    """A key that signs bridge JWTs, prepared: a private key or HMAC bytes."""

    alg: str
    kid: str | None
    material: object

    def __repr__(self) -> str:
        return f"Signer(kid={self.kid!r}, alg={self.alg!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What sets the JWTs of one purpose apart.

    Args:
        purpose: claims that say what it is for; no claim of a session may say otherwise.
        constants: claims that each of them has; the session's own win.
        mirrors: claim → the cookie of the request whose value it repeats: how a double-submitted
            CSRF value comes into a token that the client never sees.
    """

    signer: Signer
    purpose: Mapping[str, object] = field(default_factory=dict)
    constants: Mapping[str, object] = field(default_factory=dict)
    mirrors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the app behind the bridge understands.

    Args:
        issuer: id of the issuer whose tokens these look like.
        realm: whose sessions are carried over.
        iss, audience: as the issuer's tokens have them; None: not at all.
        integer_subject: whether a subject of digits is a number in these tokens.
        lifetime: of each JWT; part of the bound within which a revocation takes effect wherever
            the app passes its JWT on.
        expiring: claim → its value once the first access lifetime of a login is over, as
            `fresh` of flask-jwt-extended.
        access_lifetime: how long what expires lasts; None: it never was.
    """

    issuer: str
    realm: str
    styles: Mapping[Purpose, Style]
    lifetime: timedelta
    iss: str | None = None
    audience: str | None = None
    typ: str | None = "JWT"
    claims: ClaimNames = field(default_factory=ClaimNames)
    integer_subject: bool = False
    expiring: Mapping[str, object] = field(default_factory=dict)
    access_lifetime: timedelta | None = None


@dataclass(frozen=True, slots=True)
class _Minted:
    jwt: bytes = field(repr=False)
    session: Session
    scopes: frozenset[str]
    fresh_until: datetime


class Minter:
    """Mints the bridge JWTs of one process, each once for half its life and not per request."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._kept: dict[tuple[object, ...], _Minted] = {}

    def mint(
        self,
        session: Session,
        purpose: Purpose,
        *,
        scopes: frozenset[str],
        cookies: Mapping[str, str],
        now: datetime,
        marked: bool = True,
    ) -> bytes:
        """The JWT by which the app knows `session`.

        A refresh token is made anew each time: libraries that rotate put its jti on a list.

        Args:
            session: whom it stands for; it must live.
            purpose: what the app is to take it for.
            scopes: what its subject may do now.
            cookies: those of the request, for claims that mirror one.
            now: by the database's clock.
            marked: whether it bears the mark. Libraries copy claims that they do not know from a
                refresh token to what they issue for it, and what is marked nobody can present.
        """
        mirrored = {
            claim: cookies[name]
            for claim, name in self.shape.styles[purpose].mirrors.items()
            if name in cookies
        }
        if purpose == "refresh":
            return self._minted(session, purpose, scopes, mirrored, now, marked=marked)
        key = (session.id, *mirrored.items())
        kept = self._kept.get(key)
        if (
            kept is not None
            and now < kept.fresh_until
            and (kept.session is session or kept.session == session)
            and kept.scopes == scopes
        ):
            return kept.jwt
        jwt = self._minted(session, purpose, scopes, mirrored, now)
        self._kept.pop(key, None)
        if len(self._kept) >= _MOST_KEPT:
            self._drop_oldest()
        fresh_until = self._fresh_until(session, now)
        self._kept[key] = _Minted(jwt, session, scopes, fresh_until)
        return jwt

    def _drop_oldest(self) -> None:
        with suppress(RuntimeError, StopIteration):  # another thread changed the dict meanwhile
            self._kept.pop(next(iter(self._kept)), None)

    def _fresh_until(self, session: Session, now: datetime) -> datetime:
        until = now + self.shape.lifetime / _FRESH_SHARE
        ends = self._expires(session)
        return min(until, ends) if ends is not None and ends > now else until

    def _expires(self, session: Session) -> datetime | None:
        """When what only a fresh login may claim is over."""
        lasts = self.shape.access_lifetime
        return session.created_at + lasts if lasts is not None and self.shape.expiring else None

    def _minted(
        self,
        session: Session,
        purpose: Purpose,
        scopes: frozenset[str],
        mirrored: Mapping[str, str],
        now: datetime,
        *,
        marked: bool = True,
    ) -> bytes:
        shape, style = self.shape, self.shape.styles[purpose]
        payload = dict(style.constants)
        kept = dict(session.claims)
        for name, value in kept.items():
            if name.partition(".")[0] not in kept:
                _put(payload, name, value)
            payload[name] = value  # which of both a dot means, only the app knows
        payload |= style.purpose
        ends = self._expires(session)
        if shape.expiring and (ends is None or now >= ends):
            payload |= {name: shape.expiring[name] for name in shape.expiring if name in payload}
        _put(payload, shape.claims.subject, _subject(session.subject, shape))
        if shape.claims.client and session.client and shape.claims.client not in kept:
            _put(payload, shape.claims.client, session.client)
        if shape.claims.scopes:
            said = facts.claim(payload, shape.claims.scopes)
            if facts.words(said) != scopes:
                _put(payload, shape.claims.scopes, _scopes(shape.claims.scopes, said, scopes))
        payload |= mirrored
        if shape.iss is not None:
            payload["iss"] = shape.iss
        if shape.audience is not None:
            payload["aud"] = shape.audience
        # What the app's own lists and not-before dates name must go on to mean this login: the
        # session keeps the jti and iat of the token that it came from.
        payload["jti"] = _jti(session, purpose)
        payload.setdefault("iat", int(session.created_at.timestamp()))
        until = min(now + shape.lifetime, session.expires_at or now + shape.lifetime)
        payload["exp"] = int(until.timestamp())
        return _signed(style.signer, shape.typ, payload, head=_HEAD if marked else b"{")


def _jti(session: Session, purpose: Purpose) -> object:
    if purpose == "refresh":
        return uuid.uuid4().hex
    return session.claims.get("jti", session.id.hex)


def _subject(subject: str, shape: Shape) -> object:
    # "007" is somebody else than 7, and a number has one spelling only.
    is_number = shape.integer_subject and _NUMBER.fullmatch(subject) is not None
    return int(subject) if is_number else subject


def _scopes(claim: str, said: object, scopes: frozenset[str]) -> object:
    """The scopes as the login had them: a text, a list, or what is usual under that name."""
    is_text = isinstance(said, str) or (said is None and claim in _SPACED)
    return " ".join(sorted(scopes)) if is_text else sorted(scopes)


def _put(payload: dict[str, object], name: str, value: object) -> None:
    """Set the claim `name`; a dot goes one level down, as `facts.claim` reads it."""
    head, dot, rest = name.partition(".")
    if not dot or "://" in name:  # a namespaced claim of an identity provider is one name
        payload[name] = value
        return
    inner = payload.get(head)
    nested = dict(cast("Mapping[str, object]", inner)) if isinstance(inner, Mapping) else {}
    _put(nested, rest, value)
    payload[head] = nested


def _signed(
    signer: Signer, typ: str | None, payload: Mapping[str, object], *, head: bytes
) -> bytes:
    header: dict[str, object] = {"alg": signer.alg}
    if typ is not None:
        header["typ"] = typ
    if signer.kid is not None:
        header["kid"] = signer.kid
    body = json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    signing_input = b"%b.%b" % (
        _encoded(json.dumps(header, separators=(",", ":")).encode()),
        _encoded(head + body[1:]),  # never empty: there is always an exp
    )
    signature = _ALGORITHMS[signer.alg].sign(signing_input, signer.material)
    return b"%b.%b" % (signing_input, _encoded(signature))


def _encoded(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")
