"""A loopback server that takes a repository as the hub does, or refuses."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast


@dataclass
class Hub:
    """What it was given."""

    status: int = 200
    """Of every answer."""
    url: str = ""
    created: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    tokens: set[str | None] = field(default_factory=set)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""

    def do_POST(self) -> None:
        """Answer the requests that an upload consists of."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.tokens.add(self.headers.get("Authorization"))
        if self.hub.status != 200:
            self._answer({"error": "no"})
        elif self.path == "/api/repos/create":
            made = json.loads(body)
            known = ("name", "organization", "visibility")
            self.hub.created.append({key: made[key] for key in known})
            self._answer({"url": f"{self.hub.url}/me/judge", "id": "me/judge"})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            how = {"uploadMode": "regular", "shouldIgnore": False}
            asked = json.loads(body)["files"]
            self._answer({"files": [{"path": file["path"], **how} for file in asked]})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    self.hub.files[value["path"]] = base64.b64decode(value["content"])
            url = f"{self.hub.url}/me/judge/commit/1"
            self._answer({"commitUrl": url, "commitOid": "1" * 40, "commitMessage": "x"})
        else:
            self.hub.status = 404
            self._answer({"error": self.path})

    def _answer(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(self.hub.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serve_hub(hub: Hub) -> Iterator[Hub]:
    """Run a hub on a free port of the loopback interface."""
    bound = cast(type[_Handler], type("Bound", (_Handler,), {"hub": hub}))
    server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
