"""`[[ledgers]]`: what each kind takes, what it leaves unsaid, and what is refused."""

from __future__ import annotations

import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from migrator.control.scaffold import _FILE
from migrator.core.errors import BadSettings
from migrator.settings import Settings
from migrator.settings.ledgers import KEYS
from tests.rig import ISSUER

URL = "postgresql://h/d"


def build(*ledgers: Any, issuers: Any = (ISSUER,), **tables: Any) -> Settings:
    return Settings.build(
        {"database": {"url": URL}, "issuers": list(issuers), "ledgers": list(ledgers), **tables}
    )


def refused(*ledgers: Any, **options: Any) -> list[str]:
    with pytest.raises(BadSettings) as bad:
        build(*ledgers, **options)
    return [f"{each.id} {each.what}: {each.why}" for each in bad.value.problems]


def test_what_is_unsaid_is_the_only_issuer_the_realm_and_five_seconds() -> None:
    users = {"kind": "users", "table": "u", "columns": {"subject": "id", "active": "ok"}}
    keys = {"kind": "redis", "keys": "*"}
    settings = build({"kind": "simplejwt"}, keys, users, sessions={"realm": "people"})
    first, _, last = settings.ledgers
    assert (first.name, first.issuer, first.every) == ("simplejwt", "a1", timedelta(seconds=5))
    assert (first.ends, first.url) == ("token", None)
    assert (last.name, last.realm, last.issuer) == ("users", "people", None)


def test_two_of_a_kind_get_names_of_their_own() -> None:
    keys = {"kind": "redis", "keys": "*"}
    assert [each.name for each in build(keys, keys).ledgers] == ["redis", "redis-2"]


def test_a_url_with_a_password_is_named_and_not_shown() -> None:
    url = "mysql+pymysql://u:hidden-word@h/d"
    settings = build({"kind": "simplejwt", "url": url})
    (ledger,) = settings.ledgers
    assert ledger.url is not None
    assert ledger.url.get_secret_value() == url
    assert "hidden-word" not in repr(settings)


OTHER = {**ISSUER, "id": "a2", "name": "other", "realm": "users", "issuer": "https://other"}


@pytest.mark.parametrize(
    ("ledger", "told"),
    [
        ({"kind": "simplejwt", "keys": "*"}, "takes no keys"),
        (
            {
                "kind": "users",
                "issuer": "a1",
                "table": "u",
                "columns": {"subject": "s", "active": "a"},
            },
            "takes no issuer",
        ),
        (
            {"kind": "table", "columns": {"jti": "j"}},
            "table in the settings given: it is required",
        ),
        ({"kind": "table", "table": "t", "columns": {"exp": "e"}}, "has to say what is denied"),
        ({"kind": "table", "table": "t", "columns": {"jti": "j", "sub": "s"}}, "no column that"),
        ({"kind": "users", "table": "t", "columns": {"active": "a"}}, "whom a row is about"),
        ({"kind": "users", "table": "t", "columns": {"subject": "a"}}, "what a row means"),
        ({"kind": "redis"}, "keys in the settings given: it is required"),
        ({"kind": "redis", "keys": "*:*"}, "one * at most"),
        ({"kind": "callback", "call": "acme.auth"}, "package.module:function"),
        ({"kind": "simplejwt", "issuer": "a7"}, "no [[issuers]] has that id"),
        ({"kind": "simplejwt", "every": "2h"}, "every"),
        ({"kind": "simplejwt", "every": "0s"}, "nothing can last for no time"),
        ({"kind": "sqlite"}, "kind"),
        ({"kind": "simplejwt", "tabel": "x"}, "there is no such setting"),
    ],
)
def test_what_would_silently_not_apply_is_refused(ledger: dict[str, Any], told: str) -> None:
    assert told in "\n".join(refused(ledger))


def test_several_issuers_leave_nobody_to_guess() -> None:
    assert (
        "there are several issuers"
        in refused({"kind": "simplejwt"}, issuers=[{**ISSUER, "realm": "users"}, OTHER])[0]
    )


def test_a_name_used_twice_is_refused() -> None:
    twice = {"kind": "simplejwt", "name": "one"}
    assert refused(twice, twice)[0].startswith("settings.duplicate-ledger")


def test_a_secret_in_the_file_is_refused_as_everywhere(tmp_path: Any) -> None:
    place = tmp_path / "migrator.toml"
    place.write_text(
        f'[database]\nurl = "{URL}"\n[[ledgers]]\nkind = "redis"\nkeys = "*"\n'
        'url = "redis://:hidden-word@h/0"\n'
    )
    with pytest.raises(BadSettings) as bad:
        Settings.load(place, environ={})
    assert any(each.id == "settings.inline-secret" for each in bad.value.problems)
    assert "hidden-word" not in str(bad.value)


def test_the_ledgers_of_the_playbook_load() -> None:
    page = Path(__file__).parents[3] / "playbooks" / "01-install-and-observe.md"
    shown = re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)
    (block,) = (each for each in shown if "[[ledgers]]" in each)
    tables = tomllib.loads(block)
    found = Settings.build(
        {"database": {"url": URL}, "issuers": [ISSUER], **tables},
        environ={"APP_REDIS_URL": "redis://cache/1"},
    )
    assert [each.kind for each in found.ledgers] == ["simplejwt", "table", "redis", "users"]


def test_the_file_that_init_writes_shows_keys_that_there_are() -> None:
    section = _FILE.partition("# [[ledgers]]\n")[2].partition("\n\n")[0]
    shown = {line.removeprefix("# ").split(" = ")[0] for line in section.splitlines()}
    assert shown <= {"kind", "every", *set().union(*KEYS.values())}
