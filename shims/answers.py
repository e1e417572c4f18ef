"""What we say over HTTP: the answer to a refusal, and the headers a verdict adds to the app's.

Pure data: statuses, raw headers, bodies. Who sends them is the shims' business.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final, Self, TypeAlias

from migrator.core.presented import Outcome, Route, Sent
from migrator.core.verdicts import Admitted, Notice, Passed, Reason, status, word
from migrator.settings import Settings
from shims.csrf import SAFE_METHODS, same_host
from shims.jar import Jar, given, name_of

RawHeader: TypeAlias = tuple[bytes, bytes]
RawHeaders: TypeAlias = Sequence[RawHeader]

_RETRY_SECONDS: Final = b"1"  # an outage is noticed and mended within the database's budget
_CODES: Final = {400: "invalid_request", 401: "invalid_token", 403: "csrf"}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_NO_HAND_OUT_METHODS: Final = frozenset({"HEAD", "OPTIONS"})
# These answer with a credential of their own; a second one would be stored in its place.
_ISSUING_ROUTES: Final[frozenset[Route]] = frozenset({"login", "refresh", "logout"})
_VARY: Final = (b"Authorization", b"Cookie")
# Shared caches that obey one of these never look at Cache-Control (RFC 9213, nginx).
_CACHE_RULES: Final = (b"cache-control", b"surrogate-control", b"x-accel-expires", b"expires")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response of ours."""

    status: int
    headers: tuple[RawHeader, ...]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What of a request bears on its answer. `host` is its Host header."""

    method: str
    host: bytes | None = None
    navigates: bool = False
    route: Route | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """How this app's answers are worded; built once from the settings."""

    token_header: bytes
    jar: Jar
    refusal_status: int
    scheme: bytes
    body: str | None
    deprecation_link: bytes | None
    now: Callable[[], float] = time.time

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The wording that the settings ask for."""
        refusal = settings.http.refusal
        link = settings.http.deprecation_link
        return cls(
            token_header=settings.swap.header.encode(),
            jar=Jar.of(settings),
            refusal_status=refusal.status,
            scheme=refusal.scheme.encode(),
            body=refusal.body,
            deprecation_link=link.encode() if link else None,
        )

    def refuse(self, reason: Reason) -> Answer:
        """The answer to a refused request: 400, 403, or a 401 in the words old clients know."""
        code = status(reason)
        said = {"error": _CODES[code]}
        if code != 401:
            return _answer(code, said)
        said["reason"] = word(reason)
        challenge = (b"WWW-Authenticate", self._challenge(reason))
        if self.body is None:
            return _answer(self.refusal_status, said, challenge)
        text = self.body.replace("{error}", said["error"]).replace("{reason}", said["reason"])
        body = text.encode()
        return Answer(self.refusal_status, (*_framed(_kind(text), body), challenge), body)

    def _challenge(self, reason: Reason) -> bytes:
        """What RFC 6750 says of a refusal, and of a retired JWT where its client reads on."""
        challenge = self.scheme + b' error="invalid_token"'
        if reason is not Reason.LEGACY_RETIRED or self.deprecation_link is None:
            return challenge
        told = b', error_description="legacy token retired", error_uri="%b"'
        return challenge + told % self.deprecation_link

    def unavailable(self) -> Answer:
        """The answer while nobody can say whether the credential is good: never 401."""
        return _answer(503, {"error": "temporarily_unavailable"}, (b"Retry-After", _RETRY_SECONDS))

    def amend(
        self, headers: RawHeaders, *, code: int, outcome: Outcome, asked: Asked
    ) -> list[RawHeader]:
        """The headers of the app's response `code`, with what follows from `outcome` added."""
        verdict, amended = outcome.verdict, list(headers)
        if isinstance(verdict, Admitted):
            if verdict.notice is not None:
                amended = self._noticed(amended, verdict.notice)
            if verdict.hand_out is not None and may_hand_out(headers, code=code, asked=asked):
                amended = self._hand_out(amended, verdict, verdict.hand_out, outcome)
        if outcome.dead_cookie or outcome.sent is not None:
            tidied = self._tidied(headers, code=code, outcome=outcome, asked=asked)
            if tidied:
                amended = [*_uncached(amended), *((b"Set-Cookie", line) for line in tidied)]
        return amended

    def _hand_out(
        self, headers: list[RawHeader], verdict: Admitted, token: bytes, outcome: Outcome
    ) -> list[RawHeader]:
        if outcome.place in {"header", "body"} and not _has(headers, self.token_header):
            handed = [(self.token_header, token)]
            headers = _listed(headers, b"Access-Control-Expose-Headers", (self.token_header,))
        elif outcome.place == "cookie" and not self._sets_cookie(headers):
            lines = self.jar.session(token, self._lasts_s(verdict))
            handed = [(b"Set-Cookie", line) for line in lines]
        else:  # a query string is no place to keep one, and what the app itself answers stands
            return headers
        return [*_uncached(headers), *handed]

    def _lasts_s(self, verdict: Admitted) -> float | None:
        session = verdict.principal.session
        if session is None or session.expires_at is None:
            return None
        return session.expires_at.timestamp() - self.now()

    def _tidied(
        self, headers: RawHeaders, *, code: int, outcome: Outcome, asked: Asked
    ) -> list[bytes]:
        """What becomes of the browser's other cookies: lines of Set-Cookie.

        Nothing of a name to which the app gives a value in this very answer. The session cookie
        goes where nothing newer can be under way: on a navigation, and where the app logged out.
        It makes room for a login that the app answers with a legacy token's cookie. A copy of it
        on another domain or path goes at any time, since what we set is never that cookie;
        a legacy token's cookie once nobody issues them any more.
        """
        if code == 304 or code >= 500:
            return []
        jar, sent = self.jar, outcome.sent
        said = [value for name, value in headers if name.lower() == b"set-cookie"]
        is_given = {name_of(line) for line in said if given(line)}
        owns = sorted((line for line in said if name_of(line) == jar.name), key=given)
        own = owns[-1] if owns else None
        by_cookie = outcome.place == "cookie" or outcome.dead_cookie
        left = by_cookie and asked.route == "logout" and _went(code, asked.method)
        # Who logs in by a legacy cookie must not go on as whom our cookie says: it would decide.
        moved = asked.route == "login" and not jar.legacy.isdisjoint(is_given)
        lines: list[bytes] = []
        if left or moved or (outcome.dead_cookie and asked.navigates):
            if jar.name not in is_given:
                ended = jar.ended() if own is None else []
                lines += [*ended, *jar.copies(asked.host), *jar.unhinted()]
        elif sent is not None and sent.repeated:
            lines += jar.copies(asked.host)
        if left:
            lines += jar.leftovers(jar.old.keys() - is_given)
        elif outcome.settled and sent is not None:
            lines += jar.leftovers(self._settled(outcome, asked, sent) - is_given)
        hints = () if left or moved else self._hinted(own, outcome)
        return list(dict.fromkeys([*lines, *hints]))

    def _settled(self, outcome: Outcome, asked: Asked, sent: Sent) -> frozenset[bytes]:
        """The old cookies that may go: all, or of a revoked legacy token its own."""
        if isinstance(outcome.verdict, Admitted):
            return sent.leftovers
        return sent.leftovers & self.jar.legacy if asked.navigates else frozenset()

    def _hinted(self, own: bytes | None, outcome: Outcome) -> list[bytes]:
        """The hint follows the session cookie: what the app does with it, or that it is alone."""
        if own is not None:
            return self.jar.hinted_as(own)
        verdict, sent = outcome.verdict, outcome.sent
        if sent is None or not sent.lacks_hint or outcome.place != "cookie":
            return []
        if not isinstance(verdict, Admitted) or verdict.principal.via != "session":
            return []
        return self.jar.hinted(self._lasts_s(verdict))

    def _noticed(self, headers: list[RawHeader], notice: Notice) -> list[RawHeader]:
        """Deprecation (RFC 9745) and Sunset (RFC 8594), unless the app says its own.

        They are about a credential, not about the resource: no cache may hand them to others.
        """
        said: list[RawHeader] = []
        if not _has(headers, b"Deprecation"):
            said.append((b"Deprecation", b"@%d" % int(notice.deprecated_at.timestamp())))
        ends = notice.sunset_at is not None and not _has(headers, b"Sunset")
        if notice.sunset_at is not None and ends:
            said.append((b"Sunset", _imf(notice.sunset_at)))
        if self.deprecation_link is not None:
            for relation in (b"deprecation", b"sunset") if ends else (b"deprecation",):
                link = b'<%b>; rel="%b"; type="text/html"' % (self.deprecation_link, relation)
                said.append((b"Link", link))
        if not _has(headers, b"Cache-Control"):
            said.append((b"Cache-Control", b"private"))
        return [*_listed(headers, b"Vary", _VARY), *said]

    def _sets_cookie(self, headers: RawHeaders) -> bool:
        """Whether the app itself sets or clears our cookie here: it knows best."""
        return any(
            name.lower() == b"set-cookie" and name_of(value) == self.jar.name
            for name, value in headers
        )


def adds_nothing(outcome: Outcome) -> bool:
    """Whether the app's response goes out as it is, with nothing to add and nothing to count."""
    verdict = outcome.verdict
    if outcome.dead_cookie or outcome.dead_legacy or outcome.sent is not None:
        return False
    if isinstance(verdict, Admitted):
        return verdict.hand_out is None and verdict.notice is None
    return isinstance(verdict, Passed) and verdict.reason is None


def may_hand_out(headers: RawHeaders, *, code: int, asked: Asked) -> bool:
    """Whether a response may carry a token, which is repeated until the client adopts it.

    Not on what clients retry or caches keep (5xx, 304), not where nobody reads it (HEAD, OPTIONS),
    not on the way to another origin, not where the app hands out a credential itself, and not
    where it turns the JWT away (401): its own list may name it.
    """
    if code >= 500 or code in {304, 401} or asked.method in _NO_HAND_OUT_METHODS:
        return False
    if asked.route in _ISSUING_ROUTES:
        return False
    if code not in _REDIRECTS:
        return True
    locations = [value.strip() for name, value in headers if name.lower() == b"location"]
    return all(_stays(location, asked.host) for location in locations)


def navigates(*, method: str, sec_fetch_mode: bytes | None, accept: bytes | None) -> bool:
    """Whether a browser asked for a page: the only time when nothing newer can be under way."""
    if sec_fetch_mode is not None:
        return sec_fetch_mode == b"navigate"
    return method == "GET" and accept is not None and b"text/html" in accept


def _went(code: int, method: str) -> bool:
    """Whether a logout route logged out: a page that only asks for it is a GET answered 200."""
    if code >= 400 or method in _NO_HAND_OUT_METHODS:
        return False
    return method not in SAFE_METHODS or code in _REDIRECTS


def _uncached(headers: Iterable[RawHeader]) -> list[RawHeader]:
    """The headers of an answer that sets a cookie or hands out a token: for no cache."""
    kept = [line for line in headers if not _is_cache_rule(line[0].lower())]
    return [*_listed(kept, b"Vary", _VARY), (b"Cache-Control", b"no-store")]


def _answer(code: int, said: dict[str, str], *more: RawHeader) -> Answer:
    body = json.dumps(said, separators=(",", ":")).encode()
    return Answer(code, (*_framed(b"application/json", body), *more), body)


def _framed(kind: bytes, body: bytes) -> tuple[RawHeader, ...]:
    return (
        (b"Content-Type", kind),
        (b"Content-Length", b"%d" % len(body)),
        (b"Cache-Control", b"no-store"),
    )


def _kind(body: str) -> bytes:
    try:
        json.loads(body)
    except ValueError:
        html = body.lstrip()[:1] == "<"
        return b"text/html; charset=utf-8" if html else b"text/plain; charset=utf-8"
    return b"application/json"


def _stays(location: bytes, host: bytes | None) -> bool:
    # Browsers read a backslash as a slash, and drop tabs and newlines.
    if b"\\" in location or b"\t" in location or location.startswith(b"//"):
        return False
    scheme = location.partition(b":")[0]
    is_relative = b":" not in location or any(mark in scheme for mark in (b"/", b"?", b"#"))
    return is_relative or same_host(location, host)


def _imf(moment: datetime) -> bytes:
    return format_datetime(moment.astimezone(UTC), usegmt=True).encode()


def _is_cache_rule(name: bytes) -> bool:
    return name in _CACHE_RULES or name.endswith(b"cdn-cache-control")


def _has(headers: RawHeaders, name: bytes) -> bool:
    return any(key.lower() == name.lower() for key, _ in headers)


def _listed(headers: RawHeaders, name: bytes, members: Sequence[bytes]) -> list[RawHeader]:
    """The headers with `members` in the list `name`, each once.

    A `*` in Vary says everything; in Access-Control-Expose-Headers it is no wildcard where
    credentials are sent (Fetch standard), so it stays and the names are added.
    """
    kept = [line for line in headers if line[0].lower() != name.lower()]
    lists = [value for key, value in headers if key.lower() == name.lower()]
    said = [member.strip() for value in lists for member in value.split(b",") if member.strip()]
    known = {member.lower() for member in said}
    if name == b"Vary" and b"*" in known:
        return list(headers)
    added = [member for member in members if member.lower() not in known]
    return [*kept, (name, b", ".join([*said, *added]))]
