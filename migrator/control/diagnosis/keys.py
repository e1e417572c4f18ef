"""Whether the keys of every issuer can be used, and key sets by URL be fetched."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from migrator.control.diagnosis.finding import Finding, of_problem
from migrator.core.errors import BadSettings
from migrator.stores.jwks import NOT_YET, JwksRing
from migrator.stores.keys import JoinedRing

if TYPE_CHECKING:
    from migrator.core.legacy import Issuer as Prepared
    from migrator.core.legacy import KeyRing
    from migrator.settings import Issuer, Settings

Prepare: TypeAlias = "Callable[[Issuer], Prepared]"

_FETCH_S: Final = 5.0


def looks(settings: Settings, prepare: Prepare) -> list[Finding]:
    """The keys of every issuer."""
    found = []
    if settings.swap.keys:
        ids = ", ".join(key.id for key in settings.swap.keys)
        found.append(Finding("swap.keys", "ok", f"swap keys {ids}; the first derives"))
    for issuer in settings.issuers:
        try:
            prepared = prepare(issuer)
        except BadSettings as bad:
            found += [of_problem(problem) for problem in bad.problems]
            continue
        found += _rings(issuer, prepared.keys)
    return found


def _rings(issuer: Issuer, ring: KeyRing) -> list[Finding]:
    fetched = ring.fetched if isinstance(ring, JoinedRing) else ring
    if not isinstance(fetched, JwksRing):
        return [Finding("issuers.keys", "ok", f"issuer {issuer.name}: its keys can be used")]
    until = time.monotonic() + _FETCH_S
    while (report := fetched.report()).age_seconds is None and time.monotonic() < until:
        if report.failing not in {None, NOT_YET}:
            break
        time.sleep(0.05)
    fetched.close()
    found = [of_problem(problem) for problem in report.skipped]
    found = [Finding(each.id, "warn", each.text, each.do) for each in found]
    if report.age_seconds is None:
        text = f"issuer {issuer.name}: its key set could not be fetched"
        text += f" ({report.failing})" if report.failing else " in time"
        do = "check jwks_url from this machine, or name the set in keys as file:jwks.json"
        return [*found, Finding("issuers.jwks-unreachable", "fail", text, do)]
    if not report.keys:
        text = f"issuer {issuer.name}: its key set holds no key it could use"
        do = "check jwks_url and algorithms"
        return [*found, Finding("issuers.jwks-empty", "fail", text, do)]
    text = f"issuer {issuer.name}: {report.keys} key(s) fetched"
    return [*found, Finding("issuers.jwks", "ok", text)]
