"""Which credentials a request presents, from its raw headers; no framework, no verdict.

Raw, because servers and frameworks disagree about repeated headers and cookies: what is ambiguous
is a fault of the request here, never a choice. A value is handed on exactly as it came. What a
credential is worth is the gate's to say; whether something *could* be one is decided here, so that
no re-spelling of a retired token reaches the app as somebody else's business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self, TypeAlias
from urllib.parse import unquote_to_bytes

from migrator.core.presented import Credential, Presented, Route, Sent
from migrator.core.verdicts import Reason
from migrator.settings import Settings, Transport
from shims.bodies import presented_in
from shims.cookies import CookieReader
from shims.csrf import SAFE_METHODS, forged
from shims.routes import RouteTable
from shims.schemes import Schemes, is_likely, read, usual

RawHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]

# Headers by which proxies tell an app who a user is; from a client, a lie in every spelling.
IDENTITY_HEADERS: Final = frozenset(
    {
        b"remote-user",
        b"remote-name",
        b"remote-email",
        b"remote-groups",
        b"x-remote-user",
        b"x-auth-user",
        b"x-auth-scopes",
        b"x-auth-realm",
        b"x-authenticated-user",
        b"x-forwarded-user",
        b"x-user-id",
    }
)
_AUTHORIZATION: Final = b"authorization"
_COOKIE: Final = b"cookie"
_AGENT: Final = b"user-agent"
_IDENTITY: Final = b"identity"
_OTHER: Final = b""

_DASHED: Final = bytes.maketrans(b"_", b"-")
_LONGEST_NAME_BYTES: Final = 64
_MOST_NAMES: Final = 512  # header names remembered: programs send dozens, hostile ones any number
_MOST_COPIES: Final = 4  # of one cookie: a host, its parents, an old path; each costs a look-up
_NOBODY: Final[frozenset[str]] = frozenset()
_MOVING: Final = ("login", "logout")  # where one credential makes room for another, or for none
_NO_NAMES: Final[frozenset[bytes]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where credentials may be, and how requests are read; built once from the settings.

    `headers` has every header that carries a credential by its lower-case name, `cookies`,
    `queries` and `members` (of a JSON body) those of the issuers in the order they are configured.
    `leftovers` are cookies to be cleared one day. `roles` remembers what each header name seen so
    far means, `silent` those that bring no credential: memos, the only parts that change.
    """

    headers: Mapping[bytes, Schemes]
    session_cookie: bytes
    cookies: Mapping[bytes, frozenset[str]]
    queries: Mapping[bytes, frozenset[str]]
    members: Mapping[str, frozenset[str]]
    prefixes: tuple[bytes, ...]
    allowed_origins: frozenset[bytes]
    room: int
    routes: RouteTable
    reader: CookieReader
    leftovers: frozenset[bytes] = _NO_NAMES
    hint: bytes | None = None
    roles: dict[bytes, bytes] = field(default_factory=dict)
    silent: set[bytes] = field(default_factory=set)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The places that the settings name. `Authorization: Bearer` is always one."""
        headers: dict[bytes, dict[bytes, frozenset[str]]] = {_AUTHORIZATION: {b"bearer": _NOBODY}}
        cookies: dict[bytes, frozenset[str]] = {}
        queries: dict[bytes, frozenset[str]] = {}
        members: dict[str, frozenset[str]] = {}
        for issuer in settings.issuers:
            for place in issuer.transport:
                if place.json is not None:
                    members[place.json] = members.get(place.json, _NOBODY) | {issuer.id}
                    continue
                table, key = _row(place, headers, cookies, queries)
                table[key] = table.get(key, _NOBODY) | {issuer.id}
        spelt = {
            name: schemes | {scheme.title(): issuers for scheme, issuers in schemes.items()}
            for name, schemes in headers.items()
        }
        session_cookie = settings.cookie.effective_name.encode()
        tokens = settings.tokens
        leftovers = {old.name.encode() for old in settings.cookie.clear} - {session_cookie}
        hint = settings.cookie.hint.encode() if settings.cookie.hint else None
        known = [session_cookie, *cookies, *sorted(leftovers), *([hint] if hint else ())]
        return cls(
            headers=spelt,
            session_cookie=session_cookie,
            cookies=cookies,
            queries=queries,
            members=members,
            prefixes=(
                b"%b_" % tokens.session_prefix.encode(),
                b"%b_" % tokens.api_prefix.encode(),
            ),
            allowed_origins=frozenset(origin.encode() for origin in settings.http.allowed_origins),
            room=settings.http.max_credential_bytes,
            routes=RouteTable.of(settings.routes, settings.memory.strict_routes),
            reader=CookieReader.of(known),
            leftovers=frozenset(leftovers),
            hint=hint,
        )

    def role(self, name: bytes) -> bytes:
        """What a header called `name` is to us; the empty one is none of our business."""
        plain = name[: _LONGEST_NAME_BYTES + 1].lower().translate(_DASHED)
        if plain in self.headers or plain in {_COOKIE, _AGENT}:
            role = plain
        else:
            role = _IDENTITY if plain in IDENTITY_HEADERS else _OTHER
        if len(self.roles) < _MOST_NAMES and len(name) <= _LONGEST_NAME_BYTES:
            self.roles[name] = role
            if role in {_OTHER, _AGENT}:
                self.silent.add(name)
        return role


def lone(
    places: Places, headers: RawHeaders, query: bytes = b""
) -> tuple[bytes, frozenset[str]] | None:
    """Value and issuers of a usual Authorization line that is all a request presents, else None.

    Nearly every request of an API is like that. The value may be looked up in memory and nothing
    else: where it is not remembered, `find` says what it is.
    """
    silent = places.silent
    telling = [line for line in headers if line[0] not in silent]
    if len(telling) != 1 or (query and places.queries) or places.members:
        return None
    name, line = telling[0]
    return usual(line, places.headers[name]) if name == _AUTHORIZATION else None


def find(
    places: Places,
    headers: RawHeaders,
    *,
    method: str,
    path: str,
    mount: str = "",
    query: bytes = b"",
    body: bytes = b"",
    ip: str | None = None,
) -> tuple[Presented | None, bool]:
    """What a request presents, None if nothing; and whether a client sent identity headers.

    Args:
        headers: as they came, repeated lines included.
        method: as sent; of a WebSocket handshake anything that is not a safe method.
        path, mount: the path the client asked for, and how much of its beginning leads to the app.
        query: the raw query string; read only where an issuer's transport says so.
        body: the request's, where `bodies.may_present` says so.
        ip: the peer's address.
    """
    roles, lies, agent, authorization = places.roles, False, None, None
    lines: list[bytes] = []
    more: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        role = roles.get(name)
        if not role:
            if role is None:
                role = places.role(name)
            if not role:
                continue
        if role == _AGENT:
            agent = value
        elif role == _AUTHORIZATION and authorization is None:
            authorization = value
        elif role == _COOKIE:
            lines.append(value)
        elif role == _IDENTITY:
            lies = True
        else:
            more.append((role, value))

    header = fault = sent = None
    ours: tuple[Credential, ...] = ()
    legacy: tuple[Credential, ...] = ()
    others: tuple[Credential, ...] = ()
    is_foreign = False
    if authorization is not None and not more:  # as a rule
        only = _read(places, _AUTHORIZATION, authorization)
        if isinstance(only, Credential):
            header = only
        else:
            fault, is_foreign = only, only is None and bool(authorization.strip())
    elif more:
        if authorization is not None:
            more.append((_AUTHORIZATION, authorization))
        header, fault, is_foreign = _headers(places, more)
    if lines:
        ours, legacy, others, sent, repeated = _cookies(places, lines)
        fault = fault or repeated
    if places.queries and query:
        parameter, repeated = _parameters(places, query)
        others, fault = others + parameter, fault or repeated
    if body:
        others += presented_in(body, places.members)
    if not legacy:
        legacy, others = others[:1], others[1:]
    if not (header or ours or legacy or fault or is_foreign):
        return None, lies

    is_forged = False
    is_ambient = bool(ours) or (bool(legacy) and legacy[0].place == "cookie")
    if is_ambient and method not in SAFE_METHODS:  # else there is no need to search the headers
        is_forged = forged(
            method=method,
            sec_fetch_site=value_of(headers, b"sec-fetch-site"),
            origin=value_of(headers, b"origin"),
            host=value_of(headers, b"host"),
            allowed_origins=places.allowed_origins,
        )
    route = route_of(places, path, mount)
    if is_ambient and sent is None and route in _MOVING:
        sent = Sent()
    presented = Presented(
        header=header,
        session_cookie=ours[0] if ours else None,
        session_copies=ours[1:],
        legacy=legacy[0] if legacy else None,
        legacy_copies=legacy[1:],
        others=others,
        foreign_header=is_foreign,
        fault=fault,
        route=route,
        forged=is_forged,
        strict=places.routes.is_strict(path, mount),
        path=path,
        user_agent=None if agent is None else agent.decode("latin-1"),
        ip=ip,
        sent=sent,
    )
    return presented, lies


def value_of(headers: RawHeaders, name: bytes) -> bytes | None:
    """The value of a header, several lines joined by a comma; None where there is none."""
    values = [value for key, value in headers if key.lower() == name]
    return b",".join(values) if values else None


def clean(places: Places, headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """The headers without those by which a client says who it is."""
    return [line for line in headers if places.role(line[0]) != _IDENTITY]


def clear(
    places: Places, headers: RawHeaders, *, cookies: frozenset[bytes], explicit: bool
) -> list[tuple[bytes, bytes]]:
    """The headers without credentials that the app must not see; all else byte for byte.

    Args:
        cookies: names of the cookies to take out.
        explicit: whether headers that carry a credential go too. Foreign ones stay.
    """
    kept: list[tuple[bytes, bytes]] = []
    roles = places.roles
    for name, value in headers:
        role = roles.get(name)
        if role is None:
            role = places.role(name)
        if role == _COOKIE:
            rest = places.reader.without(value, cookies)
            if rest:
                kept.append((name, rest))
        elif not (explicit and role in places.headers and _read(places, role, value)):
            kept.append((name, value))
    return kept


def clear_query(places: Places, query: bytes) -> bytes:
    """The query string without the parameters that carry a credential."""
    parts = query.split(b"&")
    return b"&".join(part for part in parts if _parameter_name(part) not in places.queries)


def _row(
    place: Transport,
    headers: dict[bytes, dict[bytes, frozenset[str]]],
    cookies: dict[bytes, frozenset[str]],
    queries: dict[bytes, frozenset[str]],
) -> tuple[dict[bytes, frozenset[str]], bytes]:
    if place.header is not None:
        name = place.header.lower().encode().translate(_DASHED)
        return headers.setdefault(name, {}), (place.scheme or "").lower().encode()
    if place.cookie is not None:
        return cookies, place.cookie.encode()
    return queries, (place.query or "").encode()


def _headers(
    places: Places, lines: list[tuple[bytes, bytes]]
) -> tuple[Credential | None, Reason | None, bool]:
    readings = [_read(places, role, line) for role, line in lines]
    is_foreign = any(
        role == _AUTHORIZATION and reading is None and bool(line.strip())
        for (role, line), reading in zip(lines, readings, strict=True)
    )
    fault = next((reading for reading in readings if isinstance(reading, Reason)), None)
    found = [reading for reading in readings if isinstance(reading, Credential)]
    # Of headers with different names one may be another program's key, but only one can be ours.
    likely = [one for one in found if is_likely(one.value, places.prefixes)]
    if len({role for role, _ in lines}) < len(lines) or len({one.value for one in likely}) > 1:
        fault = Reason.REPEATED_CREDENTIAL
    likely.sort(key=lambda one: not one.value.startswith(places.prefixes))
    return next(iter(likely or found), None), fault, is_foreign


def _read(places: Places, role: bytes, line: bytes) -> Credential | Reason | None:
    return read(line, places.headers[role], prefixes=places.prefixes, room=places.room)


def _cookies(
    places: Places, lines: list[bytes]
) -> tuple[
    tuple[Credential, ...],
    tuple[Credential, ...],
    tuple[Credential, ...],
    Sent | None,
    Reason | None,
]:
    """Our values, the first legacy cookie's, others', what the answer cares for, a fault.

    A browser sends a cookie twice when an old copy lies on another domain or path, in an order
    that says nothing of their worth; the gate judges each. More than a few copies no browser has.
    """
    values = places.reader.read(lines)
    if not values:
        return (), (), (), None, None
    ours = values.get(places.session_cookie, frozenset())
    if len(ours) > 1:  # two lines that a WSGI server joined by a comma
        ours = frozenset(value.partition(b",")[0] for value in ours)
    legacy = [
        tuple(Credential(value, "cookie", issuers) for value in sorted(values[name]))
        for name, issuers in places.cookies.items()
        if values.get(name)
    ]
    most = max(len(ours), *map(len, legacy), 1)
    fault = Reason.REPEATED_CREDENTIAL if most > _MOST_COPIES else None
    sent = None
    if places.leftovers or places.hint or len(ours) > 1:
        sent = Sent(
            leftovers=frozenset(name for name in places.leftovers if values.get(name)),
            repeated=len(ours) > 1,
            lacks_hint=bool(ours) and places.hint is not None and not values.get(places.hint),
        )
    return (
        tuple(Credential(value, "cookie") for value in sorted(ours)),
        legacy[0] if legacy else (),
        tuple(each for group in legacy[1:] for each in group),
        sent,
        fault,
    )


def _parameters(places: Places, query: bytes) -> tuple[tuple[Credential, ...], Reason | None]:
    values: dict[bytes, set[bytes]] = {}
    for part in query.split(b"&"):
        name = _parameter_name(part)
        value = unquote_to_bytes(part.partition(b"=")[2])
        if name in places.queries and value:
            values.setdefault(name, set()).add(value)
    repeated = any(len(different) > 1 for different in values.values())
    found = tuple(
        Credential(min(values[name]), "query", issuers)
        for name, issuers in places.queries.items()
        if name in values
    )
    return found, Reason.REPEATED_CREDENTIAL if repeated else None


def _parameter_name(part: bytes) -> bytes:
    return unquote_to_bytes(part.partition(b"=")[0])


def route_of(places: Places, path: str, mount: str) -> Route | None:
    """What the settings name a path; `mount` is how much of it leads to the app."""
    routes = places.routes
    if mount and path.startswith(mount):
        return routes.kind(path[len(mount) :]) or routes.kind(path)
    return routes.kind(path)
