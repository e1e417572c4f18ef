"""The main job at the gate: from observe to retired, over real Postgres and Redis."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from migrator import prepared, wiring
from migrator.cli.demo.servers import Postgres
from migrator.control.schema import upgrade
from migrator.core.app import Sessions
from migrator.core.claims import Claims
from migrator.core.errors import Refused as RefusedError
from migrator.core.errors import Unavailable
from migrator.core.flow import SubjectState
from migrator.core.gate import Gate
from migrator.core.ids import uuid7
from migrator.core.presented import Credential, Presented
from migrator.core.verdicts import Admitted, Passed, Reason, Refused
from tests.rig import ISSUER, Rig, sign, sign_refresh

ISSUERS = frozenset({"a1"})


@pytest.fixture
def rig(migrated: str, redis_url: str) -> Rig:
    return Rig(migrated, redis_url)


@pytest.fixture
def app(rig: Rig) -> Iterator[tuple[Gate, Sessions]]:
    settings = rig.settings()
    yield wiring.gate(settings), wiring.sessions(settings)
    wiring.stop()


def show(gate: Gate, token: str | bytes, **more: object) -> object:
    value = token.encode() if isinstance(token, str) else token
    header = Credential(value, "header", ISSUERS)
    return gate.admit(Presented(header=header, **more)).verdict  # type: ignore[arg-type] # few


def admitted(verdict: object) -> Admitted:
    assert isinstance(verdict, Admitted), verdict
    return verdict


def again(rig: Rig, phase: str, **move: object) -> tuple[Gate, Sessions]:
    """Move the rollout, and look at it with a node that has just started."""
    rig.move(phase, **move)  # type: ignore[arg-type] # percent only
    wiring.stop()
    settings = rig.settings()
    return wiring.gate(settings), wiring.sessions(settings)


def test_a_legacy_token_lives_from_observe_to_retired(rig: Rig) -> None:
    jwt = sign("ann")
    gate, _ = again(rig, "observe")
    seen = admitted(show(gate, jwt))
    assert (seen.principal.subject, seen.principal.via, seen.hand_out) == ("ann", "legacy", None)
    assert rig.count("sessions") == 0

    gate, _ = again(rig, "swap", percent=0)
    assert admitted(show(gate, jwt)).hand_out is None

    gate, _ = again(rig, "swap", percent=100)
    token = admitted(show(gate, jwt)).hand_out
    assert token is not None
    assert token.startswith(b"sess_")
    assert admitted(show(gate, jwt)).hand_out == token
    assert admitted(show(gate, token)).principal.via == "session"
    assert rig.count("sessions") == 1

    gate, _ = again(rig, "drain")
    draining = admitted(show(gate, jwt))
    assert draining.hand_out == token
    assert draining.notice is not None
    assert admitted(show(gate, token)).notice is None

    gate, _ = again(rig, "cutover")
    assert show(gate, jwt) == Refused(Reason.LEGACY_RETIRED)
    assert admitted(show(gate, token)).principal.subject == "ann"

    gate, _ = again(rig, "drain")
    assert admitted(show(gate, jwt)).hand_out == token

    gate, _ = again(rig, "retired")
    assert show(gate, jwt) == Refused(Reason.LEGACY_RETIRED)
    assert admitted(show(gate, token)).principal.subject == "ann"
    wiring.stop()


def test_a_logout_ends_the_session_and_its_legacy_token(
    rig: Rig, app: tuple[Gate, Sessions]
) -> None:
    gate, sessions = again(rig, "swap")
    jwt = sign("ann")
    token = admitted(show(gate, jwt)).hand_out
    assert token is not None
    assert sessions.end(token) == 1
    assert show(gate, token) == Refused(Reason.SESSION_ENDED)
    assert show(gate, jwt) == Refused(Reason.SESSION_ENDED)


def test_p2_in_observe_a_revoked_jwt_is_refused_under_any_scheme(
    rig: Rig, app: tuple[Gate, Sessions]
) -> None:
    """Many apps take whatever follows the first blank of the header."""
    gate, sessions = again(rig, "observe")
    jwt, other = sign("ann"), sign("ann")
    sessions.end(jwt)
    for token, verdict in ((jwt, Refused), (other, Passed)):
        strange = Credential(token.encode(), "header", frozenset())
        assert isinstance(gate.admit(Presented(header=strange)).verdict, verdict)


def test_logging_out_everywhere_reaches_legacy_tokens_never_seen_before(
    rig: Rig, app: tuple[Gate, Sessions]
) -> None:
    gate, sessions = again(rig, "swap")
    seen, unseen = sign("ann"), sign("ann")
    token = admitted(show(gate, seen)).hand_out
    assert token is not None
    assert sessions.end_all("ann") == 1
    assert show(gate, token) == Refused(Reason.SESSION_ENDED)
    assert show(gate, unseen) == Refused(Reason.CUT_OFF)
    assert isinstance(show(gate, sign("bob")), Admitted)


def test_ending_the_others_keeps_the_caller(rig: Rig, app: tuple[Gate, Sessions]) -> None:
    gate, sessions = again(rig, "swap")
    mine = sessions.login("ann", legacy=lambda: "jwt").token
    other = sessions.login("ann", legacy=lambda: "jwt").token
    assert isinstance(mine, str)
    assert isinstance(other, str)
    assert sessions.end_others(mine) == 1
    assert isinstance(show(gate, mine), Admitted)
    assert show(gate, other) == Refused(Reason.SESSION_ENDED)


@pytest.mark.parametrize(
    ("phase", "kind"),
    [
        ("observe", "legacy"),
        ("swap", "session"),
        ("drain", "session"),
        ("cutover", "session"),
        ("retired", "session"),
    ],
)
def test_login_issues_what_the_phase_says(rig: Rig, phase: str, kind: str) -> None:
    _, sessions = again(rig, phase)
    issued = sessions.login("ann", legacy=lambda: {"access": "a", "refresh": "b"})
    assert issued.kind == kind
    if kind == "legacy":
        assert issued.token == {"access": "a", "refresh": "b"}
    wiring.stop()


def test_a_refresh_token_becomes_one_session_however_often_it_is_shown(
    rig: Rig, app: tuple[Gate, Sessions]
) -> None:
    _, sessions = again(rig, "drain")
    refresh = sign_refresh("ann")
    first = sessions.exchange(refresh, legacy=lambda: "never")
    second = sessions.exchange(refresh, legacy=lambda: "never")
    assert first.kind == "session"
    assert first.token == second.token
    assert isinstance(first.token, str)
    assert sessions.exchange(first.token, legacy=lambda: "never").token == first.token
    assert rig.count("sessions") == 1


def test_a_denied_refresh_token_is_refused_where_the_app_still_issues(
    rig: Rig, app: tuple[Gate, Sessions]
) -> None:
    _, sessions = app
    refresh = sign_refresh("ann")
    assert sessions.exchange(refresh, legacy=lambda: "jwt").kind == "legacy"
    assert sessions.end(refresh) == 1
    with pytest.raises(RefusedError) as refused:
        sessions.exchange(refresh, legacy=lambda: "jwt")
    assert refused.value.reason is Reason.DENIED


def test_p3_a_swap_carries_over_what_was_verified_and_nothing_more(
    migrated: str, redis_url: str
) -> None:
    scoped = {**ISSUER, "claims": {**ISSUER["claims"], "scopes": "scope"}}
    gate, _ = again(Rig(migrated, redis_url, issuers=[scoped]), "drain")
    ends = int(datetime.now(UTC).timestamp()) + 3600
    login = {"auth_time": ends - 7200, "amr": ["pwd"], "scope": "read", "exp": ends}
    token = admitted(show(gate, sign("ann", claims=login))).hand_out
    assert token is not None
    who = admitted(show(gate, token)).principal
    assert (who.subject, who.scopes) == ("ann", frozenset({"read"}))
    assert who.session is not None
    assert who.session.expires_at == datetime.fromtimestamp(ends, UTC)
    assert who.session.auth_time == datetime.fromtimestamp(ends - 7200, UTC)
    assert who.session.amr == ("pwd",)
    bare = admitted(show(gate, sign("bob"))).hand_out
    assert bare is not None
    session = admitted(show(gate, bare)).principal.session
    assert session is not None
    assert (session.auth_time, session.amr, session.scopes) == (None, (), frozenset())
    wiring.stop()


def test_p3_a_refresh_token_is_no_credential(rig: Rig, app: tuple[Gate, Sessions]) -> None:
    gate, _ = again(rig, "swap")
    assert show(gate, sign_refresh("ann")) == Refused(Reason.WRONG_PURPOSE)
    assert show(gate, sign_refresh("ann"), route="refresh") == Passed()


def test_an_expired_legacy_token_goes_on_to_the_app_until_drain(
    rig: Rig, app: tuple[Gate, Sessions]
) -> None:
    old = sign("ann", lasts_s=-3600)
    gate, _ = again(rig, "drain")
    assert show(gate, old) == Passed(Reason.LEGACY_EXPIRED)
    assert show(gate, old, route="login") == Passed(Reason.LEGACY_EXPIRED, strip=True)
    gate, _ = again(rig, "cutover")
    assert show(gate, old) == Refused(Reason.LEGACY_EXPIRED)


def test_the_apps_own_hook_decides_who_is_active_and_what_they_may_do(rig: Rig) -> None:
    states = {"ann": SubjectState(active=True, scopes=frozenset({"now"}))}
    rig.move("swap")
    settings = rig.settings()
    gate = wiring.gate(settings, resolve_subject=lambda subject, _realm: states.get(subject))
    seen = admitted(show(gate, sign("ann", claims={"scope": "then"})))
    assert seen.principal.scopes == {"now"}
    assert show(gate, sign("bob")) == Refused(Reason.INACTIVE_SUBJECT)
    wiring.stop()


def test_in_observe_the_app_decides_who_is_active(rig: Rig) -> None:
    rig.move("observe")
    gate = wiring.gate(rig.settings(), resolve_subject=lambda *_: None)
    assert show(gate, sign("ann")) == Passed(Reason.INACTIVE_SUBJECT)
    wiring.stop()


def test_a_hook_that_fails_is_an_outage_and_no_refusal(rig: Rig) -> None:
    """P4."""

    def broken(_subject: str, _realm: str) -> SubjectState:
        raise ConnectionError("the app's own database")

    rig.move("swap")
    gate = wiring.gate(rig.settings(), resolve_subject=broken)
    with pytest.raises(Unavailable):
        show(gate, sign("ann"))
    wiring.stop()


@pytest.mark.parametrize(
    ("share", "kept"), [("full", "192.0.2.77"), ("truncated", "192.0.2.0"), ("off", None)]
)
def test_only_what_the_settings_say_is_kept_of_an_address(
    rig: Rig, share: str, kept: str | None
) -> None:
    rig.move("swap")
    gate = wiring.gate(rig.settings(sessions={"store_ip": share}))
    shown = admitted(show(gate, sign("ann"), ip="192.0.2.77", user_agent="ios/7\0\ud800 x"))
    assert shown.principal.session is not None
    assert shown.principal.session.ip == kept
    assert shown.principal.session.user_agent == "ios/7 x"
    wiring.stop()


def test_a_carried_on_session_of_the_ledger_is_extended_where_refresh_tokens_rotate(
    rig: Rig,
) -> None:
    """P3: those users never had to log in again before; and P12, they need not now."""
    issuer = {**ISSUER, "rotates_refresh": True, "refresh_lifetime": "2d"}
    rig.move("drain")
    sessions = wiring.sessions(rig.settings(issuers=[issuer]))
    refresh = sign_refresh("ann", lasts_s=3600)
    first = sessions.exchange(refresh, legacy=lambda: "never")
    for origin in ("exchange", "backfill"):
        rig.execute(
            "UPDATE migrator.sessions SET origin = %s, expires_at = now() + interval '1 h'", origin
        )
        wiring.stop()
        sessions = wiring.sessions(rig.settings(issuers=[issuer]))
        again = sessions.exchange(str(first.token), legacy=lambda: "never")
        assert again.token == first.token
        assert rig.count("sessions", "expires_at > now() + interval '47 h'") == 1
    wiring.stop()


def test_ending_a_session_that_has_no_token_yet_is_told_to_every_node(rig: Rig) -> None:
    """P2: its legacy token may be remembered, unswapped, somewhere else."""
    rig.move("swap", percent=0)
    token = sign("ann")
    sessions = wiring.sessions(rig.settings())
    claims = sessions.verifier.verify(
        token.encode(),
        sessions.verifier.whose(token.encode()).candidates,  # type: ignore[union-attr] # is ours
        now=datetime.now(UTC),
    )
    assert isinstance(claims, Claims)
    session_id = uuid7()
    rig.execute(
        "INSERT INTO migrator.sessions (id, kind, realm, subject, origin, expires_at)"
        " VALUES (%s, 'session', 'users', 'ann', 'backfill', now() + interval '1 h')",
        session_id,
    )
    rig.execute(
        "INSERT INTO migrator.legacy_tokens (fingerprint, issuer, realm, subject, purpose, exp,"
        " keep_until, session_id) VALUES (%s, 'a1', 'users', 'ann', 'access', now(), now(), %s)",
        claims.fingerprint,
        session_id,
    )
    assert sessions.end(session_id) == 1
    assert rig.count("feed", "kind = 'legacy'") == 1
    wiring.stop()


def test_a_token_signed_after_the_drain_names_its_issuer(rig: Rig) -> None:
    rig.move("drain")
    rig.execute("UPDATE migrator.rollout SET drain_since = now() - interval '2 min'")
    gate = wiring.gate(rig.settings())
    show(gate, sign("ann"))
    assert gate.usage.tally("a1", None, "late").count == 1
    wiring.stop()


def test_a_named_foreign_token_passes_where_strangers_are_refused(rig: Rig) -> None:
    rig.move("swap")
    rule = {"claims": {"purpose": "file"}, "path": "/files/*"}
    gate = wiring.gate(rig.settings(http={"foreign": "refuse"}, foreign=[rule]))
    link = sign("ann", claims={"purpose": "file"})
    assert show(gate, link, path="/files/7") == Passed(Reason.FOREIGN)
    assert show(gate, "an-opaque-key") == Refused(Reason.FOREIGN)
    for shape in ("rule", "credential"):
        assert gate.usage.tally(None, None, f"foreign:{shape}").count == 1
    wiring.stop()


def test_in_observe_a_refresh_goes_on_while_our_store_is_away(
    own_postgres: Postgres,
) -> None:
    """P4: where the app decides, our outage is nobody's."""
    upgrade(url := own_postgres.create_database("observed"))
    rig = Rig(url)
    settings = rig.settings()
    gate, sessions = wiring.gate(settings), wiring.sessions(settings)
    refresh = sign_refresh("ann")
    assert sessions.exchange(refresh, legacy=lambda: "jwt").token == "jwt"
    own_postgres.kill()
    assert sessions.exchange(refresh, legacy=lambda: "jwt").token == "jwt"
    assert sessions.exchange(refresh + "=", legacy=lambda: "jwt").token == "jwt"
    assert show(gate, sign("ann")) == Passed()
    wiring.stop()


def test_one_issuer_that_does_not_rotate_keeps_its_realm_from_being_carried_on() -> None:
    """P3: a session does not say which of them it came from."""
    rotating = {**ISSUER, "rotates_refresh": True, "refresh_lifetime": "2d"}
    other = {**ISSUER, "id": "b2", "name": "other", "keys": [secrets.token_hex(32)]}
    rig = Rig("postgresql://127.0.0.1/none")
    for issuer in (rotating, other):
        issuer["realm"] = "users"
    alone = rig.settings(issuers=[{**rotating, "issuer": "one"}])
    both = rig.settings(issuers=[{**rotating, "issuer": "one"}, {**other, "issuer": "two"}])
    assert prepared.rolling_of(alone) == {"users": timedelta(days=2)}
    assert prepared.rolling_of(both) == {}
