"""A hub on the loopback interface, fast enough not to be what is measured (``sendfile``).

    python -m benchmarks.loopback_hub FOLDER

serves every file of FOLDER as the data set ``bench/data`` and prints its address on the first
line. ``GET /served`` answers with the bytes sent for each file so far.
"""

import hashlib
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

REPO = "bench/data"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
_API = f"/api/datasets/{REPO}"
_FILE = f"/datasets/{REPO}/resolve/{COMMIT}/"


@contextmanager
def hub(folder: Path) -> Iterator[str]:
    """Run the hub as a process of its own and yield its address."""
    command = [sys.executable, "-m", "benchmarks.loopback_hub", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _entries(folder: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(folder.iterdir()):
        with path.open("rb") as f:
            sha256 = hashlib.file_digest(f, "sha256").hexdigest()
        size = path.stat().st_size
        lfs = {"oid": sha256, "size": size, "pointerSize": 130}
        entry = {"type": "file", "path": path.name, "size": size, "oid": sha256[:40], "lfs": lfs}
        found.append(entry)
    return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    entries: list[dict[str, Any]]
    sent: Counter[str] = Counter()
    lock = threading.Lock()

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith(_FILE):
            self._file(path.removeprefix(_FILE))
        elif path.startswith(f"{_API}/revision/") or path == _API:
            siblings = [{"rfilename": entry["path"]} for entry in self.entries]
            self._json({"id": REPO, "sha": COMMIT, "siblings": siblings, "tags": []})
        elif path == f"{_API}/tree/{COMMIT}":
            self._json(self.entries)
        elif path == "/served":
            with self.lock:
                self._json(dict(self.sent))
        else:
            self._json({"error": path}, 404)

    def _json(self, value: Any, status: int = 200) -> None:
        data = orjson.dumps(value)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def _file(self, name: str) -> None:
        entry = next(e for e in self.entries if e["path"] == name)
        start, end = 0, entry["size"]
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        self.send_response(206 if asked else 200)
        if asked:
            start = int(asked[1])
            end = int(asked[2]) + 1 if asked[2] else end
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{entry['size']}")
        self.send_header("Content-Length", str(end - start))
        self.send_header("ETag", f'"{entry["lfs"]["oid"]}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Linked-Size", str(entry["size"]))
        self.send_header("X-Linked-Etag", f'"{entry["lfs"]["oid"]}"')
        self.end_headers()
        if self.command != "GET":
            return
        with (self.folder / name).open("rb") as f:
            try:
                while start < end:
                    count = os.sendfile(
                        self.connection.fileno(), f.fileno(), start, min(1 << 20, end - start)
                    )
                    start += count
                    with self.lock:
                        self.sent[name] += count
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away: being killed is what they are here for."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def main() -> None:
    _Handler.folder = Path(sys.argv[1])
    _Handler.entries = _entries(_Handler.folder)
    server = _Server(("127.0.0.1", 0), _Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
