"""Local web servers that stand in for the real ones: real HTTP, with faults on demand."""

import hashlib
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple, TypeVar

PIECE = 2**16
S = TypeVar("S", bound=ThreadingHTTPServer)


class Seen(NamedTuple):
    """A request that the server received."""

    method: str
    path: str
    range: str
    credentials: str


class Request(BaseHTTPRequestHandler):
    """Answers a request as its server says."""

    protocol_version = "HTTP/1.1"
    server: "StandIn"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        range_, credentials = (self.headers.get(name, "") for name in ("Range", "Authorization"))
        self.server.seen.append(Seen(self.command, self.path, range_, credentials))
        if self.server.statuses:
            self.send(b"", self.server.statuses.pop(0))
        else:
            self.server.answer(self, self.path.partition("?")[0], json.loads(body or b"{}"))

    do_HEAD = do_POST = do_GET

    def send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            pieces = [body[i : i + PIECE] for i in range(0, len(body), PIECE)] if self.server.throttle else [body]
            for piece in pieces:
                self.wfile.write(piece)
                time.sleep(self.server.throttle)

    def send_json(self, value: Any, status: int = 200) -> None:
        self.send(json.dumps(value).encode(), status, {"Content-Type": "application/json"})

    def send_file(self, data: bytes, headers: dict[str, str] | None = None) -> None:
        """Send a file, or the requested range of it; the server may drop the connection before its end."""
        server, etag = self.server, f'"{hashlib.sha256(data).hexdigest()}"'
        headers = {"Accept-Ranges": "bytes"} | ({"ETag": etag} if server.etags else {}) | (headers or {})
        start, status = 0, 200
        range_ = self.headers.get("Range")
        same = self.headers.get("If-Range", etag) == etag or not server.if_range
        if range_ and server.ranges and same:
            start, status = int(range_.removeprefix("bytes=").partition("-")[0]), 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if start >= len(data) > 0:
            self.send(b"no such range", 416, {"Content-Range": f"bytes */{len(data)}"})
            return
        rest = data[start:]
        if server.drops and self.command != "HEAD":
            dropped = rest[: server.drops.pop(0)]
            self.send(dropped, status, headers | {"Content-Length": str(len(rest))})
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        else:
            self.send(rest, status, headers)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


class StandIn(ThreadingHTTPServer):
    """Serves the bytes of `files` by path, and records requests in `seen`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.files: dict[str, bytes] = {}
        self.seen: list[Seen] = []
        self.statuses: list[int] = []
        """Statuses that answer the next requests instead."""
        self.drops: list[int] = []
        """Numbers of bytes after which the next files are dropped."""
        self.redirects: dict[str, str] = {}
        self.ranges = self.if_range = self.etags = True
        """Features that the server supports."""
        self.throttle = 0.0
        """Seconds between two pieces of a file."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, request: Request, path: str, body: dict[str, Any]) -> None:
        if path in self.redirects:
            request.send(b"", 302, {"Location": self.redirects[path]})
        elif path in self.files:
            request.send_file(self.files[path])
        else:
            request.send(b"", 404)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect."""


@contextmanager
def serve(stand_in: S) -> Iterator[S]:
    """Run a stand-in in a thread."""
    thread = Thread(target=stand_in.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield stand_in
    finally:
        stand_in.shutdown()
        stand_in.server_close()
        thread.join()


def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
