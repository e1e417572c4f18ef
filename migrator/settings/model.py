"""The sections of the settings: every key, its kind and its default.

The names are a contract: later work adds sections and renames none. Nothing here reads a file or
the environment, and nothing here compares two settings with each other (checks.py). Durations are
`timedelta`, absent is None.
"""

from collections.abc import Mapping
from dataclasses import field
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, SecretBytes
from pydantic.dataclasses import dataclass

from migrator.settings.values import (
    CookieDomain,
    CookiePath,
    Count,
    DatabaseUrl,
    Duration,
    Factor,
    HeaderName,
    Identifier,
    Link,
    Name,
    OptionalText,
    Origin,
    PathPattern,
    Percent,
    PositiveDuration,
    Prefix,
    RedisUrl,
    Text,
    Whole,
)

# Pydantic would print the refused value, and the refused value may be a secret in the wrong place.
STRICT = ConfigDict(extra="forbid", hide_input_in_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Head:
    """The keys above every section. An environment that nobody named is treated as production."""

    environment: Name = "prod"
    app: Name = "app"
    expected_nodes: Count | None = None


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Database:
    """Where the truth is kept. `budget_ms`: how long a request may wait for it before its 503."""

    url: DatabaseUrl
    schema: Identifier = "migrator"
    budget_ms: Count = 1000


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Redis:
    """The cache between. `entry_seconds` stays well below the 120 s of a tombstone."""

    url: RedisUrl
    budget_ms: Count = 50
    entry_seconds: Annotated[Count, Field(le=60)] = 60


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Memory:
    """The memory of recent verdicts in each process.

    `trust_ms` 0 is strict everywhere, `strict_routes` are where it is: Postgres alone is asked.
    """

    entries: Whole = 100_000
    poll_ms: Count = 400
    trust_ms: Whole = 900
    strict_routes: tuple[PathPattern, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Gates:
    """How long it must have been quiet before a move, how long a move waits, what else is asked.

    What is 0, false or None is not asked for, and its gate is absent.

    Args:
        compare_pairs: how many verdicts have to be compared in `observe`; compare_percent: of
            them, how many the app may allow and the shim deny.
        drill_within: how long ago the way back was last drilled.
        notice: how long the end has been announced; brownouts: how many were run to their end.
        backfill_within: how long ago a backfill was verified.
        revocations: whether every revocation path of the app has to be wired.
        store_p99: how slow the session store may be.
        soak: how long after a cutover it may still be taken back by itself, when more than
            `sign_ins` times as many log in as before.
        plan_expires: how long a plan is good.
    """

    legacy_quiet: Duration = timedelta(hours=24)
    foreign_quiet: Duration = timedelta(hours=24)
    retire_quiet: Duration = timedelta(days=30)
    ack_timeout: Duration = timedelta(seconds=30)
    compare_pairs: Whole = 0
    compare_percent: Percent = 0.1
    drill_within: Duration | None = None
    notice: Duration | None = None
    brownouts: Whole = 0
    backfill_within: Duration | None = None
    revocations: bool = False
    store_p99: Duration | None = None
    soak: Duration = timedelta(0)
    sign_ins: Factor = 2.0
    plan_expires: PositiveDuration = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Tokens:
    """What our tokens begin with, without the underscore."""

    session_prefix: Prefix = "sess"
    api_prefix: Prefix = "pat"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Sessions:
    """The life of a session. `realm` is that of sessions issued at login."""

    realm: Text = "users"
    idle: PositiveDuration = timedelta(days=14)
    absolute: PositiveDuration = timedelta(days=90)
    per_subject: Count = 100
    store_ip: Literal["full", "truncated", "off"] = "full"
    keep_ended: Duration = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class SwapKey:
    """A key that derives tokens. `secret` is decoded: 32 bytes or more."""

    id: Name
    secret: SecretBytes


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Swap:
    """How a legacy token becomes a session. The first key derives, the others still match.

    Args:
        per_minute: how many sessions a subject's tokens may open in a minute, in each process;
            what comes beyond is admitted unswapped. 0: any number.
    """

    keys: tuple[SwapKey, ...] = ()
    min_remaining: Duration = timedelta(minutes=10)
    per_minute: Whole = 600
    header: HeaderName = "Session-Token"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Routes:
    """Path patterns: `*` is one segment, `**` any number."""

    login: tuple[PathPattern, ...] = ()
    refresh: tuple[PathPattern, ...] = ()
    logout: tuple[PathPattern, ...] = ()
    public: tuple[PathPattern, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class OldCookie:
    """A copy to clear: browsers delete by name, Domain and Path together, as they were set.

    Without `domain` it is the host-only copy; each copy is an entry of its own.
    """

    name: HeaderName
    domain: CookieDomain | None = None
    path: CookiePath = "/"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Cookie:
    """The session cookie. Use `effective_name`, never `name`, on the wire.

    `clear` names the copies that go once nothing needs them: the legacy tokens' cookies, and our
    own under another Domain or Path. `hint` is a cookie without a credential that scripts can read
    while the session cookie is there; `hint_domain` lets those of sibling hosts read it too.
    """

    name: HeaderName = "__Host-session"
    same_site: Literal["lax", "strict", "none"] = "lax"
    secure: bool = True
    clear: tuple[OldCookie, ...] = ()
    hint: HeaderName | None = None
    hint_domain: CookieDomain | None = None
    effective_name: str = field(init=False)

    def __post_init__(self) -> None:
        """Browsers drop a prefixed cookie that is not Secure: without it the prefix goes too."""
        bare = self.name.removeprefix("__Host-").removeprefix("__Secure-")
        object.__setattr__(self, "effective_name", self.name if self.secure else bare)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ForeignRule:
    """A JWT-like credential that is not a login of ours: everything that is given must match."""

    iss: OptionalText = None
    claims: Mapping[str, object] = field(default_factory=dict)
    path: PathPattern | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it names nothing; such a rule matches nothing, never everything."""
        return self.iss is None and not self.claims and self.path is None


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Refusal:
    """What old clients are keyed to: the status, scheme and body the app used to answer with."""

    status: Annotated[Count, Field(ge=400, le=499)] = 401
    scheme: HeaderName = "Bearer"
    body: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Http:
    """The rest of what the shim says over HTTP."""

    foreign: Literal["pass", "refuse"] = "pass"
    allowed_origins: tuple[Origin, ...] = ()
    max_credential_bytes: Annotated[Count, Field(ge=256, le=65_536)] = 8192
    deprecation_link: Link | None = None
    refusal: Refusal = Refusal()
