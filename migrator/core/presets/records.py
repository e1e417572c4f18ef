"""What a preset is: the records that every table of this package is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

Table = Mapping[str, object]
ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class Hazard:
    """Something that is true of every app of this shape and bites during a migration."""

    id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeFacts:
    """What the bridge must know of a library's own routes and of the JWTs it insists on.

    All of it is about the library as it comes: an app with answers of its own says so under
    `[bridge]`, which wins. Pointers are JSON pointers (RFC 6901) into a body.

    Args:
        access, refresh: where login and refresh answers carry those tokens; empty: nowhere.
        refresh_request: where the body of a refresh request carries the refresh token; empty: it
            comes as credentials do, in a header or cookie.
        constants: claims of a JWT of this shape that neither the session nor `purpose.require`
            gives; what the session's own claims say wins.
        mirrors: claim → the cookie whose value it repeats, where the request has that cookie.
        expiring: claim → its value once the login's first access lifetime is over.
        needs_jti: the library, or what is built on it, refuses a JWT without one.
    """

    access: tuple[str, ...] = ()
    refresh: tuple[str, ...] = ()
    refresh_request: tuple[str, ...] = ()
    constants: Table = field(default_factory=dict)
    mirrors: Mapping[str, str] = field(default_factory=dict)
    expiring: Table = field(default_factory=dict)
    needs_jti: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One shape.

    Args:
        name: what `preset = ` says.
        defaults: an `[[issuers]]` table without id, keys and addresses.
        hazards: see Hazard.
        bridge: see BridgeFacts.
        has: claims that its tokens always carry; a value that is not "*" must be equal, or, for an
            `iss`, be contained.
        only: it carries none but these.
        weight: how telling a match is; the facts of one product outweigh those of a habit.
    """

    name: str
    defaults: Table
    hazards: tuple[Hazard, ...] = ()
    bridge: BridgeFacts = BridgeFacts()
    has: Table = field(default_factory=dict)
    only: frozenset[str] = frozenset()
    weight: int = 1
