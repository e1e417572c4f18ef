"""What a project's own settings say of its JWTs, and what `manage.py check` tells of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings as project
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test.utils import override_settings
from rest_framework_simplejwt.authentication import default_user_authentication_rule
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import AccessToken, SlidingToken

from migrator.core.errors import BadSettings
from shims.django.checks import check
from shims.django.configuration import Configuration, configuration, database_url
from tests.apps.django_simplejwt.running import OURS, dropped_in

SWAP = {"keys": [{"id": "k1", "secret": "Zm9yIHRlc3RzIG9mIHByb2plY3RzLCAzMiBieXRlcyBvcg"}]}
TABLES: dict[str, Any] = {
    "environment": "test",
    "swap": SWAP,
}


@pytest.fixture
def jwt(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Changes SIMPLE_JWT, as its views see it."""

    def change(**values: object) -> None:
        for key, value in values.items():
            monkeypatch.setattr(api_settings, key, value, raising=False)

    return change


@contextmanager
def site(*, more: dict[str, Any] | None = None, **migrator: Any) -> Iterator[None]:
    changes = {**dropped_in(**{"SETTINGS": TABLES, **migrator}), **(more or {})}
    with override_settings(**changes):
        yield


def configured(**migrator: Any) -> Configuration:
    with site(**migrator):
        return configuration()


def ids(*, more: dict[str, Any] | None = None, **migrator: Any) -> list[str]:
    with site(more=more, **migrator):
        return sorted(each.id or "" for each in check())


# ---- the issuer --------------------------------------------------------------------------------


def test_issuer_is_what_the_project_signs() -> None:
    found = configured()
    (issuer,) = found.settings.issuers
    assert (issuer.id, issuer.preset, issuer.algorithms) == ("simplejwt", "simplejwt", ("HS256",))
    assert issuer.keys[0].value.get_secret_value() == project.SECRET_KEY.encode()
    assert (issuer.lifetime, issuer.refresh_lifetime) == (timedelta(minutes=30), timedelta(days=7))
    assert issuer.rotates_refresh
    assert issuer.leeway == timedelta(0)
    assert [(place.header, place.scheme) for place in issuer.transport] == [
        ("Authorization", "Bearer"),
        ("Authorization", "JWT"),
    ]
    assert issuer.claims.subject == "user_id"
    assert issuer.purpose.require == {"token_type": "access"}
    assert issuer.purpose.refresh == {"token_type": "refresh"}
    assert found.user_field == "id"
    assert found.user_rule is default_user_authentication_rule


def test_renamed_claims_headers_and_keys_are_taken_over(jwt: Any) -> None:
    public = (
        Ed25519PrivateKey.generate()
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
    jwt(
        ALGORITHM="EdDSA",
        VERIFYING_KEY=public,
        AUDIENCE="desk",
        ISSUER="https://desk.example",
        LEEWAY=10,
        USER_ID_FIELD="username",
        USER_ID_CLAIM="name",
        TOKEN_TYPE_CLAIM="kind",
        AUTH_HEADER_TYPES="Token",
        AUTH_HEADER_NAME="HTTP_X_ACCESS_TOKEN",
        CHECK_REVOKE_TOKEN=True,
    )
    found = configured()
    (issuer,) = found.settings.issuers
    assert issuer.algorithms == ("EdDSA",)
    assert issuer.keys[0].form == "pem"
    assert (issuer.audience, issuer.issuer) == (("desk",), "https://desk.example")
    assert issuer.leeway == timedelta(seconds=10)
    assert issuer.claims.subject == "name"
    assert issuer.claims.keep == ("hash_password",)
    assert issuer.purpose.require == {"kind": "access"}
    assert [(place.header, place.scheme) for place in issuer.transport] == [
        ("X-Access-Token", "Token")
    ]
    assert (found.user_field, found.password_claim) == ("username", "hash_password")


def test_sliding_token_is_its_own_refresh_token(jwt: Any) -> None:
    jwt(AUTH_TOKEN_CLASSES=(SlidingToken,), SLIDING_TOKEN_REFRESH_LIFETIME=timedelta(days=3))
    (issuer,) = configured().settings.issuers
    assert issuer.purpose.require == {"token_type": "sliding"}
    assert issuer.purpose.refresh is None
    assert issuer.refresh_lifetime == timedelta(days=3)


def test_both_kinds_of_login_are_taken_where_the_project_takes_both(jwt: Any) -> None:
    jwt(AUTH_TOKEN_CLASSES=(AccessToken, SlidingToken))
    (issuer,) = configured().settings.issuers
    assert issuer.purpose.require == {"token_type": ["access", "sliding"]}
    assert issuer.purpose.refresh == {"token_type": "refresh"}


def test_what_the_project_gives_itself_wins() -> None:
    given = {"id": "desk", "realm": "staff", "claims": {"keep": ["team"]}}
    (issuer,) = configured(ISSUER=given).settings.issuers
    assert (issuer.id, issuer.realm) == ("desk", "staff")
    assert (issuer.claims.subject, issuer.claims.keep) == ("user_id", ("team",))


def test_access_cookie_of_dj_rest_auth_is_a_transport_and_its_refresh_cookie_is_none() -> None:
    cookies = {"JWT_AUTH_COOKIE": "desk-access", "JWT_AUTH_REFRESH_COOKIE": "desk-refresh"}
    with site(more={"REST_AUTH": {"USE_JWT": True, **cookies}}):
        (issuer,) = configuration().settings.issuers
    assert [place.cookie for place in issuer.transport] == [None, None, "desk-access"]


def test_ledger_and_routes_are_the_projects_own() -> None:
    settings = configured().settings
    (ledger,) = settings.ledgers
    assert (ledger.kind, ledger.issuer) == ("simplejwt", "simplejwt")
    assert settings.routes.login == ("/api/token/",)
    assert settings.routes.refresh == ("/api/token/refresh/",)
    assert settings.routes.logout == ("/api/token/blacklist/",)
    own = {**TABLES, "routes": {"login": ["/enter"], "public": ["/"]}}
    routes = configured(SETTINGS=own).settings.routes
    assert (routes.login, routes.public) == (("/enter",), ("/",))
    assert routes.refresh == ("/api/token/refresh/",)


def test_bridge_knows_the_projects_answers_and_cookies() -> None:
    assert configured().settings.bridge is None
    cookies = {"JWT_AUTH_COOKIE": "desk-access", "JWT_AUTH_REFRESH_COOKIE": "desk-refresh"}
    with site(BRIDGE=True, more={"REST_AUTH": {"USE_JWT": True, **cookies}}):
        bridge = configuration().settings.bridge
    assert bridge is not None
    assert (bridge.access, bridge.refresh) == (("/access",), ("/refresh",))
    assert bridge.refresh_cookies == ("desk-refresh",)
    assert bridge.integer_subject is False, "this release writes text"


# ---- which setting wins ------------------------------------------------------------------------


def test_environment_beats_the_file_and_the_file_beats_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "migrator.toml"
    file.write_text('app = "file"\nenvironment = "file"\n[database]\nschema = "of_the_file"\n')
    monkeypatch.setenv("MIGRATOR_APP", "environment")
    tables = {**TABLES, "app": "project", "expected_nodes": 3}
    settings = configured(CONFIG=file, SETTINGS=tables).settings
    assert (settings.app, settings.environment, settings.expected_nodes) == (
        "environment",
        "file",
        3,
    )
    assert settings.database.schema == "of_the_file"
    assert settings.database.url.get_secret_value() == database_url("default")
    assert len(settings.issuers) == 1


def test_database_of_the_project_is_named_as_libpq_reads_it() -> None:
    database = {
        "ENGINE": "django.contrib.gis.db.backends.postgis",
        "NAME": "de sk",
        "USER": "ann",
        "PASSWORD": "p@ss/wörd",
        "HOST": "/run/postgresql",
        "PORT": 5433,
        "OPTIONS": {"sslmode": "require", "pool": True, "isolation_level": 2},
    }
    project.DATABASES["archive"] = database
    try:
        url = database_url("archive")
    finally:
        del project.DATABASES["archive"]
    assert url == (
        "postgresql+psycopg:///de%20sk?user=ann&password=p%40ss%2Fw%C3%B6rd"
        "&host=%2Frun%2Fpostgresql&port=5433&sslmode=require"
    )


@pytest.mark.parametrize(
    ("migrator", "word"),
    [
        ({"SIMPLE_JWT": True}, "did you mean SIMPLEJWT?"),
        ({"USER_FROM": "everybody"}, "one of principal, session, none"),
        ({"SIMPLEJWT": "yes"}, "True or False"),
        ({"DATABASE": "archive"}, "no such alias"),
        ({"USER_RULE": "desk.rules.none_such"}, "correct the dotted path"),
    ],
)
def test_wrong_option_is_named(migrator: dict[str, Any], word: str) -> None:
    with pytest.raises(BadSettings) as raised:
        configured(**migrator)
    assert raised.value.problems[0].id == "django.bad-option"
    assert word in str(raised.value)


# ---- manage.py check ---------------------------------------------------------------------------


def test_project_that_only_dropped_us_in_has_nothing_to_be_told() -> None:
    assert ids() == []


def test_check_needs_no_database() -> None:
    with site():
        call_command("check")


def test_missing_middleware_stops_the_check() -> None:
    with site(more={"MIDDLEWARE": project.MIDDLEWARE}), pytest.raises(SystemCheckError) as raised:
        call_command("check")
    assert "migrator.E001" in str(raised.value)


def test_order_of_middleware_is_checked() -> None:
    *others, _ = project.MIDDLEWARE
    auth = "django.contrib.auth.middleware.AuthenticationMiddleware"
    assert ids(more={"MIDDLEWARE": [*others, OURS, auth]}) == ["migrator.E002"]
    cors = "corsheaders.middleware.CorsMiddleware"
    assert ids(more={"MIDDLEWARE": [*project.MIDDLEWARE, OURS, cors]}) == ["migrator.W004"]


def test_every_problem_of_the_settings_is_an_error_of_its_own() -> None:
    tables = {"memory": {"polls": 3}, "sessions": {"idle": "soon"}}
    with site(SETTINGS={**TABLES, **tables}):
        found = check()
    assert [each.id for each in found] == ["migrator.E003"] * 2
    assert {each.msg.partition(":")[0] for each in found} == {
        "settings.unknown-key",
        "settings.bad-duration",
    }
    assert ids(SETTINGS={"environment": "test"}) == ["migrator.E003"]  # no swap key


def test_check_never_shows_a_secret(jwt: Any) -> None:
    jwt(SIGNING_KEY="short secret")
    with site():
        found = check()
    assert [each.id for each in found] == ["migrator.E003"]
    assert "short secret" not in str(found)


def test_field_of_the_user_is_checked() -> None:
    assert ids(USER_FIELD="nickname") == ["migrator.E004"]
    assert ids(USER_FIELD="email") == ["migrator.W001"]
    assert ids(USER_FIELD="username") == []


def test_issuer_written_by_hand_is_compared_with_the_project(jwt: Any) -> None:
    issuer = {"id": "a1", "preset": "simplejwt", "keys": [project.SECRET_KEY], "lifetime": "5m"}
    jwt(CHECK_REVOKE_TOKEN=True, REVOKE_TOKEN_CLAIM="password")
    with site(SIMPLEJWT=False, SETTINGS={**TABLES, "issuers": [issuer]}):
        found = [each for each in check() if each.id == "migrator.W002"]
    told = "\n".join(each.msg for each in found)
    for word in ("lifetime", "refresh_lifetime", "rotates_refresh", "transport"):
        assert word in told
    assert "claims.keep lacks 'password'" in told
    assert project.SECRET_KEY not in told


def test_id_of_a_token_that_nobody_finds_is_told(jwt: Any) -> None:
    jwt(JTI_CLAIM="token_id")
    assert ids(BRIDGE=True) == ["migrator.E005"]
    assert ids() == ["migrator.W008"]
    jwt(JTI_CLAIM=None)
    assert ids(BRIDGE=True) == ["migrator.W008"]
    assert "migrator.W008" not in ids(SIMPLEJWT=False)


def test_origins_whose_cookies_will_be_refused_are_named() -> None:
    cookie = {"REST_AUTH": {"USE_JWT": True, "JWT_AUTH_COOKIE": "desk"}}
    more = {**cookie, "CORS_ALLOWED_ORIGINS": ["https://app.desk.example"]}
    assert ids(more=more) == ["migrator.W003"]
    http = {"allowed_origins": ["https://app.desk.example"]}
    assert ids(more=more, SETTINGS={**TABLES, "http": http}) == []


def test_header_that_hands_out_must_be_exposed() -> None:
    assert ids(more={"CORS_EXPOSE_HEADERS": ["X-Total"]}) == ["migrator.W005"]
    assert ids(more={"CORS_EXPOSE_HEADERS": ["X-Total", "session-token"]}) == []


def test_session_authentication_in_front_is_told() -> None:
    classes = [
        "rest_framework.authentication.SessionAuthentication",
        "rest_framework_simplejwt.authentication.JWTAuthentication",
    ]
    rest = {**project.REST_FRAMEWORK, "DEFAULT_AUTHENTICATION_CLASSES": classes}
    assert ids(more={"REST_FRAMEWORK": rest}) == ["migrator.W006"]
    assert ids(more={"REST_FRAMEWORK": rest}, USER_FROM="session") == []


def test_routes_that_the_settings_do_not_name_are_found_in_the_urls() -> None:
    routes = {"login": ["/api/token/"], "refresh": [], "logout": []}
    with site(SETTINGS={**TABLES, "routes": routes}):
        found = check()
    assert [each.id for each in found] == ["migrator.W007"] * 2
    assert "/api/token/refresh/ is a refresh route" in found[0].msg
    assert "/api/token/blacklist/ is a logout route" in found[1].msg
