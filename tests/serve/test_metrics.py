"""`/metrics`, `/healthz`, `/readyz`, and the dashboard that is drawn from them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from starlette.testclient import TestClient

from migrator import wiring
from migrator.control.playbooks import directory
from shims.asgi import DualAcceptMiddleware
from shims.metrics import FAMILIES, collector
from tests.apps.deployment import sign
from tests.http.servers import bearer
from tests.rig import Rig
from tests.rig import sign as sign_for_rig
from tests.serve.served import Serve

pytestmark = pytest.mark.xdist_group("serve")

DASHBOARD = directory() / "grafana.json"
METRIC = re.compile(r"\bmigrator_[a-z_]+")
SUFFIXES = ("_bucket", "_sum", "_count")


def verdicts(serve: Serve, **labels: str) -> float:
    return sum(
        value
        for (name, found), value in serve.metrics().items()
        if name == "migrator_verdicts_total" and labels.items() <= dict(found).items()
    )


def test_every_verdict_is_counted_with_its_reason_issuer_and_phase(serve: Serve) -> None:
    cases = [
        (sign("ann"), {"verdict": "admitted", "reason": "swapped", "issuer": "a1"}),
        (sign("ann", lasts_s=30), {"verdict": "admitted", "reason": "legacy", "issuer": "a1"}),
        ("sess_" + "0" * 49, {"verdict": "refused", "reason": "bad_token"}),
        (sign("ann", lasts_s=-60), {"verdict": "passed", "reason": "legacy_expired"}),
        ("an-api-key", {"verdict": "foreign", "reason": "credential"}),
    ]
    for token, labels in cases:
        before = verdicts(serve, phase="swap", **labels)
        for _ in range(2):
            serve.auth(bearer(token))
        assert verdicts(serve, phase="swap", **labels) == before + 2, labels


def test_no_client_can_add_a_label(serve: Serve) -> None:
    serve.auth(bearer(sign("ann")), ("User-Agent", "made-up-by-me/1.0"))
    before = len(serve.metrics())
    for number in range(20):
        agent = ("User-Agent", f"made-up-{number}/1.0")
        serve.auth(bearer(sign(f"made-up-{number}")), agent, uri=f"/made-up/{number}")
    assert len(serve.metrics()) == before
    assert b"made-up" not in serve.get("/metrics").body


def test_the_phase_and_epoch_are_those_that_the_process_acts_under(moved: Serve) -> None:
    moved.auth(bearer(sign("ann")))
    moved.metrics()
    moved.reach("drain")
    found = moved.metrics()
    phases = {
        dict(labels)["phase"]: value
        for (name, labels), value in found.items()
        if name == "migrator_phase"
    }
    assert phases == {"observe": 0, "swap": 0, "drain": 1, "cutover": 0, "retired": 0}
    moved.auth(bearer(sign("ann")))
    assert verdicts(moved, phase="swap") == 1
    assert verdicts(moved, phase="drain") == 1


def test_every_family_is_documented_and_every_documented_one_is_there(serve: Serve) -> None:
    serve.auth(bearer(sign("ann")))
    found = {_family(name) for name, _ in serve.metrics() if not name.endswith("_created")}
    assert found <= FAMILIES.keys()
    rare = {
        "migrator_issued_total",
        "migrator_late_legacy_total",
        "migrator_events_total",
        "migrator_last_issued_seconds",
    }
    assert FAMILIES.keys() - found <= rare
    text = (directory() / "56-serve.md").read_text()
    for name, (labels, _) in FAMILIES.items():
        shown = f"`{name}" + (f"{{{', '.join(labels)}}}`" if labels else "`")
        assert shown in text


def test_stores_and_caches_are_measured(serve: Serve) -> None:
    serve.auth(bearer(sign("ann")))
    found = serve.metrics()
    assert found["migrator_store_seconds_count", frozenset()] > 0
    assert found["migrator_memory_entries", frozenset()] > 0
    assert ("migrator_cache_lookups_total", frozenset({("result", "absent")})) in found


def test_an_app_with_the_shim_has_the_same_metrics_in_its_own_registry(migrated: str) -> None:
    rig = Rig(migrated)
    rig.move("swap")
    settings = rig.settings()
    registry = CollectorRegistry()
    registry.register(collector(settings))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    with TestClient(DualAcceptMiddleware(app, settings)) as client:
        client.get("/", headers={"Authorization": f"Bearer {sign_for_rig('ann')}"})
        text = generate_latest(registry).decode()
    wiring.stop()
    assert (
        'migrator_verdicts_total{issuer="a1",phase="swap",reason="swapped",verdict="admitted"} 1.0'
        in text
    )


# The dashboard


def test_the_dashboard_is_one_that_grafana_loads() -> None:
    """The structure that Grafana's import wants, and no panel over another."""
    board = json.loads(DASHBOARD.read_text())
    assert board["schemaVersion"] >= 36
    assert board["uid"]
    assert board["title"]
    assert board["id"] is None, "or the import would overwrite whatever has that id"
    inputs = {each["name"] for each in board["__inputs"]}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        grid = panel["gridPos"]
        assert 0 <= grid["x"] < grid["x"] + grid["w"] <= 24
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not taken & cells
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
        assert panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert inputs == {"DS_PROMETHEUS"}


def test_every_metric_of_the_dashboard_exists() -> None:
    board = json.loads(DASHBOARD.read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    asked += [str(each["query"]) for each in board["templating"]["list"]]
    asked += [each["expr"] for each in board["annotations"]["list"]]
    named = {_family(name) for text in asked for name in METRIC.findall(text)}
    assert named
    assert named <= FAMILIES.keys()
    for text in asked:
        for name, inside in re.findall(r"(migrator_[a-z_]+)\{([^}]*)\}", text):
            labels = set(re.findall(r"(\w+)\s*(?:=|!)", inside)) - {"job", "instance"}
            assert labels <= set(FAMILIES[_family(name)][0]), text


def _family(name: str) -> str:
    for suffix in SUFFIXES:
        if name.removesuffix(suffix) in FAMILIES:
            return name.removesuffix(suffix)
    return name


# Health


def test_it_is_healthy_while_it_answers_and_ready_while_it_can_judge(serve: Serve) -> None:
    assert serve.get("/healthz").status == 200
    ready = serve.get("/readyz")
    assert (ready.status, ready.json) == (200, {"ready": True, "missing": []})
