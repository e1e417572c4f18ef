"""The audit of dependencies finds what it is there to find; see tests/audit.py."""

from __future__ import annotations

from tests import audit


def test_every_floor_keeps_the_known_holes_out() -> None:
    assert list(audit.too_low(audit.floors(audit.PYPROJECT.read_text()))) == []


def test_a_floor_that_lets_a_hole_in_is_found() -> None:
    lowered = audit.PYPROJECT.read_text().replace("pyjwt[crypto]>=2.15", "pyjwt[crypto]>=2.14")
    assert [line.split(",")[0] for line in audit.too_low(audit.floors(lowered))] == [
        "pyjwt: floor 2.14"
    ]


def test_a_hole_that_is_installed_is_found() -> None:
    assert len(list(audit.too_old({"redis": "4.5.4", "pyjwt": "2.15.1"}))) == 1


def test_the_closure_is_what_an_app_gets_and_no_tool_of_ours() -> None:
    found = audit.closure("jwt-way-out", audit.EXTRAS)
    assert {"pyjwt", "cffi", "redis", "starlette", "gunicorn", "django"} <= found.keys()
    assert not {"pytest", "mypy", "jwt-way-out"} & found.keys()
