"""How hostile tokens are built, for any family of algorithms and any moment; who sends them where
is said elsewhere.

The ids are those of the public list of hostile credentials (playbooks/threat-model.md); what is
named otherwise is a neighbour of one of its cases. No recipe reads a file.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from jwt.algorithms import get_default_algorithms

from tests.core.signers import IDP, SIGNERS, Signer, b64, plain

# The order of P-256: (r, order - s) is a signature wherever (r, s) is one.
ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_THIEF: Final = ec.generate_private_key(ec.SECP256R1())
_SHA256: Final = bytes.fromhex("3031300d060960864801650304020105000420")  # RFC 8017 section 9.2
Moment: TypeAlias = Callable[[int], object]
"""A claim's value that depends on now."""


def ahead(seconds: float) -> Moment:
    """So many seconds from now."""
    return lambda now_s: now_s + seconds


@dataclass(frozen=True)
class Forge:
    """Makes tokens of one issuer, good ones until told otherwise."""

    signer: Signer
    now_s: int
    iss: str = IDP
    listener: str = "http://127.0.0.1:9"  # where a reader that follows addresses would go

    def claims(self, **changes: Any) -> dict[str, Any]:
        """A good payload; a change to Ellipsis leaves a claim out."""
        good: dict[str, Any] = {
            "iss": self.iss,
            "aud": "api",
            "sub": "user-1",
            "iat": self.now_s - 60,
            "exp": self.now_s + 3600,
            "jti": "5f1d",
        }
        return {
            name: value(self.now_s) if callable(value) else value
            for name, value in (good | changes).items()
            if value is not ...
        }

    def header(self, **changes: Any) -> dict[str, Any]:
        return self.signer.header(**changes)

    def token(
        self, payload: object = None, header: object = None, *, alg: str | None = None
    ) -> bytes:
        return self.signer.token(self.claims() if payload is None else payload, header, alg=alg)

    def fresh(self, **changes: Any) -> bytes:
        """A good token that nobody has seen."""
        return self.token(self.claims(jti=secrets.token_hex(8), **changes))

    def parts(self) -> list[bytes]:
        return self.token().split(b".")


Recipe: TypeAlias = Callable[[Forge], Iterator[bytes]]


def payloads(*bodies: object) -> Recipe:
    """Payloads of their own, whole."""
    return lambda forge: (forge.token(body) for body in bodies)


def changed(**each: list[Any]) -> Recipe:
    """A good payload, one claim changed at a time."""
    return lambda forge: (
        forge.token(forge.claims(**{name: value}))
        for name, values in each.items()
        for value in values
    )


def with_all(*changes: dict[str, Any]) -> Recipe:
    """A good payload, several claims changed together."""
    return lambda forge: (forge.token(forge.claims(**change)) for change in changes)


def headers(**each: list[Any]) -> Recipe:
    """A good header, one member changed at a time."""
    return lambda forge: (
        forge.token(None, forge.header(**{name: value}))
        for name, values in each.items()
        for value in values
    )


def raw_json(member: str) -> Recipe:
    """A payload of good claims and one more member, as text."""
    return lambda forge: iter(
        [forge.token(f"{json.dumps(forge.claims())[:-1]}, {member}}}".encode())]
    )


def unsigned(forge: Forge) -> Iterator[bytes]:
    algs = ("none", "nOnE", "NONE", "None", "", "none ", "n\0ne")
    for alg, signature in itertools.product(algs, (b"", b64(b"x" * 32))):
        yield b".".join((b64(plain(forge.header(alg=alg))), b64(plain(forge.claims())), signature))
    yield b".".join((b64(b'{"alg":"none"}'), b64(plain(forge.claims())), b""))


def keyed_with(forge: Forge, secret: bytes, alg: str = "HS256") -> bytes:
    """A good token whose MAC is keyed with `secret`."""
    signing_input = b64(plain(forge.header(alg=alg))) + b"." + b64(plain(forge.claims()))
    mac = get_default_algorithms()[alg].sign(signing_input, secret)
    return signing_input + b"." + b64(mac)


def public_texts(signer: Signer) -> list[bytes]:
    """The public key in every text that a verifier might take for a secret."""
    pem = signer.pem()
    jwk = json.loads(get_default_algorithms()[signer.alg].to_jwk(signer.public))
    return [
        *(pem, pem.strip(), b" " + pem, pem + b"\n", pem.replace(b"\n", b"\r\n")),
        *(b"\xef\xbb\xbf" + pem, base64.b64decode(b"".join(pem.split(b"\n")[1:-2]))),
        json.dumps(jwk, sort_keys=True).encode(),
        json.dumps(jwk, indent=2).encode(),
        json.dumps(jwk, separators=(",", ":")).encode(),
        json.dumps({"keys": [jwk]}).encode(),
        json.dumps([jwk]).encode(),
    ]


def confused(forge: Forge) -> Iterator[bytes]:
    if isinstance(forge.signer.public, bytes):
        return
    for text in public_texts(forge.signer):
        yield keyed_with(forge, text)
    yield keyed_with(forge, public_texts(forge.signer)[0], "HS512")


def guessed(forge: Forge) -> Iterator[bytes]:
    for secret in (b"", b"\0", b"secret", b"your-256-bit-secret", b"changeme", b"k1", b"null"):
        yield keyed_with(forge, secret)


def of_another_algorithm(forge: Forge) -> Iterator[bytes]:
    others = {"HS256": ("HS384", "HS512"), "RS256": ("RS384", "RS512", "PS256", "PS512")}
    for other in others.get(forge.signer.alg, ()):
        yield forge.token(None, forge.header(alg=other), alg=other)
        yield forge.token(None, forge.header(), alg=other)


def of_another_issuer(forge: Forge) -> Iterator[bytes]:
    """Rightly signed by each of the others' keys, and said to be of this issuer."""
    for signer in SIGNERS.values():
        if signer is not forge.signer:
            yield replace(forge, signer=signer).token()
            yield replace(forge, signer=signer).token(None, forge.header(alg=signer.alg))


def jwe(forge: Forge) -> Iterator[bytes]:
    inner = (plain(forge.claims()), forge.token(), b64(b'{"alg":"none"}') + b".e30.")
    for alg, each in itertools.product(("dir", "RSA-OAEP", "PBES2-HS256+A128KW"), inner):
        head = {"alg": alg, "enc": "A256GCM", "cty": "JWT", "kid": "k1", "p2c": 2_000_000_000}
        yield b".".join(
            (b64(plain(head)), b"", b64(b"i" * 12), b64(each), b64(b"t" * 16)),
        )


def resigned(forge: Forge) -> Iterator[bytes]:
    """Changed, cut, emptied and re-encoded signatures."""
    head, body, tail = forge.parts()
    raw = base64.urlsafe_b64decode(tail + b"==")
    bad = [bytes(len(raw)), raw[::-1], raw + b"\0", raw + raw, b"\xff" * len(raw), raw[:-1]]
    for at in (1, len(raw) // 2, len(raw) - 1):
        flipped = bytearray(raw)
        flipped[at] ^= 1
        bad.append(bytes(flipped))
    bad += [raw[:size] for size in (0, 1, 8, 16)]
    if forge.signer.alg == "ES256":
        r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
        bad += [encode_dss_signature(r, s), encode_dss_signature(r, ORDER - s)]
        pairs = ((0, s), (r, 0), (ORDER, s), (r, ORDER), (1, 1), (s, r))
        bad += [one.to_bytes(32, "big") + two.to_bytes(32, "big") for one, two in pairs]
    for signature in bad:
        yield b".".join((head, body, b64(signature)))
    yield head + b"." + body
    other = forge.token(forge.claims(sub="admin")).split(b".")
    yield b".".join((head, other[1], tail))
    yield b".".join((head, body, other[2]))


def padded_otherwise(forge: Forge) -> Iterator[bytes]:
    """RS256 signatures whose padding under the modulus is not the one of RFC 8017 section 9.2."""
    if forge.signer.alg != "RS256":
        return
    head, body, _ = forge.parts()
    numbers = forge.signer.private.private_numbers()
    n, size = numbers.public_numbers.n, (numbers.public_numbers.n.bit_length() + 7) // 8
    digest = hashlib.sha256(head + b"." + body).digest()
    info = _SHA256 + digest
    without_null = bytes.fromhex("302f300b0609608648016503040201") + b"\x04\x20" + digest
    room = size - 3 - len(info)
    blocks = [
        b"\0\1" + b"\xff" * 8 + b"\0" + info + b"\0" * (room - 8),  # Bleichenbacher 2006
        b"\0\1" + b"\xff" * (room - 9) + b"\0" + info + b"\xff" * 9,
        b"\0\1" + b"\xff" * (size - 3 - len(without_null)) + b"\0" + without_null,
        b"\0\1" + b"\xff" * (size - 35) + b"\0" + digest,
    ]
    good = bytearray(b"\0\1" + b"\xff" * room + b"\0" + info)
    for at in (0, 1, 2, 9, room // 2, room + 1, room + 2, *range(room + 3, size - 32)):
        block = bytearray(good)
        block[at] ^= 1
        blocks.append(bytes(block))
    for block in blocks:
        number = int.from_bytes(block, "big")
        if number < n:
            yield b".".join((head, body, b64(pow(number, numbers.d, n).to_bytes(size, "big"))))


def respelt(forge: Forge) -> Iterator[bytes]:
    """A good token in other characters: one token must have one spelling."""
    good = forge.token()
    head, body, tail = good.split(b".")
    ends = (b"=", b"==", b"===", b"A", b".", b"%3D", b"!", b"\0", b"\xc2\xad", b"\n", b"#", b"?a")
    for end in ends:
        yield good + end
    strange = (b" ", b"\t", b"\r\n", b"\0", b"\xc2\xad", b"\xff", b"\x80", b"!", b"=", b"\xa0")
    for at, letters in itertools.product(
        (0, 3, len(head), len(good) // 2, len(good) - 1), strange
    ):
        yield good[:at] + letters + good[at:]
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = len(tail) % 4 and (2 if len(tail) % 4 == 3 else 4)
    for bits in range(1, 1 << spare):
        yield good[:-1] + bytes([alphabet[alphabet.index(tail[-1:]) | bits]])
    yield b".".join((head + b"=" * (-len(head) % 4 or 4), body, tail))
    yield b".".join((head, body + b"=" * (-len(body) % 4 or 4), tail))
    for number in range(50):  # until a character comes that the alphabets spell differently
        good = forge.token(forge.claims(jti=f"{number}"))
        other = good.translate(bytes.maketrans(b"-_", b"+/"))
        if other != good:
            yield other
            break
    protected = {"payload": body.decode(), "protected": head.decode(), "signature": tail.decode()}
    yield json.dumps(protected).encode()
    signatures = [{"protected": head.decode(), "signature": tail.decode()}]
    yield json.dumps({"payload": body.decode(), "signatures": signatures}).encode()
    yield good.replace(b".", b"%2E")
    yield b'"' + good + b'"'
    yield b'"' + good.replace(b".", b"\\056") + b'"'
    yield b"Bearer " + good
    yield good + b" " + good


def segments(forge: Forge) -> Iterator[bytes]:
    head, body, tail = forge.parts()
    yield head + b"."
    for number in (4, 5, 6, 90):
        yield b".".join((head, body, *(tail,) * (number - 2)))
    yield b"." + forge.token()
    yield b"." + body + b"." + tail
    yield b".".join((head, b"", tail))
    yield b".".join((head, b"", body, tail))


def detached(forge: Forge) -> Iterator[bytes]:
    """RFC 7515 appendix F and RFC 7797: the payload is elsewhere, or as it is."""
    head = b64(plain(forge.header(b64=False, crit=["b64"])))
    body = plain(forge.claims())
    signature = b64(forge.signer.sign(head + b"." + body))
    yield b".".join((head, b64(body), signature))
    yield b".".join((head, b"", signature))


def other_encodings(forge: Forge) -> Iterator[bytes]:
    head, body = json.dumps(forge.header()), json.dumps(forge.claims())
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "utf-7"):
        if body.encode(encoding) != body.encode():
            yield forge.token(body.encode(encoding))
            yield forge.token(None, head.encode(encoding))
    for bad in (b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80", b"\xe2\x82"):
        yield forge.token(plain(forge.claims())[:-1] + b', "x": "' + bad + b'"}')


def repeated(forge: Forge) -> Iterator[bytes]:
    good = json.dumps(forge.claims())[1:]
    first = ('"sub": "admin"', '"exp": 9999999999', '"s\\u0075b": "admin"', '"x": 1, "x": 2')
    for each in first:
        yield forge.token(f"{{{each}, {good}".encode())
    yield forge.token(b'{"x": {"y": 1, "y": 2}, ' + good.encode())
    yield forge.token(f'{json.dumps(forge.claims())[:-1]}, "sub": "admin"}}'.encode())
    alg = forge.signer.alg
    for each in ('"alg": "none"', f'"alg": "{alg}"', '"kid": "k1"', '"\\u0061lg": "x"'):
        yield forge.token(None, f"{{{each}, {json.dumps(forge.header())[1:]}".encode())


def deep(forge: Forge) -> Iterator[bytes]:
    for levels in (33, 900, 2500):
        nested = "[" * levels + "]" * levels
        yield forge.token(f'{json.dumps(forge.claims())[:-1]}, "x": {nested}}}'.encode())
        yield forge.token(f'{json.dumps(forge.claims())[:-1]}, "x": {"[" * levels}'.encode())
        yield forge.token(None, f'{json.dumps(forge.header())[:-1]}, "x": {nested}}}'.encode())
    objects = '{"a":' * 40 + "1" + "}" * 40
    yield forge.token(f'{json.dumps(forge.claims())[:-1]}, "x": {objects}}}'.encode())


def huge(forge: Forge) -> Iterator[bytes]:
    yield forge.token(forge.claims(x="x" * 9000))
    yield forge.token(None, forge.header(x="x" * 9000))
    yield forge.token() + b"A" * 9000


def enormous(forge: Forge) -> Iterator[bytes]:
    yield b64(plain(forge.header())) + b"A" * 5_000_000 + b".e30.x"
    yield b64(plain(forge.header())) + b"." + b"A" * 5_000_000 + b".x"
    yield forge.token() + b"A" * 5_000_000


def own_key(forge: Forge) -> Iterator[bytes]:
    """Keys and addresses inside the token, signed with a key of the attacker's."""
    thief = Signer("ES256", _THIEF, _THIEF.public_key())
    jwk = json.loads(get_default_algorithms()["ES256"].to_jwk(thief.public))
    x5c = [base64.b64encode(b"0" * 90).decode()]
    members: list[dict[str, Any]] = [{"jwk": jwk}, {"x5c": x5c}, {"jwk": jwk, "kid": ...}]
    where = ("/k", "@169.254.169.254/latest", "/k#.json")
    members += [{"jku": forge.listener + end} for end in where]
    members += [{"x5u": at} for at in (forge.listener, "file:///etc/passwd")]
    members += [{"kid": forge.listener + "/kid", "jku": forge.listener}]
    for member in members:
        yield thief.token(forge.claims(), thief.header(**member))
        yield thief.token(forge.claims(), thief.header(alg=forge.signer.alg, **member))


def addresses(forge: Forge) -> Iterator[bytes]:
    """An address in every claim and header member there is a word for."""
    names = ["iss", "sub", "aud", "jti", "azp", "client_id", "scope", "amr", "acr", "sid"]
    names += ["jwks_uri", "jku", "x5u", "redirect_uri", "url"]
    for name in names:
        wrong: dict[str, Any] = {name: f"{forge.listener}/{name}"}
        if name not in {"iss", "aud"}:
            wrong["aud"] = "other"
        yield forge.token(forge.claims(**wrong))


def with_high_s(forge: Forge, token: bytes) -> bytes:
    """The other of the two spellings of an ES256 signature with the larger s; else `token`."""
    if forge.signer.alg != "ES256":
        return token
    head, body, tail = token.split(b".")
    raw = base64.urlsafe_b64decode(tail + b"==")
    s = int.from_bytes(raw[32:], "big")
    return b".".join((head, body, b64(raw[:32] + max(s, ORDER - s).to_bytes(32, "big"))))


def mirrored(forge: Forge, token: bytes) -> bytes:
    """The same token in the other spelling of its ES256 signature."""
    head, body, tail = token.split(b".")
    assert forge.signer.alg == "ES256"
    raw = base64.urlsafe_b64decode(tail + b"==")
    s = ORDER - int.from_bytes(raw[32:], "big")
    return b".".join((head, body, b64(raw[:32] + s.to_bytes(32, "big"))))
