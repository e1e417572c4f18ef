"""`doctor` tells whether an app behind the bridge understands it, and can be reached past it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest

from migrator.cli import main
from shims.wsgi import DualAcceptMiddleware
from tests.cli.deployment import Deployment
from tests.cli.serving import serving, silent

Findings = dict[str, dict[str, Any]]
Ask = Callable[..., Findings]


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    with serving() as served:
        yield served


@pytest.fixture
def place(migrated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    deployment = Deployment(migrated, tmp_path)
    for name, value in deployment.environ.items():
        monkeypatch.setenv(name, value)
    return deployment


def ask(place: Deployment, bridge: str = "") -> Findings:
    text = place.config.read_text().partition("[bridge]")[0]
    place.config.write_text(f"{text}[bridge]\n{bridge}\n")
    arguments = ["--config", str(place.config), "--json", "doctor"]
    result = click.testing.CliRunner().invoke(main, arguments)
    found = json.loads(result.stdout)["findings"]
    return {each["id"]: each for each in found if each["id"].startswith("bridge.")}


def count(place: Deployment, outcome: str, client: str, times: int) -> None:
    place.execute(
        "INSERT INTO migrator.legacy_usage (hour, issuer, client, outcome, count, last_at)"
        " VALUES (date_trunc('hour', now()), 'a1', %s, %s, %s, now())",
        client,
        outcome,
        times,
    )


def test_an_address_at_which_thesilent_answers_itself_is_told(
    place: Deployment, serve: Callable[[Any], str]
) -> None:
    found = ask(place, f'probes = ["{serve(silent)}"]')
    assert found["bridge.bypass"]["level"] == "fail"
    assert "past the shim" in found["bridge.bypass"]["text"]


def test_an_address_behind_the_shim_is_fine(
    place: Deployment, serve: Callable[[Any], str]
) -> None:
    behind = serve(DualAcceptMiddleware(silent, place.settings))
    found = ask(place, f'probes = ["{behind}"]')
    assert found["bridge.probe"]["level"] == "ok"
    assert "bridge.bypass" not in found


def test_an_address_that_nobody_reaches_is_fine(place: Deployment) -> None:
    found = ask(place, 'probes = ["http://127.0.0.1:9/me"]')
    assert found["bridge.probe"]["level"] == "ok"


def test_without_addresses_doctor_says_that_nobody_asked(place: Deployment) -> None:
    assert ask(place)["bridge.unprobed"]["level"] == "info"


def test_ansilent_that_does_not_understand_its_sessions_is_told(place: Deployment) -> None:
    count(place, "bridge:refused", "acme-ios", 30)
    count(place, "bridge:shown", "acme-ios", 10)
    assert ask(place)["bridge.not-understood"]["level"] == "fail"


def test_a_route_that_issues_past_the_bridge_is_named(place: Deployment) -> None:
    count(place, "route:issues_legacy", "/oauth/callback", 3)
    assert "/oauth/callback" in ask(place)["bridge.issuing-route"]["text"]
    place.put("swap", percent=100)
    place.beat("n1", "n2")
    gates = {one["id"]: one for one in place.json_any("gates", "drain")["gates"]}
    assert gates["issuing-routes"]["result"] == "fail"
    assert "/oauth/callback" in gates["issuing-routes"]["detail"]


def test_doctor_says_when_thesilent_may_drop_its_jwt_code(place: Deployment) -> None:
    place.put("drain")
    assert "bridge.may-go" not in ask(place)
    place.put("cutover")
    assert ask(place)["bridge.may-go"]["level"] == "info"
    count(place, "legacy", "acme-ios", 1)
    assert "bridge.may-go" not in ask(place)
