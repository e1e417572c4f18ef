"""`inspect` and `init` on every shape: the library by name, its hazards, and where to read on."""

from __future__ import annotations

import json
import secrets
import time
import tomllib
from pathlib import Path
from typing import Any

import click.testing
import jsonschema
import jwt
import pytest

from migrator.cli import main
from migrator.control import hazards, inspection, pasted, playbooks
from migrator.core.presets import PRESETS, Hazard, recognise
from tests.fixtures.shapes import BY_HAND, TIMES, UUID

SECRET = "k" + "Zq8vN3xR7tL1wP5yB9cF2hJ6mD4sG0aE" * 2
SCHEMA = json.loads(
    (Path(__file__).parents[2] / "migrator" / "schemas" / "inspect-1.json").read_text()
)
NEXT_AUTH = b"eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAAA.AAAA.AAAA"


def signed(payload: dict[str, Any]) -> bytes:
    return jwt.encode(payload, SECRET).encode()


def ids(found: inspection.Inspection) -> set[str]:
    return {each.hazard.id for each in found.dangers}


def shown(credential: bytes, *args: str) -> str:
    result = click.testing.CliRunner().invoke(main, ["inspect", *args], input=credential)
    assert result.exit_code == 0, result.output
    return result.stdout


def every_hazard() -> list[Hazard]:
    shapes = [*PRESETS.values(), *(each.preset for each in recognise(*_next_auth()))]
    return [
        *(hazard for shape in shapes for hazard in shape.hazards),
        *(Hazard(name, text, see) for name, see, text, _ in hazards._TABLE),
    ]


def _next_auth() -> tuple[dict[str, object], dict[str, object]]:
    return {"alg": "dir", "enc": "A256GCM"}, {}


def test_every_hazard_leads_to_a_passage_that_is_there() -> None:
    for see in sorted({hazard.see for hazard in every_hazard()}):
        _, text = playbooks.passage(see)
        assert text.strip(), see


@pytest.mark.parametrize("name", [name for name, shape in BY_HAND.items() if shape.sure])
def test_a_shape_that_can_be_told_is_named_and_its_hazards_are_listed(name: str) -> None:
    payload = dict(BY_HAND[name].login) | {"sub": str(BY_HAND[name].login.get("sub", "7"))}
    if "sub" not in BY_HAND[name].login:
        del payload["sub"]
    header = dict(BY_HAND[name].header) | {"alg": "HS256"}
    found = inspection.inspect(
        jwt.encode(payload, SECRET, headers=header).encode(), settings=None, app=None
    )
    assert (found.shapes[0].preset.name, found.shapes[0].is_sure) == (name, True)
    assert {hazard.id for hazard in PRESETS[name].hazards} <= ids(found)
    others = [each for each in found.dangers if each.shapes and each.shapes != (name,)]
    assert others == []


def test_the_hazards_of_every_shape_it_may_be_are_listed_by_name() -> None:
    found = inspection.inspect(signed({"sub": "7", **TIMES}), settings=None, app=None)
    assert not any(each.is_sure for each in found.shapes)
    by_id = {each.hazard.id: each.shapes for each in found.dangers}
    assert by_id["reset-tokens"] == ("fastapi-tutorial",)
    assert by_id["api-keys"] == ("lemur",)
    assert by_id["long-tokens"] == ("mealie",)


def test_an_ambiguous_sample_is_said_to_be_ambiguous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = shown(signed({"sub": "7", **TIMES}))
    assert "cannot be told; one of:" in text
    for name in ("fastapi-tutorial", "lemur", "mealie"):
        assert f"({name})" in " ".join(text.split())
    assert "api-keys, if it is lemur:" in text
    assert "→ 90-what-if#wrong_purpose" in text


def test_a_habit_is_said_to_be_possible_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = " ".join(shown(signed({"userId": UUID, **TIMES})).split())
    assert "possibly a Node app on jsonwebtoken (jsonwebtoken)" in text
    assert "subject-varies:" in text


def test_a_next_auth_cookie_is_said_to_be_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = json.loads(shown(NEXT_AUTH, "--json"))
    jsonschema.validate(found, SCHEMA)
    assert (found["kind"], found["presets"]) == ("jwe", ["next-auth"])
    assert {each["id"] for each in found["hazards"]} == {"jwe", "session-cookie"}


def test_what_is_printed_names_the_library_and_where_to_read_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    login = signed(dict(BY_HAND["ayunis"].login))
    found = json.loads(shown(login, "--json"))
    jsonschema.validate(found, SCHEMA)
    assert found["shapes"] == [{"name": "ayunis", "library": "ayunis-core", "sure": True}]
    mine = {each["id"]: each for each in found["hazards"]}["kind-by-absence"]
    assert (mine["see"], mine["shapes"]) == ("90-what-if#wrong_purpose", ["ayunis"])
    text = shown(login)
    assert "shape     ayunis-core (ayunis)" in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_preset_of_the_settings_is_believed_before_any_guess(
    migrated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "migrator.toml").write_text(
        'environment = "test"\n[database]\nurl = "env:DB"\n'
        '[swap]\nkeys = [{ id = "k1", secret = "env:SWAP" }]\n'
        '[[issuers]]\nid = "a1"\npreset = "mealie"\nkeys = ["env:JWT_SECRET"]\n'
    )
    monkeypatch.setenv("DB", migrated)
    monkeypatch.setenv("SWAP", secrets.token_urlsafe(32))
    monkeypatch.setenv("JWT_SECRET", SECRET)
    monkeypatch.chdir(tmp_path)
    found = json.loads(shown(signed({"sub": UUID, "exp": int(time.time()) + 900}), "--json"))
    assert found["verified"] is True
    named = {each["id"]: each["shapes"] for each in found["hazards"] if each["shapes"]}
    assert set(map(tuple, named.values())) == {("mealie",)}
    assert "long-tokens" in named


def test_init_says_which_other_shapes_the_sample_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = click.testing.CliRunner().invoke(main, ["init"], input=signed({"sub": "7", **TIMES}))
    assert result.exit_code == 0, result.output
    said = result.stderr
    assert "taken for fastapi-tutorial, and could also be of" in said
    assert "lemur" in said
    other = click.testing.CliRunner().invoke(
        main, ["init", "--force", "--preset", "lemur"], input=signed({"sub": "7", **TIMES})
    )
    assert other.exit_code == 0, other.output
    assert "could also" not in other.stderr


def test_init_takes_no_preset_whose_subject_the_sample_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    alike = {"token_type": "access", "jti": "0" * 32, "sub": "7", **TIMES}
    result = click.testing.CliRunner().invoke(main, ["init"], input=signed(alike))
    assert result.exit_code == 0, result.output
    written = Path("migrator.toml").read_text()
    assert "preset" not in tomllib.loads(written)["issuers"][0]


@pytest.mark.parametrize(
    "before",
    [
        *("", "Bearer ", "Token ", "JWT ", "X-Custom ", "Authorization: Bearer "),
        *("authorization:Token ", "Cookie: access_token=", "Set-Cookie: mealie.access_token="),
    ],
)
def test_what_stood_before_a_credential_is_taken_off(before: str) -> None:
    token = signed({"sub": "7", **TIMES})
    assert pasted.bare(f'"{before}{token.decode()}"\n'.encode()) == token


def test_a_credential_that_a_log_has_wrapped_is_not_taken_for_a_scheme() -> None:
    token = signed({"sub": "7", **TIMES})
    wrapped = token[:60] + b"\n  " + token[60:]
    assert pasted.bare(wrapped) == wrapped
