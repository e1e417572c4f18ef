"""`doctor --deploy` tells what a rollout in production needs beyond what works."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from migrator.control.diagnosis.deploy import libraries
from shims.wsgi import DualAcceptMiddleware
from tests.cli.deployment import Deployment, validate
from tests.cli.serving import serving, silent

Findings = list[tuple[str, str, str]]


@pytest.fixture
def place(migrated: str, tmp_path: Path) -> Deployment:
    return Deployment(migrated, tmp_path)


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    with serving() as served:
        yield served


def ask(place: Deployment, *more: str) -> Findings:
    result = place.run("doctor", "--deploy", "--json", *more, code=None)
    found = json.loads(result.stdout)
    validate(found, "doctor")
    assert found["exit_code"] == result.exit_code
    return [(each["id"], each["level"], each["text"]) for each in found["findings"]]


def texts(found: Findings, name: str) -> list[str]:
    return [text for each, _, text in found if each == name]


def configure(place: Deployment, before: str, after: str) -> None:
    text = place.config.read_text()
    assert before in text
    place.config.write_text(text.replace(before, after))


def test_gates_that_nobody_asked_for_are_named(place: Deployment) -> None:
    missing = texts(ask(place), "gates.not-asked-for")
    assert "no gate proves whether the shim judges as the app does" in missing
    configure(place, "[gates]", "[gates]\ncompare_pairs = 1000\nrevocations = true")
    missing = texts(ask(place), "gates.not-asked-for")
    assert "no gate proves whether the shim judges as the app does" not in missing
    assert "no gate proves the way back" in missing


def test_a_rehearsal_is_told_the_same_and_more_gently(place: Deployment) -> None:
    levels = {level for name, level, _ in ask(place) if name == "gates.not-asked-for"}
    assert levels == {"warn", "info"}
    configure(place, 'environment = "staging"', 'environment = "ci"')
    levels = {level for name, level, _ in ask(place) if name == "gates.not-asked-for"}
    assert levels == {"info"}


def test_without_the_flag_none_of_it_is_told(place: Deployment) -> None:
    found = json.loads(place.run("doctor", "--json", code=None).stdout)
    assert "gates.not-asked-for" not in {each["id"] for each in found["findings"]}


def test_warnings_fail_the_command_where_that_is_asked_for(place: Deployment) -> None:
    place.run("doctor", code=0)
    place.run("doctor", "--fail-on", "warn", code=5)


def test_an_address_without_the_flag_is_a_usage_error(place: Deployment) -> None:
    place.run("doctor", "--url", "http://localhost/", code=2)


def test_a_node_without_the_key_that_derives_fails(place: Deployment) -> None:
    place.beat("n1", "n2")
    assert texts(ask(place), "nodes.key-missing") == []
    place.execute("UPDATE migrator.nodes SET key_ids = '{k9}' WHERE id = 'n2'")
    found = ask(place)
    assert texts(found, "nodes.key-missing") == ["without swap key k1, which derives: n2"]
    assert "k9" in texts(found, "nodes.key-unknown")[0]
    assert ("nodes.key-missing", "fail") in {each[:2] for each in found}


def test_clocks_builds_and_numbers_of_nodes_are_told(place: Deployment) -> None:
    assert texts(ask(place), "nodes.none")
    place.beat("n1", "n2", "n3", build=version("jwt-way-out"))
    found = ask(place)
    assert texts(found, "nodes.number") == ["3 nodes live, expected_nodes says 2"]
    place.execute("DELETE FROM migrator.nodes WHERE id = 'n3'")
    assert texts(ask(place), "nodes") == ["2 nodes: same keys, time, release"]
    place.execute("UPDATE migrator.nodes SET clock_skew_ms = -4200 WHERE id = 'n2'")
    place.execute("UPDATE migrator.nodes SET build = '0.0.1' WHERE id = 'n1'")
    found = ask(place)
    assert texts(found, "nodes.clock-skew") == ["clocks are up to 4.2 s off the database's: n2"]
    assert texts(found, "nodes.old-build")[0].endswith(": n1")


def test_a_backfill_that_stopped_without_a_word_is_told(place: Deployment) -> None:
    place.execute(
        "INSERT INTO migrator.jobs (name, source, state, updated_at)"
        " VALUES ('simplejwt a1', 'simplejwt', 'running', now() - interval '2 hours'),"
        " ('table a1', 'table', 'done', now())"
    )
    assert texts(ask(place), "backfill.unfinished") == [
        "backfill simplejwt a1 stopped without a word, and is not done"
    ]


def test_what_is_still_in_force_is_told(place: Deployment) -> None:
    place.execute(
        "INSERT INTO migrator.overrides (created_by, gate, reason, until)"
        " VALUES ('kim', 'legacy-seen', 'known', now() + interval '1 day'),"
        " ('kim', 'foreign-seen', 'over', now() - interval '1 day')"
    )
    place.execute(
        "INSERT INTO migrator.holds (created_by, reason, until)"
        " VALUES ('kim', 'release week', now() + interval '1 day')"
    )
    found = ask(place)
    assert texts(found, "overrides.in-force") == ["override 1 of legacy-seen by kim is in force"]
    assert texts(found, "holds.in-force") == ["hold 1 by kim: release week"]


def test_a_history_of_thesilent_with_two_heads_is_told(place: Deployment) -> None:
    place.execute("CREATE TABLE public.alembic_version (version_num text)")
    place.execute("INSERT INTO public.alembic_version VALUES ('a1')")
    assert texts(ask(place), "alembic.heads") == []
    place.execute("INSERT INTO public.alembic_version VALUES ('b2')")
    assert texts(ask(place), "alembic.heads") == [
        "the app's own history in public has several heads: a1, b2"
    ]


def test_more_nodes_than_the_server_has_connections_are_told(place: Deployment) -> None:
    assert texts(ask(place), "database.few-connections") == []
    configure(place, "expected_nodes = 2", "expected_nodes = 5000")
    assert texts(ask(place), "database.few-connections")


def test_a_table_that_is_never_vacuumed_is_told(place: Deployment) -> None:
    place.execute("ALTER TABLE migrator.sessions SET (autovacuum_enabled = false)")
    assert "migrator.sessions" in texts(ask(place), "database.autovacuum")[0]


def test_a_cookie_that_is_not_secure_is_told(place: Deployment) -> None:
    assert texts(ask(place), "cookie.insecure") == []
    with place.config.open("a") as config:
        config.write("[cookie]\nsecure = false\n")
    assert texts(ask(place), "cookie.insecure")


def test_libraries_with_known_holes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"python-jose": "3.3.0", "jwcrypto": "1.5.6"}

    def ask_for(name: str) -> str:
        if name in installed:
            return installed[name]
        raise PackageNotFoundError(name)

    monkeypatch.setattr(libraries, "version", ask_for)
    assert [each.text.partition(":")[0] for each in libraries.looks()] == ["python-jose 3.3.0"]


def test_an_address_that_the_shim_answers_is_fine(
    place: Deployment, serve: Callable[[Any], str]
) -> None:
    url = serve(DualAcceptMiddleware(silent, place.settings))
    found = ask(place, "--url", url)
    assert texts(found, "front") == [f"{url} refuses a token of nobody, and keeps no answer"]


def test_an_address_that_does_not_hand_the_header_on_is_told(
    place: Deployment, serve: Callable[[Any], str]
) -> None:
    shim = DualAcceptMiddleware(silent, place.settings)

    def forgetful(environ: dict[str, Any], start_response: Any) -> Any:
        environ.pop("HTTP_AUTHORIZATION", None)
        return shim(environ, start_response)

    found = ask(place, "--url", serve(forgetful))
    assert "does not reach it" in texts(found, "front.not-ours")[0]


def test_a_cache_that_answers_for_thesilent_fails(
    place: Deployment, serve: Callable[[Any], str]
) -> None:
    shim = DualAcceptMiddleware(silent, place.settings)

    def cached(environ: dict[str, Any], start_response: Any) -> Any:
        def started(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            return start_response(status, [*headers, ("X-Cache", "HIT")], *more)

        return shim(environ, started)

    found = ask(place, "--url", serve(cached))
    assert ("front.cached", "fail") in {each[:2] for each in found}


def test_an_address_that_nobody_answers_is_told(place: Deployment) -> None:
    assert texts(ask(place, "--url", "http://127.0.0.1:9/"), "front.unreachable")


def test_revocations_that_nobody_reads_hold_up_the_drain_where_that_is_asked_for(
    place: Deployment,
) -> None:
    place.put("swap", percent=100)
    place.beat("n1", "n2")
    place.execute("CREATE TABLE public.blocklist (id int, jti text)")
    assert "revocations-wired" not in _gates(place)
    configure(place, "[gates]", "[gates]\nrevocations = true")
    with place.config.open("a") as config:
        config.write('[routes]\nlogout = ["/logout"]\n')
    held = _gates(place)["revocations-wired"]
    assert (held["result"], held["value"]) == ("fail", 1)
    assert "public.blocklist" in held["detail"]
    with place.config.open("a") as config:
        config.write(
            '[[ledgers]]\nname = "blocklist"\nkind = "table"\nissuer = "a1"\n'
            'table = "public.blocklist"\ncolumns = { jti = "jti" }\n'
        )
    assert _gates(place)["revocations-wired"]["result"] == "pass"


def test_everybody_is_swapped_only_once_thesilents_revocations_are_read(place: Deployment) -> None:
    configure(place, "[gates]", "[gates]\nrevocations = true")
    place.beat("n1", "n2")
    held = place.json_any("advance", "swap", "--percent", "100", "--dry-run")
    assert {gate["id"]: gate["result"] for gate in held["gates"]}["revocations-wired"] == "fail"
    some = place.json_any("advance", "swap", "--percent", "99", "--dry-run")
    assert "revocations-wired" not in {gate["id"] for gate in some["gates"]}


def _gates(place: Deployment) -> dict[str, Any]:
    return {gate["id"]: gate for gate in place.json_any("gates", "drain")["gates"]}
