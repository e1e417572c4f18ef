"""A company that signs its own JWTs, RS256, and publishes its key as a JWKS on loopback."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

ISSUER = "https://partner.example"
AUDIENCE = "acme-api"
TOKEN_SECONDS = 10
_KID = "partner-2026"
_KEY_BITS = 2048
_DAY_SECONDS = 86_400


class Partner:
    """Signs tokens for its own programs."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65_537, key_size=_KEY_BITS)
        self.port = 0

    @property
    def jwks_url(self) -> str:
        """Where its public key is."""
        return f"http://127.0.0.1:{self.port}/jwks.json"

    def sign(
        self, subject: str, *, issued_ago_s: float = 0, lasts_s: float = TOKEN_SECONDS
    ) -> str:
        """A JWT for one of its programs."""
        issued_at = int(time.time() - issued_ago_s)
        payload = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "jti": secrets.token_hex(8),
            "iat": issued_at,
            "exp": int(issued_at + lasts_s),
        }
        return jwt.encode(payload, self._key, algorithm="RS256", headers={"kid": _KID})

    def sign_long(self, subject: str) -> str:
        """One of those its predecessor gave out, good for thirty days, yesterday."""
        return self.sign(subject, issued_ago_s=_DAY_SECONDS, lasts_s=30 * _DAY_SECONDS)

    def jwks(self) -> bytes:
        """Its public key as a JWK set."""
        jwk = json.loads(RSAAlgorithm.to_jwk(self._key.public_key()))
        return json.dumps({"keys": [{**jwk, "kid": _KID, "alg": "RS256", "use": "sig"}]}).encode()

    @contextmanager
    def serve(self) -> Iterator[None]:
        """Publish the key on a free port of loopback for the length of the block."""
        body = self.jwks()

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/jwk-set+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
                """Say nothing: the screen is the rehearsal's."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        server.daemon_threads = True
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
