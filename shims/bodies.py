"""What a JSON body presents: the one place of a credential that has to be read before it is found.

Only for issuers whose transport says so (`{ json = "access_token" }`), and only of requests that
may change something. A body that is too long to be read is refused: what is not read cannot be
vouched for, and the app would read it.
"""

import json
from collections.abc import Mapping
from typing import Final

from migrator.core.presented import Credential
from shims.csrf import SAFE_METHODS

ROOM_BYTES: Final = 65_536


def may_present(
    members: Mapping[str, frozenset[str]], *, method: str, content_type: bytes | None
) -> bool:
    """Whether a request's body may carry a credential.

    Args:
        members: names of a JSON body's members in which issuers' tokens come.
    """
    if not members or method in SAFE_METHODS:
        return False
    kind = (content_type or b"").partition(b";")[0].strip().lower()
    return kind == b"application/json" or kind.endswith(b"+json")


def presented_in(body: bytes, members: Mapping[str, frozenset[str]]) -> tuple[Credential, ...]:
    """What a JSON body presents. Of a name that is said twice readers take either: both."""
    found: list[Credential] = []

    def read(pairs: list[tuple[str, object]]) -> dict[str, object]:
        for name, value in pairs:
            if name in members and isinstance(value, str) and value:
                text = value.encode("utf-8", "surrogatepass")
                found.append(Credential(text, "body", members[name]))
        return dict(pairs)

    try:
        json.loads(body, object_pairs_hook=read)
    except (ValueError, RecursionError):
        return ()
    return tuple(found)
