"""The API in a process of its own, over TLS or not, and a server of pages for every other host."""

from __future__ import annotations

import http.server
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from migrator.cli.demo.processes import kill_group
from tests.apps.deployment import Deployment
from tests.system.browser.api import ORIGINS

ROOT: Final = Path(__file__).parents[3]
PAGE: Final = Path(__file__).with_name("client.html")
_START_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """A throwaway certificate, which the browser is told to trust by its key's digest."""

    cert: Path
    key: Path
    spki: str

    @classmethod
    def made(cls, folder: Path) -> Certificate:
        """A new one, in `folder`."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop.test")])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        spki = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        digest = b64encode(sha256(spki).digest()).decode()
        certificate = cls(folder / "cert.pem", folder / "key.pem", digest)
        certificate.cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        certificate.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate

    def context(self) -> ssl.SSLContext:
        """For a server that shows it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context


class _Pages(http.server.BaseHTTPRequestHandler):
    """The client's page at every path of every host."""

    def do_GET(self) -> None:
        body = PAGE.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@contextmanager
def pages(certificate: Certificate | None) -> Iterator[int]:
    """The port of a server of pages; over TLS if a certificate is given."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as server:
        server.daemon_threads = True
        if certificate is not None:
            # Not on accept: a browser opens connections ahead and would hold up all others.
            server.socket = certificate.context().wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def api(
    deployment: Deployment, port: int, origins: list[str], certificate: Certificate | None
) -> Iterator[None]:
    """The API at `port`; pages of `origins` may read its answers."""
    log = deployment.folder / "api.log"
    argv = ["uvicorn", "--factory", "tests.system.browser.api:create_app", "--port", str(port)]
    argv += ["--timeout-graceful-shutdown", "1"]  # browsers keep connections open
    if certificate is not None:
        argv += ["--ssl-certfile", str(certificate.cert), "--ssl-keyfile", str(certificate.key)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *argv],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                ORIGINS: json.dumps(origins),
                **deployment.environ(),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _await_answer(process, port, log, is_tls=certificate is not None)
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        kill_group(process)


def _await_answer(process: subprocess.Popen[bytes], port: int, log: Path, *, is_tls: bool) -> None:
    url = f"{'https' if is_tls else 'http'}://127.0.0.1:{port}/page"
    context = ssl._create_unverified_context() if is_tls else None
    deadline = time.monotonic() + _START_S
    while True:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5, context=context):
            return
        said = log.read_text()[-3000:]
        assert process.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.05)
