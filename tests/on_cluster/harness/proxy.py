"""A proxy in front of the real API server that spoils some of its answers.

It speaks plain HTTP on the loopback and authenticates as the cluster's administrator. Faults come
by chance, from a seed, or at a named call: there the test has the proxy hold the call, before the
API server sees it or before its answer goes back, and does what it likes meanwhile, such as
killing the caller.
"""

import contextlib
import json
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import urllib3
import yaml
from kubernetes import client, config

FAULTS = ("500", "503", "429", "410", "reset", "lost answer")
"""What may happen to a call; a lost answer is one that the API server has acted on."""
_CUT_AFTER = 4000  # bytes of a log that is streamed


@dataclass
class Hold:
    """A call that is not let through: its caller waits until it is dead, or let go."""

    method: str
    path: re.Pattern[str]
    when: Literal["before", "after"]
    reached: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)


class Proxy:
    """The proxy, listening.

    Args:
        kubeconfig: How the API server is reached.
        share: Share of the calls that a fault befalls.
        seed: Of the chance.
    """

    def __init__(self, kubeconfig: Path, share: float = 0.0, seed: int = 0) -> None:
        settings: Any = client.Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=settings)
        settings.retries = False
        settings.connection_pool_maxsize = 64
        self.upstream = client.ApiClient(settings)
        self.calls: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._share = share
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._holds: list[Hold] = []
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def write_kubeconfig(self, path: Path, namespace: str) -> Path:
        """Write the file by which a client uses this proxy."""
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "proxy", "cluster": {"server": url}}],
                    "users": [{"name": "proxy", "user": {}}],
                    "contexts": [
                        {
                            "name": "proxy",
                            "context": {
                                "cluster": "proxy",
                                "user": "proxy",
                                "namespace": namespace,
                            },
                        }
                    ],
                    "current-context": "proxy",
                }
            )
        )
        return path

    def hold(self, method: str, path: str, when: Literal["before", "after"]) -> Hold:
        """Hold the next call of a method whose path matches a regular expression."""
        hold = Hold(method, re.compile(path), when)
        with self._lock:
            self._holds.append(hold)
        return hold

    def close(self) -> None:
        """Stop listening and let go what is held."""
        for hold in self._holds:
            hold.release.set()
        self._server.shutdown()
        self._server.server_close()

    def fate(self) -> str:
        """Return the fault that befalls this call, or nothing."""
        with self._lock:
            fault = self._chance.choice(FAULTS) if self._chance.random() < self._share else ""
            self.calls["all"] += 1
            if fault:
                self.faults[fault] += 1
        return fault

    def held(self, method: str, path: str) -> Hold | None:
        """Return what holds this call, if anything does; it holds one call only."""
        with self._lock:
            for hold in self._holds:
                if hold.method == method and hold.path.search(path) and not hold.reached.is_set():
                    return hold
        return None


@contextlib.contextmanager
def proxy(kubeconfig: Path, share: float = 0.0, seed: int = 0) -> Iterator[Proxy]:
    """A proxy that is closed after use."""
    made = Proxy(kubeconfig, share, seed)
    try:
        yield made
    finally:
        made.close()


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    owner: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: the calls are counted."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.owner.fate()
        if fault == "reset":
            self._reset()
            return
        if fault.isdigit():
            self._refuse(int(fault))
            return
        hold = self.owner.held(self.command, self.path)
        if hold and hold.when == "before":
            self._wait(hold)
            return
        with self._ask(body) as response:
            if hold or fault == "lost answer":
                response.read()
                if hold:
                    self._wait(hold)
                else:
                    self._reset()
                return
            self._pass_on(response)

    @contextlib.contextmanager
    def _ask(self, body: bytes) -> Iterator[urllib3.BaseHTTPResponse]:
        upstream = self.owner.upstream
        kept = ("accept", "content-type")
        headers = {n: v for n, v in self.headers.items() if n.lower() in kept}
        upstream.update_params_for_auth(headers, [], ["BearerToken"])
        response = upstream.rest_client.pool_manager.request(
            self.command,
            upstream.configuration.host + self.path,
            headers=headers,
            body=body or None,
            preload_content=False,
            retries=False,
        )
        try:
            yield response
        finally:
            response.release_conn()

    def _pass_on(self, response: urllib3.BaseHTTPResponse) -> None:
        self.send_response_only(response.status)
        for name in ("Content-Type", "Date", "Retry-After"):
            if name in response.headers:
                self.send_header(name, response.headers[name])
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        cut = _CUT_AFTER if "/log?" in self.path and self.owner.fate() else None
        sent = 0
        for chunk in response.stream(65536):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.flush()
            sent += len(chunk)
            if cut is not None and sent > cut:
                response.close()
                self._reset()
                return
        self.wfile.write(b"0\r\n\r\n")

    def _refuse(self, status: int) -> None:
        said = {"kind": "Status", "status": "Failure", "message": "injected", "code": status}
        text = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        if status == 429:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(text)

    def _wait(self, hold: Hold) -> None:
        hold.reached.set()
        hold.release.wait()
        self._reset()

    def _reset(self) -> None:
        """Drop the connection with RST, as a load balancer does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


for _method in ("GET", "POST", "PATCH", "DELETE"):
    setattr(_Handler, f"do_{_method}", _Handler._serve)
