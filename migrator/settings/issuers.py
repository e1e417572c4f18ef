"""One `[[issuers]]` table: a source of legacy tokens, its keys, and how to read what it signed."""

from collections.abc import Mapping
from dataclasses import field
from datetime import timedelta
from typing import Literal, TypeAlias

from pydantic import SecretBytes
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from migrator.settings.model import STRICT
from migrator.settings.values import (
    Algorithm,
    Duration,
    HeaderName,
    Name,
    OptionalText,
    PositiveDuration,
    SafeUrl,
    Text,
    Texts,
)

Encoding: TypeAlias = Literal["base64", "base64url", "hex"]
Form: TypeAlias = Literal["secret", "pem", "ssh", "der", "json"]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Key:
    """A key as it was found, unparsed.

    Args:
        value: what the variable or file held; an HMAC secret already decoded by `encoding`.
        form: what it looks like: bytes of an HMAC `secret`, `pem`, `ssh` or `der` of a public key,
            or `json` (a JWK or a JWK set).
        origin: `env:NAME`, `file:PATH` or `inline`; safe to print.
        kid, alg: what the settings pin it to.
    """

    value: SecretBytes
    form: Form
    origin: str
    kid: OptionalText = None
    alg: Algorithm | None = None


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Transport:
    """Where an issuer's credential is presented: a header, cookie, query parameter or JSON member.

    `scheme` is what stands before the token in the header; None: the header is the token.
    """

    header: HeaderName | None = None
    scheme: OptionalText = None
    cookie: HeaderName | None = None
    query: Text | None = None
    json: Text | None = None

    def __post_init__(self) -> None:
        """Exactly one place."""
        places = (self.header, self.cookie, self.query, self.json)
        if sum(place is not None for place in places) != 1:
            raise PydanticCustomError(
                "settings.bad-transport", "a transport is one of header, cookie, query and json"
            )
        if self.scheme is not None and self.header is None:
            raise PydanticCustomError("settings.bad-transport", "only a header has a scheme")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ClaimNames:
    """In which claims the facts are; a dot goes one level down. None: there is no such claim."""

    subject: Text = "sub"
    client: OptionalText = None
    scopes: OptionalText = None
    family: OptionalText = None
    keep: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class PurposeRules:
    """The claims a login token, and a refresh token, carry; `refresh` None: there is no rule."""

    require: Mapping[str, object] = field(default_factory=dict)
    refresh: Mapping[str, object] | None = None


BEARER = Transport(header="Authorization", scheme="Bearer")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Issuer:
    """A configured source of legacy tokens. A lifetime of None is not known."""

    id: Name
    name: Name
    realm: Text
    preset: str | None = None
    algorithms: tuple[Algorithm, ...]
    keys: tuple[Key, ...] = ()
    refresh_keys: tuple[Key, ...] = ()
    encoding: Encoding | None = None
    jwks_url: SafeUrl | None = None
    issuer: OptionalText = None
    audience: Texts = ()
    typ: Texts = ("JWT",)
    accept_padding: bool = False
    integer_subject: bool = False
    rotates_refresh: bool = False
    skew: Duration = timedelta(seconds=5)
    leeway: Duration = timedelta(seconds=30)
    max_age: PositiveDuration | None = None
    lifetime: PositiveDuration | None = None
    refresh_lifetime: PositiveDuration | None = None
    transport: tuple[Transport, ...] = (BEARER,)
    claims: ClaimNames = ClaimNames()
    purpose: PurposeRules = PurposeRules()
