"""What a credential stands for, asked by a service that did not receive it as its own (RFC 7662).

Judged as the gate judges, changing nothing: no swap, nothing handed out, nothing remembered, so
that a service which asks about a legacy token cannot keep its client from being swapped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.core.legacy import Legacy
from migrator.core.phases import RULES, Phase, bucket_of
from migrator.core.swapping import BINDING
from migrator.core.verdicts import Principal, Refused

if TYPE_CHECKING:
    from datetime import datetime

    from migrator.core.claims import Claims
    from migrator.core.swapping import Swapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A credential that holds now. `expires_at` None: it ends with a revocation only."""

    principal: Principal
    issued_at: datetime | None
    expires_at: datetime | None
    auth_time: datetime | None
    amr: tuple[str, ...] = ()


async def introspect(flow: Swapping, presented: bytes) -> Description | None:
    """What `presented` stands for; None where it admits nobody, for whatever reason.

    Raises:
        Unavailable: the store could not be asked: 503, never "inactive".
    """
    if not flow.is_ours(presented):
        return await _of_legacy(flow, presented)
    verdict = await flow.judge_session(presented)
    session = None if isinstance(verdict, Refused) else verdict.principal.session
    if isinstance(verdict, Refused) or session is None:
        return None
    return Description(
        principal=verdict.principal,
        issued_at=session.created_at,
        expires_at=session.expires_at,
        auth_time=session.auth_time,
        amr=session.amr,
    )


async def _of_legacy(flow: Swapping, presented: bytes) -> Description | None:
    rollout = await flow.where()
    owner = flow.verifier.whose(presented, allowed=None, path="")
    if rollout.phase is Phase.RETIRED or not isinstance(owner, Legacy):
        return None
    claims = flow.verifier.verify(presented, owner.candidates, now=await flow.now())
    if isinstance(claims, Refused):
        flow.refuse(claims.reason)
        return None
    bucket = bucket_of(claims.subject, claims.realm)
    rule = RULES[rollout.phase_for(issuer=claims.issuer, client=claims.client, bucket=bucket)]
    if rule.legacy == "verify_then_refuse":
        flow.refuse_retired(claims, claims.client, rollout)
        return None
    standing = await flow.store.check(claims)
    reason = await flow.fault_of(standing, claims)
    if reason is not None and (rule.legacy != "shadow" or reason in BINDING):
        flow.refuse(reason, claims.issuer, claims.client)
        return None
    session = standing.session
    scopes = claims.scopes if session is None else session.scopes
    verdict = await flow.as_principal(_principal(claims, scopes))
    if isinstance(verdict, Refused):
        return None
    flow.usage.saw(claims, claims.client)  # a service depends on it: known before a cutover
    flow.usage.count(claims.issuer, claims.client, "legacy")
    return Description(
        principal=verdict.principal,
        issued_at=claims.iat,
        expires_at=claims.exp,
        auth_time=claims.auth_time,
        amr=claims.amr,
    )


def _principal(claims: Claims, scopes: frozenset[str]) -> Principal:
    return Principal(
        subject=claims.subject,
        realm=claims.realm,
        scopes=scopes,
        claims=claims.kept,
        client=claims.client,
        via="legacy",
    )
