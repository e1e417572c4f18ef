"""How the notebook is talked to: by programs with tokens in hand, by browsers with cookies."""

from __future__ import annotations

import time
from typing import Any

import jwt
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse


def said(answer: TestResponse) -> tuple[int, Any]:
    """What a client is keyed to."""
    return answer.status_code, answer.json


def log_in(client: FlaskClient, name: str = "ann") -> dict[str, str]:
    """The pair of tokens that a program keeps."""
    answer = client.post("/login", json={"name": name, "password": f"{name}'s password"})
    assert answer.status_code == 200
    pair: dict[str, str] = answer.get_json()
    assert pair.keys() == {"access_token", "refresh_token"}
    return pair


def ask(
    client: FlaskClient, token: str, path: str = "/me", method: str = "GET", **more: Any
) -> TestResponse:
    """A request of a program."""
    return client.open(path, method=method, headers={"Authorization": f"Bearer {token}"}, **more)


def sign_in(browser: FlaskClient, name: str = "ann") -> None:
    """A login whose tokens the browser keeps."""
    answer = browser.post("/login", json={"name": name, "password": f"{name}'s password"})
    assert said(answer) == (200, {"msg": "logged in"})


def value(browser: FlaskClient, name: str) -> str | None:
    """A cookie's value."""
    cookie = browser.get_cookie(name)
    return None if cookie is None else cookie.value


def change(
    browser: FlaskClient, path: str, method: str = "POST", *, csrf: str | None = "", **more: Any
) -> TestResponse:
    """An unsafe request; with the double submit of its access token unless told otherwise."""
    token = value(browser, "csrf_access_token") if csrf == "" else csrf
    headers = {} if token is None else {"X-CSRF-TOKEN": token}
    return browser.open(path, method=method, headers=headers, **more)


def made(app: Flask, *, secret: str | None = None, **claims: Any) -> str:
    """A token that the app itself could have signed, unless another secret did."""
    now = int(time.time())
    payload = {"sub": "1", "type": "access", "fresh": True, "jti": "x", "iat": now - 3600}
    secret = secret or app.config["JWT_SECRET_KEY"]
    return jwt.encode({**payload, "exp": now + 600, **claims}, secret, algorithm="HS256")


def age(browser: FlaskClient, *, left_s: int) -> str:
    """Make the browser's access token one of which `left_s` seconds are left."""
    token = value(browser, "access_token_cookie")
    assert token is not None
    payload = jwt.decode(token, options={"verify_signature": False})
    secret = browser.application.config["JWT_SECRET_KEY"]
    aged = {**payload, "exp": int(time.time()) + left_s, "iat": payload["iat"] - 3000}
    older = jwt.encode(aged, secret, algorithm="HS256")
    browser.set_cookie("access_token_cookie", older)
    return older
