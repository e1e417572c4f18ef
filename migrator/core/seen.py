"""What is kept of how a client describes itself. It says what it likes: nothing is trusted.

Postgres refuses a NUL in text and UTF-8 refuses lone surrogates: kept as sent, either would turn a
hostile header into an error that looks like an outage.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Literal, TypeAlias

IpShare: TypeAlias = Literal["full", "truncated", "off"]

# What data protection authorities call truncated: a neighbourhood, not a household.
_KEPT_BITS = {4: 24, 6: 48}
_IP_CHARS = 64


def plain(text: str | None, most: int) -> str | None:
    """The printable characters of `text`, `most` at the most; None if that leaves nothing."""
    kept = "".join(char for char in (text or "")[: 4 * most] if char.isprintable())
    return kept[:most] or None


def kept_ip(ip: str | None, share: IpShare) -> str | None:
    """What `sessions.store_ip` leaves of an address; what is no address is kept as plain text."""
    if ip is None or share == "off":
        return None
    if share == "full":
        return plain(ip, _IP_CHARS)
    try:
        address = ip_address(ip)
    except ValueError:
        return None
    network = ip_network(f"{address}/{_KEPT_BITS[address.version]}", strict=False)
    return str(network.network_address)
