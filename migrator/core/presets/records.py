"""What a preset is: the records that every table of this package is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

Table = Mapping[str, object]
ANY: Final = "*"

BEARER: Final = ({"header": "Authorization", "scheme": "Bearer"},)
TOKEN: Final = ({"header": "Authorization", "scheme": "Token"},)  # the RealWorld family, old DRF


@dataclass(frozen=True, slots=True)
class Hazard:
    """Something that bites during a migration.

    Args:
        id: stable; the same danger has the same one wherever it is found.
        text: what follows from it and what to set; no claim's value.
        see: the passage that says more, as `migrator playbook show` takes it.
    """

    id: str
    text: str
    see: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeFacts:
    """What the bridge must know of a library's own routes and of the JWTs it insists on.

    All of it is about the library as it comes: an app with answers of its own says so under
    `[bridge]`, which wins. Pointers are JSON pointers (RFC 6901) into a body.

    Args:
        access, refresh: where login and refresh answers carry those tokens, the first pointer
            that is there; empty: at no known place of the body.
        refresh_request: where the body of a refresh request carries the refresh token; empty: it
            comes as credentials do, in a header or cookie.
        refresh_cookies: cookies that carry refresh tokens.
        constants, refresh_constants: claims of an access and of a refresh JWT that neither the
            session nor the purpose rules give; what the session's own claims say wins.
        mirrors, refresh_mirrors: claim → the cookie whose value it repeats, where the request has
            that cookie.
        expiring: claim → its value once the login's first access lifetime is over.
        needs_jti: the library, or what is built on it, refuses a JWT without one.
    """

    access: tuple[str, ...] = ()
    refresh: tuple[str, ...] = ()
    refresh_request: tuple[str, ...] = ()
    refresh_cookies: tuple[str, ...] = ()
    constants: Table = field(default_factory=dict)
    refresh_constants: Table = field(default_factory=dict)
    mirrors: Mapping[str, str] = field(default_factory=dict)
    refresh_mirrors: Mapping[str, str] = field(default_factory=dict)
    expiring: Table = field(default_factory=dict)
    needs_jti: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One shape: facts of a library or product as it comes, read in its own source or pages.

    What a sample is compared with maps the name of a claim (a dot goes one level down) to "*" for
    whatever is there, a value, a tuple of which one is enough, a pattern of all of a text, or, for
    `iss`, a part of it.

    Args:
        name: what `preset = ` says.
        library: what people call it.
        defaults: an `[[issuers]]` table without id, keys and addresses.
        hazards: what is true of every app of this shape.
        bridge: see BridgeFacts.
        has: claims that its tokens always carry.
        one_of: at least one of these holds too; empty: nothing more is asked.
        only: it carries none but these; empty: there may be others.
        lacks: it never carries these.
        header: members of its header, compared alike.
        telling: what besides only this one writes; empty: it is a habit, shared by many.
        weight: of two that fit and are not told apart, the heavier one is met more often.
    """

    name: str
    library: str
    defaults: Table
    hazards: tuple[Hazard, ...] = ()
    bridge: BridgeFacts = BridgeFacts()
    has: Table = field(default_factory=dict)
    one_of: tuple[Table, ...] = ()
    only: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    header: Table = field(default_factory=dict)
    telling: Table = field(default_factory=dict)
    weight: int = 2
