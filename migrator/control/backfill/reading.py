"""Reading a ledger's rows in its database: a token becomes a fingerprint there, and stays there.

What must live here: SQL that turns typed columns into `rows.COLUMNS`. It reads a token as
`core/translate.py` would and as far as a row needs it; nothing is verified, because nothing is
admitted by it: the exchange verifies, and the session waits for that. The subject is what the
token says and not the ledger's user column, since it is the token that will be believed later.
A token no rule foresaw (not base64, not JSON, not UTF-8) makes the statement fail; the runner
halves the page until it has that row alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from migrator.control.backfill.rows import COLUMNS
from migrator.core.facts import LATEST_SECONDS, LONGEST_TEXT_BYTES
from migrator.core.purpose import ANY, KIND_CLAIMS, KINDS, NEVER, OTHER_KINDS
from migrator.settings import Issuer

# Their columns decide, their values do not: %% is one percent sign to the driver.
_HEX: Final = "^[0-9A-Fa-f]{64}$"
_BASE64: Final = "^[A-Za-z0-9+/_-]{43}=?$"
_COMPACT: Final = r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$"

_WHOLE = ("smallint", "integer", "bigint", "numeric", "real", "double precision")
_WORDS = ("text", "character varying", "character", "citext")
_AT = ("timestamp with time zone", "timestamp without time zone", "date")

YES: Final = ("t", "true", "y", "yes", "on", "1")
NO: Final = ("", "f", "false", "n", "no", "off", "0")


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(f"'{word}'" for word in words)


_TIMES: Final = {
    **dict.fromkeys(_WHOLE, "to_timestamp({c}::float8)"),
    **dict.fromkeys(_WORDS, "{c}::text::timestamptz"),
    "timestamp with time zone": "{c}",
    "timestamp without time zone": "({c} AT TIME ZONE 'UTC')",
    "date": "({c}::timestamp AT TIME ZONE 'UTC')",
}
# A word that is neither makes the row fail: guessing would admit what was revoked, or end what was
# not.
_FLAGS: Final = {
    "boolean": "coalesce({c}, false)",
    **dict.fromkeys(_WHOLE, "coalesce({c} <> 0, false)"),
    **dict.fromkeys(_AT, "({c} IS NOT NULL)"),
    **dict.fromkeys(
        _WORDS,
        f"(CASE WHEN {{c}} IS NULL OR lower({{c}}::text) IN ({_listed(NO)}) THEN false"
        f" WHEN lower({{c}}::text) IN ({_listed(YES)}) THEN true"
        " ELSE ('not a yes or no: ' || {c}::text)::boolean END)",
    ),
}
_DIGESTS: Final = {
    "bytea": "{c}",
    **dict.fromkeys(
        _WORDS,
        f"CASE WHEN {{c}} ~ '{_HEX}' THEN decode({{c}}::text, 'hex') WHEN {{c}} ~ '{_BASE64}'"
        " THEN decode(rtrim(translate({c}::text, '-_', '+/'), '=') || '=', 'base64') END",
    ),
}
_TEXTS: Final = dict.fromkeys((*_WORDS, *_WHOLE[:4], "uuid"), "{c}::text")
KINDS_OF: Final[Mapping[str, Mapping[str, str]]] = {
    **dict.fromkeys(("token", "jti", "family", "client", "subject"), _TEXTS),
    "fingerprint": _DIGESTS,
    **dict.fromkeys(("exp", "iat"), _TIMES),
    "revoked": _FLAGS,
}
"""For each of our names: which types a column may have, and how it is read."""


@dataclass(slots=True)
class Values:
    """Parameters under names of their own, so that no value is ever part of a statement."""

    given: dict[str, Any] = field(default_factory=dict)

    def add(self, value: object) -> str:
        """The placeholder of one more value."""
        name = f"v{len(self.given)}"
        self.given[name] = value
        return f"%({name})s"


def of_tokens(
    origin: str, columns: Mapping[str, str], issuer: Issuer, values: Values, *, room: int
) -> str:
    """A SELECT of `rows.COLUMNS` over rows that hold tokens.

    Args:
        origin: FROM and WHERE.
        columns: SQL for `key` and `token`; for jti, family, client, iat, exp and revoked where the
            ledger says them too; `fault` for what only the ledger knows.
        issuer: whose tokens they are.
        values: takes the parameters.
        room: the most bytes a token may have.
    """
    null = {"exp": "NULL::timestamptz", "iat": "NULL::timestamptz", "revoked": "false"}
    of = {
        name: columns.get(name, null.get(name, "NULL::text"))
        for name in ("key", "token", "jti", "family", "client", "iat", "exp", "revoked", "fault")
    }
    keep = values.add(issuer.leeway + issuer.skew)
    selected = ", ".join(f"{sql} AS {name}" for name, sql in of.items())
    body = _Body(values, issuer)
    # OFFSET 0 keeps the planner from writing an expression out wherever its name is used; a
    # MATERIALIZED step would do so too, and put tokens into temporary files.
    return f"""
SELECT key, CASE WHEN past THEN fault
    WHEN shape IS NOT NULL THEN shape
    WHEN jsonb_typeof(head) <> 'object' THEN 'bad_header'
    WHEN jsonb_typeof(body) <> 'object' THEN 'bad_payload'
    WHEN fault IS NOT NULL THEN fault
    WHEN NOT fits THEN 'unknown_issuer'
    WHEN said_purpose IS NULL THEN 'wrong_purpose'
    WHEN NOT coalesce({_fit("said_subject")}, false) THEN 'bad_subject'
    WHEN NOT coalesce({_fit("said_jti")}, NOT jsonb_exists(body, 'jti')) THEN 'bad_claim'
    WHEN NOT coalesce({_fit("said_family")} AND {_fit("said_client")}, true) THEN 'bad_claim'
    WHEN jsonb_exists(body, 'exp') AND said_exp IS NULL THEN 'bad_time'
    WHEN jsonb_exists(body, 'iat') AND said_iat IS NULL THEN 'bad_time' END,
  CASE WHEN shape IS NULL THEN {_fingerprint(values.add(issuer.id))} END,
  coalesce(said_jti, jti), coalesce(said_family, family), said_subject,
  coalesce(said_client, client), head ->> 'kid', said_purpose, coalesce(said_iat, iat),
  CASE WHEN body IS NULL THEN exp
    ELSE coalesce(said_exp, said_iat + {values.add(issuer.max_age)}::interval) END,
  revoked
FROM (
  SELECT p.*,
    {body.text(issuer.claims.subject, integers=issuer.integer_subject)} AS said_subject,
    {body.text("jti", integers=False)} AS said_jti,
    {body.optional(issuer.claims.family)} AS said_family,
    {body.optional(issuer.claims.client)} AS said_client,
    {body.time("exp")} AS said_exp, {body.time("iat")} AS said_iat,
    {body.purpose()} AS said_purpose, {body.signed()} AS fits
  FROM (
    SELECT s.*, CASE WHEN {_UNREAD} THEN NULL ELSE {_json("s.first")} END AS head,
      CASE WHEN {_UNREAD} THEN NULL ELSE {_json("s.second")} END AS body
    FROM (
      SELECT l.*, split_part(token, '.', 1) AS first, split_part(token, '.', 2) AS second,
        CASE WHEN octet_length(token) > {room} THEN 'oversized'
          WHEN token ~ '{_COMPACT}' THEN NULL ELSE 'not_a_jws' END AS shape,
        coalesce(exp + {keep} <= clock_timestamp(), false) AS past
      FROM (SELECT {selected} {origin} OFFSET 0) l OFFSET 0) s OFFSET 0) p OFFSET 0) facts"""  # noqa: S608 - identifiers are quoted, values are parameters


def of_fingerprints(origin: str, columns: Mapping[str, str], *, purpose: str) -> str:
    """A SELECT of `rows.COLUMNS` over rows that hold fingerprints already."""
    null = {"iat": "NULL::timestamptz", "revoked": "false", "purpose": f"'{purpose}'"}
    selected = ", ".join(
        f"{columns.get(name, null.get(name, 'NULL::text'))} AS {name}"
        for name in COLUMNS
        if name != "fault"
    )
    names = ", ".join(name if name != "fault" else _OF_DIGEST for name in COLUMNS)
    return f"WITH page AS MATERIALIZED (SELECT {selected} {origin}) SELECT {names} FROM page"  # noqa: S608 - as above


_UNREAD: Final = "s.shape IS NOT NULL OR s.past"


def _fit(name: str) -> str:
    """Whether a text can stand in a row: `facts.text`'s rule."""
    return (
        f"({name} ~ '\\S' AND octet_length({name}) <= {LONGEST_TEXT_BYTES}"
        rf" AND {name} !~ '[\u0001-\u001f\u007f-\u009f]')"
    )


_OF_DIGEST: Final = f"""CASE
    WHEN octet_length(fingerprint) IS DISTINCT FROM 32 THEN 'bad_fingerprint'
    WHEN NOT coalesce({_fit("subject")}, false) THEN 'bad_subject'
    WHEN NOT coalesce({_fit("jti")}, true) OR NOT coalesce({_fit("family")}, true)
      OR NOT coalesce({_fit("client")}, true) THEN 'bad_claim' END"""


def _fingerprint(issuer_id: str) -> str:
    """`tokens.fingerprint` in SQL, of the two segments of a compact token as they were sent."""
    return (
        f"sha256(convert_to({issuer_id}, 'UTF8') || '\\x00'::bytea"
        " || convert_to(first || '.' || second, 'UTF8'))"
    )


def _json(segment: str) -> str:
    # What is read here is ASCII; length() would count its characters, translate() look each up.
    padding = f"repeat('=', (4 - octet_length({segment}) %% 4) %% 4)"
    plain = f"replace(replace({segment}, '-', '+'), '_', '/')"
    return f"convert_from(decode({plain} || {padding}, 'base64'), 'UTF8')::jsonb"


@dataclass(frozen=True, slots=True)
class _Body:
    """SQL over the claims of a token, `body`."""

    values: Values
    issuer: Issuer

    def claim(self, name: str) -> str:
        """`facts.claim`: a dot goes one level down, unless a claim has that very name."""
        whole = f"(body -> {self.values.add(name)})"
        if "." not in name:
            return whole
        return f"coalesce({whole}, body #> {self.values.add(name.split('.'))}::text[])"

    def text(self, name: str, *, integers: bool) -> str:
        """The text of a claim; an integer's digits where integers are taken."""
        value = self.claim(name)
        also = f" WHEN 'number' THEN substring({value} #>> '{{}}' from '^-?[0-9]+$')"
        return (
            f"CASE jsonb_typeof({value}) WHEN 'string' THEN {value} #>> '{{}}'"
            f"{also if integers else ''} END"
        )

    def optional(self, name: str | None) -> str:
        """The text of a claim that need not be there."""
        return "NULL::text" if name is None else self.text(name, integers=True)

    def time(self, name: str) -> str:
        """The time of a claim in seconds; null where it is none that a clock can tell."""
        value = self.claim(name)
        return (
            f"CASE WHEN jsonb_typeof({value}) = 'number' THEN"
            f" CASE WHEN ({value} #>> '{{}}')::numeric BETWEEN 0 AND {LATEST_SECONDS}"
            f" THEN to_timestamp(({value} #>> '{{}}')::float8) END END"
        )

    def signed(self) -> str:
        """`Issuer.signs_as` over the `iss` claim."""
        match self.issuer.issuer:
            case None:
                return "NOT jsonb_exists(body, 'iss')"
            case "*":
                return "coalesce(jsonb_typeof(body -> 'iss') = 'string', true)"
            case name:
                return f"coalesce(body ->> 'iss' = {self.values.add(name)}, false)"

    def purpose(self) -> str:
        """What a token is for: by the issuer's rules first, then by what it says of itself.

        Near to `purpose.is_for`, which decides again, over the verified token, at the exchange.
        """
        kind = f"lower(coalesce({', '.join(f'body ->> {_quoted(name)}' for name in KIND_CLAIMS)}))"
        never = " OR ".join(f"jsonb_exists(body, {_quoted(name)})" for name in NEVER)
        rules = self.issuer.purpose
        refresh = self.rule(rules.refresh) or _is_among(kind, KINDS["refresh"])
        if rules.refresh is None and self.issuer.refresh_keys:
            refresh = f"({refresh} OR {kind} IS NULL)"  # who signed which, only keys would tell
        other = f"{_is_among(kind, OTHER_KINDS)} OR {_is_among(kind, KINDS['refresh'])}"
        access = self.rule(rules.require) or f"NOT coalesce({other}, false)"
        return (
            f"CASE WHEN body IS NULL OR {never} THEN NULL WHEN {refresh} THEN 'refresh'"
            f" WHEN {access} THEN 'access' END"
        )

    def rule(self, rule: Mapping[str, object] | None) -> str | None:
        """`purpose.holds`; None where there is no rule that tells anything."""
        if not rule:
            return None
        return "(" + " AND ".join(self._fits(name, wanted) for name, wanted in rule.items()) + ")"

    def _fits(self, name: str, wanted: object) -> str:
        value = f"nullif({self.claim(name)}, 'null'::jsonb)"
        if wanted in (None, [], ()):
            return f"{value} IS NULL"
        if wanted == ANY:
            return f"{value} IS NOT NULL"
        each = wanted if isinstance(wanted, list | tuple) else [wanted]
        texts = [self.values.add(json.dumps(one)) for one in each]
        # A list that contains the value is as good, as it is in `aud`; `@>` means both.
        return (
            "(" + " OR ".join(f"coalesce({value} @> {one}::jsonb, false)" for one in texts) + ")"
        )


def _is_among(kind: str, words: frozenset[str]) -> str:
    return f"coalesce({kind} IN ({_listed(tuple(sorted(words)))}), false)"


def _quoted(name: str) -> str:
    return f"'{name}'"
