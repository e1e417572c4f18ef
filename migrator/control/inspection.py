"""What a pasted credential is, what would happen to it now and in each phase, and what bites.

Says names, shapes and times; never a credential and never a claim's value, except the algorithm
and the key's id.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from migrator.control import forecast, hazards, sample
from migrator.control.forecast import Case, Outcome
from migrator.core import facts
from migrator.core.errors import Unavailable
from migrator.core.flow import run
from migrator.core.legacy import Legacy, Wrong
from migrator.core.phases import Phase, bucket_of
from migrator.core.presets import PRESETS, Hazard, Match, recognise
from migrator.core.verdicts import Reason, Refused

if TYPE_CHECKING:
    from migrator.control.hazards import View
    from migrator.control.sample import Sample
    from migrator.core.app import Sessions
    from migrator.core.claims import Claims, Purpose
    from migrator.core.phases import Rollout
    from migrator.settings import Issuer, Settings

Kind: TypeAlias = Literal["legacy", "session", "foreign", "wrong", "jwe", "garbage"]

_FETCH_S: Final = 3.0  # a key set is fetched in the background; a command may wait for it
# What Postgres calls tables, or a schema, that nobody made yet.
_NOT_THERE: Final = ("UndefinedTable", "InvalidSchemaName")
_PURPOSES: Final[tuple[Purpose, ...]] = ("access", "refresh")


@dataclass(frozen=True, slots=True)
class Danger:
    """A hazard, and whose.

    Args:
        shapes: names of those that it is a fact of; empty: it was seen in this very token.
    """

    hazard: Hazard
    shapes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Everything about a pasted credential that may be printed.

    Args:
        shapes: what it looks like, the likeliest first. Where none is sure, it may be any of them.
        preset: the shape that its issuer's settings name.
        verified: whether its signature and claims hold; None: not known.
        reason: why it does not hold.
        now: what would happen at this moment; None: not known.
        unknown: what could not be found out, and why.
    """

    kind: Kind
    issuer: Issuer | None = None
    shapes: tuple[Match, ...] = ()
    preset: str | None = None
    sample: Sample = field(default_factory=lambda: sample.Sample(kind="garbage"), repr=False)
    subject: str | None = None
    purpose: Purpose | None = None
    verified: bool | None = None
    reason: Reason | None = None
    now: Outcome | None = None
    phases: tuple[Outcome, ...] = ()
    dangers: tuple[Danger, ...] = ()
    unknown: dict[str, str] = field(default_factory=dict)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def header_names(self) -> list[str]:
        """The members of the header."""
        return _names(self.sample.header)

    @property
    def claim_names(self) -> list[str]:
        """The claims, by name."""
        return _names(self.sample.payload)

    @property
    def times(self) -> dict[str, datetime | float | None]:
        """When it begins and ends, as far as that can be read."""
        exp = self.sample.seconds("exp")
        return {
            **{name: _moment(self.sample.seconds(name)) for name in ("iat", "nbf", "exp")},
            "lifetime_s": self.sample.lifetime_s,
            "remaining_s": None if exp is None else round(exp - self.at.timestamp(), 3),
        }


KINDS: Final[dict[Kind, str]] = {
    "legacy": "a JWT",
    "session": "a session token of ours",
    "foreign": "a JWT of nobody we know, named under [[foreign]]",
    "wrong": "like a JWT, and no configured issuer signs tokens like it",
    "jwe": "an encrypted JWT (JWE)",
    "garbage": "not a JWT, nor a token of ours: foreign",
}
_MOST_NAMES: Final = 40
_LONGEST_NAME: Final = 40


def _names(table: sample.Table) -> list[str]:
    """Names that may be printed; a claim called like a secret or an escape sequence is cut."""
    fit = [
        name if name.isprintable() and len(name) <= _LONGEST_NAME else "(odd name)"
        for name in table
    ]
    return sorted(fit)[:_MOST_NAMES]


def _moment(since_epoch: float | None) -> datetime | None:
    return None if since_epoch is None else facts.moment(since_epoch)


def inspect(credential: bytes, *, settings: Settings | None, app: Sessions | None) -> Inspection:
    """What `credential` is. No input makes it raise.

    Args:
        credential: as `pasted.bare` left it.
        settings: None: there are none yet; then only its shape is told.
        app: whose verifier and store are asked; given with `settings`.
    """
    unknown: dict[str, str] = {}
    at = _time(app, unknown)
    rollout = _rollout(app, unknown)
    if app is not None and app.is_ours(credential):
        return _ours(credential, app, at=at, unknown=unknown)
    read = sample.read(credential)
    if settings is None or app is None:
        return _shape(credential, read, None, at=at, unknown={"issuer": "no settings were found"})

    owner = app.verifier.whose(credential)
    if not isinstance(owner, Legacy):
        shape = _shape(credential, read, None, at=at, unknown=unknown)
        if isinstance(owner, Wrong):
            phases = forecast.everywhere(Case(purpose=None, reason=owner.reason))
            kind: Kind = "jwe" if read.kind == "jwe" else "wrong"
            return _with(shape, kind, phases, rollout, reason=owner.reason)
        phases = forecast.foreign(refuses=settings.http.foreign == "refuse")
        return _with(shape, "foreign" if read.kind != "garbage" else "garbage", phases, rollout)

    held, reason = _verified(app, credential, owner, at, unknown)
    configured = {issuer.id: issuer for issuer in settings.issuers}
    named = held.issuer if held else owner.candidates[0].id
    shape = _shape(credential, read, configured[named], at=at, unknown=unknown)
    if held is None and reason is None:
        return _with(shape, "legacy", (), None)
    case = _case(app, settings, held, reason, rollout, at, unknown)
    return _with(
        shape,
        "legacy",
        forecast.everywhere(case),
        rollout,
        reason=reason,
        claims=held,
    )


def _with(
    shape: Inspection,
    kind: Kind,
    phases: Sequence[Outcome],
    rollout: Rollout | None,
    *,
    reason: Reason | None = None,
    claims: Claims | None = None,
) -> Inspection:
    phase = None if rollout is None else _phase_of(rollout, claims, shape.issuer)
    verified = True if claims is not None else None if reason is None else False
    return Inspection(
        kind=kind,
        issuer=shape.issuer,
        shapes=shape.shapes,
        preset=shape.preset,
        sample=shape.sample,
        subject=shape.subject,
        purpose=claims.purpose if claims else None,
        verified=verified,
        reason=reason,
        now=next((each for each in phases if each.phase is phase), None),
        phases=tuple(phases),
        dangers=shape.dangers,
        unknown=shape.unknown,
        at=shape.at,
    )


def _shape(
    credential: bytes,
    read: Sample,
    issuer: Issuer | None,
    *,
    at: datetime,
    unknown: dict[str, str],
) -> Inspection:
    shapes = recognise(read.header, read.payload) if read.kind != "garbage" else ()
    claim = subject_claim(read, issuer, shapes)
    view = hazards.View(
        sample=read,
        credential=credential,
        now=at.timestamp(),
        subject_claim=claim,
        issuer=issuer,
    )
    preset = issuer.preset if issuer else None
    kinds: dict[str, Kind] = {"jwe": "jwe", "garbage": "garbage", "jws": "legacy"}
    return Inspection(
        kind=kinds[read.kind],
        issuer=issuer,
        shapes=shapes,
        preset=preset,
        sample=read,
        subject=sample.shape(facts.claim(read.payload, claim)) if read.payload else None,
        dangers=() if read.kind == "garbage" else _dangers(view, shapes, preset),
        unknown=unknown,
        at=at,
    )


def _dangers(view: View, shapes: Sequence[Match], preset: str | None) -> tuple[Danger, ...]:
    """What was seen in the token, then what is true of its shape; of every one it may have."""
    seen = hazards.found(view)
    if preset is not None:
        likely = [PRESETS[preset]]
    else:
        likely = [each.preset for each in shapes if each.is_sure or not shapes[0].is_sure]
    known = {each.id for each in seen}
    more: dict[Hazard, list[str]] = {}
    for shape in likely:
        for hazard in shape.hazards:
            if hazard.id not in known:
                more.setdefault(hazard, []).append(shape.name)
    return (
        *(Danger(each) for each in seen),
        *(Danger(each, tuple(names)) for each, names in more.items()),
    )


def subject_claim(read: Sample, issuer: Issuer | None, shapes: Sequence[Match]) -> str:
    """The claim that names the subject: as configured, else as its shape says, else a guess."""
    if issuer is not None:
        return issuer.claims.subject
    guesses = [*_CLAIMS]
    for match in shapes[:1]:
        mapping = match.preset.defaults.get("claims")
        if isinstance(mapping, Mapping):
            guesses.insert(0, str(mapping.get("subject", "sub")))
    return next((name for name in guesses if facts.claim(read.payload, name) is not None), "sub")


_CLAIMS: Final = (
    *("sub", "user_id", "uid", "userId", "id", "_id", "user.id", "user._id", "identity"),
    *("username", "email"),
)


def _ours(token: bytes, app: Sessions, *, at: datetime, unknown: dict[str, str]) -> Inspection:
    try:
        verdict = run(app.judge_session(token))
    except Unavailable as error:
        return Inspection(kind="session", unknown={**unknown, "verified": _why(error)}, at=at)
    if isinstance(verdict, Refused):
        outcomes = tuple(
            Outcome(phase=phase, verdict="refused", why=str(verdict.reason)) for phase in Phase
        )
        return Inspection(
            kind="session",
            verified=False,
            reason=verdict.reason,
            now=outcomes[0],
            phases=outcomes,
            unknown=unknown,
            at=at,
        )
    outcomes = tuple(
        Outcome(phase=phase, verdict="admitted", why="a living session") for phase in Phase
    )
    return Inspection(
        kind="session", verified=True, now=outcomes[0], phases=outcomes, unknown=unknown, at=at
    )


def _verified(
    app: Sessions, credential: bytes, owner: Legacy, at: datetime, unknown: dict[str, str]
) -> tuple[Claims | None, Reason | None]:
    until = time.monotonic() + _FETCH_S
    reason: Reason | None = None
    for purpose in _PURPOSES:
        while True:
            try:
                found = app.verifier.verify(credential, owner.candidates, now=at, purpose=purpose)
            except Unavailable as error:
                if time.monotonic() < until:
                    time.sleep(0.1)
                    continue
                unknown["verified"] = str(error)
                return None, None
            break
        if not isinstance(found, Refused):
            return found, None
        # An expired refresh token is expired, not an access token of the wrong purpose.
        if reason is None or found.reason is Reason.LEGACY_EXPIRED:
            reason = found.reason
    return None, reason


def _case(
    app: Sessions,
    settings: Settings,
    claims: Claims | None,
    reason: Reason | None,
    rollout: Rollout | None,
    at: datetime,
    unknown: dict[str, str],
) -> Case:
    if claims is None:
        return Case(purpose=None, reason=reason)
    bucket = bucket_of(claims.subject, claims.realm)
    fault = None
    if rollout is not None and rollout.phase is not Phase.RETIRED:
        try:
            fault = run(app.fault_of(run(app.store.check(claims)), claims))
        except Unavailable as error:
            unknown["fault"] = _why(error)
    return Case(
        purpose=claims.purpose,
        fault=fault,
        in_cohort=None if rollout is None else bucket < rollout.percent,
        nearly_over=claims.exp - at < settings.swap.min_remaining,
        can_swap=bool(settings.swap.keys),
    )


def _phase_of(rollout: Rollout, claims: Claims | None, issuer: Issuer | None) -> Phase:
    if claims is None:
        return rollout.phase_for(issuer=issuer.id if issuer else None, client=None, bucket=100)
    bucket = bucket_of(claims.subject, claims.realm)
    return rollout.phase_for(issuer=claims.issuer, client=claims.client, bucket=bucket)


def _time(app: Sessions | None, unknown: dict[str, str]) -> datetime:
    try:
        if app is not None:
            return run(app.store.now())
    except Unavailable:
        unknown["clock"] = "judged by this machine's clock, not by the database's"
    return datetime.now(UTC)


def _rollout(app: Sessions | None, unknown: dict[str, str]) -> Rollout | None:
    try:
        return None if app is None else run(app.store.rollout())
    except Unavailable as error:
        unknown["now"] = _why(error)
        return None


def _why(error: Unavailable) -> str:
    """Why the store gave no answer; before `db upgrade` that is no fault of Postgres."""
    absent = any(name in error.why for name in _NOT_THERE)
    return "the tables are not there yet: migrator db upgrade" if absent else str(error)
