"""Whether some lax reader could take a credential for a JWT, however it is spelt."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.core.lookalike import ROOM_BYTES, as_signed, resembles_jwt, unescaped
from tests.core.signers import SIGNERS, b64

TOKEN = SIGNERS["HS256"].token()
HEAD, BODY, TAIL = TOKEN.split(b".")
CLAIMS = b64(b'{"sub":"user-1","x":"\xc3\xbe?>~~"}')
ALG = b64(b'{"alg":"x"}')
PERCENT = "".join(f"%{byte:02x}" for byte in TOKEN).encode()
TWICE = quote(PERCENT).encode()
OCTAL = TOKEN.replace(b".", b"\\056")


def standard(segment: bytes) -> bytes:
    return b64encode(b'{"alg":"HS256","x":"\xc3\xbe?>~~"}') if segment is HEAD else segment


@pytest.mark.parametrize(
    "credential",
    [
        TOKEN,
        b"." + TOKEN,
        b"Bearer " + TOKEN,
        b"x" * 40 + b" " + TOKEN,
        TOKEN + b"=",
        b".".join((HEAD + b"==", BODY + b"=", TAIL)),
        b" ".join((HEAD[:9], HEAD[9:] + b"." + BODY + b"." + TAIL)),
        b".".join((standard(HEAD), BODY, TAIL)),
        PERCENT,
        TWICE,
        OCTAL,
        b'"' + OCTAL + b'"',
        b'{"protected":"' + HEAD + b'","payload":"' + BODY + b'"}',
        b"".join((HEAD[:7], b".", HEAD[7:], BODY, TAIL)),
        b64(b'{"typ":"JWT"}') + b"..",
        b64(b'{ "typ" : "at+jwt" }') + b"..",
        b64(b'{"\\u0061\\u006c\\u0067":"x"}') + b"..",
        b64(b'{"\\u0061\\u006C\\u0067" :"x"}') + b"..",
        b64('{"alg":"x"}'.encode("utf-16")) + b"..",
        b64('{"alg":"x"}'.encode("utf-32-le")) + b"..",
        b64(b"not a header") + b"." + CLAIMS + b".x",
        b"." + CLAIMS,
        b"AAAA." + CLAIMS + b".x.y.z",
        ALG[:4] + b"." + ALG[4:],  # readers drop what they do not know
        b"." + b64(b"\xef\xbb\xbf \r\n\t{}"),
        b"." + b64('{"a":1}'.encode("utf-16")),
        b"x" * 65_537,
    ],
)
def test_what_some_reader_takes_for_a_jwt_resembles_one(credential: bytes) -> None:
    assert resembles_jwt(credential)


@pytest.mark.parametrize("shift", range(4))
def test_a_header_is_found_wherever_its_quantum_begins(shift: int) -> None:
    assert resembles_jwt(b"A" * shift + HEAD + b".")


@pytest.mark.parametrize(
    "credential",
    [
        b"",
        HEAD,  # nothing but dots or braces makes a JWT of it
        b"sess_" + b"a" * 49,
        b"a.b.c",
        b"1.2.3-rc_4",
        b"{}",
        b64(b'{"algo":"x"}') + b".",
        b64(b'{"typ":"jw"}') + b".",
        b64(b'{"typ":"' + b"x" * 41 + b'jwt"}') + b".",
        b"." + b64(b"[]"),
        b"." + b64(b"x{}"),
        b"AAAA." + b64(b"[1]") + b"." + CLAIMS,  # only what stands in the middle is claims
        b"x" * 65_536,
    ],
)
def test_what_no_reader_takes_for_a_jwt_does_not_resemble_one(credential: bytes) -> None:
    assert not resembles_jwt(credential)


def test_claims_are_looked_for_as_far_as_a_token_may_reach() -> None:
    far = b"A" * (ROOM_BYTES - 5) + b"."
    assert resembles_jwt(far + b"eyJ9")
    assert not resembles_jwt(b"AAAA" + far + b"eyJ9")


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain", b"plain"),
        (b"%41%2e", b"A."),
        (b"%2541", b"A"),
        (b"%252541", b"%41"),
        (b"%%41", b"%A"),
        (b"\\101\\056", b"A."),
        (b"\\400\\1\\08", b"\\400\\1\\08"),
        (b"%5c101", b"A"),
        (b"\\377", b"\xff"),
    ],
)
def test_escapes_are_undone_as_often_as_frameworks_and_apps_do(raw: bytes, text: bytes) -> None:
    assert unescaped(raw) == text


@pytest.mark.parametrize(
    "credential",
    [
        TOKEN,
        PERCENT,
        OCTAL,
        b" ".join((HEAD, b".", BODY, b".", TAIL)),
        HEAD + b"=." + BODY + b"==." + TAIL,
    ],
)
def test_however_it_is_spelt_it_is_read_in_the_one_spelling_of_its_signer(
    credential: bytes,
) -> None:
    assert as_signed(credential) == TOKEN


def test_the_other_alphabet_is_the_signers_own() -> None:
    raw = b"\xfb\xff\xbf" * 3
    assert as_signed(b"AAAX.XXXX") == b"AAAX.XXXX"
    assert as_signed(b64encode(raw) + b".x") == urlsafe_b64encode(raw) + b"."


def test_no_more_is_read_than_a_token_may_have() -> None:
    assert as_signed(b".".join([b"AAAA"] * 9)) == b".".join([b"AAAA"] * 6)
    assert len(as_signed(b"A" * 70_000)) == ROOM_BYTES
    assert as_signed(b" " * 65_532 + b"AAAAAAAA") == b"AAAA"


@given(st.binary(max_size=200))
def test_any_bytes_are_looked_at_without_raising(credential: bytes) -> None:
    assert resembles_jwt(credential) in {True, False}
    assert as_signed(as_signed(credential)) == as_signed(credential)
