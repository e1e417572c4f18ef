"""What is fuzzed, and what has to hold whatever bytes come: five readers of what others write.

Each target takes bytes and raises AssertionError where a promise breaks; any other exception is a
crash. None of them may take longer than SLOW_S of CPU (P10).
"""

from __future__ import annotations

import json
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from migrator.core import strict, tokens
from migrator.core.interfaces import Found
from migrator.core.legacy import Legacy
from migrator.core.presented import Presented
from migrator.core.verdicts import Reason, Refused
from migrator.prepared import verifier_of
from migrator.stores import entries, keyforms
from shims.bodies import presented_in
from shims.credentials import Places, clean, clear, clear_query, find
from tests.rig import ISSUER, Rig

SLOW_S: Final = 0.05
DIGEST: Final = b"\x07" * 32
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_TOKEN: Final = re.compile(rb"sess_[0-9A-Za-z]{49}")
_KEYS: Final = ("RS256", "ES256", "EdDSA")
_TRANSPORT: Final = [
    {"header": "Authorization", "scheme": "Bearer"},
    {"header": "X-Token"},
    {"cookie": "access_token"},
    {"query": "token"},
    {"json": "refresh"},
]
_SETTINGS: Final = Rig(
    "postgresql://nobody@localhost/none", issuers=[{**ISSUER, "transport": _TRANSPORT}]
).settings()
_PLACES: Final = Places.of(_SETTINGS)
_VERIFIER: Final = verifier_of(_SETTINGS)


def headers(data: bytes) -> None:
    """Whatever a request brings is read without an error, within its room, and can be cleared."""
    lines, query, body = _request(data)
    presented, _ = find(
        _PLACES,
        lines,
        method="POST",
        path="/refresh",
        query=query,
        body=body if len(body) <= _PLACES.room else b"",
    )
    if presented is not None and presented.fault is None:
        for credential in _credentials(presented):
            assert len(credential.value) <= _PLACES.room, "longer than its room"
    assert len(clean(_PLACES, lines)) <= len(lines)
    names = frozenset(_PLACES.cookies)
    left = clear(_PLACES, lines, cookies=names, explicit=True)
    again, _ = find(
        _PLACES, left, method="GET", path="/", query=clear_query(_PLACES, query), body=b""
    )
    assert again is None or again.header is None, "a credential that was cleared is still there"
    presented_in(body, _PLACES.members)


def jwt(data: bytes) -> None:
    """Nothing that we did not sign is accepted, and what is a JWS at all has one spelling."""
    owner = _VERIFIER.whose(data)
    if isinstance(owner, Legacy):
        verdict = _VERIFIER.verify(data, owner.candidates, now=_NOW)
        assert isinstance(verdict, Refused), "accepted without the key"
    found = strict.parse(data)
    if isinstance(found, Reason):
        return
    head, payload, signature = data.split(b".")
    assert found.signing_input == head + b"." + payload
    assert (_spelt(found.payload), _spelt(found.signature)) == (payload, signature)
    read = strict.read_object(found.payload)
    if read is not None:
        assert json.loads(found.payload) == read


def token(data: bytes) -> None:
    """What is well-formed is exactly what we could have minted."""
    if tokens.is_well_formed(data, "sess"):
        assert _TOKEN.fullmatch(data)
        for other in (data[:-1], data + b"0", data.swapcase(), b"pat" + data[4:]):
            assert not tokens.is_well_formed(other, "sess")


def entry(data: bytes) -> None:
    """What is believed of a cache is what we would have written, and no other digest's."""
    for value in (data, DIGEST + data, DIGEST + b"\x02" + data):
        found = entries.decode(DIGEST, value)
        if isinstance(found, Found):
            assert found.digest == DIGEST
            written = entries.encode(found)
            assert written is not None
            assert entries.decode(DIGEST, written) == found
    assert entries.decode(b"\x08" * 32, DIGEST + b"\x02" + data) is None


def jwks(data: bytes) -> None:
    """A key set gives public keys for the algorithms asked for, or is none."""
    for text in (data, b'{"keys":[' + data + b"]}"):
        try:
            loaded = keyforms.load_set(text, _KEYS, origin="https://idp.example/jwks")
        except ValueError:
            continue
        assert all(key.alg in _KEYS for key in loaded.keys)
        assert all(problem.do for problem in loaded.problems)


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    target.__name__: target for target in (headers, jwt, token, entry, jwks)
}

SEEDS: Final[Mapping[str, tuple[bytes, ...]]] = {
    "headers": (
        b"authorization\nBearer a.b.c\ncookie\naccess_token=a.b.c; __Host-session=sess_0",
        b"cookie\nsession=sess_1; session=sess_2\nx-token\na.b.c\x00token=a.b.c&token=x",
        b"AUTHORIZATION\nbearer  x, Bearer y\norigin\nnull\x00\x00" + b'{"refresh":"a.b.c"}',
        b"content-type\napplication/json\x00\x00" + b'{"refresh":["a"],"refresh":"b"}',
    ),
    "jwt": (
        b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1MSIsImV4cCI6MTkwMDAwMDAwMH0.AAAA",
        b"eyJhbGciOiJub25lIn0.e30.",
        b"eyJhbGciOiJIUzI1NiIsImNyaXQiOlsiYjY0Il19.eyJzdWIiOnsiYSI6W119fQ.AA==",
    ),
    "token": (tokens.mint("sess", b"\x01" * 32), tokens.mint("pat", b"\x02" * 32)),
    "entry": (b"\x54", b'["2026-01-01T00:00:00+00:00",null,1,{},[]]', b"[[[[1e999]]]]"),
    "jwks": (
        b'{"kty":"EC","crv":"P-256","x":"AA","y":"AA","kid":"1","alg":"ES256"}',
        b'{"kty":"OKP","crv":"Ed25519","x":"' + urlsafe_b64encode(b"\x09" * 32)[:-1] + b'"}',
        b'{"kty":"RSA","n":"AQAB","e":"AQAB","use":"sig"}',
    ),
}


def run(name: str, data: bytes) -> None:
    """Give `data` to a target; too slow is a failure too."""
    began = time.process_time()
    TARGETS[name](data)
    took = time.process_time() - began
    assert took < SLOW_S, f"{took * 1000:.0f} ms for {len(data)} bytes"


def _request(data: bytes) -> tuple[list[tuple[bytes, bytes]], bytes, bytes]:
    """Header lines, query and body: the parts apart by NUL, names and values by a line's end.

    Servers take the blanks around a value away (RFC 9112 section 5.1).
    """
    head, query, body = [*data.split(b"\0", 2), b"", b""][:3]
    texts = [text.strip(b" \t") for text in head.split(b"\n")]
    return list(zip(texts[::2], texts[1::2], strict=False)), query, body


def _credentials(presented: Presented) -> list[Any]:
    return [each for each in presented.everything() if each.value]


def _spelt(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")
