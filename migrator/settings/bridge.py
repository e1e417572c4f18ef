"""The `[bridge]` section: the app goes on verifying JWTs, and the shim speaks both languages.

An empty section switches it on. What the issuer's preset knows of the library's routes fills what
is not given; anything given wins.
"""

from collections.abc import Mapping
from dataclasses import field
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, StringConstraints
from pydantic.dataclasses import dataclass

from migrator.settings.issuers import Key
from migrator.settings.model import STRICT
from migrator.settings.values import HeaderName, Link, OptionalText, PathPattern, PositiveDuration

Pointer = Annotated[str, StringConstraints(pattern=r"^(?:/[^\x00-\x1f\x7f]*)+$", max_length=256)]
"""A JSON pointer (RFC 6901) to a member."""
_LONGEST = timedelta(minutes=10)
_Brief = Annotated[PositiveDuration, Field(le=_LONGEST)]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Bridge:
    """How a session is shown to an app that knows JWTs, and how the app's answers are read.

    Args:
        issuer: id of the issuer whose tokens the app understands; the first one unless given.
        lifetime: of a bridge JWT; a revocation is complete that much later wherever the app hands
            its JWT on.
        key, refresh_key: what signs them; the issuer's own secrets unless given. Issuers that sign
            with a private key need one of their own here, and the app its public half.
        access, refresh: JSON pointers to those tokens in answers of the login and refresh routes;
            empty: wherever a token of the issuer is found in them.
        refresh_cookies: cookies that carry refresh tokens.
        constants, refresh_constants: claims besides those of the session and of the purpose rules.
        mirrors, refresh_mirrors: claim → cookie of the request whose value it repeats.
        expiring: claim → its value once the first access lifetime after the login is over.
        claims: which claims of a login its JWTs go on to have: all, or those of the issuer's
            `claims.keep`. What is kept is as old as the login or its last refresh.
        integer_subject: whether subjects are numbers in the JWTs; as the issuer's unless given.
        echoes: routes that answer with the credential they were given, where a proxy or the app
            compresses answers; elsewhere an echo is found without being named.
        probes: addresses at which the app itself listens; `doctor` asks each whether the shim can
            be passed by.
    """

    issuer: OptionalText = None
    lifetime: _Brief = timedelta(seconds=60)
    key: Key | None = None
    refresh_key: Key | None = None
    access: tuple[Pointer, ...] = ()
    refresh: tuple[Pointer, ...] = ()
    refresh_cookies: tuple[HeaderName, ...] = ()
    constants: Mapping[str, object] = field(default_factory=dict)
    refresh_constants: Mapping[str, object] = field(default_factory=dict)
    mirrors: Mapping[str, HeaderName] = field(default_factory=dict)
    refresh_mirrors: Mapping[str, HeaderName] = field(default_factory=dict)
    expiring: Mapping[str, object] = field(default_factory=dict)
    claims: Literal["all", "kept"] = "all"
    integer_subject: bool | None = None
    echoes: tuple[PathPattern, ...] = ()
    probes: tuple[Link, ...] = ()
