"""P2: what was revoked stays revoked, however it is spelt, whatever is done afterwards."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import timedelta

import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import create_engine

from migrator import wiring
from migrator.control import sweeping
from migrator.core.gate import Gate
from migrator.stores.drivers import conninfo
from migrator.stores.postgres import subject_lock
from tests.faults.nodes import Answer, present
from tests.rig import ISSUER, Rig, sign

_CURVE_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
HS256 = {**ISSUER, "realm": "users"}
ES256 = {**HS256, "id": "a2", "name": "elliptic", "algorithms": ["ES256"], "keys": [PUBLIC]}
ES256["issuer"] = "https://elliptic.example"
PHASES = ("observe", "swap", "drain", "cutover", "retired")


@pytest.fixture
def rig(migrated: str, redis_url: str) -> Rig:
    rig = Rig(migrated, redis_url, issuers=[HS256, ES256])
    rig.move("drain")
    return rig


@pytest.fixture(autouse=True)
def over() -> Iterator[None]:
    yield
    wiring.stop()


def afresh(rig: Rig) -> Gate:
    """A node that has just started: nothing is remembered."""
    wiring.stop()
    return wiring.gate(rig.settings())


def sign_es256(subject: str) -> bytes:
    plain = jwt.decode(sign(subject), options={"verify_signature": False})
    plain["iss"] = ES256["issuer"]
    return jwt.encode(plain, KEY, algorithm="ES256").encode()


def mirrored(token: bytes) -> bytes:
    """The other signature of the same bytes: (r, n - s) is as valid as (r, s)."""
    signed, _, signature = token.rpartition(b".")
    raw = base64.urlsafe_b64decode(signature + b"==")
    s = _CURVE_ORDER - int.from_bytes(raw[32:], "big")
    other = base64.urlsafe_b64encode(raw[:32] + s.to_bytes(32, "big")).rstrip(b"=")
    return signed + b"." + other


RESPELT: dict[str, tuple[Callable[[str], bytes], Callable[[bytes], bytes]]] = {
    "as it was": (lambda subject: sign(subject).encode(), lambda token: token),
    "= appended": (lambda subject: sign(subject).encode(), lambda token: token + b"="),
    "== appended": (sign_es256, lambda token: token + b"=="),
    "(r, n-s)": (sign_es256, mirrored),
    "padded signature bits": (sign_es256, lambda token: token[:-1] + _next_letter(token[-1:])),
}


def _next_letter(letter: bytes) -> bytes:
    """The same bits with another tail, which a lenient decoder drops."""
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return letters[(letters.index(letter) ^ 1) :][:1]


@pytest.mark.parametrize("spelling", list(RESPELT))
def test_p2_the_legacy_token_of_a_revoked_session_is_refused_in_every_spelling(
    rig: Rig, spelling: str
) -> None:
    make, respell = RESPELT[spelling]
    legacy = make("ann")
    gate = wiring.gate(rig.settings())
    token = present(gate, legacy).token
    assert token is not None
    assert present(gate, mirrored(legacy) if make is sign_es256 else legacy).token == token
    assert rig.count("sessions") == 1
    assert wiring.operator(rig.settings()).end(token) == 1
    for phase in ("drain", "swap", "observe", "cutover", "retired"):
        rig.move(phase)
        fresh = afresh(rig)
        assert present(fresh, respell(legacy)).kind == "refused", phase
        assert present(fresh, token).kind == "refused", phase
    assert rig.count("sessions", "revoked_at IS NULL") == 0


@pytest.mark.parametrize("ending", ["session", "legacy token", "subject"])
def test_p2_no_phase_brings_a_revoked_credential_back(rig: Rig, ending: str) -> None:
    swapped, unseen = sign("ann").encode(), sign("ann").encode()
    token = present(wiring.gate(rig.settings()), swapped).token
    assert token is not None
    operator = wiring.operator(rig.settings())
    end: dict[str, Callable[[], int]] = {
        "session": lambda: operator.end(token),
        "legacy token": lambda: operator.end(swapped),
        "subject": lambda: operator.end_all("ann"),
    }
    assert end[ending]() == 1
    dead = [swapped, token, *([unseen] if ending == "subject" else [])]
    for phase in (*reversed(PHASES[:-1]), *PHASES):
        for percent in (0, 100) if phase == "swap" else (100,):
            rig.move(phase, percent=percent)
            gate = afresh(rig)
            kinds = {present(gate, one).kind for one in dead}
            assert kinds == {"refused"}, (phase, percent)
    assert rig.count("sessions", "revoked_at IS NULL") == 0


def test_p2_an_unswapped_legacy_token_that_was_denied_never_swaps(rig: Rig) -> None:
    legacy = sign("ann").encode()
    assert wiring.operator(rig.settings()).end(legacy) == 1
    for phase in PHASES:
        rig.move(phase)
        assert present(afresh(rig), legacy).kind == "refused", phase
    assert rig.count("sessions") == 0


def test_p2_the_sweep_does_not_bring_a_revoked_session_back(rig: Rig) -> None:
    legacy, token = revoked(rig)
    rig.execute("UPDATE migrator.sessions SET revoked_at = now() - interval '1 year'")
    engine = create_engine(rig.url)
    with engine.connect() as connection:
        swept = sweeping.sweep(connection, "migrator", keep_ended=timedelta(days=30))
    engine.dispose()
    assert swept.finished
    assert rig.count("sessions") == 0, "its row is gone"
    for answer in shown(afresh(rig), legacy, token):
        assert answer.kind == "refused"
    assert rig.count("sessions") == 0, "and no other came"


def test_p2_a_backfill_does_not_bring_a_revoked_session_back(rig: Rig) -> None:
    """The ledger still names the token as good: its row was known already, and decides."""
    legacy, token = revoked(rig)
    rig.execute("CREATE TABLE ledger (id bigserial PRIMARY KEY, token text)")
    rig.execute("INSERT INTO ledger (token) VALUES (%s)", legacy.decode())
    backfill(rig)
    for answer in shown(afresh(rig), legacy, token):
        assert answer.kind == "refused"
    assert rig.count("sessions", "revoked_at IS NULL") == 0


def backfill(rig: Rig) -> None:
    from migrator.control.backfill import order  # noqa: PLC0415 - imports half the control side

    asked = order.Order(kind="table", issuer="a1", place="ledger")
    report = order.fulfil(rig.settings(), asked, lambda *_: None)
    assert report.outcome.end == "done"


def revoked(rig: Rig) -> tuple[bytes, bytes]:
    legacy = sign("ann").encode()
    token = present(wiring.gate(rig.settings()), legacy).token
    assert token is not None
    assert wiring.operator(rig.settings()).end(token) == 1
    return legacy, token


def shown(gate: Gate, *credentials: bytes) -> list[Answer]:
    return [present(gate, one) for one in credentials]


def test_p2_a_node_frozen_inside_its_swap_cannot_hold_up_a_revocation(rig: Rig) -> None:
    """It keeps the shared lock until its connection is ended for it."""
    legacy = sign("ann").encode()
    token = present(wiring.gate(rig.settings()), legacy).token
    assert token is not None
    frozen = psycopg.connect(**conninfo(rig.url))
    frozen.execute("SELECT pg_advisory_xact_lock_shared(%s)", (subject_lock("users", "ann"),))
    assert wiring.operator(rig.settings()).end_all("ann") == 1
    with pytest.raises(psycopg.OperationalError):
        frozen.execute("SELECT 1")
    frozen.close()
    assert present(afresh(rig), legacy).kind == "refused"
