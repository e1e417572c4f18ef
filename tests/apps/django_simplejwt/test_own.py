"""The desk's own tests: its routes and its error bodies, and nothing of any migration."""

from __future__ import annotations

from datetime import timedelta

import pytest
from rest_framework.test import APIClient
from rest_framework_simplejwt.tokens import AccessToken

from tests.apps.django_simplejwt.clients import as_, log_in, logged_in, refreshed, someone
from tests.apps.django_simplejwt.models import Order

pytestmark = [pytest.mark.usefixtures("stage"), pytest.mark.xdist_group("desk")]

BAD_HEADER = {
    "detail": "Authorization header must contain two space-delimited values",
    "code": "bad_authorization_header",
}
BLACKLISTED = {"detail": "Token is blacklisted", "code": "token_not_valid"}
NOT_PROVIDED = {"detail": "Authentication credentials were not provided."}


def test_front_page_is_public() -> None:
    assert APIClient().get("/").json()["known"] is False
    assert logged_in(someone()).get("/").json()["known"] is True


@pytest.mark.parametrize(("is_staff", "team"), [(False, "south"), (True, "north")])
def test_login_gives_a_pair_that_says_who_and_which_team(is_staff: bool, team: str) -> None:
    user = someone(is_staff=is_staff)
    pair = log_in(user)
    assert pair.keys() == {"access", "refresh"}
    profile = as_(pair["access"]).get("/api/me/")
    assert profile.json() == {"username": user.username, "team": team}


def test_wrong_password_is_told() -> None:
    answer = APIClient().post(
        "/api/token/", {"username": someone().username, "password": "another"}
    )
    assert answer.status_code == 401
    assert answer.json() == {
        "detail": "No active account found with the given credentials",
    }


def test_strangers_are_asked_for_credentials() -> None:
    answer = APIClient().get("/api/me/")
    assert (answer.status_code, answer.json()) == (401, NOT_PROVIDED)
    assert answer["WWW-Authenticate"] == 'Bearer realm="api"'


def test_other_scheme_of_the_settings_lets_in_too() -> None:
    user = someone()
    answer = as_(log_in(user)["access"], scheme="JWT").get("/api/me/")
    assert answer.json()["username"] == user.username


def test_unknown_scheme_is_no_credential() -> None:
    answer = as_("dXNlcjpwYXNzd29yZA==", scheme="Basic").get("/api/me/")
    assert (answer.status_code, answer.json()) == (401, NOT_PROVIDED)


@pytest.mark.parametrize("header", ["Bearer", "JWT ", "Bearer two words"])
def test_header_of_another_form_is_told(header: str) -> None:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=header)
    answer = client.get("/api/me/")
    assert (answer.status_code, answer.json()) == (401, BAD_HEADER)
    assert answer["WWW-Authenticate"] == 'Bearer realm="api"'


def test_inactive_user_is_told() -> None:
    user = someone()
    client = logged_in(user)
    user.is_active = False
    user.save()
    answer = client.get("/api/me/")
    assert answer.status_code == 401
    assert answer.json() == {"detail": "User is inactive", "code": "user_inactive"}


def test_deleted_user_is_told() -> None:
    user = someone()
    client = logged_in(user)
    user.delete()
    answer = client.get("/api/me/")
    assert answer.status_code == 401
    assert answer.json() == {"detail": "User not found", "code": "user_not_found"}


def test_refreshing_lets_in_as_before_and_rotates() -> None:
    user = someone()
    pair = log_in(user)
    for _ in range(3):
        answer = refreshed(pair["refresh"])
        assert answer.status_code == 200
        pair = answer.json()
        assert pair.keys() == {"access", "refresh"}
        profile = as_(pair["access"]).get("/api/me/")
        assert profile.json() == {"username": user.username, "team": "south"}


def test_expired_access_token_sent_along_hinders_no_refresh() -> None:
    user = someone()
    pair = log_in(user)
    expired = AccessToken.for_user(user)
    expired.set_exp(lifetime=-timedelta(minutes=5))
    answer = as_(expired).post("/api/token/refresh/", {"refresh": pair["refresh"]})
    assert answer.status_code == 200


def test_after_logout_the_refresh_token_is_dead() -> None:
    user = someone()
    pair, other = log_in(user), log_in(user)
    answer = as_(pair["access"]).post("/api/token/blacklist/", {"refresh": pair["refresh"]})
    assert (answer.status_code, answer.json()) == (200, {})
    answer = refreshed(pair["refresh"])
    assert (answer.status_code, answer.json()) == (401, BLACKLISTED)
    assert answer["WWW-Authenticate"] == 'Bearer realm="api"'
    assert refreshed(other["refresh"]).status_code == 200


def test_report_is_for_staff() -> None:
    boss = someone(is_staff=True)
    assert logged_in(boss).get("/api/report/").json()["for"] == boss.username
    answer = logged_in(someone()).get("/api/report/")
    assert answer.status_code == 403
    assert answer.json() == {"detail": "You do not have permission to perform this action."}


def test_orders_are_ones_own() -> None:
    ann, bob = logged_in(someone()), logged_in(someone())
    made = ann.post("/api/orders/", {"item": "lamp"})
    assert made.status_code == 201
    path = f"/api/orders/{made.json()['id']}/"
    assert ann.get("/api/orders/").json() == [made.json()]
    assert bob.get("/api/orders/").json() == []
    assert bob.get(path).status_code == 404
    assert bob.delete(path).status_code == 404
    assert APIClient().delete(path).status_code == 401
    assert ann.delete(path).status_code == 204
    assert ann.get(path).status_code == 404


def test_bad_order_is_told() -> None:
    answer = logged_in(someone()).post("/api/orders/", {})
    assert (answer.status_code, answer.json()) == (400, {"item": ["This field is required."]})


def test_forced_authentication_of_drf_still_works() -> None:
    user = someone()
    client = APIClient()
    client.force_authenticate(user)
    assert client.post("/api/orders/", {"item": "chair"}).status_code == 201
    assert Order.objects.get(owner=user).item == "chair"


def test_new_password_takes_the_old_one() -> None:
    user = someone()
    client = logged_in(user)
    answer = client.post("/api/password/", {"old": "another", "new": "better"})
    assert (answer.status_code, answer.json()) == (400, {"old": ["Wrong password."]})
    answer = client.post("/api/password/", {"old": f"{user.username}'s password", "new": "better"})
    assert answer.status_code == 204
    body = {"username": user.username, "password": "better"}
    assert APIClient().post("/api/token/", body).status_code == 200


def test_new_password_ends_older_tokens_where_the_desk_checks_it() -> None:
    from rest_framework_simplejwt.settings import api_settings  # noqa: PLC0415 - as it is now

    user = someone()
    client = logged_in(user)
    user.set_password("better")
    user.save()
    answer = client.get("/api/me/")
    if api_settings.CHECK_REVOKE_TOKEN:
        assert answer.status_code == 401
        assert answer.json()["code"] == "password_changed"
    else:
        assert answer.status_code == 200
