"""The exit task of a run on a cluster: cancels what the run left behind and says how it went.

Kubeflow Pipelines ends the task of a terminated run within a second and leaves its training jobs
running, and it tells the exit task neither which task failed nor why.
"""

import os
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omnistage.cluster.api import WORKFLOWS, Api
from omnistage.cluster.gang import cancel_run, unfinished_jobs
from omnistage.cluster.launch import RUN_VARIABLE, WORKFLOW_VARIABLE
from omnistage.errors import OmnistageError
from omnistage.task.run_record import SUMMARY, RunRecord, record_here

_GOOD = frozenset({"SUCCEEDED", "COMPLETE", "CACHED"})
_BAD = frozenset({"FAILED", "ERROR"})
_NO_RECORD = {True: "not run: taken from KFP's cache", False: "not run"}


@dataclass(frozen=True)
class Jobs:
    """The training jobs of a run that has ended."""

    namespace: str = ""
    cancelled: Sequence[str] = ()
    """Names of those that were deleted."""
    running: Sequence[str] = ()
    """Those that go on, as ``kind/name``."""


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
    found: dict[str, dict[str, Any] | None] = {}
    try:
        found = {stage: record.read(stage) for stage in stages}
    except (OmnistageError, OSError) as e:
        wrong.append(f"the stages' records cannot be read: {e}")
    states = {row["state"] for row in found.values() if row}
    jobs = Jobs()
    try:
        # A launcher that is still "running" now was lost, unless the run was terminated.
        jobs = end_jobs(record.run, launcher_lost="running" in states and "failed" not in states)
    except OmnistageError as e:
        wrong.append(f"jobs of this run may be left running: {e}")
    summary = summarize(found, state, message, jobs)
    try:
        record.write(SUMMARY, {"run": record.run, "time": time.time(), "wrong": wrong, **summary})
    except (OmnistageError, OSError) as e:
        wrong.append(f"the summary was not written: {e}")
    print("\n".join(describe(summary)), flush=True)
    if wrong:
        print(f"exit: error: {'; '.join(wrong)}", file=sys.stderr, flush=True)
        raise SystemExit(1)
    print(f"summary: {record.uri(SUMMARY)}", flush=True)


def end_jobs(run: str, launcher_lost: bool) -> Jobs:
    """Delete the training jobs that only this run waits for.

    When the run failed because its launcher's pod was lost, its jobs go on: a run that is submitted
    again follows them. The lease on them ends them if nobody does
    (:mod:`omnistage.cluster.lease`).

    Raises:
        InputError: If there is no cluster to talk to.
        OmnistageError: If the cluster does not do it.
    """
    api = Api.connect()
    namespace = api.own_namespace()
    before = unfinished_jobs(api, namespace, run)
    if launcher_lost and before and not _terminated(api, namespace):
        return Jobs(namespace, running=before)
    cancelled = cancel_run(api, namespace, run)
    return Jobs(namespace, cancelled, [j for j in before if j.partition("/")[2] not in cancelled])


def _terminated(api: Api, namespace: str) -> bool:
    """Return whether somebody ended this run; KFP does so by a deadline of 0 seconds."""
    found = api.get(WORKFLOWS, namespace, os.environ.get(WORKFLOW_VARIABLE) or "none")
    spec = found.get("spec", {}) if found else {"shutdown": "unknown"}
    return spec.get("activeDeadlineSeconds") == 0 or bool(spec.get("shutdown"))


def summarize(
    records: Mapping[str, Mapping[str, Any] | None], state: str, message: str, jobs: Jobs
) -> dict[str, Any]:
    """Put the records of a run's stages together.

    Args:
        records: Record of each stage, in order; None for one that left none.
        state: How Kubeflow Pipelines says that the run ended.
        message: What it says about it.
        jobs: What became of its jobs.

    Returns:
        ``state``; ``error`` with stage, kind, exit code and message, or None; ``cancelled`` and
        ``running`` jobs, and their ``namespace``; ``stages``.
    """
    rows = [dict(r) if r else {"stage": s, "state": "no record"} for s, r in records.items()]
    ended = run_state(state, {row["state"] for row in rows})
    if ended != "SUCCEEDED":
        for row in rows:
            row["state"] = "stopped" if row["state"] == "running" else row["state"]
    error = None if ended == "SUCCEEDED" else _error(rows, message, jobs.namespace)
    return {
        "state": ended,
        "error": error,
        "namespace": jobs.namespace,
        "cancelled": list(jobs.cancelled),
        "running": list(jobs.running),
        "stages": rows,
    }


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
    # A summary that an older launcher image wrote has neither.
    lines += [still_running(j, summary.get("namespace", "")) for j in summary.get("running", ())]
    if summary["error"]:
        error = summary["error"]
        code = f" (exit code {error['exit_code']})" if error["exit_code"] is not None else ""
        lines.append(f"error: {error['stage'] or 'run'}{code}: {error['message']}")
    return lines


def still_running(job: str, namespace: str) -> str:
    """Return a line about a job that goes on after its run.

    Args:
        job: As ``kind/name``.
        namespace: Where it is.
    """
    return (
        f"still running: job {job.partition('/')[2]}; a run that needs its result follows it, "
        f"`kubectl -n {namespace} delete {job}` ends it"
    )


def read_summary(store: str, run: str) -> dict[str, Any] | None:
    """Return the summary of a run that ended, or None where it cannot be read from here."""
    try:
        return RunRecord(store, run).read(SUMMARY)
    except (OmnistageError, OSError):
        return None


def _error(rows: Sequence[Mapping[str, Any]], message: str, namespace: str) -> dict[str, Any]:
    failed = [r for r in rows if r["state"] == "failed"]
    if failed:
        first = min(failed, key=lambda r: r["time"])
        return {
            "stage": first["stage"],
            "kind": first.get("kind", ""),
            "exit_code": first["exit_code"],
            "message": first["message"] or "it gave no reason; see the log of its task",
        }
    stopped = [r for r in rows if r["state"] == "stopped"]
    if stopped:
        last = max(stopped, key=lambda r: r["time"])
        stage = last["stage"]
        text = "it was stopped: the run was terminated, its time was up, or its pod was lost"
    else:
        stage = None
        where = f" -n {namespace}" if namespace else ""
        text = (
            "no stage says that it failed: a pod may not have started. "
            f"`kubectl{where} describe pod -l pipeline/runid={os.environ.get(RUN_VARIABLE, 'RUN')}`"
            " says why (image, Secret, quota, node)"
        )
    return {"stage": stage, "kind": "", "exit_code": None, "message": message or text}
