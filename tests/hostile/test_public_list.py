"""Every number of the public list has its tests, by name; a number without one fails here.

The list itself stands beside the project, or nowhere: then the table is checked for itself.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import pytest

from tests.hostile.recipes import CONTROLS, EXPIRED, RECIPES
from tests.hostile.requests import HTTP, OPAQUE

TESTS: Final = Path(__file__).resolve().parents[1]
LIST: Final = TESTS.parents[1] / "shared" / "vectors" / "hostile" / "public.json"

_LINES: Final = "test_a_hostile_request_gets_the_one_right_answer_and_writes_nothing"
_KEY_SETS: Final = (
    "hostile/test_key_sets.py::test_p4_a_failing_or_lying_key_host_costs_nobody_a_login"
)
_DAY: Final = (
    "stores/test_key_outage.py::"
    "test_p4_a_day_without_the_key_host_refuses_nobody_whose_key_is_known"
)
_OUTAGES: Final = "http/test_outages.py"
# What is neither a token by itself nor a request by itself: a state, a fault, a setting.
ELSEWHERE: Final[dict[int, tuple[str, ...]]] = {
    6: ("core/test_hostile.py::test_a_hostile_token_is_refused",),
    18: (
        "stores/test_keys.py::test_an_unfit_key_is_refused_by_id",
        "settings/test_refused.py::test_",
    ),
    26: ("hostile/test_tokens.py::test_megabytes_are_refused_by_the_server_or_by_us",),
    40: (_KEY_SETS,),
    50: ("hostile/test_requests.py::test_p2_logging_out_everywhere_reaches_tokens_never_seen",),
    60: (
        _KEY_SETS,
        _DAY,
    ),
    61: (_KEY_SETS, _DAY),
    62: (_KEY_SETS,),
    68: ("http/test_hostile_requests.py::test_token_of_another_deployment_is_unknown",),
    75: ("http/test_hostile_requests.py::test_token_in_the_query_or_a_form_is_no_credential",),
    79: ("hostile/test_requests.py::test_nobody_says_by_a_header_who_they_are",),
    81: ("http/test_hostile_requests.py::test_token_in_the_query_or_a_form_is_no_credential",),
    84: ("hostile/test_requests.py::test_the_other_spelling_of_a_revoked_es256_token_is_revoked",),
    85: ("hostile/test_requests.py::test_p2_logging_out_everywhere_reaches_tokens_never_seen",),
    86: ("hostile/test_requests.py::test_p2_logging_out_everywhere_reaches_tokens_never_seen",),
    87: ("http/test_hostile_requests.py::test_one_jwt_shown_64_times_at_once_is_one_session",),
    88: ("hostile/test_requests.py::test_p1_a_swap_whose_answer_was_lost_is_the_same_swap_again",),
    89: ("schedules/test_swaps.py::test_",),
    90: (
        "http/test_hostile_requests.py::test_jwt_is_refused_after_cutover_and_unread_once_retired",
    ),
    91: ("hostile/test_requests.py::test_p3_a_session_brought_along_is_never_adopted",),
    92: (f"{_OUTAGES}::test_redis_killed_costs_nobody_anything",),
    93: (f"{_OUTAGES}::test_postgres_killed_is_no_logout",),
    94: (f"{_OUTAGES}::test_postgres_killed_is_no_logout",),
    95: (f"{_OUTAGES}::test_both_killed_is_an_outage_that_ends_by_itself",),
    96: ("stores/test_entries.py::test_",),
    97: ("hostile/test_tokens.py::test_a_good_token_is_let_in_however_its_signer_writes_it",),
}


def numbered() -> dict[int, set[str]]:
    """The tests of each number."""
    found: dict[int, set[str]] = {number: set(named) for number, named in ELSEWHERE.items()}
    tables = {
        "hostile/test_tokens.py::test_p10_a_hostile_token_is_refused_and_nothing_happens": (
            RECIPES | EXPIRED
        ),
        "hostile/test_tokens.py::test_a_good_token_is_let_in_however_its_signer_writes_it": (
            CONTROLS
        ),
    }
    for test, names in tables.items():
        for name in names:
            for number in re.findall(r"PUB-(\d{3})", name):
                found.setdefault(int(number), set()).add(test)
    for name in OPAQUE | HTTP:
        if name[:3].isdigit():
            found.setdefault(int(name[:3]), set()).add(f"hostile/test_requests.py::{_LINES}")
    return found


def test_every_number_of_the_public_list_has_a_test() -> None:
    assert sorted(numbered()) == list(range(1, 103))


def test_every_test_that_is_named_is_there() -> None:
    for number, named in numbered().items():
        for each in named:
            path, _, test = each.partition("::")
            assert f"def {test}" in (TESTS / path).read_text("utf-8"), (number, each)


@pytest.mark.skipif(not LIST.is_file(), reason="third-party vectors are not beside the project")
def test_the_public_list_has_no_other_numbers() -> None:
    listed = {each["id"] for each in json.loads(LIST.read_text("utf-8"))["cases"]}
    assert listed == {f"PUB-{number:03}" for number in numbered()}
