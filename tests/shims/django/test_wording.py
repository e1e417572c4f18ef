"""Refusals in the words of the project: its handler, its language, and ours where it has none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings as project
from django.test import AsyncClient, Client
from django.test.utils import override_settings
from rest_framework.response import Response
from rest_framework.views import exception_handler

from tests.apps.django_simplejwt.running import dropped_in
from tests.rig import Rig
from tests.shims.django.test_project import TABLES

Ask = Callable[..., Any]
FORGED = "Bearer sess_" + "7" * 49
LOCALE = "django.middleware.locale.LocaleMiddleware"


def enveloped(error: Exception, context: Any) -> Response | None:
    """An exception handler as projects have them."""
    response: Any = exception_handler(error, context)
    return Response({"problem": response.data["code"]}, status=response.status_code)


def broken(error: Exception, context: Any) -> Response | None:
    """One that fails on what it did not expect."""
    raise LookupError(context["view"]) from error


@pytest.fixture
def ask(desk_url: str) -> Ask:
    """Asks the draining desk, with settings laid over its own."""
    Rig(desk_url).move("drain")

    def asked(
        *,
        authorization: str = FORGED,
        tables: dict[str, Any] | None = None,
        method: str = "GET",
        more: dict[str, Any] | None = None,
        **headers: str,
    ) -> Any:
        changes = {**dropped_in(SETTINGS={**TABLES, **(tables or {})}), **(more or {})}
        sent = {"Authorization": authorization, **headers}
        with override_settings(**changes):
            return Client().generic(method, "/api/me/", headers=sent)

    return asked


def _handled_by(name: str) -> dict[str, Any]:
    handler = f"{__name__}.{name}"
    return {"REST_FRAMEWORK": {**project.REST_FRAMEWORK, "EXCEPTION_HANDLER": handler}}


def test_refusal_is_made_by_the_projects_own_handler(ask: Ask) -> None:
    answer = ask(more=_handled_by("enveloped"))
    assert (answer.status_code, answer.json()) == (401, {"problem": "token_not_valid"})
    assert answer["Cache-Control"] == "no-store"
    assert "Allow" not in answer


def test_refusal_is_in_the_language_of_the_project(ask: Ask) -> None:
    apps = [*project.INSTALLED_APPS, "shims.django", "rest_framework_simplejwt"]
    more = {"INSTALLED_APPS": apps, "LANGUAGE_CODE": "de"}
    answer = ask(more={**more, "MIDDLEWARE": [LOCALE, *dropped_in()["MIDDLEWARE"]]})
    assert answer.json()["detail"] == "Der Token ist für keinen Tokentyp gültig"


def test_head_is_refused_without_a_body(ask: Ask) -> None:
    answer = ask(method="HEAD")
    assert (answer.status_code, answer.content) == (401, b"")
    assert int(answer["Content-Length"]) > 0


def test_what_the_settings_say_of_refusals_wins(ask: Ask) -> None:
    answer = ask(tables={"http": {"refusal": {"body": '{"oops":"{reason}"}'}}})
    assert (answer.status_code, answer.json()) == (401, {"oops": "invalid"})


def test_handler_that_fails_costs_the_words_and_shows_nothing(
    ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "migrator.django"):
        answer = ask(more=_handled_by("broken"))
    assert answer.json() == {"error": "invalid_token", "reason": "invalid"}
    record = next(each for each in caplog.records if each.name == "migrator.django")
    assert (record.getMessage(), record.__dict__["why"]) == ("refusal.unworded", "LookupError")
    assert "777" not in caplog.text


def test_two_credentials_stay_a_fault_of_the_request(ask: Ask) -> None:
    answer = ask(authorization=f"{FORGED}, {FORGED}")
    assert (answer.status_code, answer.json()) == (400, {"error": "invalid_request"})


def test_async_project_words_it_too(desk_url: str) -> None:
    Rig(desk_url).move("drain")
    with override_settings(**dropped_in(SETTINGS=TABLES)):
        answer = async_to_sync(AsyncClient().get)("/api/me/", headers={"Authorization": FORGED})
    assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")
