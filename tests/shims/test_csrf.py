from __future__ import annotations

import pytest

from shims.csrf import forged, same_host

_HOST = b"api.example"
_ALLOWED = frozenset({b"https://app.example:8443"})


def _is_forged(
    method: str = "POST", site: bytes | None = None, origin: bytes | None = None
) -> bool:
    return forged(
        method=method,
        sec_fetch_site=site,
        origin=origin,
        host=_HOST,
        allowed_origins=_ALLOWED,
    )


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
def test_safe_method_is_never_forged(method: str) -> None:
    assert not _is_forged(method, b"cross-site", b"https://evil.example")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "WEBSOCKET", "get", "QUERY"])
def test_anything_else_from_another_site_is_forged(method: str) -> None:
    assert _is_forged(method, b"cross-site", b"https://evil.example")
    assert _is_forged(method, None, b"https://evil.example")


@pytest.mark.parametrize(
    ("site", "origin", "is_forged"),
    [
        (b"same-origin", b"https://api.example", False),
        (b"none", None, False),
        (b"same-site", b"https://other.example", True),
        (b"cross-site", None, True),
        (b"", None, True),
        (b"same-origin,cross-site", None, True),  # two lines
        # An allowed page on another port is cross-origin to every browser.
        (b"same-site", b"https://app.example:8443", False),
        (b"cross-site", b"HTTPS://APP.EXAMPLE:8443", False),
        (b"cross-site", b"https://app.example", True),
        # Where Sec-Fetch-Site is absent, Origin speaks.
        (None, b"https://api.example", False),
        (None, b"https://API.example:443", False),
        (None, b"http://api.example", False),
        (None, b"https://api.example:8443", True),
        (None, b"https://api.example.evil", True),
        (None, b"https://evil.example", True),
        (None, b"null", True),
        (None, b"", True),
        (None, b"https://api.example,https://evil.example", True),
        (None, b"https://app.example:8443", False),
        # Neither: not a browser.
        (None, None, False),
    ],
)
def test_where_a_request_comes_from_decides(
    site: bytes | None, origin: bytes | None, is_forged: bool
) -> None:
    assert _is_forged("POST", site, origin) is is_forged


def test_origin_without_a_host_to_match_is_forged() -> None:
    assert forged(
        method="POST",
        sec_fetch_site=None,
        origin=b"https://api.example",
        host=None,
        allowed_origins=frozenset(),
    )


@pytest.mark.parametrize(
    ("url", "host", "is_same"),
    [
        (b"http://[::1]:8000", b"[::1]:8000", True),
        (b"http://a:80/x?y", b"A", True),
        (b"https://a", b"a:443", True),
        (b"https://a@b", b"b", False),
        (b"/relative", b"a", False),
        (b"https://", b"", False),
        (b"https://a:80443", b"a", False),
    ],
)
def test_same_host_compares_authorities(url: bytes, host: bytes, is_same: bool) -> None:
    assert same_host(url, host) is is_same
