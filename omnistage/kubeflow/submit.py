"""``omnistage submit``: a recipe as a run of Kubeflow Pipelines, followed to its end.

What was started is written to ``.omnistage/submits``, so that the same command, given again after
Ctrl-C or a lost connection, follows the same run. When that run has ended, it starts a new one.
"""

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
import yaml

from omnistage.cluster.api import WORKFLOWS, Api
from omnistage.cluster.gang import unfinished_jobs
from omnistage.cluster.jobs.backends import BACKENDS
from omnistage.errors import InputError, OmnistageError, machine_errors
from omnistage.events import clock
from omnistage.files import locked, read_json, write_atomic, write_json
from omnistage.kubeflow.server import PipelinesServer
from omnistage.retry import retry
from omnistage.store.uris import uri_path
from omnistage.task.exit_task import describe, read_summary, still_running
from omnistage.task.run_record import EXIT, RunRecord

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})
_WORDS = {
    "PENDING": "waiting",
    "RUNNING": "running",
    "SUCCEEDED": "done",
    "SKIPPED": "cached",
    "FAILED": "failed",
    "CANCELING": "being cancelled",
    "CANCELED": "cancelled",
    "PAUSED": "paused",
}
_CREATE_TRIES = 8
_CLUSTER_PATIENCE = 20.0
_WRONG = ("Failed", "Error")
STAND_ALONE = "kubeflow"
"""Namespace in which a KFP without users of its own runs its tasks."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Package:
    """A compiled package: its bytes are read once, and are what is parsed, named and sent."""

    data: bytes

    @property
    def digest(self) -> str:
        """The sha256 of its bytes."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def pipeline(self) -> dict[str, Any]:
        """The pipeline in it."""
        return next(yaml.safe_load_all(self.data))

    def stored(self, folder: Path) -> Path:
        """Return the file of a folder that has these bytes, named after them."""
        path = folder / f"{self.pipeline['pipelineInfo']['name']}-{self.digest[:12]}.yaml"
        if not path.exists() or path.read_bytes() != self.data:
            write_atomic(path, self.data)
        return path


@dataclass(frozen=True)
class Submission:
    """A package and where to run it."""

    package: Package
    experiment: str
    name: str | None = None
    """Of the run; by default the pipeline's with the time."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    endpoint: str | None = None
    namespace: str | None = None
    service_account: str | None = None

    def key(self) -> str:
        """Return a hash that identifies this submission: 16 hex digits."""
        parts = {
            "package": self.package.digest,
            "parameters": dict(self.parameters),
            "where": [self.endpoint, self.namespace, self.experiment, self.name],
            "service_account": self.service_account,
        }
        data = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(data).hexdigest()[:16]


def start(submission: Submission, server: PipelinesServer, home: Path, say: Say) -> str:
    """Return the id of the submission's run: the unfinished one, or a new one.

    Args:
        submission: What to run.
        server: Where.
        home: omnistage's folder, such as ``.omnistage``.
        say: Told what is done.

    Raises:
        InputError: If the server refuses the package or a parameter.
        TransientError: If it does not answer for long.
    """
    path = home.absolute() / "submits" / f"{submission.key()}.json"
    with machine_errors("writing what was submitted"), locked(path.with_suffix(".lock")):
        state = read_json(path) if path.exists() else {}
        if "run" in state:
            run = server.get_run(state["run"])
            if run is not None and run.state not in ENDED:
                say(f"run {state['name']} goes on; following it")
                return state["run"]
            state = {}
        package = submission.package
        pipeline = package.pipeline["pipelineInfo"]["name"]
        where = server.experiment(submission.experiment)
        file = package.stored(home.absolute() / "packages")
        uploaded = server.upload(file, pipeline, package.digest[:12])
        if not state:
            name = submission.name or _run_name(pipeline)
            state = {"name": name, "before": server.runs_named(where, name)}
            write_json(path, state)
        state["run"] = _create(submission, server, where, uploaded, state)
        write_json(path, state)
    say(f"run {state['name']}: started")
    return state["run"]


def follow(
    run_id: str,
    server: PipelinesServer,
    titles: Mapping[str, str],
    store: str,
    say: Say,
    poll: float = 5.0,
    namespace: str = STAND_ALONE,
) -> int:
    """Report the state of a run's tasks until it ends, and return the exit code.

    Args:
        run_id: The run.
        server: Where it runs.
        titles: Name of a task in the package to what it is called here.
        store: URI of the run's store, where its summary is.
        say: Told every change.
        poll: Seconds between two looks.
        namespace: Of the run's pods.

    Raises:
        InputError: If the run is gone.
        TransientError: If the server does not answer for long.
    """
    seen: dict[str, str] = {}
    records = _Records(store, run_id)
    began, terminated = time.monotonic(), False
    while True:
        run = server.get_run(run_id)
        if run is None:
            raise InputError(f"run {run_id}: Kubeflow Pipelines no longer has it")
        # A run that was terminated ends as FAILED, after CANCELING.
        terminated = terminated or run.state in ("CANCELING", "CANCELED")
        for title, state in _states(run, titles).items():
            if seen.get(title) != state:
                seen[title] = state
                word = _word(title, state, records, terminated, "FAILED" in seen.values())
                say(f"{clock(time.monotonic() - began)} {title}: {word}")
        if run.state in ENDED:
            return _end(run, run_id, titles, store, namespace, say)
        time.sleep(poll)


def _word(title: str, state: str, records: "_Records", terminated: bool, failed: bool) -> str:
    """Return what a user calls the state of a task."""
    if state == "FAILED" and terminated:
        return "stopped"
    if state == "SKIPPED" and (failed or terminated):
        return "not run"
    if state == "SUCCEEDED" and records.cached(title):
        return "cached"
    return _WORDS.get(state, state)


def task_titles(package: Package) -> dict[str, str]:
    """Return the tasks of a package: name in KFP to display name, the step."""
    pipeline = package.pipeline
    dags = [pipeline["root"]["dag"]]
    dags += [c["dag"] for c in pipeline["components"].values() if "dag" in c]
    titles = {name: task["taskInfo"]["name"] for dag in dags for name, task in dag["tasks"].items()}
    return {n: t for n, t in titles.items() if not n.startswith(("exit-handler", "importer"))}


def parse_parameters(given: Sequence[str], package: Package) -> dict[str, Any]:
    """Return the parameters of a run, of the types that the package declares.

    Args:
        given: Each ``name=value``.
        package: As compiled.

    Raises:
        InputError: If one is unknown or of another type.
    """
    from omnistage.recipe.errors import nearest

    declared = package.pipeline["root"]["inputDefinitions"]["parameters"]
    values: dict[str, Any] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"--param {pair}: expected name=value")
        if name not in declared:
            hint = nearest(name, declared) or f"there are {', '.join(declared)}"
            raise InputError(f"--param {name}: no such parameter; {hint}")
        if declared[name]["parameterType"] == "NUMBER_INTEGER":
            if not re.fullmatch(r"[0-9]+", text):
                raise InputError(f"--param {name}: expected a whole number, not {text!r}")
            values[name] = int(text)
        else:
            values[name] = text
    return values


def _run_name(pipeline: str) -> str:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return f"{pipeline}-{stamp}-{secrets.token_hex(2)}"


def _create(
    submission: Submission,
    server: PipelinesServer,
    experiment: str,
    version: tuple[str, str],
    state: Mapping[str, Any],
) -> str:
    """Create the run exactly once, even if the server's answer is lost."""

    def create() -> str:
        found = set(server.runs_named(experiment, state["name"])) - set(state["before"])
        if found:
            return found.pop()
        return server.create_run(
            experiment, state["name"], version, submission.parameters, submission.service_account
        )

    return retry(create, tries=_CREATE_TRIES, first=1)


def _states(run: Any, titles: Mapping[str, str]) -> dict[str, str]:
    """Return the state of each task that the run has started."""
    details = run.run_details.task_details if run.run_details else None
    return {
        titles[task.display_name]: task.state
        for task in details or []
        if task.display_name in titles and task.state
    }


class _Records:
    """The records that a run's tasks leave in its store, if the store can be read from here.

    Kubeflow Pipelines 2.17 says of a task which it took from its cache that it succeeded.

    Args:
        store: URI of the run's store.
        run: Id of the run.
    """

    def __init__(self, store: str, run: str) -> None:
        self._record = RunRecord(store, run)
        self._readable = store.startswith("s3://") or uri_path(store).is_dir()

    def cached(self, title: str) -> bool:
        """Return whether the result of a task that succeeded was there before the run."""
        if title == EXIT or not self._readable:
            return False
        try:
            found = self._record.read(title)
        except (OmnistageError, OSError):
            self._readable = False  # a store that does not answer takes its time to say so
            return False
        return found is None or found["state"] == "cached"


def _end(
    run: Any, run_id: str, titles: Mapping[str, str], store: str, namespace: str, say: Say
) -> int:
    if run.state == "SUCCEEDED":
        return 0
    summary = read_summary(store, run_id)
    if summary:
        for line in describe(summary):
            say(line)
        error = summary["error"] or {}
        return error.get("exit_code") or 1
    failed = [t for t, s in _states(run, titles).items() if s == "FAILED"] or _drivers_failed(run)
    reasons = [run.error.message] if run.error and run.error.message else []
    said, jobs = _cluster_says(run_id, namespace)
    for job in jobs:
        say(still_running(job, namespace))
    if not jobs:
        kinds = ",".join(b.plural for b in BACKENDS)
        say(
            "its training jobs, if it left any, end within a quarter of an hour where the chart's "
            f"reaper runs; `kubectl -n {namespace} get {kinds}` lists them"
        )
    say(
        "; ".join(
            [
                f"error: the run ended as {run.state}",
                *([f"failed: {', '.join(failed)}"] if failed else []),
                *dict.fromkeys([*reasons, *said]),
            ]
        )
        + f". It left no summary that can be read from here ({store}/runs/{run_id}/summary.json); "
        "the logs of its tasks are on the run's page, and its pods are those that `kubectl -n "
        f"{namespace} get pods -l pipeline/runid={run_id}` lists"
    )
    return 1


def _cluster_says(run_id: str, namespace: str) -> tuple[list[str], list[str]]:
    """Return what a run's Workflow says of its end, and its unfinished jobs, if they can be read.

    Kubeflow Pipelines does not hand on why a pod could not be made: a service account that is not
    there, a quota.
    """
    try:
        api = Api.connect(lambda _: None, _CLUSTER_PATIENCE)
        found = api.list(WORKFLOWS, namespace, labels=f"pipeline/runid={run_id}")
        statuses = [w.get("status", {}) for w in found]
        nodes = [n for s in statuses for n in (s.get("nodes") or {}).values()]
        wrong = [x.get("message") for x in [*statuses, *nodes] if x.get("phase") in _WRONG]
        said = [m for m in wrong if m and not m.startswith("child ")]
        return said[:3], unfinished_jobs(api, namespace, run_id)
    except OmnistageError:
        return [], []


def _drivers_failed(run: Any) -> list[str]:
    """Return the driver pods of Kubeflow Pipelines that failed before any task started."""
    details = run.run_details.task_details if run.run_details else None
    return [
        task.display_name
        for task in details or []
        if (task.display_name or "").endswith("-driver") and task.state == "FAILED"
    ]
