"""The dangers that several shapes share: one text for each, so that they read alike everywhere."""

from typing import Final

from migrator.core.presets.records import Hazard

SHARED_SECRET: Final = Hazard(
    "shared-secret",
    "One secret signs these tokens and much else (password resets, signed cookies): end legacy "
    "tokens by cutover, and rotate the secret later, as a change of its own.",
    "40-retire#what-stays-for-ever-what-goes",
)
NO_JTI: Final = Hazard(
    "no-jti",
    "There is no jti: two logins of one user within the same second are one and the same token, "
    "and share one session.",
    "why#why-is-a-jwt-named-by-its-signing-input",
)
NO_IAT: Final = Hazard(
    "no-iat",
    "There is no iat: cutoffs date a token by exp minus `lifetime`; set it to what the signer "
    "gave the longest-lived tokens that are still about.",
    "30-cutover#gate-drain-horizon",
)
NO_EXP: Final = Hazard(
    "no-exp",
    "Signers may leave exp out: such a token is refused unless the issuer sets max_age and it has "
    "iat, and it never drains by itself.",
    "90-what-if#no_expiry",
)
REFRESH_FIRST: Final = Hazard(
    "refresh-first",
    "Access tokens live for minutes: most users come back with an expired one and a refresh "
    "token, so wire the refresh route to `exchange`, or bridge it, before anything else.",
    "90-what-if#what-if-the-access-token-is-expired-and-only-the-refresh-token-lives",
)
OPAQUE_REFRESH: Final = Hazard(
    "opaque-refresh",
    "Refresh tokens are not JWTs an app can verify: a login moves when its access token is "
    "swapped, or at its next refresh through the provider followed by `login`.",
    "why#why-are-short-lived-access-tokens-not-swapped",
)
PROVIDER: Final = Hazard(
    "provider-signs-on",
    "The provider goes on signing tokens after cutover for whoever logs in there: its login must "
    "lead to `login` of this toolkit.",
    "30-cutover#gate-issuance-stopped",
)
NO_BRIDGE_KEY: Final = Hazard(
    "no-bridge-key",
    "Nobody but the provider has its signing key: bridge JWTs need a key of their own under "
    "[bridge], whose public half the app takes beside the provider's.",
    "40-retire#what-stays-for-ever-what-goes",
)
MUTABLE_SUBJECT: Final = Hazard(
    "mutable-subject",
    "Its subject is, or often is, a user name or an e-mail address: a renamed or reassigned one "
    "is another person to a session. Move to ids before the swap where they can change.",
    "90-what-if#bad_subject",
)
OTHER_PURPOSES: Final = Hazard(
    "other-purposes",
    "The same secret signs tokens that are no logins, told apart by their claims alone: keep the "
    "rules of [issuers.purpose], and name under [[foreign]] what the app goes on taking.",
    "90-what-if#wrong_purpose",
)
RAW_LIST: Final = Hazard(
    "raw-list",
    "The app looks the whole token up in a table by its exact text: only the client's own JWT can "
    "match there, and a bridge JWT never will. Let revocations end sessions instead.",
    "why#why-is-a-jwt-named-by-its-signing-input",
)
STATUS_CODES: Final = Hazard(
    "status-codes",
    "The app answers a bad token with another status than 401, and clients may be keyed to that: "
    "see http.refusal.",
    "50-clients#what-the-answers-mean",
)
LONG_LIVED: Final = Hazard(
    "long-lived",
    "Its tokens live for weeks or longer: the drain is as long, unless their clients adopt "
    "sessions or you cut over by segment.",
    "30-cutover#gate-drain-horizon",
)
FROZEN_ROLES: Final = Hazard(
    "frozen-roles",
    "Roles stand in the token as they were at login, and a session keeps only what claims.keep "
    "names. Let resolve_subject say what a subject may do now; behind a bridge, name whatever "
    "else the app reads, and end sessions where it changes.",
    "00-decide#do-it-when",
)
SCHEME: Final = Hazard(
    "scheme",
    "The header says `Token`, not `Bearer`, and the app may compare its case: keep the scheme of "
    "this preset's transport.",
    "90-what-if#malformed_request",
)
