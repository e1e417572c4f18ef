from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.core.presented import Credential, Presented
from migrator.core.verdicts import Reason
from migrator.settings import Settings
from shims.credentials import Places, clean, clear, clear_query, find

Line: TypeAlias = tuple[bytes, bytes]


def _segment(value: object) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


JWT = b".".join((_segment({"alg": "HS256", "typ": "JWT"}), _segment({"sub": "u"}), b"c2ln" * 8))
OTHER = b".".join((_segment({"alg": "HS256", "typ": "JWT"}), _segment({"sub": "v"}), b"c2ln" * 8))
SESSION = b"sess_" + b"0" * 49
ISSUER = frozenset({"a1"})
NOBODY: frozenset[str] = frozenset()


@pytest.fixture(scope="module")
def places(settings: Callable[..., Settings]) -> Places:
    return Places.of(settings())


@pytest.fixture(scope="module")
def everywhere(settings: Callable[..., Settings]) -> Places:
    """An issuer that is read in every kind of place."""
    return Places.of(
        settings(
            {"header": "Authorization", "scheme": "Token"},
            {"header": "X-Token"},
            {"cookie": "access_token"},
            {"cookie": "jwt"},
            {"query": "token"},
            routes={"login": ["/login"], "public": ["/files/*", "/docs/**"]},
        )
    )


def _find(
    places: Places,
    *lines: Line,
    method: str = "GET",
    query: bytes = b"",
    path: str = "/",
    mount: str = "",
) -> Presented | None:
    presented, _ = find(places, lines, method=method, path=path, query=query, mount=mount)
    return presented


def _authorization(places: Places, value: bytes) -> Presented | None:
    return _find(places, (b"authorization", value))


def test_request_without_a_credential_presents_nothing(places: Places) -> None:
    assert _find(places, (b"host", b"a"), (b"cookie", b"theme=dark"), query=b"token=x") is None
    assert _find(places, (b"authorization", b"")) is None


@pytest.mark.parametrize("value", [b"Bearer %b", b"bearer %b", b"BEARER %b", b"Bearer   %b"])
def test_scheme_in_any_case_and_spacing_is_read(places: Places, value: bytes) -> None:
    for token in (JWT, SESSION, b"opaque"):
        presented = _authorization(places, value % token)
        assert presented is not None
        assert presented.header == Credential(token, "header", ISSUER)
        assert presented.fault is None


@pytest.mark.parametrize(
    "value", [b"Bearer", b"Bearer ", b"bearer   ", b"Bearer a b", b"Bearer\t"]
)
def test_malformed_credential_is_a_fault(places: Places, value: bytes) -> None:
    presented = _authorization(places, value)
    assert presented is not None
    assert presented.fault is Reason.MALFORMED_REQUEST
    assert presented.header is None


@pytest.mark.parametrize(
    "spelt",
    [
        JWT[:9] + b" " + JWT[9:],
        JWT[:9] + b"\t" + JWT[9:],
        JWT + b" ",
        JWT + b"\x00",
        b"\t" + JWT,
        JWT + b"\xff",
        JWT + b"\xc2\xad",
        JWT + b"==",
        json.dumps({"payload": "e30", "protected": JWT.split(b".")[0].decode()}).encode(),
        SESSION[:20] + b" " + SESSION[20:],
        SESSION + b"\n",
        b"\xff\x80",
    ],
)
def test_strangely_spelt_token_reaches_the_gate_exactly_as_sent(
    places: Places, spelt: bytes
) -> None:
    presented = _authorization(places, b"Bearer " + spelt)
    assert presented is not None
    assert presented.fault is None
    assert presented.header == Credential(spelt, "header", ISSUER)


@pytest.mark.parametrize("joint", [b"\t", b"\x00", b"\xa0", b":", b"\x0b"])
def test_something_else_in_the_place_of_the_space_is_not_foreign(
    places: Places, joint: bytes
) -> None:
    presented = _authorization(places, b"Bearer" + joint + JWT)
    assert presented is not None
    assert presented.header is not None
    assert presented.header.value.endswith(JWT)
    assert presented.header.value != JWT


@pytest.mark.parametrize(
    "value",
    [
        b"Basic dTpw",
        b"Digest x",
        b'Digest username="a", realm="b c", uri="/x.y.z"',
        b"Negotiate YII=",
    ],
)
def test_scheme_of_nobody_here_is_foreign(places: Places, value: bytes) -> None:
    presented = _authorization(places, value)
    assert presented is not None
    assert presented.foreign_header
    assert presented.header is None
    assert presented.fault is None


@pytest.mark.parametrize(
    "value", [b"DPoP %b", b"JWT %b", b"Token %b", b"%b", b"Basic %b", b"x=%b"]
)
def test_jwt_under_a_scheme_of_nobody_is_a_credential_of_no_issuer(
    places: Places, value: bytes
) -> None:
    presented = _authorization(places, value % JWT)
    assert presented is not None
    assert presented.header is not None
    assert presented.header.issuers == NOBODY
    assert JWT in presented.header.value


@pytest.mark.parametrize(
    "lines",
    [
        [b"Bearer %b" % JWT, b"Bearer junk"],
        [b"Bearer junk", b"Bearer %b" % JWT],
        [b"Bearer %b" % JWT, b"Bearer %b" % OTHER],
        [b"Bearer %b" % JWT, b"Bearer %b" % JWT],
        [b"Basic dTpw", b"Bearer %b" % JWT],
    ],
)
def test_two_authorization_headers_are_a_fault_joined_or_not(
    places: Places, lines: list[bytes]
) -> None:
    for joint in (None, b",", b", "):
        sent = lines if joint is None else [joint.join(lines)]
        presented = _find(places, *((b"authorization", line) for line in sent))
        assert presented is not None
        assert presented.fault is Reason.REPEATED_CREDENTIAL


def test_junk_joined_behind_a_credential_is_a_fault(places: Places) -> None:
    presented = _authorization(places, b"Bearer %b,junk" % JWT)
    assert presented is not None
    assert presented.fault is Reason.REPEATED_CREDENTIAL


def test_session_token_is_named_in_a_repeated_credential(places: Places) -> None:
    """The gate refuses those even in `observe`."""
    presented = _find(
        places, (b"authorization", b"Bearer " + JWT), (b"Authorization", b"Bearer " + SESSION)
    )
    assert presented is not None
    assert presented.header is not None
    assert presented.header.value == SESSION


def test_header_without_scheme_is_read_where_an_issuer_sends_one(everywhere: Places) -> None:
    presented = _find(everywhere, (b"x-token", JWT))
    assert presented is not None
    assert presented.header == Credential(JWT, "header", ISSUER)
    presented = _find(
        everywhere, (b"X_Token", JWT)
    )  # a WSGI app behind a bridge sees no difference
    assert presented is not None
    assert presented.header is not None


def test_foreign_authorization_beside_an_issuers_header_leaves_the_latter(
    everywhere: Places,
) -> None:
    for foreign in (b"Basic dTpw", b"Token some-api-key"):
        presented = _find(everywhere, (b"authorization", foreign), (b"x-token", JWT))
        assert presented is not None
        assert presented.fault is None
        assert presented.header is not None
        assert presented.header.value == JWT


def test_two_likely_credentials_in_different_headers_are_a_fault(everywhere: Places) -> None:
    presented = _find(everywhere, (b"authorization", b"Token " + JWT), (b"x-token", OTHER))
    assert presented is not None
    assert presented.fault is Reason.REPEATED_CREDENTIAL
    presented = _find(everywhere, (b"authorization", b"Token " + JWT), (b"x-token", JWT))
    assert presented is not None
    assert presented.fault is None


def test_bearer_is_read_beside_an_issuers_own_scheme(everywhere: Places) -> None:
    presented = _authorization(everywhere, b"Bearer " + SESSION)
    assert presented is not None
    assert presented.header == Credential(SESSION, "header", NOBODY)
    presented = _authorization(everywhere, b"token " + JWT)
    assert presented is not None
    assert presented.header == Credential(JWT, "header", ISSUER)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"__Host-session=v", b"v"),
        (b"a=1; __Host-session=v; b=2", b"v"),
        (b'a=1;__Host-session="v"', b"v"),
        (b"a=1; \xa0__Host-session =v", b"v"),
        (b"x__Host-session=w; __Host-session=v", b"v"),
        (b"__Host-session=v; __Host-session2=w", b"v"),
        (b"__Host-session=v; __Host-session=v", b"v"),
        (b"__Host-session=; __Host-session=v", b"v"),
        (b"__Host-session=a=b", b"a=b"),
    ],
)
def test_our_cookie_is_found_by_its_exact_name(places: Places, line: bytes, value: bytes) -> None:
    presented = _find(places, (b"cookie", line))
    assert presented is not None
    assert presented.session_cookie == Credential(value, "cookie")
    assert presented.fault is None


@pytest.mark.parametrize(
    "line",
    [
        b"x__Host-session=v",
        b"__host-session=v",
        b"__Host-session2=v",
        b"a=__Host-session=v",
        b"__Host-session=",
        b'__Host-session=""',
        b"__Host-session",
        b"a=1,__Host-session=v",
        b"",
    ],
)
def test_other_cookies_are_not_ours(places: Places, line: bytes) -> None:
    assert _find(places, (b"cookie", line)) is None


@pytest.mark.parametrize(
    "lines",
    [
        [b"__Host-session=v; a=1; __Host-session=w"],
        [b"__Host-session=v", b"__Host-session=w"],
        [b"__Host-session=v,__Host-session=w"],
        [b"__Host-session=v, a=1, __Host-session=w; b=2"],
    ],
)
def test_every_copy_of_our_cookie_is_the_gates_to_judge(
    places: Places, lines: list[bytes]
) -> None:
    presented = _find(places, *((b"cookie", line) for line in lines))
    assert presented is not None
    assert presented.fault is None
    copies = (presented.session_cookie, *presented.session_copies)
    assert copies == (Credential(b"v", "cookie"), Credential(b"w", "cookie"))
    assert presented.sent is not None
    assert presented.sent.repeated


def test_the_same_cookie_twice_is_one(places: Places) -> None:
    presented = _find(places, (b"cookie", b"__Host-session=v; __Host-session=v"))
    assert presented is not None
    assert presented.session_cookie == Credential(b"v", "cookie")
    assert presented.session_copies == ()
    assert presented.sent is None


@pytest.mark.parametrize("name", [b"__Host-session", b"jwt"])
def test_more_copies_than_a_browser_has_are_a_fault(everywhere: Places, name: bytes) -> None:
    few, many = (b"; ".join(b"%b=v%d" % (name, at) for at in range(most)) for most in (4, 5))
    presented = _find(everywhere, (b"cookie", few))
    assert presented is not None
    assert presented.fault is None
    presented = _find(everywhere, (b"cookie", many))
    assert presented is not None
    assert presented.fault is Reason.REPEATED_CREDENTIAL


def test_first_configured_legacy_cookie_is_the_legacy_credential(everywhere: Places) -> None:
    presented = _find(everywhere, (b"cookie", b"jwt=%b; access_token=%b" % (OTHER, JWT)))
    assert presented is not None
    assert presented.legacy == Credential(JWT, "cookie", ISSUER)


def test_copies_of_the_first_legacy_cookie_are_told_from_other_cookies(
    everywhere: Places,
) -> None:
    line = b"jwt=%b; access_token=%b; access_token=x" % (OTHER, JWT)
    presented = _find(everywhere, (b"cookie", line))
    assert presented is not None
    assert presented.fault is None
    copies = [presented.legacy, *presented.legacy_copies]
    assert copies == [Credential(JWT, "cookie", ISSUER), Credential(b"x", "cookie", ISSUER)]
    assert presented.others == (Credential(OTHER, "cookie", ISSUER),)


def test_query_parameter_counts_only_where_an_issuer_says_so(
    places: Places, everywhere: Places
) -> None:
    assert _find(places, query=b"token=" + JWT) is None
    for query in (b"a=1&token=" + JWT, b"%74oken=" + JWT, b"token=%65" + JWT[1:]):
        presented = _find(everywhere, query=query)
        assert presented is not None
        assert presented.legacy == Credential(JWT, "query", ISSUER)
    presented = _find(everywhere, query=b"token=%b&token=%b" % (JWT, OTHER))
    assert presented is not None
    assert presented.fault is Reason.REPEATED_CREDENTIAL


@pytest.mark.parametrize(
    ("path", "mount", "route"),
    [
        ("/login", "", "login"),
        ("/login/", "", None),
        ("/v1/login", "/v1", "login"),
        ("/v1/login", "", None),
        ("/files/a", "", "public"),
        ("/files/a/b", "", None),
        ("/docs", "", "public"),
        ("/docs/a/b", "", "public"),
        ("/docsify", "", None),
    ],
)
def test_route_is_what_the_settings_name_the_path(
    everywhere: Places, path: str, mount: str, route: str | None
) -> None:
    presented = _find(everywhere, (b"x-token", JWT), path=path, mount=mount)
    assert presented is not None
    assert presented.route == route


def test_only_cookies_can_be_forged(everywhere: Places) -> None:
    foreign = ((b"host", b"a"), (b"origin", b"https://evil.example"))
    for cookie in (b"jwt=" + JWT, b"__Host-session=" + SESSION):
        presented = _find(everywhere, (b"cookie", cookie), *foreign, method="POST")
        assert presented is not None
        assert presented.forged
    presented = _find(everywhere, (b"x-token", JWT), *foreign, method="POST")
    assert presented is not None
    assert not presented.forged
    presented = _find(everywhere, *foreign, method="POST", query=b"token=" + JWT)
    assert presented is not None
    assert not presented.forged


@pytest.mark.parametrize(
    "name",
    [
        *(b"x-auth-user", b"X-Auth-User", b"x_auth_user", b"x-AUTH_user", b"X_Auth-User"),
        *(b"Remote-User", b"remote_user", b"x-user-id", b"x-forwarded-user", b"X-REMOTE-USER"),
        *(b"x_Authenticated-User", b"x-auth-scopes"),
    ],
)
def test_identity_header_in_any_spelling_is_cleaned(places: Places, name: bytes) -> None:
    lines = [(b"host", b"a"), (name, b"admin"), (b"x-user", b"kept")]
    presented, lies = find(places, lines, method="GET", path="/")
    assert presented is None
    assert lies
    assert clean(places, lines) == [(b"host", b"a"), (b"x-user", b"kept")]


def test_endless_header_names_are_not_remembered(places: Places) -> None:
    for number in range(5000):
        _find(places, (b"x-%d" % number, b"1"), (b"x" * 5000, b"1"))
    assert len(places.roles) <= 512
    _, lies = find(places, [(b"Remote_User", b"x")], method="GET", path="/")
    assert lies


def test_clearing_takes_out_what_is_ours_and_leaves_the_rest_byte_for_byte(
    everywhere: Places,
) -> None:
    lines = [
        (b"Authorization", b"Basic dTpw"),
        (b"X-Token", JWT),
        (b"cookie", b'a="1;2"; jwt=%b;b=2;  c' % JWT),
        (b"cookie", b"access_token=" + JWT),
        (b"accept", b"*/*"),
    ]
    names = frozenset({b"jwt", b"access_token"})
    assert clear(everywhere, lines, cookies=names, explicit=True) == [
        (b"Authorization", b"Basic dTpw"),
        (b"cookie", b'a="1;2";b=2;  c'),
        (b"accept", b"*/*"),
    ]
    assert clear(everywhere, lines, cookies=frozenset(), explicit=False) == lines
    assert clear_query(everywhere, b"a=1&token=x&%74oken=y&b=%20") == b"a=1&b=%20"


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"authorization", b"Authorization", b"cookie", b"x-token", b"x"]),
            st.one_of(
                st.binary(max_size=80),
                st.lists(
                    st.sampled_from(
                        [b"Bearer", b" ", b",", b"\t", JWT, SESSION, b"jwt", b"=", b";"]
                    ),
                    max_size=8,
                ).map(b"".join),
            ),
        ),
        max_size=4,
    ),
    st.binary(max_size=40),
)
def test_no_request_is_too_strange_to_read_or_to_clear(
    everywhere: Places, lines: list[Line], query: bytes
) -> None:
    places = everywhere
    presented, _ = find(places, lines, method="POST", path="/", query=query)
    kept = clear(places, lines, cookies=frozenset(places.cookies), explicit=True)
    again, _ = find(places, kept, method="POST", path="/")
    assert presented is None or "eyJ" not in repr(presented)
    assert again is None or again.legacy is None
    assert again is None or again.header is None
