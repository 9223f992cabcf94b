"""A real MLflow server, and a gate in front of it as companies have one: TLS, a login and a path."""

import datetime
import ipaddress
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from warm_python import warm_python


class Server:
    """A real MLflow server that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.url = folder, f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        store = f"sqlite:///{self.folder}/server.db"
        self.process = subprocess.Popen(
            [warm_python(), "-m", "mlflow", "server", "--port", str(self.port), "--backend-store-uri", store,
             "--artifacts-destination", str(self.folder / "files"), "--workers", "1"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        for _ in range(3000):
            try:
                if requests.get(f"{self.url}/health", timeout=1).ok:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.1)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        while is_open(self.port):  # its worker dies a moment later
            time.sleep(0.01)


class Gate(ThreadingHTTPServer):
    """Forwards requests below `/mlflow` that have one of the Authorization headers in `takes` to an MLflow server."""

    daemon_threads = True

    def __init__(self, upstream: Server, certificate: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Forward)
        self.upstream, self.takes = upstream, set[str]()
        self.refused = 0
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://127.0.0.1:{self.server_port}/mlflow"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that distrust the certificate."""


class _Forward(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gate

    def do_GET(self) -> None:
        body = self._body()
        if self.headers.get("Authorization") not in self.server.takes:
            self.server.refused += 1
            self._send(401, b"who are you?", {"WWW-Authenticate": "Basic"})
        elif not self.path.startswith("/mlflow/"):
            self._send(404, b"<h1>nothing here</h1>", {})
        else:
            kept = {name: value for name, value in self.headers.items() if name in ("Content-Type", "Range")}
            upstream = HTTPConnection("127.0.0.1", self.server.upstream.port, timeout=60)
            upstream.request(self.command, self.path.removeprefix("/mlflow"), body, kept)
            answer = upstream.getresponse()
            self._send(answer.status, answer.read(), {"Content-Type": answer.headers.get("Content-Type", "")})
            upstream.close()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def self_signed(file: Path) -> Path:
    """Write a certificate for 127.0.0.1 that it signs itself, and its key, to the PEM file `file`."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test of Plumage")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = builder.add_extension(here, critical=False).sign(key, hashes.SHA256())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(certificate.public_bytes(pem) + secret)
    return file


def is_open(port: int) -> bool:
    """Whether a process listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(address: str) -> bytes:
    deadline = time.monotonic() + 200
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as response:
                return bytes(response.read())
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.5)
