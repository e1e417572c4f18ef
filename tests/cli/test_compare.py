"""`compare show`, `compare ignore`, the gates of verdicts and of the store, and what is shown."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.deployment import Deployment
from tests.conftest import DatabaseServer

PAIRS = "MIGRATOR_GATES__COMPARE_PAIRS"
ROUTE = ("--route", "/account/password")
WHY = ("--reason", "401 = wrong old password")


class Place(Deployment):
    """One that can say what its nodes compared."""

    def paired(self, outcome: str, count: int, *, issuer: str = "a1", ago: str = "0 s") -> None:
        self.execute(
            "INSERT INTO migrator.legacy_usage (hour, issuer, client, outcome, count, last_at)"
            " VALUES (date_trunc('hour', now() - %s::interval), %s, 'ios/7.2.1', %s, %s,"
            " now() - %s::interval)",
            ago,
            issuer,
            outcome if ":" in outcome or outcome == "legacy" else f"pair:{outcome}",
            count,
            ago,
        )

    def differed(
        self,
        direction: str,
        count: int,
        *,
        route: str = "/account/password",
        client: str = "ios/7.2.1",
        verdict: str = "admitted",
        ago: str = "0 s",
    ) -> None:
        self.execute(
            "INSERT INTO migrator.differences (hour, direction, issuer, client, route, verdict,"
            " count, last_at) VALUES (date_trunc('hour', now() - %s::interval), %s, 'a1', %s, %s,"
            " %s, %s, now() - %s::interval)",
            *(ago, direction, client, route, verdict, count, ago),
        )

    def gate(self, name: str, phase: str = "swap") -> dict[str, Any] | None:
        """One gate before a phase, as `gates PHASE` has it; None: it is absent."""
        found = self.json_any("gates", phase)
        return next((one for one in found["gates"] if one["id"] == name), None)

    def result(self, name: str, phase: str = "swap") -> str | None:
        found = self.gate(name, phase)
        return None if found is None else str(found["result"])

    def ignored(self, *args: str, code: int = 0) -> dict[str, Any]:
        return self.json("compare", "ignore", "add", *args, code=code)


@pytest.fixture
def place(migrated: str, tmp_path: Path) -> Place:
    place = Place(migrated, tmp_path)
    place.environ[PAIRS] = "100"
    place.beat("n1", "n2")
    return place


# ---- the gates ---------------------------------------------------------------------------------


def test_without_asking_for_pairs_only_a_denial_we_do_not_know_of_is_a_gate(place: Place) -> None:
    del place.environ[PAIRS]
    assert place.result("verdict-deny-allow") is None
    place.differed("allow_deny", 5, verdict="legacy_expired")
    assert (place.result("verdict-deny-allow"), place.result("verdict-allow-deny")) == (None, None)
    place.move("advance", "swap", "--percent", "0", "--wait", "0")
    place.json("rollback", "--wait", "0")
    place.beat("n1", "n2")
    place.differed("deny_allow", 1)
    held = place.gate("verdict-deny-allow")
    assert held is not None
    assert (held["result"], held["value"], held["overridable"]) == ("fail", 1, False)
    assert held["detail"].endswith("ios/7.2.1 /account/password 1")
    assert held["command"] == "migrator compare show"
    place.move("advance", "swap", "--percent", "0", code=3)
    place.run(
        *("override", "add", "verdict-deny-allow", "--reason", "x", "--for", "1h"),
        *("--confirm", "staging"),
        code=3,
    )


def test_enough_pairs_that_agree_let_pass_and_too_few_prove_nothing(place: Place) -> None:
    assert place.result("verdict-deny-allow") == "inconclusive"
    place.paired("agree", 99)
    place.paired("agree_deny", 10_000)  # whoever has a dead token can make as many as they like
    few = place.gate("verdict-deny-allow")
    assert few is not None
    assert (few["result"], few["detail"]) == (
        "inconclusive",
        "too few pairs in 24 h, 100 are asked for: main 99",
    )
    place.execute("UPDATE migrator.legacy_usage SET count = 100 WHERE outcome = 'pair:agree'")
    assert place.result("verdict-deny-allow") == "pass"
    assert place.result("verdict-allow-deny") == "pass"
    place.paired("legacy", 3, issuer="b2")  # another issuer's tokens come, and are not compared
    assert place.result("verdict-deny-allow") == "inconclusive"
    place.paired("agree", 100, issuer="b2")
    assert place.result("verdict-deny-allow") == "pass"
    place.execute("UPDATE migrator.nodes SET seen_at = seen_at - interval '40 s'")
    assert place.result("verdict-deny-allow") == "stale"


def test_what_is_older_than_a_day_decides_nothing(place: Place) -> None:
    place.paired("agree", 100)
    place.differed("deny_allow", 1, ago="25 hours")
    place.paired("agree", 1000, ago="25 hours")
    assert place.result("verdict-deny-allow") == "pass"
    assert place.json("compare", "show")["pairs"] == 100


def test_the_budget_is_of_what_the_app_served_and_can_be_overridden(place: Place) -> None:
    place.paired("agree", 9_990)
    place.paired("allow_deny", 10)
    place.paired("agree_deny", 90_000)
    place.differed("allow_deny", 10, verdict="legacy_expired", route="/feed")
    assert place.gate("verdict-allow-deny") is not None
    assert place.result("verdict-allow-deny") == "pass"  # 0.1 % exactly
    place.differed("allow_deny", 1, verdict="bad_signature", route="/feed", client="cron")
    over = place.gate("verdict-allow-deny")
    assert over is not None
    assert (over["result"], over["value"], over["overridable"]) == ("fail", 0.11, True)
    assert "ios/7.2.1 /feed legacy_expired 10" in over["detail"]


def test_once_the_shim_decides_there_is_no_verdict_gate(place: Place) -> None:
    place.put("swap", percent=5)
    place.differed("deny_allow", 1)
    assert place.result("verdict-deny-allow") is None
    assert place.json("status")["compare"] is None
    shown = place.run("compare", "show").stdout
    assert "deny_allow" in shown  # what is on record stays to be read


@pytest.mark.parametrize("phase", ["drain", "cutover"])
def test_a_slow_session_store_holds_up_where_it_is_asked_for(place: Place, phase: str) -> None:
    if phase == "cutover":
        place.put("drain")
        place.beat("n1", "n2")
    assert place.result("session-store-slo", phase) is None
    place.environ["MIGRATOR_GATES__STORE_P99"] = "20ms"
    assert place.result("session-store-slo", phase) == "inconclusive"
    _vitals(place, "n1", p99=12.5)
    _vitals(place, "n2", p99=4.0)
    assert place.result("session-store-slo", phase) == "pass"
    _vitals(place, "n2", p99=20.5)
    slow = place.gate("session-store-slo", phase)
    assert slow is not None
    assert (slow["result"], slow["value"], slow["threshold"]) == ("fail", 20.5, "20 ms")
    assert slow["detail"] == "p99 20.5 ms at n2, the slowest of 2 nodes"
    _vitals(place, "n2", p99=4.0, errors=1)
    assert place.result("session-store-slo", phase) == "fail"
    _vitals(place, "n2", p99=None)
    _vitals(place, "n1", p99=None)
    assert place.result("session-store-slo", phase) == "inconclusive"


def _vitals(place: Place, node: str, *, p99: float | None, errors: int = 0) -> None:
    said = {"window_s": 60, "asked": 9, "p50_ms": p99 and p99 / 4, "p99_ms": p99}
    place.execute(
        "UPDATE migrator.nodes SET vitals = %s::jsonb WHERE id = %s",
        json.dumps({**said, "errors": errors, "trusted": True}),
        node,
    )


# ---- rules -------------------------------------------------------------------------------------


def test_a_rule_leaves_out_what_it_names_until_it_is_removed(place: Place) -> None:
    place.paired("agree", 100)
    place.differed("deny_allow", 7)
    place.differed("deny_allow", 2, route="/orders")
    made = place.ignored("deny_allow", *ROUTE, *WHY, "--for", "30d", "--owner", "team-login")
    assert made["changed"] is True
    assert (made["rule"]["owner"], made["rule"]["left_out"]) == ("team-login", 7)
    number = made["rule"]["id"]
    held = place.gate("verdict-deny-allow")
    assert held is not None
    assert (held["result"], held["value"]) == ("fail", 2)
    place.execute("DELETE FROM migrator.differences WHERE route = '/orders'")
    passed = place.gate("verdict-deny-allow")
    assert passed is not None
    assert passed["result"] == "pass"
    assert passed["detail"].endswith("7 left out by rules")
    (listed,) = place.json("compare", "ignore", "list")["rules"]
    assert (listed["id"], listed["left_out"], listed["state"]) == (number, 7, "in_force")
    gone = place.json("compare", "ignore", "remove", str(number))
    assert (gone["changed"], gone["rule"]["state"]) == (True, "removed")
    assert place.result("verdict-deny-allow") == "fail"
    assert place.json("compare", "ignore", "remove", str(number))["changed"] is False
    assert place.json("compare", "ignore", "list")["rules"] == []
    assert len(place.json("compare", "ignore", "list", "--ended")["rules"]) == 1
    logged = [row["command"] for row in place.json("log")["rows"]]
    assert logged[:2] == ["compare ignore remove", "compare ignore add"]


def test_a_rule_that_is_over_leaves_nothing_out(place: Place) -> None:
    place.differed("deny_allow", 7)
    place.ignored("deny_allow", *ROUTE, *WHY, "--for", "30d")
    place.execute("UPDATE migrator.ignores SET until = now() - interval '1 s'")
    assert place.result("verdict-deny-allow") == "fail"


MATCHING: dict[tuple[str, ...], int] = {
    ("--client", "ios"): 6,
    ("--client", "ios/7.2.1"): 2,
    ("--client", "io"): 0,
    ("--route", "/feed"): 3,
    ("--route", "/feed/12345"): 1,
    ("--verdict", "legacy_expired"): 6,
    ("--verdict", "legacy_expired", "--client", "cron"): 0,
    ("--issuer", "a1"): 7,
}


def test_a_rule_matches_every_part_that_it_names(place: Place) -> None:
    old = {"verdict": "legacy_expired"}
    place.differed("allow_deny", 2, route="/feed", **old)
    place.differed("allow_deny", 3, route="/top", client="ios/8.0", **old)
    place.differed("allow_deny", 1, route="/feed/*", client="ios/8.0", **old)
    place.differed("allow_deny", 1, route="/feed", client="cron", verdict="bad_signature")
    place.differed("deny_allow", 50, route="/feed")
    found = {}
    for args in MATCHING:
        made = place.ignored("allow_deny", *args, *WHY, "--for", "1d")
        found[args] = made["rule"]["left_out"]
        place.execute("DELETE FROM migrator.ignores")
    assert found == MATCHING


REFUSED: dict[tuple[str, ...], str] = {
    ("deny_allow", "--for", "1d"): "compare.no-route",
    ("deny_allow", "--client", "ios", "--for", "1d"): "compare.no-route",
    ("deny_allow", "--route", "(other)", "--for", "1d"): "compare.no-route",
    ("deny_allow", "--route", "/**", "--for", "1d"): "compare.no-class",
    ("deny_allow", "--route", "*", "--for", "1d"): "compare.no-class",
    ("allow_deny", "--for", "1d"): "compare.names-nothing",
    ("allow_deny", "--client", "x", "--for", "91d"): "term.too_long",
    ("allow_deny", "--issuer", "zz", "--for", "1d"): "compare.unknown-issuer",
    ("allow_deny", "--verdict", "admitted", "--for", "1d"): "compare.unknown-verdict",
    ("allow_deny", "--client", "x", "--until", "2020-01-01T00:00:00Z"): "term.over",
}


def test_a_rule_that_would_leave_out_too_much_is_refused(place: Place) -> None:
    found = {args: place.ignored(*args, *WHY, code=2)["error"]["id"] for args in REFUSED}
    assert found == REFUSED
    assert place.value("SELECT count(*) FROM migrator.ignores") == 0


def test_a_rule_needs_a_reason_an_end_and_a_direction(place: Place) -> None:
    place.run("compare", "ignore", "add", "deny_allow", *ROUTE, "--for", "1d", code=2)
    place.run("compare", "ignore", "add", "deny_allow", *ROUTE, *WHY, code=2)
    place.run("compare", "ignore", "add", "agree", *ROUTE, *WHY, "--for", "1d", code=2)
    place.run("compare", "ignore", "remove", "7", code=2)


def test_a_rehearsal_of_each_command_leaves_the_database_as_it_was(
    place: Place, postgres: DatabaseServer
) -> None:
    place.differed("deny_allow", 7)
    place.ignored("deny_allow", *ROUTE, *WHY, "--for", "30d")
    before = _dump(postgres, place.url)
    made = place.ignored("deny_allow", "--route", "/x", *WHY, "--for", "1d", "--dry-run")
    assert (made["changed"], made["rule"]["id"]) == (False, None)
    assert place.json("compare", "ignore", "remove", "1", "--dry-run")["changed"] is False
    place.json("compare", "ignore", "list", "--dry-run")
    place.json("compare", "show", "--dry-run")
    assert _dump(postgres, place.url) == before


def _dump(postgres: DatabaseServer, url: str) -> str:
    found = subprocess.run(
        [str(postgres.bin("pg_dump")), url.replace("+psycopg", "")],
        capture_output=True,
        text=True,
        check=True,
    )
    return "\n".join(line for line in found.stdout.splitlines() if "restrict" not in line)


# ---- what is shown -----------------------------------------------------------------------------


def test_status_shows_pairs_differences_and_what_rules_leave_out(place: Place) -> None:
    assert place.json("status")["unknown"]["compare"].startswith("no answer of the app")
    place.paired("agree", 412_870)
    place.paired("deny_allow", 9)
    place.differed("deny_allow", 7)
    place.differed("deny_allow", 2, route="/orders")
    place.ignored("deny_allow", *ROUTE, *WHY, "--for", "30d")
    _vitals(place, "n1", p99=4.1)
    found = place.json("status")
    compared, store = found["compare"], found["store"]
    assert (compared["pairs"], compared["deny_allow"]) == (412_879, 2)
    assert compared["ignored"] == {"deny_allow": 7, "allow_deny": 0}
    assert (store["p99_ms"], store["node"], store["errors"]) == (4.1, "n1", 0)
    screen = place.run("status").stdout
    (line,) = [one for one in screen.splitlines() if one.startswith("COMPARE")]
    assert "412 879 pairs/24 h · deny→ALLOW 2 · allow→deny 0 · left out 7 (#1 to " in line
    (line,) = [one for one in screen.splitlines() if one.startswith("STORE")]
    assert line.startswith("STORE    p50 1.0 ms · p99 4.1 ms · errors 0")
    assert max(map(len, screen.splitlines())) <= 100
    assert "4.1 ms" in place.run("nodes").stdout


def test_the_screen_of_many_differences_fits(place: Place) -> None:
    place.paired("agree", 10)
    for number in range(40):
        place.differed("deny_allow", number + 1, route=f"/{'long' * 25}/r{number}")
    place.ignored("deny_allow", "--route", "/gone", *WHY, "--for", "1d")
    place.differed("allow_deny", 3, verdict="wrong_audience", client="x" * 64)
    lines = place.run("compare", "show").stdout.splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 100
    assert any(line.endswith("more: migrator compare show --json") for line in lines)
    assert len(place.json("compare", "show")["differences"]) == 41


def test_detail_tells_who_uses_which_key_where(place: Place) -> None:
    place.execute(
        "INSERT INTO migrator.legacy_census (hour, issuer, client, kid, route, count, last_at)"
        " VALUES (date_trunc('hour', now()), 'a1', 'ios/7', '2024', '/feed', 3, now()),"
        " (date_trunc('hour', now()), 'a1', 'ios/7', '2024', 'login', 2, now()),"
        " (date_trunc('hour', now()), 'a1', '', '', '/feed', 1, now()),"
        " (now() - interval '2 days', 'a1', 'old', '', '/feed', 9, now() - interval '2 days')"
    )
    census = place.json("status", "--detail")["census"]
    assert [(one["kid"], one["client"], one["verified"]) for one in census["by_kid"]] == [
        ("2024", "ios/7", 5),
        (None, None, 1),
    ]
    assert [(one["route"], one["client"], one["verified"]) for one in census["by_route"]] == [
        ("/feed", "ios/7", 3),
        ("login", "ios/7", 2),
        ("/feed", None, 1),
    ]
    text = place.run("status", "--detail").stdout
    assert "BY KEY" in text
    assert "no kid" in text


def test_old_differences_and_keys_are_swept(place: Place) -> None:
    place.differed("deny_allow", 1, ago="91 days")
    place.differed("deny_allow", 1, ago="89 days")
    place.execute(
        "INSERT INTO migrator.legacy_census (hour, issuer, route, count)"
        " VALUES (now() - interval '91 days', 'a1', '/', 1)"
    )
    deleted = place.json("sweep")["deleted"]
    assert (deleted["differences"], deleted["legacy_census"]) == (1, 1)


def test_after_retire_nothing_is_compared_and_that_is_said(place: Place) -> None:
    place.execute("UPDATE migrator.rollout SET phase = 'retired', legacy_removed_at = now()")
    found = place.ignored("deny_allow", *ROUTE, *WHY, "--for", "1d", code=3)
    assert found["error"]["id"] == "compare.retired"
    shown = place.json("compare", "show")
    assert shown["pairs"] is None
    assert "observe" in shown["unknown"]["pairs"]
