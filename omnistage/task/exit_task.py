"""The exit task of a run on a cluster: cancels what the run left behind and writes a summary.

Kubeflow Pipelines ends the task of a terminated run within a second and leaves its training jobs
running, and it tells the exit task neither which task failed nor why.
"""

import sys
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from omnistage.errors import OmnistageError
from omnistage.task.run_record import SUMMARY, RunRecord, record_here

_GOOD = frozenset({"SUCCEEDED", "COMPLETE", "CACHED"})
_BAD = frozenset({"FAILED", "ERROR"})
_NO_RECORD = {
    True: "not run: taken from the cache of Kubeflow Pipelines",
    False: "not run, or its result was taken from the cache of Kubeflow Pipelines",
}


def end_run(store: str, stages: Sequence[str], state: str, message: str) -> None:
    """End a run on a cluster: cancel its jobs, write and print the summary.

    Args:
        store: URI of the store.
        stages: Names of the run's stages, in order.
        state: What Kubeflow Pipelines says of them, see :func:`run_state`.
        message: Of Kubeflow Pipelines, about what failed; often empty.

    Raises:
        SystemExit: If jobs may have been left running or the summary was not written; both are
            tried in any case.
    """
    record, wrong = record_here(store), []
    if record is None:
        raise SystemExit("exit: error: this is not a task of a run: OMNISTAGE_RUN_ID is not set")
    cancelled: list[str] = []
    try:
        cancelled = cancel_jobs(record.run)
    except OmnistageError as e:
        wrong.append(f"jobs of this run may be left running: {e}")
    found: dict[str, dict[str, Any] | None] = {}
    try:
        found = {stage: record.read(stage) for stage in stages}
    except (OmnistageError, OSError) as e:
        wrong.append(f"the stages' records cannot be read: {e}")
    summary = summarize(found, state, message, cancelled)
    try:
        record.write(SUMMARY, {"run": record.run, "time": time.time(), "wrong": wrong, **summary})
    except (OmnistageError, OSError) as e:
        wrong.append(f"the summary was not written: {e}")
    print("\n".join(describe(summary)), flush=True)
    if wrong:
        print(f"exit: error: {'; '.join(wrong)}", file=sys.stderr, flush=True)
        raise SystemExit(1)
    print(f"summary: {record.uri(SUMMARY)}", flush=True)


def cancel_jobs(run: str) -> list[str]:
    """Delete the training jobs that only this run waits for and return their names.

    Raises:
        InputError: If there is no cluster to talk to.
        OmnistageError: If the cluster does not do it.
    """
    from omnistage.cluster.api import Api
    from omnistage.cluster.gang import cancel_run

    api = Api.connect()
    return cancel_run(api, api.own_namespace(), run)


def summarize(
    records: Mapping[str, Mapping[str, Any] | None],
    state: str,
    message: str,
    cancelled: Sequence[str],
) -> dict[str, Any]:
    """Put the records of a run's stages together.

    Args:
        records: Record of each stage, in order; None for one that left none.
        state: How Kubeflow Pipelines says that the run ended.
        message: What it says about it.
        cancelled: Jobs that were deleted.

    Returns:
        ``state``; ``error`` with stage, exit code and message, or None; ``cancelled``; ``stages``.
    """
    rows = [dict(r) if r else {"stage": s, "state": "no record"} for s, r in records.items()]
    ended = run_state(state, {row["state"] for row in rows})
    if ended != "SUCCEEDED":
        for row in rows:
            row["state"] = "stopped" if row["state"] == "running" else row["state"]
    error = None if ended == "SUCCEEDED" else _error(rows, message)
    return {"state": ended, "error": error, "cancelled": list(cancelled), "stages": rows}


def run_state(state: str, stages: Collection[str]) -> str:
    """Return how a run ended: ``SUCCEEDED``, ``FAILED`` or ``CANCELED``.

    What Kubeflow Pipelines says depends on its version, and it may say ``RUNNING``: it settles the
    state of the stages as a whole after the exit task. Then the stages' own records decide.

    Args:
        state: What Kubeflow Pipelines says.
        stages: States in the stages' records.
    """
    if "failed" in stages:
        return "FAILED"
    if state in _GOOD:
        return "SUCCEEDED"
    if state.startswith("CANCEL"):
        return "CANCELED"
    return "FAILED" if state in _BAD or "running" in stages else "SUCCEEDED"


def describe(summary: Mapping[str, Any]) -> list[str]:
    """Return a summary as lines for people."""
    done = summary["state"] == "SUCCEEDED"
    lines = [f"run: {summary['state'].lower()}"]
    for row in summary["stages"]:
        text = row["state"] if row["state"] != "no record" else _NO_RECORD[done]
        lines.append(f"{row['stage']}: {text}" + (f", key {row['key']}" if "key" in row else ""))
    lines += [f"cancelled: job {name}" for name in summary["cancelled"]]
    if summary["error"]:
        error = summary["error"]
        code = f" (exit code {error['exit_code']})" if error["exit_code"] is not None else ""
        lines.append(f"error: {error['stage'] or 'run'}{code}: {error['message']}")
    return lines


def read_summary(store: str, run: str) -> dict[str, Any] | None:
    """Return the summary of a run that ended, or None where it cannot be read from here."""
    try:
        return RunRecord(store, run).read(SUMMARY)
    except (OmnistageError, OSError):
        return None


def _error(rows: Sequence[Mapping[str, Any]], message: str) -> dict[str, Any]:
    failed = [r for r in rows if r["state"] == "failed"]
    if failed:
        first = min(failed, key=lambda r: r["time"])
        return {
            "stage": first["stage"],
            "exit_code": first["exit_code"],
            "message": first["message"] or "it gave no reason; see the log of its task",
        }
    stopped = [r for r in rows if r["state"] == "stopped"]
    if stopped:
        text = "it was stopped: the run was terminated, its time was up, or its pod was lost"
        last = max(stopped, key=lambda r: r["time"])
        return {"stage": last["stage"], "exit_code": None, "message": message or text}
    text = (
        "no stage says that it failed: a pod may not have started. `kubectl describe pod` says why "
        "(image, Secret, quota, node)"
    )
    return {"stage": None, "exit_code": None, "message": message or text}
