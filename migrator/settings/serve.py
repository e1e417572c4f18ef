"""The `[serve]` section: where `migrator serve` listens, and who may ask it about tokens."""

import re
from typing import Annotated, Final, Literal

from pydantic import Field, SecretBytes, StringConstraints
from pydantic.dataclasses import dataclass

from migrator.settings.model import STRICT
from migrator.settings.problems import Findings
from migrator.settings.values import Name, Text

# RFC 6749 section 10.10 wants 2**-128 for what a client guards itself.
SHORTEST_SECRET_BYTES: Final = 16

UPSTREAM: Final = re.compile(r"https?://[^\s/@?#\x00-\x1f\x7f]{1,255}/?")
Upstream = Annotated[str, StringConstraints(pattern=f"^{UPSTREAM.pattern}$")]
"""An http(s) URL of a host, without a login, a path or a query."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ServeClient:
    """A service that may introspect and revoke. Kept out of every repr: `secret`."""

    id: Name
    secret: SecretBytes


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Serve:
    """What `migrator serve` does.

    Args:
        host, port: where it listens; 0 is any free port.
        upstream: the app that it stands in front of; None: it answers its own endpoints alone.
        expired: what `/forward-auth` says to a legacy token that is right but expired, up to
            `drain`: "refuse" (401), or "pass": 200 without a user, so that the app answers in its
            own words. In `observe` the app always does.
        clients: who may introspect and revoke; nobody unless listed.
    """

    host: Text = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8300
    upstream: Upstream | None = None
    expired: Literal["refuse", "pass"] = "refuse"
    clients: tuple[ServeClient, ...] = ()


def check_clients(serve: Serve, findings: Findings) -> None:
    """A client is known by its id."""
    for at, client in enumerate(serve.clients):
        if client.id in {other.id for other in serve.clients[:at]}:
            path = ("serve", "clients", at, "id")
            findings.add("settings.duplicate-client", path, "used twice")
