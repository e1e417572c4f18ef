"""Hostile requests: what is wrong is not a token but how, where or when it is presented.

A table: what an attacker holds, the lines sent, the only right answer; where `/forward-auth` must
say otherwise than a middleware, that too. Numbers are those of the public list.
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from migrator.core import tokens
from tests.hostile.tokens import Forge, keyed_with

Line: TypeAlias = tuple[str, str | bytes]


@dataclass(frozen=True)
class Held:
    """What the attacker has: live sessions of ann and bob, their JWTs, an ended pair of ann's."""

    forge: Forge
    ann: str
    session_id: str
    ann_jwt: str
    bob: str
    bob_jwt: str
    ended: str
    ended_jwt: str

    def forged(self) -> str:
        """A JWT of ann's that its issuer never signed."""
        return keyed_with(self.forge, b"not the secret of anybody, but a long one").decode()


@dataclass(frozen=True)
class Case:
    """A request and its answer.

    Args:
        made: its lines.
        answers: any of these is right; more than one only where HTTP servers differ.
        proxied: what `/forward-auth` says, if not that.
        quiet: no store may be asked.
        request: method, path, body or version, where they are not the usual ones.
    """

    made: Callable[[Held], tuple[Line, ...]]
    answers: tuple[str, ...]
    proxied: tuple[str, ...] | None = None
    quiet: bool = False
    request: dict[str, Any] = field(default_factory=dict)


def bearer(token: str) -> Line:
    return ("Authorization", f"Bearer {token}")


def cookie(value: str, name: str = "__Host-session") -> Line:
    return ("Cookie", f"{name}={value}")


def _line(made: Callable[[Held], str], *answers: str, **more: Any) -> Case:
    """A case of one Authorization line."""
    return Case(lambda held: (("Authorization", made(held)),), answers, **more)


def _cookies(made: Callable[[Held], str], *answers: str, **more: Any) -> Case:
    """A case of one Cookie line."""
    return Case(lambda held: (("Cookie", made(held)),), answers, **more)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


_EVIL: Final[tuple[Line, ...]] = (
    ("Sec-Fetch-Site", "cross-site"),
    ("Sec-Fetch-Site", "same-site"),
    ("Sec-Fetch-Site", "sAme-oRigin "),
    ("Sec-Fetch-Site", "same-origin, cross-site"),
    ("Origin", "https://evil.example"),
    ("Origin", "null"),
    ("Origin", "https://shop.example.evil.example"),
    ("Origin", "https://shop.example@evil.example"),
)
_POST: Final = {"method": "POST"}
_OVERRIDES: Final[tuple[Line, ...]] = (
    ("X-HTTP-Method-Override", "GET"),
    ("X-HTTP-Method", "GET"),
    ("X-Method-Override", "HEAD"),
)


def _from_elsewhere(*lines: Line, method: str = "POST") -> Case:
    """A request that another site made, with our cookie."""
    return Case(lambda held: (cookie(held.ann), *lines), ("csrf",), request={"method": method})


OPAQUE: Final[dict[str, Case]] = {
    "063 exists nowhere": _line(
        lambda _: f"Bearer {tokens.mint('sess', secrets.token_bytes(32)).decode()}", "invalid"
    ),
    "064 prefix": _line(lambda h: f"Bearer sets{h.ann[4:]}", "invalid", quiet=True),
    "064 no prefix": _line(lambda h: f"Bearer {h.ann[5:]}", "invalid", quiet=True),
    "064 short": _line(lambda h: f"Bearer {h.ann[:-1]}", "invalid", quiet=True),
    "064 long": _line(lambda h: f"Bearer {h.ann}0", "invalid", quiet=True),
    "064 alphabet": _line(lambda h: f"Bearer {h.ann[:-3]}-_{h.ann[-1]}", "invalid", quiet=True),
    "064 unicode digits": _line(lambda h: f"Bearer {h.ann[:-1]}\xb2", "invalid", quiet=True),
    "064 checksum": _line(
        lambda h: f"Bearer {h.ann[:-1]}{'0' if h.ann[-1] != '0' else '1'}", "invalid", quiet=True
    ),
    "065 hex": _line(lambda h: f"Bearer {_digest(h.ann).hex()}", "invalid", quiet=True),
    "065 hex with prefix": _line(
        lambda h: f"Bearer sess_{_digest(h.ann).hex()}", "invalid", quiet=True
    ),
    "065 base64url": _line(lambda h: f"Bearer {_text(_digest(h.ann))}", "invalid", quiet=True),
    "065 minted from it": _line(
        lambda h: f"Bearer {tokens.mint('sess', _digest(h.ann)).decode()}", "invalid"
    ),
    "065 cookie": _cookies(lambda h: f"__Host-session={_digest(h.ann).hex()}", "anonymous"),
    "066 id": _line(lambda h: f"Bearer {h.session_id}", "invalid", quiet=True),
    "066 id with prefix": _line(lambda h: f"Bearer sess_{h.session_id}", "invalid", quiet=True),
    "066 cookie": _cookies(lambda h: f"__Host-session={h.session_id}", "anonymous"),
    "067 case": _line(
        lambda h: f"Bearer {h.ann[:5]}{h.ann[5:].swapcase()}", "invalid", quiet=True
    ),
    "067 capitals": _line(lambda h: f"Bearer SESS{h.ann[4:]}", "invalid", quiet=True),
    "067 padded": _line(lambda h: f"Bearer {h.ann}=", "invalid", quiet=True),
    "067 percent": _line(lambda h: f"Bearer sess%5F{h.ann[5:]}", "invalid", quiet=True),
    "067 newline, encoded": _line(lambda h: f"Bearer {h.ann}%0A", "invalid", quiet=True),
    "067 quoted": _line(lambda h: f'Bearer "{h.ann}"', "invalid", quiet=True),
    "069 ended": _line(lambda h: f"Bearer {h.ended}", "revoked"),
    "069 ended, cookie": _cookies(lambda h: f"__Host-session={h.ended}", "anonymous"),
    "pat of another kind": _line(lambda h: f"Bearer pat{h.ann[4:]}", "invalid"),
}

HTTP: Final[dict[str, Case]] = {
    "070 nothing": Case(lambda _: (), ("anonymous",), quiet=True),
    "070 empty line": _line(lambda _: "", "anonymous", quiet=True),
    "071 scheme alone": _line(lambda _: "Bearer", "invalid_request", quiet=True),
    "071 blank": _line(lambda _: "Bearer ", "invalid_request", quiet=True),
    "071 two words": _line(lambda _: "Bearer a b", "invalid_request", quiet=True),
    "071 two schemes": _line(lambda h: f"Bearer Bearer {h.ann}", "invalid_request", quiet=True),
    "071 two schemes, jwt": _line(lambda h: f"Bearer Bearer {h.ann_jwt}", "invalid", quiet=True),
    "071 tab": _line(lambda h: f"Bearer\t{h.ann}", "invalid", quiet=True),
    "071 tab, jwt": _line(lambda h: f"Bearer\t{h.ann_jwt}", "invalid", quiet=True),
    "071 no-break space": _line(lambda h: f"Bearer\xa0{h.ann_jwt}", "invalid", quiet=True),
    "071 colon": _line(lambda h: f"Bearer: {h.ann_jwt}", "invalid", quiet=True),
    "071 parameter": _line(lambda h: f"Bearer token={h.ann_jwt}", "invalid", quiet=True),
    "071 no scheme": _line(lambda h: h.ann_jwt, "invalid", proxied=("anonymous",), quiet=True),
    "072 basic": _line(lambda _: "Basic dTpw", "invalid", proxied=("anonymous",), quiet=True),
    "072 digest": _line(lambda _: "Digest x", "invalid", proxied=("anonymous",), quiet=True),
    "072 dpop": _line(
        lambda h: f"DPoP {h.ann_jwt}", "invalid", proxied=("anonymous",), quiet=True
    ),
    "073 good, junk": Case(lambda h: (bearer(h.ann), bearer("junk")), ("invalid_request",)),
    "073 junk, good": Case(lambda h: (bearer("junk"), bearer(h.ann)), ("invalid_request",)),
    "073 twice the same": Case(lambda h: (bearer(h.ann), bearer(h.ann)), ("invalid_request",)),
    "073 two users": Case(lambda h: (bearer(h.ann), bearer(h.bob)), ("invalid_request",)),
    "073 two jwts": Case(lambda h: (bearer(h.ann_jwt), bearer(h.bob_jwt)), ("invalid_request",)),
    "073 basic beside it": Case(
        lambda h: (("Authorization", "Basic dTpw"), bearer(h.bob_jwt)), ("invalid_request",)
    ),
    "073 other spelling": Case(
        lambda h: (bearer(h.ann), ("aUTHORIZATION", f"bearer {h.bob}")), ("invalid_request",)
    ),
    "074 comma": _line(lambda h: f"Bearer {h.ann},Bearer {h.bob}", "invalid_request"),
    "074 comma, jwts": _line(
        lambda h: f"Bearer {h.ann_jwt}, Bearer {h.bob_jwt}", "invalid_request"
    ),
    "074 comma and nothing": _line(lambda h: f"Bearer {h.ann},", "invalid_request"),
    "074 comma first": _line(
        lambda h: f", Bearer {h.ann}", "invalid_request", "invalid", "anonymous"
    ),
    "075 query": Case(lambda _: (), ("anonymous",), request={"path": "/seen?access_token=GOOD"}),
    "076 one line": _cookies(
        lambda h: f"__Host-session={h.ann}; __Host-session={h.bob}", "invalid_request"
    ),
    "076 two lines": Case(lambda h: (cookie(h.ann), cookie(h.bob)), ("invalid_request",)),
    "076 comma": _cookies(
        lambda h: f"__Host-session={h.ann}, __Host-session={h.bob}", "invalid_request"
    ),
    "076 jwts": _cookies(
        lambda h: f"access_token={h.ann_jwt}; access_token={h.bob_jwt}", "invalid_request"
    ),
    "076 very many copies": _cookies(
        lambda h: "; ".join(f"__Host-session={h.ann}{n}" for n in range(9)), "invalid_request"
    ),
    "076 the same twice": Case(lambda h: (cookie(h.ann), cookie(h.ann)), ("ann",)),
    "077 another's session": Case(lambda h: (cookie(h.ann), bearer(h.bob)), ("invalid_request",)),
    "077 another's jwt": Case(lambda h: (cookie(h.ann), bearer(h.bob_jwt)), ("invalid_request",)),
    "077 one's own jwt": Case(lambda h: (cookie(h.ann), bearer(h.ann_jwt)), ("ann",)),
    "078 forged": Case(lambda h: (cookie(h.ann), bearer(h.forged())), ("invalid",)),
    "078 dead": Case(lambda h: (cookie(h.ann), bearer(h.ended)), ("revoked",)),
    "078 junk": Case(lambda h: (cookie(h.ann), bearer("junk")), ("invalid",)),
    "078 empty": Case(
        lambda h: (cookie(h.ann), ("Authorization", "Bearer ")), ("invalid_request",)
    ),
    "078 jwt cookie, forged jwt": Case(
        lambda h: (cookie(h.ann_jwt, "access_token"), bearer(h.forged())), ("invalid",)
    ),
    "cookie, other case": _cookies(lambda h: f"__host-session={h.ann}", "anonymous"),
    "cookie, longer name": _cookies(lambda h: f"x__Host-session={h.ann}", "anonymous"),
    "cookie, percent": _cookies(
        lambda h: f"__Host-session={h.ann[:4]}%5F{h.ann[5:]}", "anonymous"
    ),
    "cookie, quoted": _cookies(lambda h: f'__Host-session="{h.ann}"', "ann"),
    "cookie, old syntax": _cookies(
        lambda h: f"$Version=1; __Host-session={h.ann}; $Path=/", "ann"
    ),
    "cookie among very many": _cookies(
        lambda h: "; ".join([*(f"c{n}=v{n}" for n in range(400)), f"__Host-session={h.ann}"]),
        "ann",
    ),
    "cookie, forged jwt": _cookies(lambda h: f"access_token={h.forged()}", "invalid"),
    "cookie, padded jwt": _cookies(lambda h: f"access_token={h.ann_jwt}=", "invalid"),
    "097 lower case": _line(lambda h: f"bearer {h.ann}", "ann"),
    "097 three spaces": _line(lambda h: f"Bearer   {h.ann_jwt}", "ann"),
    "097 name in capitals": Case(lambda h: (("AUTHORIZATION", f"Bearer {h.ann}"),), ("ann",)),
    "097 HTTP/1.0": Case(lambda h: (bearer(h.ann),), ("ann",), request={"version": "1.0"}),
    "HTTP/1.0, junk": Case(
        lambda h: (bearer(h.forged()),), ("invalid",), None, True, {"version": "1.0"}
    ),
    "blank before the colon": Case(
        lambda h: (("Authorization ", f"Bearer {h.ann}"),), ("server", "anonymous")
    ),
    "folded": _line(lambda h: f"Bearer\r\n {h.ann}", "server", "ann", "invalid_request"),
    "underscore": Case(
        lambda h: (("Authorization_", f"Bearer {h.ann}"),), ("anonymous", "server")
    ),
    "proxy's own": Case(lambda h: (("Proxy-Authorization", f"Bearer {h.ann}"),), ("anonymous",)),
    "another path": Case(lambda h: (bearer(h.ended),), ("revoked",), request={"path": "/LOGIN"}),
    "another path, query": Case(
        lambda h: (bearer(h.ended),), ("revoked",), request={"path": "/seen?/login"}
    ),
    "another path, below": Case(
        lambda h: (bearer(h.ended),), ("revoked",), request={"path": "/login/x"}
    ),
    "080 of the site": Case(
        lambda h: (cookie(h.ann), ("Sec-Fetch-Site", "same-origin")), ("ann",), None, False, _POST
    ),
    **{f"080 {line[0]}: {line[1]!s}": _from_elsewhere(line) for line in _EVIL},
    **{
        f"080 {method} from elsewhere": _from_elsewhere(_EVIL[0], method=method)
        for method in ("PUT", "PATCH", "DELETE", "PROPFIND")
    },
    **{f"080 {line[0]}": _from_elsewhere(_EVIL[0], line) for line in _OVERRIDES},
    "080 get in lower case": Case(
        lambda h: (cookie(h.ann), _EVIL[0]), ("csrf", "server"), request={"method": "get"}
    ),
    "080 jwt cookie": Case(
        lambda h: (cookie(h.ann_jwt, "access_token"), _EVIL[0]), ("csrf",), None, False, _POST
    ),
    "080 bearer is exempt": Case(
        lambda h: (bearer(h.ann), _EVIL[0]), ("ann",), None, False, _POST
    ),
    "081 form": Case(
        lambda _: (_EVIL[0], ("Content-Type", "application/x-www-form-urlencoded")),
        ("anonymous",),
        request={"method": "POST", "body": b"access_token=GOOD"},
    ),
    "082 jwt of an ended session": _line(lambda h: f"Bearer {h.ended_jwt}", "revoked"),
    "082 other case of the scheme": _line(lambda h: f"BEARER  {h.ended_jwt}", "revoked"),
    "082 cookie": _cookies(lambda h: f"access_token={h.ended_jwt}", "revoked"),
    "083 padded": _line(lambda h: f"Bearer {h.ended_jwt}=", "invalid", quiet=True),
    "083 padded twice": _line(lambda h: f"Bearer {h.ended_jwt}==", "invalid", quiet=True),
}
