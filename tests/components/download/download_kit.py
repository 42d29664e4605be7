"""A loopback server that answers as the hub does, or refuses in every way a line can fail."""

import hashlib
import random
import re
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, unquote, urlsplit

import orjson

from components.download.config import DownloadSettings
from components.download.stage import STAGE
from omnistage.events import Events
from omnistage.settings import parse_config
from omnistage.stage.contract import Outcome
from omnistage.stage.execute import execute
from omnistage.store.folder import FolderStore
from omnistage.store.uris import uri_path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "someone/some-data"
MB = 1 << 20
TRANSFER = {"workers": 4, "processes": 1, "stall_seconds": 0.4, "tries": 4}


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    Kinds: ``drop`` (closed after ``after`` bytes), ``stall`` (silent after them), ``drip`` (a byte
    now and then), ``truncate`` (a shorter file is claimed), ``corrupt`` (a byte is another),
    ``status`` (an error), ``redirect`` (to the second server), ``changed`` (another entity tag).
    """

    kind: str
    after: int = 0
    status: int = 503
    retry_after: str | None = None


@dataclass
class Served:
    """What a server has, what it does wrong, and what it was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    """URL path to bytes."""
    faults: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    """URL path to what goes wrong with the next requests, one each."""
    always: dict[str, Fault] = field(default_factory=dict)
    """URL path to what goes wrong with every request."""
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    """URL path to status and JSON."""
    no_ranges: set[str] = field(default_factory=set)
    no_length: set[str] = field(default_factory=set)
    range_status: int = 206
    """Status of a served range."""
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    """URL path to further response headers."""
    rate: float | None = None
    """Bytes per second of each connection."""
    elsewhere: "Server | None" = None
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    """What was asked for, with the query."""
    sent: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """URL path to the bytes that went out."""
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    served: Served


@contextmanager
def serve(
    served: Served, handler: "type[Handler] | None" = None, host: str = "127.0.0.1"
) -> Iterator[Server]:
    """Run a server on a free port of the loopback interface."""
    bound = cast(type[Handler], type("Bound", (handler or Handler,), {"content": served}))
    server = ThreadingHTTPServer((host, 0), bound)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Server(f"http://{host}:{server.server_port}", served)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def add_repo(
    served: Served, files: dict[str, bytes], *, lfs: bool = True, xet: Sequence[str] = ()
) -> dict[str, str]:
    """Put a data set repository on a server and return file name to URL path."""
    entries, paths = [], {}
    for name, data in files.items():
        entry: dict[str, Any] = {
            "type": "file",
            "path": name,
            "size": len(data),
            "oid": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(),
        }
        if lfs:
            sha256 = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": sha256, "size": len(data), "pointerSize": 130}
        if name in xet:
            entry["xetHash"] = "ab" * 32
        entries.append(entry)
        paths[name] = f"/datasets/{REPO}/resolve/{COMMIT}/{name}"
        served.files[paths[name]] = data
    info = {"id": REPO, "sha": COMMIT, "tags": ["license:mit"], "cardData": {"license": "mit"}}
    for revision in ("main", COMMIT):
        served.answers[f"/api/datasets/{REPO}/revision/{revision}"] = (200, info)
    served.answers[f"/api/datasets/{REPO}/tree/{COMMIT}"] = (200, entries)
    return paths


class Handler(BaseHTTPRequestHandler):
    """Answers to requests by path, with the faults asked for."""

    protocol_version = "HTTP/1.1"
    content: Served

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        """Answer a request by its path."""
        self.answer_path(unquote(urlsplit(self.path).path), body)

    def answer_path(self, path: str, body: bool) -> None:
        """Answer with the file, or the JSON, or the fault of a path."""
        content = self.content
        with content.lock:
            content.requests.append((path, dict(self.headers)))
            content.addresses.append(self.path)
            queued = content.faults.get(path)
            fault = queued.pop(0) if queued else content.always.get(path)
        if fault and fault.kind == "status":
            self._json(fault.status, {"error": "asked to fail"}, fault.retry_after)
        elif fault and fault.kind == "redirect":
            assert content.elsewhere is not None
            self.send_response(302)
            self.send_header("Location", content.elsewhere.url + quote(path))
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif path in content.files:
            self._file(path, content.files[path], fault, body)
        elif path in content.answers:
            self._json(*content.answers[path])
        else:
            self._json(404, {"error": "not found"})

    def _json(self, status: int, value: Any, retry_after: str | None = None) -> None:
        data = orjson.dumps(value)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        if retry_after is not None:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def _file(self, path: str, data: bytes, fault: Fault | None, body: bool) -> None:
        kind = fault.kind if fault else ""
        etag = hashlib.md5(data).hexdigest() + ("-changed" if kind == "changed" else "")
        if kind == "truncate":
            data = data[: len(data) // 2]
        start, end = 0, len(data)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and path not in self.content.no_ranges:
            start = int(asked[1])
            end = min(end, int(asked[2]) + 1) if asked[2] else end
            if start >= len(data):
                self._json(416, {"error": "range"})
                return
            self.send_response(self.content.range_status)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("ETag", f'"{etag}"')
        for name, value in self.content.headers.get(path, {}).items():
            self.send_header(name, value)
        if path in self.content.no_length:
            self.close_connection = True
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if body:
            piece = bytearray(data[start:end])
            if kind == "corrupt" and piece:
                piece[len(piece) // 2] ^= 1
            self._body(path, bytes(piece), fault)

    def _body(self, path: str, data: bytes, fault: Fault | None) -> None:
        kind = fault.kind if fault else ""
        stop = fault.after if fault and kind in ("drop", "stall", "drip") else len(data)
        try:
            for at in range(0, min(stop, len(data)), 1 << 16):
                piece = data[at : min(at + (1 << 16), stop)]
                self.wfile.write(piece)
                with self.content.lock:
                    self.content.sent[path] += len(piece)
                if self.content.rate:
                    time.sleep(len(piece) / self.content.rate)
            if kind == "drop" and len(data) > stop:
                self.close_connection = True
            if kind in ("stall", "drip"):
                for at in range(stop, stop + 200):
                    time.sleep(0.05)
                    if kind == "drip":
                        self.wfile.write(data[at : at + 1])
                self.close_connection = True
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


def wav(seconds: float = 0.1, rate: int = 8000) -> bytes:
    """Return a silent sound of one channel."""
    frames = bytes(2 * int(seconds * rate))
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(frames), b"WAVE", b"fmt ", 16, 1, 1,
                       rate, rate * 2, 2, 16)  # fmt: skip
    return head + struct.pack("<4sI", b"data", len(frames)) + frames


def png(width: int = 4, height: int = 3) -> bytes:
    """Return a white image."""
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(out, "png")
    return out.getvalue()


def clip(path: Path, sound: bool, pixel_aspect: int = 1) -> bytes:
    """Return a clip of 8 frames of 32 x 16 pixels at 4 frames a second."""
    import av
    import numpy as np

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(pixel_aspect)
        track = container.add_stream("aac", rate=8000) if sound else None
        for _ in range(8):
            frame = av.VideoFrame.from_ndarray(np.zeros((16, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if track:
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp",
                                                 layout="mono")  # fmt: skip
            samples.sample_rate = 8000
            container.mux(track.encode(samples))
            container.mux(track.encode())
    return path.read_bytes()


class Heard(Events):
    """Events that remember the warnings."""

    def __init__(self) -> None:
        super().__init__("download", echo=False)
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Keep a warning."""
        self.warnings.append(text)


def noise(size: int, seed: int = 0) -> bytes:
    """Return bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def download(
    tmp_path: Path, *sources: dict[str, Any], events: Events | None = None, **settings: Any
) -> Outcome:
    """Run the stage into a store below ``tmp_path``."""
    values = {"sources": list(sources), "transfer": TRANSFER, **settings}
    config = parse_config(DownloadSettings, values, "data").resolve()
    return execute(STAGE, config, {}, FolderStore(tmp_path / "store"), events=events)


def https(server, *names: str, **fields: Any) -> dict[str, Any]:
    """Return an https source of files on a server."""
    files = [{"url": f"{server.url}/{name}", **fields} for name in names]
    return {"type": "https", "files": files}


def content(outcome: Outcome) -> Path:
    """Return the folder of the artifact's files."""
    return uri_path(outcome.manifest.uri)


def unstored(tmp_path: Path) -> bool:
    """Whether the store has nothing under a final name."""
    home = tmp_path / "store" / "download"
    return not any(p for p in home.iterdir() if not p.name.startswith("."))
