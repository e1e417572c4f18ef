"""`/forward-auth`: the verdict on a request that a proxy received, for an app in any language.

Asked by nginx `auth_request`, Caddy `forward_auth` and Traefik `forwardAuth` with the headers of
the original request. A 200 says in its headers what the app is to get and what the client is to be
answered with; an empty header is there to replace what a client made up. Keep it out of reach from
outside: what the app is to get is nobody else's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from migrator import wiring
from migrator.core.errors import Unavailable
from migrator.core.phases import Phase
from migrator.core.presented import Credential, Outcome, Presented
from migrator.core.verdicts import Admitted, Passed, Principal, Reason, Refused, status
from migrator.settings import Settings
from shims.answers import Answer, Answers, Asked, RawHeader, navigates
from shims.bridging import Asking, Bridge, Crossing
from shims.credentials import Places, clear, find, value_of
from shims.messages import Receive, Scope, Send
from shims.schemes import is_listed, read

_AUTHORIZATION: Final = b"authorization"
# nginx loses the body of a subrequest's refusal, and asks for it once more under this path.
_REFUSAL: Final = "/refusal"
# Which pair a proxy sends is its custom; a client may add the other, so both must agree.
_TOLD: Final = (
    (b"x-forwarded-method", b"x-forwarded-uri"),  # Traefik, Caddy
    (b"x-original-method", b"x-original-uri"),  # nginx
)
_ABSOLUTE: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
# Where an app may read another path than we do, no route of the settings is recognised.
_AMBIGUOUS: Final = re.compile(r"//|\\|;|%|(?:^|/)\.{1,2}(?:/|$)|[\x00-\x1f\x7f-\x9f]")
_ENCODED_SLASH: Final = re.compile(rb"%(?:2f|5c)", re.IGNORECASE)
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 section 3.3, scope-token
_ESCAPED: Final = "UTF-8''"  # RFC 8187 section 3.2
# What servers strip from the ends of a value, decoded as latin-1 or not.
_STRIPPED: Final = b" \t\x85\xa0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """The request that the proxy received.

    `method` is empty where the proxy did not say: then it is no safe one. `named` is False for a
    path that an app could read in another way than we do.
    """

    method: str
    path: str
    query: bytes
    host: bytes | None
    named: bool


class ForwardAuth:
    """An ASGI app that answers every request with a verdict; no body is ever read.

    Under a path that ends in `/refusal` it is the same verdict, for a proxy that knows already
    that it is none to pass on.

    Args:
        settings: those of `migrator.toml` and `MIGRATOR_*` unless given.
        resolve_subject: see `shims.asgi.DualAcceptMiddleware`.
    """

    def __init__(
        self, settings: Settings | None = None, *, resolve_subject: wiring.Resolver | None = None
    ) -> None:
        settings = wiring.settings_of(settings)
        self._gate = wiring.async_gate(settings, resolve_subject=resolve_subject)
        self._places = Places.of(settings)
        self._answers = Answers.of(settings)
        self._scheme = settings.http.refusal.scheme.encode()
        self._passes_expired = settings.serve.expired == "pass"
        bridge = wiring.async_bridge(settings)
        self._bridge = None if bridge is None else Bridge.of(settings, self._places, bridge)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Answer one request of the proxy."""
        answer = await self._answer(scope)
        if answer.status == 200 and scope["path"].endswith(_REFUSAL):
            answer = self._answers.unavailable()  # no refusal any more: the client asks anew
        headers = [(name.lower(), value) for name, value in answer.headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope) -> Answer:
        original = _original(scope["headers"])
        if original is None:
            return self._answers.refuse(Reason.MALFORMED_REQUEST)
        headers = [line for line in scope["headers"] if line[0].lower() != b"host"]
        if original.host is not None:
            headers.append((b"host", original.host))
        upgrades = value_of(headers, b"sec-websocket-version") is not None
        peer = scope.get("client")
        presented, _ = find(
            self._places,
            headers,
            method="WEBSOCKET" if upgrades else original.method,
            path=original.path,
            query=original.query,
            ip=peer[0] if peer else None,
        )
        route = self._places.routes.kind(original.path) if original.named else None
        if presented is None:
            presented, outcome = Presented(path=original.path, route=route), Outcome(Passed())
            self._gate.wake()
        else:
            in_doubt = not original.named and self._places.routes.strict is not None
            presented = replace(presented, route=route, strict=presented.strict or in_doubt)
            try:
                outcome = self._gate.peek(presented) or await self._gate.admit(presented)
            except Unavailable:
                return self._answers.unavailable()
        asked = Asked(
            method=original.method,
            host=original.host,
            navigates=navigates(
                method=original.method,
                sec_fetch_mode=value_of(headers, b"sec-fetch-mode"),
                accept=value_of(headers, b"accept"),
            ),
            route=route,
        )
        may_be_nobody = route is not None or _is_preflight(original, headers)
        try:
            answer = await self._said(
                presented, outcome, headers, original.method, may_be_nobody=may_be_nobody
            )
        except Unavailable:
            return self._answers.unavailable()
        amended = self._answers.amend(
            answer.headers, code=answer.status, outcome=outcome, asked=asked
        )
        return replace(answer, headers=(*amended, *_numbered(amended)))

    async def _said(
        self,
        presented: Presented,
        outcome: Outcome,
        headers: list[RawHeader],
        method: str,
        *,
        may_be_nobody: bool,
    ) -> Answer:
        verdict = outcome.verdict
        if isinstance(verdict, Admitted):
            return await self._admit(verdict.principal, presented, outcome, headers, method)
        if isinstance(verdict, Refused):
            return self._refuse(verdict.reason, presented, headers)
        if verdict.reason is Reason.FOREIGN:  # whoever asks us wants one of ours
            return self._refuse(Reason.FOREIGN, presented, headers)
        if verdict.reason is Reason.LEGACY_EXPIRED and self._refuses_expired(verdict):
            return self._refuse(Reason.LEGACY_EXPIRED, presented, headers)
        is_nobody = presented.header is None and presented.legacy is None
        if is_nobody and verdict.reason is None and not may_be_nobody:
            return self._challenge()
        return await self._admit(None, presented, outcome, headers, method)

    def _refuses_expired(self, passed: Passed) -> bool:
        rollout = self._gate.node.rollout
        observes = rollout is not None and rollout.phase is Phase.OBSERVE
        return not (passed.strip or observes or self._passes_expired)

    # The answers.

    async def _admit(
        self,
        principal: Principal | None,
        presented: Presented,
        outcome: Outcome,
        headers: list[RawHeader],
        method: str,
    ) -> Answer:
        """200: what the app is to get. Without a principal it decides for itself."""
        scopes = () if principal is None else principal.scopes
        lines = [
            (b"Remote-User", b"" if principal is None else _spelt(principal.subject)),
            (b"X-Auth-Realm", b"" if principal is None else _spelt(principal.realm)),
            (b"X-Auth-Scopes", " ".join(sorted(filter(_SCOPE.fullmatch, scopes))).encode()),
            *self._shown(await self._for_app(presented, outcome, headers, method)),
            (b"Cache-Control", b"no-store"),
            (b"Content-Length", b"0"),
        ]
        return Answer(200, tuple(lines), b"")

    def _refuse(self, reason: Reason, presented: Presented, headers: list[RawHeader]) -> Answer:
        answer = self._answers.refuse(reason)
        is_ours = presented.header is None or self._is_listed(headers)
        if reason is Reason.FOREIGN and presented.header is None:
            is_ours = False
        # RFC 6750 section 3.1: no error code for whom another scheme was spoken.
        return self._challenge() if status(reason) == 401 and not is_ours else answer

    def _challenge(self) -> Answer:
        """401 with a bare challenge; in the app's own words where the settings know them."""
        challenge = (b"WWW-Authenticate", self._scheme)
        if self._answers.body is None:
            length, rule = (b"Content-Length", b"0"), (b"Cache-Control", b"no-store")
            return Answer(401, (challenge, length, rule), b"")
        worded = self._answers.refuse(Reason.UNKNOWN_TOKEN)
        kept = (line for line in worded.headers if line[0] != challenge[0])
        return replace(worded, headers=(*kept, challenge))

    def _is_listed(self, headers: list[RawHeader]) -> bool:
        """Whether the Authorization header, if there is one, is of a scheme that we know."""
        line = value_of(headers, _AUTHORIZATION)
        return line is None or is_listed(line, self._places.headers[_AUTHORIZATION])

    # What the app is to get.

    async def _for_app(
        self, presented: Presented, outcome: Outcome, headers: list[RawHeader], method: str
    ) -> list[RawHeader]:
        """The request's headers as the app is to get them.

        Raises:
            Unavailable: nobody can say how the app knows this user.
        """
        places, verdict = self._places, outcome.verdict
        is_dead = isinstance(verdict, Passed) and verdict.strip
        by_session = isinstance(verdict, Admitted) and verdict.principal.via == "session"
        gone = {places.session_cookie}
        # Beside a session a legacy cookie is unread: it may be anybody's.
        if is_dead or by_session or outcome.dead_legacy:
            gone.update(places.cookies)
        inner = clear(places, headers, cookies=frozenset(gone), explicit=is_dead or by_session)
        if presented.fault is None:  # where the app decides of a fault it gets what came
            inner = [line for line in inner if self._is_judged(line, presented)]
        if self._bridge is None or not by_session:
            return inner
        asking = Asking(
            method=method,
            path=presented.path,
            headers=inner,
            query=b"",
            route=None,  # bodies are rewritten by who gets them: `migrator serve --upstream`
            presented=presented,
            outcome=outcome,
            ip=presented.ip,
        )
        return (await Crossing(self._bridge, asking).enter()).headers

    def _is_judged(self, line: RawHeader, presented: Presented) -> bool:
        """Whether a header that carries credentials carries the one that was judged."""
        places, (name, value) = self._places, line
        schemes = places.headers.get(places.role(name))
        if schemes is None:
            return True
        found = read(value, schemes, prefixes=places.prefixes, room=places.room)
        return isinstance(found, Credential) and found == presented.header

    def _shown(self, headers: list[RawHeader]) -> list[RawHeader]:
        """Each header that carries credentials, and the cookies; empty: the app gets none."""
        places = self._places
        lines: dict[bytes, list[bytes]] = {name: [] for name in (*places.headers, b"cookie")}
        for name, value in headers:
            role = places.role(name)
            if role in lines:
                lines[role].append(value)
        cookie = b"; ".join(lines.pop(b"cookie"))
        return [
            (b"X-Forward-Cookie", cookie),
            (b"Cookie", cookie),  # Traefik copies headers and renames none
            *((name.title(), b", ".join(values)) for name, values in lines.items()),
        ]


def _numbered(headers: Iterable[RawHeader]) -> list[RawHeader]:
    """Each cookie in a header of its own: nginx sees the first of a name, Caddy joins them."""
    cookies = [value for name, value in headers if name.lower() == b"set-cookie"]
    return [(b"X-Set-Cookie-%d" % at, value) for at, value in enumerate(cookies, 1)]


def _original(headers: Iterable[RawHeader]) -> Original | None:
    """The request that the proxy received; None where its headers contradict each other."""
    said: dict[bytes, set[bytes]] = {}
    for name, value in headers:
        said.setdefault(name.lower(), set()).add(value)
    if any(len(said.get(name, ())) > 1 for pair in _TOLD for name in pair):
        return None
    pairs = [tuple(next(iter(said.get(name, ())), None) for name in pair) for pair in _TOLD]
    methods = {method for method, uri in pairs if method is not None}
    uris = {uri for _, uri in pairs if uri is not None}
    if len(uris) > 1 or len(methods) > 1:
        return None
    # A method beside no URI of its own pair may be the client's invention.
    own = (method for method, uri in pairs if method and (uri is not None or not uris))
    method = next(own, b"")
    path, query, named = _parsed(next(iter(uris), b""))
    hosts = said.get(b"x-forwarded-host") or said.get(b"host") or set()
    return Original(
        method=method.decode("latin-1"),
        path=path,
        query=query,
        host=b",".join(hosts) if hosts else None,
        named=named,
    )


def _parsed(uri: bytes) -> tuple[str, bytes, bool]:
    """Path and query of a request target; and whether every reader reads that path the same."""
    absolute = _ABSOLUTE.match(uri)
    target = uri[absolute.end() :] if absolute else uri
    raw, _, query = target.partition(b"#")[0].partition(b"?")
    decoded = unquote_to_bytes(raw)
    try:
        path = decoded.decode("utf-8")
    except UnicodeDecodeError:
        return decoded.decode("latin-1"), query, False
    plain = path.startswith("/") and not _AMBIGUOUS.search(path)
    return path, query, plain and not _ENCODED_SLASH.search(raw)


def _is_preflight(original: Original, headers: list[RawHeader]) -> bool:
    """Whether a browser asks what it may send: it does so without credentials (Fetch standard)."""
    return (
        original.method == "OPTIONS"
        and value_of(headers, b"origin") is not None
        and value_of(headers, b"access-control-request-method") is not None
    )


def _spelt(text: str) -> bytes:
    """`text` as a header value that no server reads as another's (spaces at its ends, say)."""
    value = text.encode()
    if value[:1] in _STRIPPED or value[-1:] in _STRIPPED or text.startswith(_ESCAPED):
        return (_ESCAPED + quote(text, safe="")).encode()
    return value
