"""The body that the KFP components of all stages share.

An artifact of Kubeflow here is a small JSON file, the manifest; the bytes stay in the store. So
KFP's launcher copies kilobytes, and its cache, which compares inputs, sees content digests.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import orjson
from kfp import dsl

from omnistage.errors import ErrorReport, InputError, OmnistageError, TransientError
from omnistage.events import Events
from omnistage.files import read_jsonl, write_json
from omnistage.retry import retry
from omnistage.stage.contract import Stage
from omnistage.store.manifest import Manifest
from omnistage.store.open import open_store
from omnistage.store.uris import manifest_uri, store_uri
from omnistage.task.program import main
from omnistage.task.run_record import RunRecord, record_here

EVENTS_VARIABLE = "OMNISTAGE_EVENTS"
FORCE_VARIABLE = "OMNISTAGE_FORCE"
CACHED_ONLY_VARIABLE = "OMNISTAGE_CACHED_ONLY"
_REPORT = ("kind", "message")
_TRIES = 4
_FIRST_WAIT, _LONGEST_WAIT = 10.0, 90.0  # seconds


def run_stage(
    stage: Stage[Any],
    step: str,
    config: str,
    store: str,
    output: dsl.Artifact,
    inputs: Mapping[str, dsl.Artifact] | None = None,
    runtime: str = "{}",
    cluster: Mapping[str, Any] | None = None,
    change: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Manifest:
    """Run a stage inside its KFP task and fill in the output artifact.

    In a run on a cluster, how the stage ended is also written down for the exit task, and a
    transient error (exit code 75) is retried here: KFP's own retries depend on its installation.

    Args:
        stage: The stage.
        step: Its name in the recipe, by which the run's events, records and messages call it.
        config: Its settings, as JSON.
        store: URI of the store.
        output: Becomes the manifest, with its digest, key and counts as metadata.
        inputs: Artifacts whose files are manifests.
        runtime: How it runs here, as JSON.
        cluster: Launch settings of the run's parameters, over ``runtime``'s where not 0 or empty.
        change: Makes the settings that count from those in ``config``.

    Raises:
        SystemExit: With the stage's exit code if it fails; its message is in the log.
    """
    record = record_here(store)
    if record:
        record.note(step, "running")
    with tempfile.TemporaryDirectory() as folder:
        spec, manifest = Path(folder) / "spec.json", Path(folder) / "manifest.json"
        events = Path(os.environ.get(EVENTS_VARIABLE) or Path(folder) / "events.jsonl")
        settings = orjson.loads(config)
        try:
            values = {
                "step": step,
                **_asked(step, inputs or {}),
                "config": change(settings) if change else settings,
                "store": store,
                "runtime": _runtime(runtime, cluster or {}),
                "manifest": str(manifest),
                "events": str(events),
            }
        except OmnistageError as e:
            code = _refused(step, events, e)
        else:
            write_json(spec, values)
            code = _run(stage, step, spec, events, _TRIES if record else 1)
        ended = _ended(step, events)
        made = None if code else Manifest.from_json(manifest.read_bytes(), str(manifest))
    if record:
        _note_end(record, step, ended, made, code)
    if made is None:
        raise SystemExit(code)
    _fill_in(output, made)
    return made


def _refused(step: str, events: Path, error: OmnistageError) -> int:
    """Report that a step cannot start, and return its exit code."""
    Events(step, events).emit("failed", **asdict(ErrorReport.of(error)))
    print(f"{step}: error: {error}", file=sys.stderr, flush=True)
    return error.exit_code


def _asked(step: str, given: Mapping[str, dsl.Artifact]) -> dict[str, Any]:
    """Return what of a step's spec its inputs and this process's environment say."""
    return {
        "inputs": {name: _manifest_of(name, a) for name, a in given.items()},
        "force": _names(step, FORCE_VARIABLE),
        "cached_only": _names(step, CACHED_ONLY_VARIABLE),
        # Inputs of a stage that runs alone were not just made or checked by this run.
        "verify_inputs": any("digest" not in a.metadata for a in given.values()),
    }


def _note_end(
    record: RunRecord, step: str, ended: Mapping[str, Any], made: Manifest | None, code: int
) -> None:
    """Write down for the exit task how a step ended: from its last event, or its exit code."""
    if made is None:
        told = {"kind": "", "message": "", **{k: ended[k] for k in _REPORT if k in ended}}
        record.note(step, "failed", exit_code=code, **told)
        return
    state = "cached" if ended.get("cached") else "done"
    uri = manifest_uri(made)
    record.note(step, state, key=made.key, manifest=uri, seconds=ended.get("seconds"))


def _names(step: str, variable: str) -> bool:
    """Return whether a variable of this process, names separated by commas, has the step's."""
    return step in os.environ.get(variable, "").split(",")


def _fill_in(output: dsl.Artifact, made: Manifest) -> None:
    """Write a manifest into an artifact, with metadata for KFP's pages."""
    target = Path(output.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(made.to_json())
    counts = {f"count_{k}": v for k, v in made.counts.items() if isinstance(v, int | float | str)}
    output.metadata.update(
        {
            "digest": made.digest,
            "key": made.key,
            "uri": made.uri,
            "manifest": manifest_uri(made),
            "bytes": made.size,
            **counts,
        }
    )


def _runtime(runtime: str, cluster: Mapping[str, Any]) -> dict[str, Any]:
    """Return the runtime, with the run's parameters over its launch settings if it has any."""
    values = orjson.loads(runtime)
    if "cluster" in values:
        given = {name: value for name, value in cluster.items() if value}
        there = values["cluster"]
        values["cluster"] = {**there, "settings": {**there.get("settings", {}), **given}}
    return values


def _run(stage: Stage[Any], step: str, spec: Path, events: Path, tries: int) -> int:
    """Run a stage, again after transient errors, and return its exit code."""
    number = count(1)

    def attempt() -> int:
        attempted = next(number)
        code = main(stage, ["--spec", str(spec)])
        if code == TransientError.exit_code:
            raise TransientError(f"a transient error (try {attempted} of {tries})")
        return code

    try:
        return retry(
            attempt,
            tries=tries,
            first=_FIRST_WAIT,
            longest=_LONGEST_WAIT,
            factor=3,
            notice=Events(step, events).warn,
            quiet=0,
            clock=time,
        )
    except TransientError as e:
        return e.exit_code


def _ended(step: str, events: Path) -> dict[str, Any]:
    """Return the last event with which the step ended."""
    rows = read_jsonl(events) if events.exists() else ()
    ends = [r for r in rows if r["stage"] == step and r["event"] in {"failed", "finished"}]
    return ends[-1] if ends else {}


def _manifest_of(name: str, artifact: dsl.Artifact) -> str:
    """Return the URI, in the store, of the manifest that an input artifact holds."""
    path = Path(artifact.path)
    try:
        manifest = Manifest.from_json(path.read_bytes(), f"input {name!r}")
    except FileNotFoundError as e:
        raise InputError(f"input {name!r}: no manifest at {artifact.uri}") from e
    return manifest_uri(manifest)


def publish_report(
    manifest: Manifest,
    html: dsl.HTML,
    metrics: dsl.Metrics,
    confusion: dsl.ClassificationMetrics,
) -> None:
    """Copy the report into KFP's own artifacts.

    Args:
        manifest: Of the report.
        html: Gets its page.
        metrics: Gets the headline figure of each model with its interval.
        confusion: Gets the confusion matrix of the last model in the headline's task, if it has
            classes; an answer that cannot be read is the class ``(invalid)``.
    """
    folder = open_store(store_uri(manifest)).local(manifest)
    target = Path(html.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes((folder / "report.html").read_bytes())
    report = orjson.loads((folder / "report.json").read_bytes())
    headline = report["headline"]
    for model, value in headline["models"].items():
        metrics.log_metric(f"{model}_{headline['metric']}", value["value"])
        metrics.log_metric(f"{model}_{headline['metric']}_low", value["low"])
        metrics.log_metric(f"{model}_{headline['metric']}_high", value["high"])
    *_, last = report["tasks"][headline["task"]]["models"].values()
    if last["confusion"]:
        confusion.log_confusion_matrix(*confusion_matrix(last["confusion"]))


def confusion_matrix(table: Mapping[str, Mapping[str, int]]) -> tuple[list[str], list[list[int]]]:
    """Return classes and counts, a row for each gold answer, as KFP wants them: square.

    Args:
        table: How often each answer was said, by gold answer; under the empty text, unreadable.
    """
    said = {answer for row in table.values() for answer in row}
    classes = [*table, *sorted(said - table.keys() - {""}), *([""] if "" in said else [])]
    counts = [[table.get(gold, {}).get(answer, 0) for answer in classes] for gold in classes]
    return [name or "(invalid)" for name in classes], counts
