"""One request's way over the bridge and back, to an app that verifies JWTs; no framework, no I/O.

On the way in (inward.py) a session is shown as a JWT of the app's own shape. On the way back
(outward.py) every such JWT is the client's own token again, and what the app issues becomes a
session. A client's own legacy token goes through byte for byte. What to do with a credential is
core/bridging.py's to say; how bytes are put is in rewriting.py.
"""

from __future__ import annotations

from shims.bodies import ROOM_BYTES as REQUEST_ROOM_BYTES
from shims.bridge import Answered, Asking, Bridge, Inbound
from shims.inward import Inward
from shims.outward import ANSWER_ROOM_BYTES, Outward

__all__ = [
    "ANSWER_ROOM_BYTES",
    "REQUEST_ROOM_BYTES",
    "Answered",
    "Asking",
    "Bridge",
    "Crossing",
    "Inbound",
]


class Crossing:
    """One request on its way over and back. Not shared between requests.

    Order: `enter` (with the body, where `reads` says so), then for the answer `holds`, `leave`,
    and `passing` for each part of a body that was not held.
    """

    def __init__(self, bridge: Bridge, asking: Asking) -> None:
        inward = Inward(bridge, asking)
        outward = Outward(bridge, asking, inward)
        self._inward, self._outward = inward, outward
        self.enter = inward.enter
        self.holds = outward.holds
        self.leave = outward.leave
        self.passing = outward.passing

    @property
    def reads(self) -> bool:
        """See `Inward.reads`."""
        return self._inward.reads

    @property
    def is_watching(self) -> bool:
        """See `Outward.is_watching`."""
        return self._outward.is_watching
