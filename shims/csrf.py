"""Whether a request that carries a cookie was made by another site (CSRF).

The rule of Go's `net/http.CrossOriginProtection`: browsers say where a request comes from in
Sec-Fetch-Site, older ones in Origin; a program that sends neither is not a browser and carries no
ambient cookie. Requests whose credential is in a header are exempt, so nobody asks about them.
"""

from typing import Final

# GET, HEAD, OPTIONS and TRACE change nothing (RFC 9110 section 9.2.1).
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_OWN_SITE: Final = frozenset({b"same-origin", b"none"})
_DEFAULT_PORTS: Final = {b"http": b":80", b"https": b":443"}


def forged(
    *,
    method: str,
    sec_fetch_site: bytes | None,
    origin: bytes | None,
    host: bytes | None,
    allowed_origins: frozenset[bytes],
) -> bool:
    """Whether a cookie-borne credential on this request must not count.

    An origin that the settings allow is allowed whatever Sec-Fetch-Site says: a page on another
    port or subdomain is `same-site` or `cross-site` to every browser. The scheme of Origin is not
    compared with the request's, which a proxy in front may have changed.

    Args:
        method: as sent; a WebSocket handshake is not safe, whatever its method, and says so here.
        sec_fetch_site, origin, host: the header values; several lines are joined by a comma.
        allowed_origins: lower case, `scheme://host[:port]`.
    """
    if method in SAFE_METHODS:
        return False
    if origin is not None and origin.lower() in allowed_origins:
        return False
    if sec_fetch_site is not None:
        return sec_fetch_site not in _OWN_SITE
    if origin is None:
        return False
    return not same_host(origin, host)


def same_host(url: bytes, host: bytes | None) -> bool:
    """Whether `url` is absolute and on `host`; either may spell out its default port."""
    scheme, found, rest = url.lower().partition(b"://")
    port = _DEFAULT_PORTS.get(scheme)
    if not found or host is None or port is None:
        return False
    authority = rest.partition(b"/")[0].partition(b"?")[0].partition(b"#")[0]
    return authority.removesuffix(port) == host.lower().removesuffix(port) != b""
