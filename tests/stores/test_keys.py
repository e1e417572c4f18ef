"""Keys: which are fit, and what a key set by URL does when its host is slow, hostile or gone."""

import gzip
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import get_default_algorithms

from migrator.core.errors import BadSettings, Unavailable
from migrator.core.legacy import Key
from migrator.stores import jwks
from migrator.stores.keys import JwksRing, KeySource, key_ring
from tests.core.signers import SECRET, SIGNERS

RSA = SIGNERS["RS256"]


def jwk(signer_alg: str, **changes: Any) -> dict[str, Any]:
    signer = SIGNERS[signer_alg]
    found: dict[str, Any] = json.loads(get_default_algorithms()[signer_alg].to_jwk(signer.public))
    found = {name: value for name, value in found.items() if name != "key_ops"}
    return {name: value for name, value in (found | changes).items() if value is not ...}


def source(value: object, **pins: Any) -> KeySource:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return KeySource(value=raw, origin="env:KEY", **pins)


def algs(ring: Any, kid: str | None = None) -> list[str]:
    names = ("HS256", "HS512", "RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA")
    return [name for name in names if ring.find(kid, name)]


def problems(*sources: KeySource, algorithms: tuple[str, ...] = ("RS256",)) -> list[str]:
    with pytest.raises(BadSettings) as caught:
        key_ring(sources, algorithms)
    assert SECRET.decode("latin-1") not in str(caught.value)
    return [problem.id for problem in caught.value.problems]


# Which keys are fit.


@pytest.mark.parametrize("family", ["RS256", "ES256", "EdDSA"])
def test_a_public_key_is_read_in_each_of_its_forms(family: str) -> None:
    signer = SIGNERS[family]
    private = signer.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    ssh = signer.public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    whole = json.loads(get_default_algorithms()[family].to_jwk(signer.private))
    whole.pop("key_ops", None)
    for text in (signer.pem(), private, ssh, jwk(family), {"keys": [jwk(family)]}, whole):
        [key] = key_ring([source(text)], (family,)).find(None, family)
        assert key.material == signer.public
        assert "private" not in type(key.material).__name__.lower()


def test_a_secret_is_its_bytes_or_the_k_of_a_jwk() -> None:
    for text in (SECRET, {"kty": "oct", "k": jwk("HS256")["k"]}):
        [key] = key_ring([source(text)], ("HS256",)).find("any", "HS256")
        assert key.material == SECRET


def test_pins_win_over_what_a_key_says() -> None:
    ring = key_ring([source(jwk("RS256", kid="a"), kid="b", alg="RS512")], ("RS256", "RS512"))
    assert algs(ring, "b") == ["RS512"]
    assert algs(ring, "a") == []


def test_a_key_serves_only_algorithms_that_are_listed_or_the_one_it_declares() -> None:
    assert algs(key_ring([source(RSA.pem())], ("RS256",))) == ["RS256"]
    assert algs(key_ring([source(RSA.pem())], ("RS256", "PS256"))) == ["RS256", "PS256"]
    declared = jwk("RS256", alg="RS256")
    assert algs(key_ring([source(declared)], ("RS256", "PS256"))) == ["RS256"]
    assert algs(key_ring([source(jwk("EdDSA", alg="Ed25519"))], ("EdDSA",))) == ["EdDSA"]


def _pem(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


@pytest.mark.parametrize(
    ("text", "algorithms", "problem"),
    [
        (b"short", ("HS256",), "key-too-short"),
        (b"k3jh5k2j3h5kj2h3k5jh2k3jh5k2j3h", ("HS256",), "key-too-short"),
        (SECRET[:40], ("HS512",), "key-too-short"),
        (b"", ("HS256",), "key-public-as-secret"),
        (b"a-string-secret-at-least-256-bits-long", ("HS256",), "key-well-known"),
        (RSA.pem(), ("HS256",), "key-none"),
        (jwk("RS256", n=jwk("RS256")["n"][:171]), ("RS256",), "key-rsa-small"),
        (jwk("RS256", e="Aw", n="A"), ("RS256",), "key-unreadable"),
        (jwk("RS256", e="AQ"), ("RS256",), "key-rsa-exponent"),
        (jwk("RS256", e="Ag"), ("RS256",), "key-rsa-exponent"),
        (jwk("RS256", e="AQAA"), ("RS256",), "key-rsa-exponent"),
        (jwk("RS256", e=""), ("RS256",), "key-rsa-exponent"),
        (jwk("RS256", e=65537), ("RS256",), "key-unreadable"),
        (jwk("RS256", e="!"), ("RS256",), "key-rsa-exponent"),
        (jwk("ES256", crv="P-384"), ("ES384",), "key-unreadable"),
        (jwk("ES256", alg="ES384"), ("ES384",), "key-curve"),
        (jwk("RS256", alg="RSA-OAEP"), ("RS256",), "key-algorithm"),
        (jwk("RS256", use="enc"), ("RS256",), "key-use"),
        (jwk("RS256", key_ops=["encrypt"]), ("RS256",), "key-use"),
        (jwk("RS256", kid=7), ("RS256",), "key-unreadable"),
        (jwk("RS256", kty="DSA"), ("RS256",), "key-unreadable"),
        (jwk("RS256", n=...), ("RS256",), "key-unreadable"),
        (_pem(ed448.Ed448PrivateKey.generate()), ("EdDSA",), "key-curve"),
        (_pem(ec.generate_private_key(ec.SECP256K1())), ("ES256",), "key-none"),
        (
            b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
            ("RS256",),
            "key-unreadable",
        ),
        (SECRET, ("RS256",), "key-algorithm"),
        ({"keys": []}, ("RS256",), "key-none"),
        ({"keys": [jwk("RS256"), jwk("HS256")]}, ("RS256",), "key-algorithm"),
        (
            {"keys": [jwk("RS256", kid="a"), jwk("HS256", kid="b")]},
            ("RS256", "HS256"),
            "key-mixed-set",
        ),
    ],
)
def test_an_unfit_key_is_refused_by_id(
    text: object, algorithms: tuple[str, ...], problem: str
) -> None:
    assert problem in problems(source(text), algorithms=algorithms)


def test_a_pem_key_is_never_a_secret_even_when_it_is_called_one() -> None:
    for text in (RSA.pem(), b" " + RSA.pem(), json.dumps(jwk("RS256")).encode()):
        found = problems(source(text, form="secret"), algorithms=("HS256",))
        assert found == ["key-public-as-secret"]


def test_every_problem_is_told_at_once() -> None:
    found = problems(source(b"short"), source(jwk("RS256", use="enc")), algorithms=("HS256",))
    assert found == ["key-too-short", "key-use"]


def test_a_kid_names_one_key() -> None:
    other = rsa.generate_private_key(65537, 2048)
    second = json.loads(get_default_algorithms()["RS256"].to_jwk(other.public_key())) | {
        "kid": "a",
        "key_ops": ["verify"],
    }
    first = jwk("RS256", kid="a")
    assert problems(source(first), source(second)) == ["key-duplicate-kid"]
    assert algs(key_ring([source(first), source(first)], ("RS256",)), "a") == ["RS256"]


def test_keys_for_encryption_in_a_set_are_left_out() -> None:
    keys = {"keys": [jwk("RS256", kid="a"), jwk("RS256", kid="a", use="enc")]}
    assert algs(key_ring([source(keys)], ("RS256",)), "a") == ["RS256"]


def test_no_source_shows_its_value() -> None:
    assert "secret" not in repr(source(b"secret"))


# Key sets by URL.


class Host:
    """A key server whose next answers are chosen by the test."""

    def __init__(self) -> None:
        self.answer: Callable[[BaseHTTPRequestHandler], None] = self.serve([])
        self.requests: list[str] = []
        self.url = ""

    def serve(self, keys: list[dict[str, Any]]) -> Callable[[BaseHTTPRequestHandler], None]:
        return self.text(json.dumps({"keys": keys}).encode())

    @staticmethod
    def text(
        body: bytes, status: int = 200, **headers: str
    ) -> Callable[[BaseHTTPRequestHandler], None]:
        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(status)
            for name, value in headers.items():
                request.send_header(name.replace("_", "-"), value)
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body)

        return answer


@pytest.fixture
def host() -> Iterator[Host]:
    found = Host()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.requests.append(self.path)
            with suppress(OSError):  # the client hung up, as it should
                found.answer(self)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}/jwks"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def ring_at(host: Host, clock: Callable[[], float] = time.monotonic) -> Iterator[JwksRing]:
    ring = key_ring(
        [], ("RS256", "ES256"), jwks_url=host.url, allow_http_loopback=True, clock=clock
    )
    assert isinstance(ring, JwksRing)
    try:
        yield ring
    finally:
        ring.close()


def until(true: Callable[[], object], seconds: float = 10) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it did not come true"
        time.sleep(0.01)


def found(ring: JwksRing, kid: str | None, alg: str = "RS256") -> tuple[Key, ...] | None:
    try:
        return ring.find(kid, alg)
    except Unavailable:
        return None


def test_a_set_is_fetched_at_once_and_off_the_request_path(host: Host) -> None:
    gate = threading.Event()
    serve = host.serve([jwk("RS256", kid="a"), jwk("ES256", kid="b")])
    host.answer = lambda request: (gate.wait(1.5), serve(request))[1]
    with ring_at(host) as ring:
        began = time.perf_counter()
        with pytest.raises(Unavailable):
            ring.find("a", "RS256")
        assert time.perf_counter() - began < 0.5
        gate.set()
        until(lambda: found(ring, "a"))
        assert [key.alg for key in ring.find("b", "ES256")] == ["ES256"]
        assert ring.find("b", "RS256") == ()
        assert ring.report().keys == 2


def test_what_was_fetched_outlives_every_failure_of_its_host(host: Host) -> None:
    host.answer = host.serve([jwk("RS256", kid="a")])
    with ring_at(host) as ring:
        until(lambda: found(ring, "a"))
        good = json.dumps({"keys": [jwk("RS256", kid="z")]}).encode()
        answers = {
            "500": host.text(good, 500),
            "redirect": host.text(good, 302, Location=host.url + "/elsewhere"),
            "html": host.text(b"<html></html>"),
            "array": host.text(b"[]"),
            "keys is no list": host.text(b'{"keys": {"a": 1}}'),
            "no usable key": host.serve([jwk("HS256", kid="a"), {"kty": "x"}, {}]),
            "packed": host.text(gzip.compress(good), Content_Encoding="gzip"),
            "huge": host.text(b'{"keys": [' + b" " * 5_000_000 + b"]}"),
            "nested": host.text(b'{"keys":' + b"[" * 100_000),
            "cut": lambda request: request.wfile.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + good
            ),
            "no HTTP": lambda request: request.wfile.write(b"\0\xff" * 99 + b"\n"),
            "hung up": lambda request: request.connection.close(),
        }
        for name, answer in answers.items():
            host.answer = answer
            assert not ring.refresh(), name
            assert ring.find("a", "RS256"), name
            assert ring.report().failing, name
        assert "/jwks/elsewhere" not in host.requests


def test_a_host_that_drips_is_hung_up_on(host: Host) -> None:
    def drip(request: BaseHTTPRequestHandler) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX: " + b"x" * 500:
            request.wfile.write(bytes([byte]))
            time.sleep(0.1)

    host.answer = host.serve([jwk("RS256", kid="a")])
    with ring_at(host) as ring:
        until(lambda: found(ring, "a"))
        host.answer = drip
        began = time.monotonic()
        assert not ring.refresh()
        assert time.monotonic() - began < 2 * jwks.TIMEOUT_SECONDS
        assert ring.find("a", "RS256")


def test_a_rotated_key_is_found_after_one_unknown_kid(host: Host) -> None:
    host.answer = host.serve([jwk("RS256", kid="old")])
    with ring_at(host) as ring:
        until(lambda: found(ring, "old"))
        host.answer = host.serve([jwk("RS256", kid="new")])
        assert ring.find("new", "RS256") == ()
        until(lambda: found(ring, "new"), seconds=2)
        assert ring.find("old", "RS256") == ()


def test_a_flood_of_unknown_kids_costs_one_fetch_a_second_and_ten_a_minute(host: Host) -> None:
    clock = Clock()
    host.answer = host.serve([jwk("RS256", kid="a")])
    with ring_at(host, clock) as ring:
        until(lambda: found(ring, "a"))
        for number in range(10_000):
            assert ring.find(f"x{number}", "RS256") == ()
        time.sleep(0.3)
        assert len(host.requests) <= 2
        for _ in range(40):
            clock.now += 1
            ring.find("y", "RS256")
            time.sleep(0.01)
        time.sleep(0.3)
        assert len(host.requests) <= 1 + 10


def test_a_set_is_served_stale_for_a_day_and_then_unknown(host: Host) -> None:
    clock = Clock()
    host.answer = host.serve([jwk("RS256", kid="a")])
    with ring_at(host, clock) as ring:
        until(lambda: found(ring, "a"))
        host.answer = host.text(b"", 500)
        clock.now += 86_000
        assert not ring.refresh()
        assert ring.find("a", "RS256")
        clock.now += 500
        with pytest.raises(Unavailable):
            ring.find("a", "RS256")
        host.answer = host.serve([jwk("RS256", kid="a")])
        assert ring.refresh()
        assert ring.find("a", "RS256")


def test_a_bad_key_costs_itself_only(host: Host) -> None:
    other = json.loads(
        get_default_algorithms()["RS256"].to_jwk(
            rsa.generate_private_key(65537, 2048).public_key()
        )
    )
    host.answer = host.serve(
        [
            jwk("RS256", kid="a"),
            jwk("RS256", kid="twice"),
            {**other, "kid": "twice"},
            jwk("RS256", kid="small", n=jwk("RS256")["n"][:171]),
            jwk("HS256", kid="secret"),
            jwk("RS256", kid="enc", use="enc"),
            jwk("RS256", kid="even", e="AQAA"),
        ]
    )
    with ring_at(host) as ring:
        until(lambda: found(ring, "a"))
        assert {
            kid: ring.find(kid, "RS256") for kid in ("twice", "small", "enc", "even")
        } == dict.fromkeys(("twice", "small", "enc", "even"), ())
        assert ring.find("secret", "HS256") == ()
        assert {problem.id for problem in ring.report().skipped} == {
            "key-rsa-small",
            "key-rsa-exponent",
            "key-mixed-set",
            "key-use",
            "key-duplicate-kid",
        }


def test_keys_of_the_settings_need_no_fetch(host: Host) -> None:
    host.answer = host.text(b"", 500)
    pinned = source(jwk("RS256"), kid="here")
    ring: Any = key_ring([pinned], ("RS256",), jwks_url=host.url, allow_http_loopback=True)
    try:
        assert ring.find("here", "RS256")
        with pytest.raises(Unavailable):
            ring.find("elsewhere", "RS256")
    finally:
        ring.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/jwks",
        "http://idp.example/jwks",
        "file:///etc/passwd",
        "ftp://idp.example/k",
        "https://user:pw@idp.example/k",
        "https:///k",
        "https://[::1/k",
        "",
    ],
)
def test_a_set_is_fetched_from_https_only(url: str) -> None:
    with pytest.raises(BadSettings) as caught:
        key_ring([], ("RS256",), jwks_url=url)
    assert [problem.id for problem in caught.value.problems] == ["jwks-url"]
    assert "pw" not in str(caught.value)


def test_plain_http_is_for_loopback_only_even_where_it_is_allowed() -> None:
    with pytest.raises(BadSettings):
        key_ring([], ("RS256",), jwks_url="http://idp.example/k", allow_http_loopback=True)


def test_a_secret_and_a_fetched_set_do_not_mix() -> None:
    with pytest.raises(BadSettings) as caught:
        key_ring([source(SECRET)], ("HS256", "RS256"), jwks_url="https://idp.example/k")
    assert [problem.id for problem in caught.value.problems] == ["key-mixed-set"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_goes_on_refreshing(host: Host) -> None:
    """gunicorn's prefork: the thread of the parent does not live on in its children."""
    host.answer = host.serve([jwk("RS256", kid="old")])
    with ring_at(host) as ring:
        until(lambda: found(ring, "old"))
        host.answer = host.serve([jwk("RS256", kid="new")])
        child = os.fork()
        if child == 0:
            code = 1
            try:
                ring.find("new", "RS256")
                until(lambda: found(ring, "new"), seconds=5)
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
