"""A day without the key host, and hosts that lie: known keys go on being known (G15).

The clock is the test's own, so a day passes in seconds; the thread that fetches by itself is given
none of it, and every fetch is asked for as that thread would ask.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable

import pytest

from migrator.core.errors import Unavailable
from migrator.core.verdicts import Reason
from migrator.stores import jwks
from tests.core.signers import NOW, SIGNERS, verifier
from tests.counts import counted
from tests.stores.test_keys import Clock, Host, found, jwk, ring_at, until
from tests.stores.test_keys import host as host

_DAY_S = 86_400
_STEP_S = 20


def lies(host: Host) -> list[Callable[..., None]]:
    """What a key host may answer instead of its keys."""
    other = json.dumps({"keys": [jwk("RS256", kid="evil")]}).encode()
    return [
        host.text(b"", 500),
        host.text(other, 302, Location=host.url + "/elsewhere"),
        host.text(b"<html></html>", Content_Type="text/html"),
        host.text(b'{"keys": [' + b" " * 600_000 + b"]}"),
        host.text(gzip.compress(b" " * 20_000_000), Content_Encoding="gzip"),
        lambda request: request.connection.close(),
        lambda request: request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"),
    ]


def test_p4_a_day_without_the_key_host_refuses_nobody_whose_key_is_known(host: Host) -> None:
    """PUB-060, PUB-061. Tokens of invented kids come all the while, and cost no more fetches."""
    clock, signer, admitted = Clock(), SIGNERS["RS256"], 0
    host.answer = host.serve([jwk("RS256", kid="k1")])
    with ring_at(host, clock) as ring:
        until(lambda: found(ring, "k1"))
        judging = verifier(signer.issuer(keys=ring))
        good, unknown = signer.token(), signer.token(None, signer.header(kid="invented"))
        issuers = (signer.issuer(keys=ring),)
        answers = lies(host)
        began, before = clock.now, len(host.requests)
        for step in range(_DAY_S // _STEP_S - 1):
            clock.now = began + (step + 1) * _STEP_S
            if step % 100 == 0:
                host.answer = answers[step // 100 % len(answers)]
                assert not ring.refresh()
            assert not hasattr(judging.verify(good, issuers, now=NOW), "reason"), clock.now
            refused = judging.verify(unknown, issuers, now=NOW)
            assert getattr(refused, "reason", None) is Reason.UNKNOWN_KEY
            admitted += 1
        fetches = len(host.requests) - before
        minutes = (clock.now - began) / 60
        assert fetches <= 10 * minutes + len(answers) + 60, "ten a minute at most"
        assert not any("elsewhere" in path for path in host.requests)
        clock.now = began + _DAY_S + 60
        with pytest.raises(Unavailable):  # unknown is not invalid
            judging.verify(good, issuers, now=NOW)
        host.answer = host.serve([jwk("RS256", kid="k1")])
        assert ring.refresh()
        assert not hasattr(judging.verify(good, issuers, now=NOW), "reason")
    counted("G15", "tokens of known keys in a day of outage, none refused", admitted)
    counted("G15", "fetches in that day", fetches)


def test_a_rotation_is_seen_within_two_seconds_and_takes_nobodys_key_away(host: Host) -> None:
    """A key is added beside the old one, then the old one is removed."""
    slowest = 0.0
    host.answer = host.serve([jwk("RS256", kid="old")])
    with ring_at(host) as ring:
        until(lambda: found(ring, "old"))
        host.answer = host.serve([jwk("RS256", kid="old"), jwk("ES256", kid="new")])
        began = time.monotonic()
        assert ring.find("new", "ES256") == ()
        until(lambda: ring.find("new", "ES256") and ring.find("old", "RS256"), seconds=5)
        slowest = time.monotonic() - began
        host.answer = host.serve([jwk("ES256", kid="new")])
        assert ring.refresh()
        assert ring.find("old", "RS256") == ()
        assert ring.find("new", "ES256")
    assert slowest < 2
    counted("G15", "ms until a rotation was seen", round(slowest * 1000))


def test_a_drip_or_a_silence_delays_no_request(host: Host) -> None:
    """The fetch has a thread of its own: a request reads what is there."""

    def silence(_: object) -> None:
        time.sleep(2 * jwks.TIMEOUT_SECONDS)

    host.answer = host.serve([jwk("RS256", kid="k1")])
    with ring_at(host) as ring:
        until(lambda: found(ring, "k1"))
        host.answer = silence
        asked = len(host.requests)
        assert ring.find("unknown", "RS256") == ()
        until(lambda: len(host.requests) > asked)
        began = time.perf_counter()
        for _ in range(1000):
            assert ring.find("k1", "RS256")
        assert time.perf_counter() - began < 1, "a thousand while one fetch hangs"
