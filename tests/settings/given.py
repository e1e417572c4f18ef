"""Settings as they are given: files, tables, keys; and what is said of bad ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from migrator.core.errors import BadSettings
from migrator.settings import Settings

EXAMPLE = """\
environment = "prod"                 # typed to confirm moves
app = "acme-api"
expected_nodes = 24                  # processes that will run the shim; unset = gates inconclusive

[database]
url = "env:MIGRATOR_DATABASE_URL"    # postgresql+psycopg://…
schema = "migrator"
budget_ms = 1000                     # then 503

[redis]                              # leave out to run without
url = "env:MIGRATOR_REDIS_URL"       # redis:// rediss:// unix:// and cluster, sentinel forms
budget_ms = 50
entry_seconds = 60

[memory]
entries = 100_000
poll_ms = 400
trust_ms = 900                       # 0 = strict

[gates]
legacy_quiet = "24h"                 # no legacy token seen, for cutover
foreign_quiet = "24h"
retire_quiet = "30d"
ack_timeout = "30s"

[tokens]
session_prefix = "sess"
api_prefix = "pat"

[sessions]
realm = "users"                      # of sessions issued at login
idle = "14d"
absolute = "90d"
per_subject = 100                    # oldest out
store_ip = "full"                    # full | truncated | off
keep_ended = "30d"

[swap]
keys = [{ id = "k1", secret = "env:MIGRATOR_SWAP_KEY" }]   # the first derives, the others still match
min_remaining = "10m"
header = "Session-Token"

[[issuers]]
id = "a1"                            # immutable; part of every fingerprint
name = "main"
realm = "users"                      # whose "user 1" is the same person
# skew = "5s"                        # how far ahead its clock may be
preset = "simplejwt"                 # fills what follows; anything given wins
algorithms = ["HS256"]
keys = ["env:JWT_SECRET"]            # or file:key.pem, file:jwks.json, or { key = "env:X", kid = "k1", alg = "RS256" }
# encoding = "base64"                # of an HMAC secret; else its UTF-8 bytes
# refresh_keys = ["env:REFRESH_SECRET"]
rotates_refresh = false
integer_subject = false              # presets may set it
typ = ["JWT"]                        # if present in the header
accept_padding = false
# jwks_url = "https://idp.example/.well-known/jwks.json"
# issuer = "https://idp.example"     # `iss`; absent = tokens carry none
# audience = ["api"]
leeway = "30s"
# max_age = "365d"                   # for tokens without exp
lifetime = "1h"                      # what its signer gives an access token,
refresh_lifetime = "30d"             # and a refresh token: horizon and effective iat
transport = [{ header = "Authorization", scheme = "Bearer" }]   # or { cookie = "access_token" }, { query = "token" }
[issuers.claims]
subject = "user_id"
# client = "azp"   scopes = "scope"   family = "sid"   keep = ["name"]
[issuers.purpose]                    # what a login token looks like; everything else is refused or foreign
require = { token_type = "access" }
refresh = { token_type = "refresh" }

[routes]                             # path patterns
login = ["/auth/login"]
refresh = ["/auth/refresh"]
logout = ["/auth/logout"]
public = []

[cookie]
name = "__Host-session"
same_site = "lax"
secure = true                        # false only for plain-http development; then the name loses its prefix

[[foreign]]                          # JWT-like credentials that are not logins of ours and go to the app
# iss = "https://other.example"   claims = { purpose = "file" }   path = "/files/*"

[http]
foreign = "pass"                     # pass | refuse: everything else that is not ours
allowed_origins = []
max_credential_bytes = 8192
# deprecation_link = "https://acme.example/docs/sessions"
refusal = { status = 401 }           # status, scheme, body template
"""  # noqa: E501 - quoted as it is published


SECRET = "kq7Z2mVw9XcR4tYb6NfH1sJd8GpL3aEu"  # 32 characters nobody else has
OTHER = "Wd5nQ8rTz2LkVx7PbM4cFhJ9sGy3AeU6"


SWAP = "3q2-7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs"


URL = "postgresql+psycopg://acme:hunter2@db/acme"


ENVIRON = {
    "MIGRATOR_DATABASE_URL": URL,
    "MIGRATOR_REDIS_URL": "redis://:sesame@cache:6379/0",
    "MIGRATOR_SWAP_KEY": SWAP,
    "JWT_SECRET": SECRET,
}


PUBLIC_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
PEM = PUBLIC_KEY.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
BARE = "".join(PEM.splitlines()[1:-1])
DER = PUBLIC_KEY.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def issuer(**given: Any) -> dict[str, Any]:
    return {"id": "a1", "algorithms": ["HS256"], "keys": [SECRET], **given}


def tables(**given: Any) -> dict[str, Any]:
    return {"database": {"url": URL}, **given}


def with_issuer(**given: Any) -> dict[str, Any]:
    return tables(issuers=[issuer(**given)])


def clearing(*copies: Mapping[str, str], **given: str) -> dict[str, Any]:
    return tables(cookie={"clear": list(copies), **given})


def problems_of(given: Mapping[str, Any]) -> dict[str, str]:
    with pytest.raises(BadSettings) as raised:
        Settings.build(given, environ={})
    return {problem.id: problem.what for problem in raised.value.problems}


def load(tmp_path: Path, text: str, **environ: str) -> Settings:
    path = tmp_path / "migrator.toml"
    path.write_text(text, encoding="utf-8")
    return Settings.load(path, environ=environ)


def problems_in(tmp_path: Path, text: str, **environ: str) -> dict[str, str]:
    with pytest.raises(BadSettings) as raised:
        load(tmp_path, text, **environ)
    return {problem.id: problem.what for problem in raised.value.problems}


FILE = '[database]\nurl = "env:MIGRATOR_DATABASE_URL"\n'
