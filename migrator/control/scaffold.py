"""The `migrator.toml` that `init` writes: every section with its comments, secrets by name alone.

What the operator said and what the sample told stands uncommented; everything else is there as a
comment with its default, so that the file is also the list of what can be set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tomlkit

from migrator.core.presets import PRESETS

if TYPE_CHECKING:
    from migrator.control.guesses import Guess


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What goes into the file.

    Args:
        key: `env:NAME` or `file:PATH` of the issuer's key; None where `jwks_url` has them.
        swap_secret: `env:NAME` or `file:PATH`.
        redis_url_env: None: runs without.
    """

    environment: str
    app: str
    database_url_env: str
    redis_url_env: str | None
    issuer_id: str
    issuer_name: str
    algorithm: str
    preset: str | None
    key: str | None
    jwks_url: str | None
    swap_secret: str
    guess: Guess = field(repr=False)


def written(plan: Plan) -> str:
    """The whole file."""
    redis = plan.redis_url_env
    return _FILE.format(
        environment=_toml(plan.environment),
        app=_toml(plan.app),
        database=_toml(f"env:{plan.database_url_env}"),
        redis_mark="" if redis else "# ",
        redis=_toml(f"env:{redis or 'MIGRATOR_REDIS_URL'}"),
        swap=_toml(plan.swap_secret),
        issuer="\n".join(_issuer(plan)),
        issuer_id=_toml(plan.issuer_id),
    )


def _issuer(plan: Plan) -> list[str]:
    guess, defaults = plan.guess, PRESETS[plan.preset].defaults if plan.preset else {}
    lines = [
        f"id = {_toml(plan.issuer_id)}    # never change it: it is part of every fingerprint",
        f"name = {_toml(plan.issuer_name)}",
        'realm = "users"    # whose "user 1" is the same person; as [sessions] realm',
    ]
    if plan.preset:
        lines.append(f"preset = {_toml(plan.preset)}    # fills what is not given here")
    lines.append(f"algorithms = {_toml([plan.algorithm])}")
    if plan.jwks_url:
        lines.append(f"jwks_url = {_toml(plan.jwks_url)}")
    if plan.key:
        lines.append(f"keys = {_toml([plan.key])}    # or file:key.pem, file:jwks.json")
    lines += [
        '# encoding = "base64"    # of an HMAC secret; else its UTF-8 bytes',
        '# refresh_keys = ["env:REFRESH_SECRET"]',
    ]
    lines.append(_line("issuer", guess.iss, defaults, '"https://idp.example"', "the iss claim"))
    lines.append(_line("audience", list(guess.audience), defaults, '["api"]', "the aud claim"))
    lines.append(_line("typ", [guess.typ] if guess.typ else None, defaults, '["JWT"]', "header"))
    if guess.accept_padding:
        lines.append("accept_padding = true")
    if guess.integer_subject and not defaults.get("integer_subject"):
        lines.append("integer_subject = true")
    lines += [
        '# leeway = "30s"    # how long after its exp a token still holds',
        '# skew = "5s"    # how far ahead its signer\'s clock may be',
        _line("lifetime", guess.lifetime, defaults, '"1h"', "what its signer gives a token"),
        _line("refresh_lifetime", guess.refresh_lifetime, defaults, '"30d"', "a refresh token"),
        "# rotates_refresh = false    # true: each refresh gives a new refresh token",
        '# max_age = "365d"    # for tokens without exp; else those are refused',
        '# transport = [{ header = "Authorization", scheme = "Bearer" }]    # or { cookie = "x" }',
    ]
    lines += ["", "[issuers.claims]    # in which claims the facts are"]
    given = _fresh(guess.claims, defaults.get("claims"))
    lines += [f"{name} = {_toml(claim)}" for name, claim in given.items()]
    lines.append('# client = "azp"   scopes = "scope"   family = "sid"   keep = ["name"]')
    lines += ["", "[issuers.purpose]    # what a login token says; others are refused or foreign"]
    rules = defaults.get("purpose")
    if guess.require and not (isinstance(rules, Mapping) and "require" in rules):
        lines.append(f"require = {_toml(dict(guess.require))}")
    else:
        lines.append('# require = { token_type = "access" }')
    lines.append('# refresh = { token_type = "refresh" }')
    return lines


def _line(name: str, value: object, defaults: Mapping[str, object], example: str, why: str) -> str:
    """A setting that the sample told, or a comment that shows how it would be written."""
    if not value:
        return f"# {name} = {example}    # {why}"
    told = defaults.get(name)
    if told == "*" or (isinstance(told, Sequence) and "*" in told):
        return f"# {name} = {_toml(value)}    # {why}; the preset takes any"
    return f"{name} = {_toml(value)}    # {why}"


def _fresh(claims: Mapping[str, str], preset: object) -> dict[str, str]:
    told = preset if isinstance(preset, Mapping) else {"subject": "sub"}
    return {name: claim for name, claim in claims.items() if told.get(name) != claim}


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{_toml(key)} = {_toml(one)}" for key, one in value.items())
        return f"{{ {', '.join(pairs)} }}"
    return str(tomlkit.item(value).as_string())


_FILE = """\
# Settings of migrator. A key is also set by MIGRATOR_SECTION__KEY; secrets are named, never here.
environment = {environment}    # typed to confirm moves
app = {app}
# expected_nodes = 24    # processes that will run the shim; unset = gates inconclusive

[database]
url = {database}    # postgresql+psycopg://user:password@host/name
# schema = "migrator"
# budget_ms = 1000    # how long a request may wait for it; then 503

# The cache between. Leave the section out to run without.
{redis_mark}[redis]
{redis_mark}url = {redis}    # redis:// rediss:// unix:// redis+sentinel:// redis+cluster://
# budget_ms = 50
# entry_seconds = 60

# Each process's memory of recent verdicts.
[memory]
# entries = 100_000
# poll_ms = 400    # how often it reads the feed of revocations
# trust_ms = 900    # how long it is believed after that; 0 = strict: always ask Postgres
# strict_routes = ["/payments/**"]    # strict there alone

# What stands before a move. How long it must have been quiet:
[gates]
# legacy_quiet = "24h"    # no legacy token seen, for cutover
# foreign_quiet = "24h"
# retire_quiet = "30d"
# ack_timeout = "30s"
# What else has to be proven; each is a gate only once it is set.
# compare_pairs = 1000    # verdicts compared with the app's, before swap
# compare_percent = 0.1    # of them, how many the app may allow and the shim would deny
# revocations = true    # everything in the app that ends logins is read
# store_p99 = "10ms"    # how slow the session store may be
# drill_within = "14d"    # when the way back was last drilled
# notice = "30d"    # how long the end has been announced
# brownouts = 2    # how many ran to their end
# backfill_within = "24h"    # when a backfill was last verified
# And after one: a cutover takes itself back if more than so many times as many log in.
# soak = "15m"
# sign_ins = 2.0
# plan_expires = "24h"

[tokens]
# session_prefix = "sess"
# api_prefix = "pat"

[sessions]
realm = "users"    # of sessions issued at login
# idle = "14d"
# absolute = "90d"
# per_subject = 100    # oldest out
# store_ip = "full"    # full | truncated | off
# keep_ended = "30d"

# How a legacy token becomes a session. The first key derives, the others still match.
[swap]
keys = [{{ id = "k1", secret = {swap} }}]
# min_remaining = "10m"
# per_minute = 600    # sessions one subject may open, in each process; beyond: admitted unswapped
# header = "Session-Token"

# Where legacy tokens come from; one table for each signer.
[[issuers]]
{issuer}

# Path patterns of the app: * is one segment, ** any number.
[routes]
# login = ["/auth/login"]
# refresh = ["/auth/refresh"]
# logout = ["/auth/logout"]
# public = []

[cookie]
# name = "__Host-session"
# same_site = "lax"
# secure = true    # false only for plain-http development; then the name loses its prefix
# Old copies go from the cutover on and at logout; each exactly as it was set.
# clear = [{{ name = "access_token" }}, {{ name = "access_token", domain = "acme.example" }}]
# hint = "session_hint"    # a cookie scripts can read: `1` while there is a session
# hint_domain = "acme.example"    # lets pages of sibling hosts read it

# JWT-like credentials that are not logins of ours and go to the app; one table for each.
# [[foreign]]
# iss = "https://other.example"
# claims = {{ purpose = "file" }}
# path = "/files/*"

# For an app that goes on verifying JWTs itself: playbook 57-bridge. This line alone is enough;
# what the preset knows fills the rest.
# [bridge]
# issuer = {issuer_id}    # whose tokens the app understands; the first unless given
# lifetime = "60s"    # of the JWT that it is shown; 10 minutes at most
# key = {{ key = "env:BRIDGE_KEY", kid = "b1" }}    # unless the issuer's own is a secret
# access = ["/access"]    # where its login and refresh answers carry tokens: JSON pointers
# refresh = ["/refresh"]
# refresh_cookies = ["refresh_token"]
# constants = {{ nbf = 0 }}    # claims besides the login's; refresh_constants: of refresh JWTs
# mirrors = {{ csrf = "csrf_access_token" }}    # claim = cookie; refresh_mirrors
# expiring = {{ fresh = false }}    # what a claim is once the first access lifetime is over
# claims = "all"    # all | kept: those of claims.keep
# integer_subject = true    # as the issuer's unless given
# echoes = ["/session/token"]    # compressed answers that repeat the credential
# probes = ["http://10.0.0.5:3000"]    # where the app itself listens: doctor asks

# Where the app itself says which tokens and users are to be refused; polled, one table for each.
# [[ledgers]]
# kind = "simplejwt"    # its token_blacklist; or table, redis, users, callback
# every = "5s"    # a revocation there is in effect that much later than one here
# url = "env:APP_DATABASE_URL"    # ours unless given
# issuer = {issuer_id}    # whose tokens it lists; the only one unless given
# ends = "token"    # token | family: what is named, or all that came of its login
# table = "public.revoked_tokens"    # of table and users, with their columns: ours = theirs
# columns = {{ jti = "jti", revoked_at = "created_at" }}    # users: subject, active, changed_at
# where = "kind = 'logout'"    # rows that count; users: inactive = "status = 'blocked'"
# keys = "revoked:*"    # of redis: * is the jti; without it a set of jtis

[http]
# foreign = "pass"    # pass | refuse: everything else that is not ours
# allowed_origins = []
# max_credential_bytes = 8192
# deprecation_link = "https://acme.example/docs/sessions"
# refusal = {{ status = 401 }}    # status, scheme, body: what the old app answered

# `migrator serve`, for apps behind a proxy and services that verified JWTs: playbook 56-serve.
[serve]
# host = "127.0.0.1"
# port = 8300
# upstream = "http://127.0.0.1:3000"    # the app whose login, refresh and logout it carries
# expired = "refuse"    # refuse | pass: an expired JWT is for the app to answer
# clients = [{{ id = "billing", secret = "env:BILLING_SECRET" }}]    # who may introspect
"""
