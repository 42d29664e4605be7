"""A loopback server that speaks the part of the KFP v2beta1 API that ``omnistage submit`` uses.

It says no as the real one does: to a package that is not one, to unknown parameters, to a STRING
given as a number, to ids it does not have. ``faults`` are what the next requests get instead of an
answer; ``script`` is what a run's tasks do from one look to the next.
"""

import json
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

API = "/apis/v2beta1"
_SHOWN = ("run_id", "display_name", "experiment_id", "state", "created_at")


class RefusedError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Server:
    """What the server has, and what it is told to do."""

    url: str = ""
    script: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """State of the run and of its tasks, look after look; the last one stays."""
    faults: list[tuple[str, str, int]] = field(default_factory=list)
    """Method, part of the path and status of requests that fail; 0 answers nothing, and -1 does
    the work first and then answers nothing."""
    requests: list[str] = field(default_factory=list)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    page: bool = True
    """Whether the user interface is served here too."""
    error: str = ""
    """KFP's own words about a run that failed."""

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> Any:
        """Return the answer to a request."""
        path = path.removeprefix(API)
        if (method, path) == ("GET", "/healthz"):
            return {"multi_user": False}
        if (method, path) == ("GET", "/experiments"):
            return {"experiments": _chosen(self.experiments, query)}
        if (method, path) == ("POST", "/experiments"):
            return self._add(self.experiments, "experiment_id", json.loads(body))
        if (method, path) == ("GET", "/pipelines"):
            return {"pipelines": _chosen(self.pipelines, query)}
        if (method, path) == ("POST", "/pipelines/upload"):
            _package(body)
            if _chosen(self.pipelines, {"filter": _equals(query["name"])}):
                raise RefusedError(409, f"pipeline {query['name']} already exists")
            return self._add(self.pipelines, "pipeline_id", {"display_name": query["name"]})
        if (method, path) == ("POST", "/pipelines/upload_version"):
            spec = _package(body)
            version = {"display_name": query["name"], "pipeline_id": query["pipelineid"]}
            return self._add(
                self.versions, "pipeline_version_id", {**version, "pipeline_spec": spec}
            )
        if method == "GET" and (found := re.fullmatch(r"/pipelines/([^/]+)/versions", path)):
            own = {i: v for i, v in self.versions.items() if v["pipeline_id"] == found[1]}
            return {"pipeline_versions": _chosen(own, query)}
        if (method, path) == ("GET", "/runs"):
            own = {
                i: r for i, r in self.runs.items() if r["experiment_id"] == query["experiment_id"]
            }
            return {"runs": _chosen(own, query)}
        if (method, path) == ("POST", "/runs"):
            return self._new_run(json.loads(body))
        if method == "GET" and (found := re.fullmatch(r"/runs/([^/]+)", path)):
            return self._look(found[1])
        raise RefusedError(404, f"no {method} {path}")

    def _add(self, where: dict[str, Any], id_name: str, item: dict[str, Any]) -> dict[str, Any]:
        made = {**item, id_name: str(uuid.uuid4()), "created_at": "2026-01-01T00:00:00Z"}
        where[made[id_name]] = made
        return made

    def _new_run(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["experiment_id"] not in self.experiments:
            raise RefusedError(404, "experiment not found")
        if asked.get("pipeline_spec"):  # of `kfp run create -f`: with a platform's part, or alone
            spec = asked["pipeline_spec"].get("pipeline_spec", asked["pipeline_spec"])
        else:
            reference = asked["pipeline_version_reference"]["pipeline_version_id"]
            if reference not in self.versions:
                raise RefusedError(404, "pipeline version not found")
            spec = self.versions[reference]["pipeline_spec"]
        declared = spec["root"]["inputDefinitions"]["parameters"]
        given = asked["runtime_config"].get("parameters", {})
        for name, value in given.items():
            if name not in declared:
                raise RefusedError(400, f"parameter {name} is not in the pipeline's inputs")
            kind = declared[name]["parameterType"]
            if not isinstance(value, str if kind == "STRING" else int):
                raise RefusedError(400, f"input parameter {name} requires type {kind}")
        missing = [n for n, d in declared.items() if not d.get("isOptional") and n not in given]
        if missing:
            raise RefusedError(
                400, f"parameter {missing[0]} is not optional, yet has neither default"
            )
        return self._add(self.runs, "run_id", {**asked, "looks": 0, "state": "PENDING"})

    def _look(self, run_id: str) -> dict[str, Any]:
        run = self.runs.get(run_id)
        if run is None:
            raise RefusedError(404, f"run {run_id} not found")
        state, tasks = self.script[min(run["looks"], len(self.script) - 1)]
        run["looks"] += 1
        run["state"] = state
        details = [{"display_name": n, "state": s} for n, s in {"root": state, **tasks}.items()]
        error = {"code": 1, "message": self.error} if self.error and state == "FAILED" else None
        shown = {n: run[n] for n in _SHOWN}
        return {**shown, "run_details": {"task_details": details}, "error": error}


@contextmanager
def serve() -> Iterator[Server]:
    """Start a server on a free port of this machine."""
    state = Server()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                state.requests.append(f"{self.command} {parts.path.removeprefix(API)}")
                fault = _fault(state, self.command, parts.path)
                if self.path == "/" and state.page:
                    return self._send(200, "<html>", "text/html; charset=utf-8")
                if fault == 0:
                    return self.connection.close()
                if fault is not None and fault > 0:
                    return self._send(fault, {"message": "told to fail"})
                try:
                    status, answer = 200, state.answer(self.command, parts.path, query, body)
                except RefusedError as e:
                    status, answer = e.status, {"message": str(e)}
            if fault == -1:
                return self.connection.close()
            return self._send(status, answer)

        do_GET = do_POST = _handle  # noqa: N815

        def _send(self, status: int, answer: Any, kind: str = "application/json") -> None:
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing on stderr."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_address[1]}"
    try:
        yield state
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def _fault(state: Server, method: str, path: str) -> int | None:
    for number, (on, part, status) in enumerate(state.faults):
        if on == method and part in path:
            del state.faults[number]
            return status
    return None


def _equals(name: str) -> str:
    return json.dumps({"predicates": [{"stringValue": name}]})


def _chosen(items: dict[str, Any], query: dict[str, str]) -> list[Any]:
    wanted = json.loads(query["filter"])["predicates"][0]["stringValue"]
    return [item for item in items.values() if item["display_name"] == wanted]


def _package(body: bytes) -> dict[str, Any]:
    """Return the pipeline of an uploaded package."""
    start = body.index(b"\r\n\r\n") + 4
    try:
        spec = next(yaml.safe_load_all(body[start : body.rindex(b"\r\n--")].decode()))
        if not {"pipelineInfo", "root", "deploymentSpec"} <= set(spec):
            raise RefusedError(400, "Failed to validate the pipeline template")
    except (yaml.YAMLError, TypeError) as e:
        raise RefusedError(400, "Failed to parse the pipeline template") from e
    return spec
