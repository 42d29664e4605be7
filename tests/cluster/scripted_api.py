"""An API server in memory that can refuse, drop a connection and kill whoever calls it.

It takes the place of the connection pool, so that the real client with its retries is what is
tested. Time is a :class:`tests.clock.FakeClock`: it passes when the launcher waits. Objects are
what a real API server gives, as far as they are read.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from omnistage.cluster.api import Api
from tests.clock import FakeClock

NAMESPACE = "team"
Manifest = dict[str, Any]


class Killed(BaseException):
    """The launcher was killed here."""


class Response:
    """A response as urllib3 gives it."""

    def __init__(self, status: int, body: Any, now: float, headers: Mapping[str, str] = {}) -> None:
        self.status = status
        self.headers = {"Date": formatdate(now, usegmt=True), **headers}
        self.data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.chunks: Iterator[bytes] | None = None

    def stream(self, _size: int) -> Iterator[bytes]:
        yield from self.chunks or ()

    def close(self) -> None:
        pass


class Server:
    """Objects of one namespace, and what calls do to them."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Manifest] = {}
        self.clock = Clock(self)
        self.made: list[str] = []
        """Uid of each job that was made."""
        self.calls: list[str] = []
        """Of the thread that made this server: method and path."""
        self.changed = threading.Condition(threading.RLock())
        self.closed = False
        self._kill: tuple[int, str] | None = None
        self._faults: list[tuple[str, str, Callable[[], Response | None], int]] = []
        self._thread = threading.get_ident()
        self._version = 0
        self._kinds = {"pytorchjobs", "pods", "events", "workflows", "configmaps"}

    def api(self, **options: Any) -> Api:
        """Return a client."""
        client = SimpleNamespace(
            rest_client=SimpleNamespace(pool_manager=self),
            configuration=SimpleNamespace(host="https://api"),
            update_params_for_auth=lambda *_: None,
        )
        api = Api(client, options.pop("notice", lambda _: None), clock=self.clock, **options)
        api._namespace = NAMESPACE
        return api

    def close(self) -> None:
        """Let go of those who follow logs."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    # What a test makes happen

    def kill_at(self, call: int, when: str) -> None:
        """Kill the launcher ``before`` or ``after`` one of its next calls, counted from 0."""
        self._kill = (len(self.calls) + call, when)

    def kill(self) -> None:
        """Kill whoever calls: for :meth:`before`."""
        raise Killed

    def answer(self, method: str, path: str, status: int, *, times: int = 1, **more: Any) -> None:
        """Answer the next calls with a status instead of doing what they ask for."""

        def refusal() -> Response:
            body = {"message": more.get("message", "scripted")}
            return Response(status, body, self.clock.time(), more.get("headers", {}))

        self._faults.append((method, path, refusal, times))

    def drop(self, method: str, path: str, times: int = 1) -> None:
        """Do what the next calls ask for, and then drop the connection."""

        def dropped() -> None:
            raise ConnectionResetError("connection reset by peer")

        self._faults.append((f"after {method}", path, dropped, times))

    def before(self, method: str, path: str, action: Callable[[], Any], times: int = 1) -> None:
        """Have somebody else do something just before the next calls."""
        self._faults.append((method, path, lambda: action() and None, times))

    def put(self, kind: str, manifest: Manifest) -> Manifest:
        """Store an object as it is, as somebody else would."""
        metadata = manifest.setdefault("metadata", {})
        metadata.setdefault("namespace", NAMESPACE)
        metadata.setdefault("uid", f"uid-{self._version + 1}")
        metadata.setdefault("creationTimestamp", self.stamp())
        self._touch(manifest)
        self.objects[(kind, metadata["name"])] = manifest
        return manifest

    def jobs(self) -> list[Manifest]:
        return self._all("pytorchjobs")

    def pods(self) -> list[Manifest]:
        return self._all("pods")

    def warn(self, about: str, reason: str, message: str) -> None:
        """Have the cluster warn about an object."""
        event = {"metadata": {"name": f"event-{self._version}"}, "type": "Warning"}
        event |= {"involvedObject": {"name": about}, "reason": reason, "message": message}
        self.put("events", {**event, "lastTimestamp": self.stamp()})

    def stamp(self, ago: float = 0.0) -> str:
        """Return a time as Kubernetes writes it."""
        at = datetime.fromtimestamp(self.clock.time() - ago, UTC)
        return at.strftime("%Y-%m-%dT%H:%M:%SZ")

    # What the client calls

    def request(
        self, method: str, url: str, *, body: str | None = None, preload_content: bool, **_: Any
    ) -> Response:
        """Answer a call, as ``urllib3.PoolManager.request``."""
        with self.changed:
            ours = threading.get_ident() == self._thread
            path = urlsplit(url).path
            number = len(self.calls)
            if ours:
                self.calls.append(f"{method} {url.removeprefix('https://api')}")
                self._die(number, "before")
            if fault := self._fault(method, url):
                return fault
            response = self._do(method, path, parse_qs(urlsplit(url).query), body)
            self._fault(f"after {method}", url)
            if ours:
                self._die(number, "after")
            return response

    def _die(self, number: int, when: str) -> None:
        if self._kill == (number, when):
            self._kill = None
            raise Killed(self.calls[number])

    def _fault(self, method: str, url: str) -> Response | None:
        for index, (of, path, action, times) in enumerate(self._faults):
            if of == method and re.search(path, url):
                self._faults[index : index + 1] = [(of, path, action, times - 1)] * (times > 1)
                return action()
        return None

    def _do(self, method: str, path: str, query: Mapping[str, Any], body: str | None) -> Response:
        found = re.search(r"/namespaces/[^/]+/([^/]+)(?:/([^/]+))?(?:/(log))?$", path)
        assert found, path
        kind, name, log = found[1], unquote(found[2] or ""), found[3]
        if kind not in self._kinds:
            return self._refuse(404, "the server could not find the requested resource")
        if method == "POST":
            return self._create(kind, json.loads(body or ""))
        if not name:
            selector, fields = query.get("labelSelector", [""])[0], query.get("fieldSelector")
            assert fields in (None, ["type=Warning"])
            items = [o for o in self._all(kind) if _selected(o, selector)]
            return self._ok({"items": json.loads(json.dumps(items))})
        there = self.objects.get((kind, name))
        if there is None:
            return self._refuse(404, f'{kind} "{name}" not found')
        if log:
            return self._log(there, query)
        if method == "GET":
            return self._ok(there)
        change = json.loads(body or "{}")
        asked = change.get("preconditions", change.get("metadata", {}))
        for key in ("uid", "resourceVersion"):
            if asked.get(key, there["metadata"][key]) != there["metadata"][key]:
                return self._refuse(409, f"the object has been modified: {key}")
        if method == "DELETE":
            self.remove(kind, name)
            return self._ok({})
        _merge(there, change)
        self._touch(there)
        return self._ok(there)

    def _create(self, kind: str, manifest: Manifest) -> Response:
        name = manifest["metadata"]["name"]
        if (kind, name) in self.objects:
            return self._refuse(409, f'{kind} "{name}" already exists')
        self.put(kind, manifest)
        if kind == "pytorchjobs":
            self.made.append(manifest["metadata"]["uid"])
        return Response(201, manifest, self.clock.time())

    def remove(self, kind: str, name: str) -> None:
        there = self.objects[(kind, name)]
        if kind == "pods":
            there["metadata"].setdefault("deletionTimestamp", self.stamp())
            self._touch(there)
        else:
            del self.objects[(kind, name)]

    def _log(self, pod: Manifest, query: Mapping[str, Any]) -> Response:
        response = self._ok({})
        response.chunks = self._lines(pod, "follow" in query)
        return response

    def _lines(self, pod: Manifest, follow: bool) -> Iterator[bytes]:
        given = 0
        while True:
            with self.changed:
                lines, over = pod["log"][given:], "terminated" in state_of(pod)
                gone = ("pods", pod["metadata"]["name"]) not in self.objects
                if not lines and follow and not (over or gone or self.closed):
                    self.changed.wait()
                    continue
            if not lines:
                return
            given += len(lines)
            yield "".join(lines).encode()

    def _all(self, kind: str) -> list[Manifest]:
        return [o for (k, _), o in sorted(self.objects.items()) if k == kind]

    def _touch(self, manifest: Manifest) -> None:
        self._version += 1
        manifest["metadata"]["resourceVersion"] = str(self._version)

    def _ok(self, body: Any) -> Response:
        return Response(200, body, self.clock.time())

    def _refuse(self, status: int, message: str) -> Response:
        return Response(status, {"message": message}, self.clock.time())

    def tick(self) -> None:
        """Let a second pass for everything that is not the launcher."""


class Clock(FakeClock):
    """The launcher's time; the threads that follow logs do not move it."""

    def __init__(self, server: Server) -> None:
        super().__init__(tick=server.tick)
        self._server = server
        self._owner = threading.get_ident()

    def sleep(self, seconds: float, /) -> None:
        if threading.get_ident() == self._owner:
            super().sleep(seconds)
            return
        with self._server.changed:
            self._server.changed.wait(0.02)


def state_of(pod: Manifest) -> Manifest:
    """Return the state of a pod's container."""
    return next((c["state"] for c in pod["status"]["containerStatuses"]), {})


def _selected(manifest: Manifest, selector: str) -> bool:
    labels = manifest["metadata"].get("labels", {})
    wanted = [term.partition("=") for term in selector.split(",") if term]
    return all(labels.get(k) == v if equals else k in labels for k, equals, v in wanted)


def _merge(there: Any, change: Mapping[str, Any]) -> None:
    for name, value in change.items():
        if isinstance(value, dict) and isinstance(there.get(name), dict):
            _merge(there[name], value)
        else:
            there[name] = value
