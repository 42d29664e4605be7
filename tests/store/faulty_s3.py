"""An S3 endpoint on the loopback that drops, cuts, refuses and delays on request.

Requests go on to a real one (moto), so that what a fault leaves behind is real too.
"""

import http.client
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("drop", "lost answer", "cut", "garbage", "late", 500, 503, 412, "skew", "timeout")


@dataclass
class Fault:
    """What happens to some requests.

    Args:
        how: One of :data:`FAULTS`, or ``"slow"``.
        method: Of the requests, as a pattern.
        path: A part of their path, as a pattern.
        times: How many of them; a negative number for all.
    """

    how: Any
    method: str = "."
    path: str = ""
    times: int = -1


@dataclass
class FaultyS3:
    """The endpoint; ``faults`` may be changed at any time."""

    target: tuple[str, int]
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of every request."""
    held: list[tuple[Any, ...]] = field(default_factory=list)
    """Requests that are to arrive late."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, method: str, path: str) -> Any:
        """Note a request and return what is to happen to it."""
        with self.lock:
            self.seen.append((method, path))
            for fault in self.faults:
                if fault.times and re.match(fault.method, method) and re.search(fault.path, path):
                    fault.times -= 1
                    return fault.how
        return None

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request to the real endpoint."""
        connection = http.client.HTTPConnection(*self.target)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), data

    def deliver_late(self) -> None:
        """Let the held requests arrive now, after others that were sent later."""
        for request in self.held:
            self.forward(*request)
        self.held.clear()


def _error(status: int, code: str) -> tuple[int, dict[str, str], bytes]:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"
    return status, {"Content-Type": "application/xml"}, body.encode()


_ANSWERS = {
    500: _error(500, "InternalError"),
    503: _error(503, "SlowDown"),
    412: _error(412, "PreconditionFailed"),
    "skew": _error(403, "RequestTimeTooSkewed"),
    "timeout": _error(400, "RequestTimeout"),
    "garbage": (200, {"Content-Type": "text/html"}, b"<html>the proxy's page"),
}


def _handler(endpoint: FaultyS3) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self._chunked() if "chunked" in self._coding() else self.rfile.read(length)
            sent = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
            request = (self.command, self.path, sent, body)
            how = endpoint.fault(self.command, self.path)
            if how == "late":
                endpoint.held.append(request)
            if how in ("drop", "late"):
                self.close_connection = True
                return
            status, headers, data = _ANSWERS.get(how) or endpoint.forward(*request)
            if how == "lost answer":
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            if "Content-Length" not in headers or self.command != "HEAD":
                self.send_header("Content-Length", str(len(data)))
            else:
                self.send_header("Content-Length", headers["Content-Length"])
            self.end_headers()
            if self.command == "HEAD":
                return
            if how == "slow":
                for byte in data:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                return
            self.wfile.write(data[: len(data) // 2] if how == "cut" else data)
            self.close_connection = how == "cut"

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one  # noqa: N815 - names of http.server

        def _coding(self) -> str:
            return self.headers.get("Transfer-Encoding", "")

        def _chunked(self) -> bytes:
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


_HOP = {"transfer-encoding", "content-length", "connection", "expect", "date", "server"}


@contextmanager
def faulty_s3(host: str, port: int) -> Iterator[tuple[FaultyS3, str]]:
    """Serve a faulty endpoint in front of a real one; yields it and its URL."""
    endpoint = FaultyS3((host, port))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(endpoint))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield endpoint, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
