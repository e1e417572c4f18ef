"""`flask migrator-issuer`: the app's issuer as migrator.toml has it, for the operator's commands.

The `migrator` commands run beside the app and read no Flask configuration. No key is printed, only
where one would look for it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import tomlkit
from flask import Flask

from shims.flask.library import jwt_extended_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_MS: Final = timedelta(milliseconds=1)
_SECOND: Final = timedelta(seconds=1)


def tells(app: Flask) -> Callable[[], None]:
    """The command of `app`; it prints nothing where the app has no JWTManager."""

    def tell() -> None:
        """Print the [[issuers]] table of this app for migrator.toml; keys are named, not shown."""
        library = jwt_extended_of(app)
        if library is not None:
            where = library.key_named(app)
            print(toml_of(library.issuer(app) | {"keys": [where]}), end="")  # noqa: T201

    return tell


def toml_of(issuer: Mapping[str, Any]) -> str:
    """An `[[issuers]]` table as TOML."""
    return tomlkit.dumps({"issuers": [{key: _said(value) for key, value in issuer.items()}]})


def _said(value: Any) -> Any:
    match value:
        case timedelta() if value % _SECOND:
            return f"{value // _MS}ms"
        case timedelta():
            return f"{value // _SECOND}s"
        case dict():
            return {key: _said(each) for key, each in value.items()}
        case list():
            # TOML has no null, so a token that says no type is none of the issuer's there.
            return [_said(each) for each in value if each is not None]
        case _:
            return value
