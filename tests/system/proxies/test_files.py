"""The shipped files, as files: each proxy takes them, and none forgets what the others say."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml

from migrator.settings import Settings
from shims.credentials import IDENTITY_HEADERS
from tests.docs_blocks import blocks
from tests.system.proxies.standing import PAGE, PROXIES

pytestmark = pytest.mark.system

FILES = ("nginx.conf", "Caddyfile", "traefik.yml")
# What `/forward-auth` says that an app, and that a client, is to get.
FOR_THE_APP = ("Authorization", "Remote-User", "X-Auth-Scopes", "X-Auth-Realm")
FOR_THE_CLIENT = ("Session-Token", "X-Set-Cookie-8", "Deprecation", "Sunset", "Link")


@pytest.fixture(scope="module")
def routes() -> set[str]:
    """Those of the page whose bodies are rewritten."""
    said = tomllib.loads("\n".join(block.text for block in blocks(PAGE, "toml")))["routes"]
    return {path for kind in ("login", "refresh", "logout") for path in said[kind]}


@pytest.mark.parametrize("name", FILES)
def test_each_file_sends_the_page_s_routes_to_where_bodies_are_rewritten(
    name: str, routes: set[str]
) -> None:
    text = (PROXIES / name).read_text()
    pattern = re.search(r"location ~ (\^/api\S+)", text)
    for route in routes:
        assert re.match(pattern[1], route) if pattern else route in text


@pytest.mark.parametrize("name", ["nginx.conf", "Caddyfile"])
def test_each_file_hands_on_what_the_answer_says(name: str) -> None:
    text = (PROXIES / name).read_text().lower().replace("_", "-")
    for header in (*FOR_THE_APP, "X-Forward-Cookie", *FOR_THE_CLIENT):
        assert header.lower() in text


def test_traefik_s_file_has_the_structure_that_traefik_documents() -> None:
    """No test runs Traefik: Debian does not have it."""
    http: dict[str, Any] = yaml.safe_load((PROXIES / "traefik.yml").read_text())["http"]
    assert http.keys() == {"routers", "services", "middlewares"}
    for router in http["routers"].values():
        assert router["service"] in http["services"]
        assert set(router["middlewares"]) <= http["middlewares"].keys()
        assert "migrator-identity" in router["middlewares"], "lies are dropped on every way"
        assert re.fullmatch(r"(?:(?:Path|PathPrefix)\(`[^`]+`\)(?: \|\| )?)+", router["rule"])
    assert http["routers"]["app"]["middlewares"][-1] == "migrator-ask"
    for service in http["services"].values():
        assert all(server["url"] for server in service["loadBalancer"]["servers"])
    asks = http["middlewares"]["migrator-ask"]["forwardAuth"]
    assert asks["address"].endswith("/forward-auth")
    assert asks["trustForwardHeader"] is False
    assert set(asks["authResponseHeaders"]) == {*FOR_THE_APP, "Cookie"}
    assert "__Host-session" in asks["addAuthCookiesToResponse"]
    dropped = http["middlewares"]["migrator-identity"]["headers"]["customRequestHeaders"]
    assert set(dropped.values()) == {""}
    plain = {name.lower().replace("_", "-") for name in dropped}
    assert {name.decode() for name in IDENTITY_HEADERS} <= plain


def test_the_page_s_settings_are_settings() -> None:
    tables = tomllib.loads("\n".join(block.text for block in blocks(PAGE, "toml")))
    tables["database"]["url"] = "postgresql+psycopg://nobody@127.0.0.1/none"
    tables["swap"]["keys"][0]["secret"] = "c" * 8 + "0123456789abcdefghijklmnopqrstuvwxyzABC"
    for issuer in tables["issuers"]:
        for kind in ("keys", "refresh_keys"):
            issuer[kind] = [f"a secret of this page's {kind}, for the test alone"]
    assert Settings.build(tables).bridge is not None
