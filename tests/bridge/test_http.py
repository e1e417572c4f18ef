"""What HTTP asks of whoever rewrites requests and answers: lengths, encodings, streams, ends."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable

import pytest

from tests.bridge.app import Answer, said
from tests.bridge.conftest import ACCESS, Deploy
from tests.rig import sign

# Answers: their lengths, validators and encodings.


def test_head_says_nothing_that_get_would_not(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["access"]
    there.app.says["/file"] = lambda _: (
        200,
        [("Content-Type", "application/pdf"), ("Content-Length", "5")],
        [b"%PDF-"],
    )
    assert there.ask("HEAD", "/file", token).headers["content-length"] == "5"
    for path in ("/echo", "/me"):  # what it would be is not known: RFC 9110 lets it be left out
        answer = there.ask("HEAD", path, token)
        assert answer.status_code == 200
        assert "content-length" not in answer.headers
    assert there.ask("HEAD", "/echo-header", token).headers["x-token"] == token
    assert "content-length" in there.ask("HEAD", "/echo", sign("ada", claims=ACCESS)).headers


@pytest.mark.parametrize("code", [204, 205, 304])
def test_an_answer_without_a_body_stays_one(deploy: Deploy, code: int) -> None:
    there = deploy()
    token = there.login()["access"]
    there.app.says["/none"] = lambda _: (code, [("ETag", '"1"'), ("X-A", "b")], [])
    for path in ("/none", "/refresh", "/login"):
        there.app.says[path] = there.app.says["/none"]
        answer = there.ask("POST" if path != "/none" else "GET", path, token)
        assert (answer.status_code, answer.content) == (code, b"")
        assert (answer.headers["etag"], answer.headers["x-a"]) == ('"1"', "b")


def test_a_part_of_a_text_keeps_its_length_and_place(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["access"]
    lines = [("Content-Type", "text/csv"), ("Content-Length", "4"), ("ETag", '"1"')]
    there.app.says["/part"] = lambda _: (
        206,
        [*lines, ("Content-Range", "bytes 4-7/9")],
        [b"a,b,"],
    )
    answer = there.ask("GET", "/part", token, headers={"Range": "bytes=4-7"})
    assert (answer.status_code, answer.content) == (206, b"a,b,")
    assert answer.headers["content-length"] == "4"
    assert answer.headers["content-range"] == "bytes 4-7/9"
    assert there.app.seen[-1].headers["range"] == "bytes=4-7"


def test_no_part_of_an_answer_is_asked_for_where_all_of_it_is_judged(deploy: Deploy) -> None:
    there = deploy(bridge={"echoes": ["/echo"]})
    token = there.login()["access"]
    there.ask("GET", "/echo", token, headers={"Range": "bytes=0-9", "If-Range": '"1"'})
    there.ask("POST", "/refresh", json={"refresh": token}, headers={"Range": "bytes=0-9"})
    for asked in there.app.seen[-2:]:
        assert "range" not in asked.headers
        assert "if-range" not in asked.headers
        assert asked.headers["accept-encoding"] == "identity"


def test_an_answer_that_needs_no_change_keeps_all_that_it_says_of_itself(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["access"]
    headers = {"If-None-Match": '"7"', "If-Modified-Since": "x"}
    there.app.says["/same"] = lambda _: said(
        200, {"a": 1}, ("ETag", '"7"'), ("Cache-Control", "max-age=60"), ("Digest", "x")
    )
    answer = there.ask("GET", "/same", token, headers=headers)
    assert (answer.headers["etag"], answer.headers["digest"]) == ('"7"', "x")
    assert answer.headers["cache-control"] == "max-age=60"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert there.app.seen[-1].headers["if-none-match"] == '"7"'


ENCODERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("coding", ENCODERS)
def test_a_token_is_found_in_what_the_app_compressed_unasked(deploy: Deploy, coding: str) -> None:
    there = deploy()
    app, encode = there.app, ENCODERS[coding]

    def compressed(answer: Answer) -> Answer:
        code, _, body = answer
        whole = encode(b"".join(body))
        lines = [("Content-Type", "application/json"), ("Content-Encoding", coding)]
        return code, [*lines, ("Content-Length", str(len(whole))), ("ETag", '"1"')], [whole]

    login, echo, me = app.login, app.echo, app.me
    app.says["/login"] = lambda asked: compressed(login(asked))
    app.says["/echo"] = lambda asked: compressed(echo(asked))
    app.says["/me"] = lambda asked: compressed(me(asked))
    token = there.login()["access"]
    assert token.startswith("sess_")
    answer = there.ask("GET", "/echo", token)
    assert answer.json() == {"user": {"token": token}}
    assert "content-encoding" not in answer.headers
    assert "etag" not in answer.headers
    assert answer.headers["content-length"] == str(len(answer.content))
    answer = there.ask("GET", "/me", token)
    assert answer.json()["sub"] == "ada"
    assert answer.headers["content-encoding"] == coding  # as the app sent it
    assert answer.headers["etag"] == '"1"'


def test_what_is_compressed_in_a_way_we_do_not_know_passes_as_it_is(deploy: Deploy) -> None:
    there = deploy()
    there.app.says["/login"] = lambda _: (
        200,
        [("Content-Type", "application/json"), ("Content-Encoding", "br")],
        [b"\x0b\x00\x80\x03"],
    )
    answer = there.client.build_request("POST", "/login")
    sent = there.client.send(answer, stream=True)
    assert b"".join(sent.iter_raw()) == b"\x0b\x00\x80\x03"
    sent.close()


def test_a_gzipped_refresh_request_is_read_like_any_other(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["refresh"]
    body = gzip.compress(json.dumps({"refresh": token}).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    answer = there.ask("POST", "/refresh", content=body, headers=headers)
    assert answer.json()["access"] == token
    seen = there.app.seen[-1]
    assert "content-encoding" not in seen.headers
    assert token.encode() not in seen.body


def test_several_cookies_and_repeated_headers_stay_several(deploy: Deploy) -> None:
    there = deploy()
    pair = there.app.pair("ada")
    lines = [
        ("Set-Cookie", f"jwt={pair['access']}; Path=/; HttpOnly; SameSite=Strict; Max-Age=300"),
        ("Set-Cookie", f"rt={pair['refresh']}; Path=/refresh; Secure; Partitioned"),
        ("Set-Cookie", "theme=dark; Expires=Wed, 21 Oct 2099 07:28:00 GMT"),
        ("Link", "</a>; rel=next"),
        ("Link", "</b>; rel=prev"),
    ]
    there.app.says["/login"] = lambda _: (302, [*lines, ("Location", "/")], [])
    there.client.follow_redirects = False
    answer = there.ask("POST", "/login")
    cookies = answer.headers.get_list("set-cookie")
    token = cookies[0].partition("=")[2].partition(";")[0]
    assert token.startswith("sess_")
    assert cookies[:3] == [
        f"jwt={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=300",
        f"rt={token}; Path=/refresh; Secure; Partitioned",
        "theme=dark; Expires=Wed, 21 Oct 2099 07:28:00 GMT",
    ]
    assert answer.headers.get_list("link") == ["</a>; rel=next", "</b>; rel=prev"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("kind", ["", "application/jwt", "application/problem+json", "TEXT/PLAIN"])
def test_a_login_is_judged_whatever_it_calls_its_answer(deploy: Deploy, kind: str) -> None:
    there = deploy()
    lines = [("Content-Type", kind)] if kind else []
    there.app.says["/login"] = lambda _: (
        200,
        lines,
        [there.app.pair("ada")["access"].encode()],
    )
    token = there.ask("POST", "/login").text
    assert token.startswith("sess_")
    there.app.says["/raw-echo"] = lambda asked: (200, lines, [asked.bearer.encode()])
    assert there.ask("GET", "/raw-echo", token).text == token


# Forms of refresh requests.


@pytest.mark.parametrize("form", ["form", "multipart", "exact"])
def test_a_session_is_refreshed_in_any_usual_form(deploy: Deploy, form: str) -> None:
    there = deploy()
    token = there.login()["refresh"]
    there.app.says["/refresh"] = lambda _: said(200, there.app.pair("ada"))
    if form == "form":
        answer = there.ask("POST", "/refresh", data={"grant": "a b&c", "refresh": token})
    elif form == "multipart":
        files = {"refresh": (None, token), "file": ("a.bin", bytes(range(256)))}
        answer = there.ask("POST", "/refresh", files=files)
    else:
        body = json.dumps({"refresh": token})
        answer = there.ask("POST", "/refresh", content=body + " " * (65_536 - len(body)))
    assert answer.json()["access"] == token
    seen = there.app.seen[-1]
    assert token.encode() not in seen.body
    assert b"eyJ" in seen.body
    assert seen.headers.get("content-length", str(len(seen.body))) == str(len(seen.body))
