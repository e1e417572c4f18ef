"""Ids of sessions: UUID version 7 (RFC 9562 5.7), so that new rows land side by side in the index.

An id is public: it names a session in lists and commands, and admits nobody.
"""

from __future__ import annotations

import secrets
import time
from uuid import UUID


def uuid7() -> UUID:
    """A new id: 48 bits of milliseconds, 74 random ones."""
    number = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    number = number & ~(0xF << 76) | 7 << 76
    return UUID(int=number & ~(0x3 << 62) | 0x2 << 62)
