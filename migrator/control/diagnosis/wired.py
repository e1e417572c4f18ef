"""What the settings leave out, and whether the libraries are such as we trust."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from migrator.control.diagnosis.finding import Finding
from migrator.settings import no_swap_key

if TYPE_CHECKING:
    from migrator.settings import Settings

# GHSA-hxm8-2xgr-2p9m: before it, PyJWT took signatures in a spelling that is not theirs.
_LEAST_PYJWT: Final = (2, 14)


def looks_at_settings(settings: Settings, *, is_retired: bool) -> list[Finding]:
    """What can be missed by looking at the settings alone; `is_retired`: no issuer is needed."""
    found = []
    if settings.issuers and not settings.swap.keys:  # without issuers nothing is swapped
        problem = no_swap_key()
        found.append(Finding(problem.id, "fail", f"{problem.what}: {problem.why}", problem.do))
    if not settings.issuers and is_retired:
        found.append(
            Finding("issuers.none", "ok", "no issuer is configured; retired, none needed")
        )
    elif not settings.issuers:
        text = "no issuer is configured: no legacy token will be swapped"
        found.append(Finding("issuers.none", "warn", text, "migrator init, with a sample JWT"))
    if settings.expected_nodes is None:
        text = "expected_nodes is not set: a server without the shim stays unseen"
        do = "set expected_nodes to the number of processes that will run it"
        found.append(Finding("nodes.expected-unset", "warn", text, do))
    if settings.issuers and not settings.routes.refresh:
        text = (
            "routes.refresh is empty: refresh tokens can mint what no cutoff sees unless the "
            "refresh route uses `exchange`"
        )
        do = "call exchange at the refresh route and name it in routes.refresh"
        found.append(Finding("routes.no-refresh", "warn", text, do))
    if settings.issuers and not settings.routes.login:
        text = "routes.login is empty: an expired token sent along to login may get it refused"
        found.append(Finding("routes.no-login", "warn", text, "name it in routes.login"))
    for issuer in settings.issuers:
        if issuer.lifetime is None:
            text = f"issuer {issuer.name} has no lifetime: the drain has no horizon"
            do = "set lifetime to what its signer gives an access token"
            found.append(Finding("issuers.no-lifetime", "warn", text, do))
    return found


def looks_at_libraries() -> list[Finding]:
    """Versions that matter."""
    try:
        pyjwt = version("pyjwt")
    except PackageNotFoundError:
        do = "install PyJWT with its crypto extra"
        return [Finding("pyjwt.missing", "fail", "PyJWT is not installed", do)]
    numbers = tuple(int(part) for part in pyjwt.split(".")[:2] if part.isdigit())
    if numbers < _LEAST_PYJWT:
        text = f"PyJWT {pyjwt} takes signatures in other spellings than their own"
        return [Finding("pyjwt.old", "fail", text, "upgrade PyJWT to 2.14 or later")]
    return [Finding("pyjwt", "ok", f"PyJWT {pyjwt}")]
