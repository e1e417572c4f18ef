"""No re-spelling of a revoked legacy token reaches the app as somebody else's business.

The judge is an app as lax as apps are: a decoder with the habits of older PyJWT, behind each way
of taking the token out of a header that tutorials show.
"""

from __future__ import annotations

import base64
import hmac
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator

import pytest

from migrator import prepared
from migrator.core.legacy import FOREIGN
from migrator.core.lookalike import resembles_jwt
from shims.credentials import Places, find
from tests.rig import ISSUER, SECRET, Rig, sign

TOKEN = sign("ann")
HEAD, _, SIGNATURE = TOKEN.rpartition(".")
SETTINGS = Rig("postgresql://nobody@localhost/none").settings(
    issuers=[
        {
            **ISSUER,
            "transport": [
                {"header": "Authorization", "scheme": "Bearer"},
                {"cookie": "access_token"},
                {"query": "token"},
            ],
        }
    ]
)
PLACES = Places.of(SETTINGS)
VERIFIER = prepared.verifier_of(SETTINGS)

# What stands before the token: other schemes, doubled ones, and words that hide it.
BEFORE = {
    "nothing": "",
    "bearer": "Bearer ",
    "doubled": "Bearer Bearer ",
    "tab": "Bearer\t",
    "quote": 'Bearer "',
    "another scheme": "Token ",
    "parameter": 'Token token="',
    "vertical tab": "\x0bBearer ",
    "dots for a scheme": "a.a.a.a.a.a.a ",
    "dots, then bearer": "x.x.x.x.x.x.x.x. Bearer ",
    "dots in a digest": "Digest a=a.a.a.a.a.a.a, b=",
    "long scheme": "A" * 9000 + " ",
    "bearer and a long word": "Bearer " + "A" * 9000 + " ",
    "bearer and percents": "Bearer " + "%41" * 9000 + " ",
    "percents": "%" * 30_000 + " ",
    "more than a server takes": "Bearer" + "\t" * 70_000,
}
AFTER = {
    "nothing": "",
    "padding": "=",
    "blank": " ",
    "word": " x",
    "semicolon": "; x",
    "comma": ",",
    "nul": "\0",
    "long word": " " + "A" * 9000,
    "dots": " a.a.a.a.a.a.a",
}
SPELT = {
    "as signed": TOKEN,
    "tab inside": TOKEN[:-3] + "\t" + TOKEN[-3:],
    "strange letter": TOKEN[:-3] + "!" + TOKEN[-3:],
    "percent-encoded": "".join(f"%{ord(letter):02X}" for letter in TOKEN),
    "dots percent-encoded": TOKEN.replace(".", "%2E"),
    "standard alphabet": HEAD + "." + SIGNATURE.replace("-", "+").replace("_", "/"),
}
READERS: tuple[Callable[[str], str], ...] = (
    str,
    lambda line: line.split(" ")[1],
    lambda line: line.split()[1],
    lambda line: line.split()[-1],
    lambda line: line.split()[0],
    lambda line: line.partition(" ")[2].strip(),
    lambda line: line.replace("Bearer ", "").strip('"'),
    lambda line: line.split(",")[-1].split("=", 1)[-1],
    lambda line: line.split(";")[0].split()[-1],
    lambda line: re.search(r"eyJ[\w-]+\.[\w-]+\.[\w-]+=*", line)[0],  # type: ignore[index] # caught
)


def lax(token: str) -> bool:
    """Whether a decoder with the habits of older PyJWT takes `token`."""
    try:
        signed, _, tail = token.encode("latin-1").rpartition(b".")
        head, _, _ = signed.partition(b".")
        alg = json.loads(base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4)))["alg"]
        signature = base64.urlsafe_b64decode(tail + b"=" * (-len(tail) % 4))
    except (ValueError, KeyError, TypeError):
        return False
    right = hmac.digest(SECRET.encode(), signed, "sha256")
    return alg == "HS256" and hmac.compare_digest(right, signature)


def app_takes(line: str) -> bool:
    for read in READERS:
        try:
            if lax(read(line)):
                return True
        except (IndexError, TypeError):
            continue
    return False


def passed_on(line: str) -> bool:
    """Whether the shim would hand the request to the app as nobody's business of ours."""
    lines = [(b"authorization", line.encode("latin-1"))]
    presented, _ = find(PLACES, lines, method="GET", path="/")
    if presented is None or presented.fault is not None or presented.header is None:
        return presented is None or presented.fault is None
    header = presented.header
    return VERIFIER.whose(header.value, allowed=header.issuers) is FOREIGN


def lines() -> Iterator[tuple[str, str]]:
    for before, spelt, after in itertools.product(BEFORE, SPELT, AFTER):
        yield f"{before}, {spelt}, {after}", BEFORE[before] + SPELT[spelt] + AFTER[after]


def test_no_line_that_a_lax_app_would_take_is_foreign() -> None:
    taken = [(name, line) for name, line in lines() if app_takes(line)]
    assert len(taken) > 300
    assert [name for name, line in taken if passed_on(line)] == []


@pytest.mark.parametrize("letters", [b"a.", b"%41.", b"eyJ", b"{", b"\\101.", b"A" * 99 + b"."])
def test_a_long_credential_costs_little_to_look_at(letters: bytes) -> None:
    """A few ms each for what no server takes; the bound is wide for a busy machine."""
    credential = letters * (65_536 // len(letters))
    begun = time.process_time()
    resembles_jwt(credential)
    assert time.process_time() - begun < 0.1
