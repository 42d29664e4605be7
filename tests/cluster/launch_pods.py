"""Pods and events as a real API server gives them, for tests of what is made of them."""

from typing import Any

from omnistage.cluster.failures import PodView
from omnistage.errors import ErrorReport

JOB = "sft-0123456789abcdef-0"
NOON = "2026-11-21T12:00:{:02}Z"


def master(*, at: int = 0, rank: int = 0, lines: tuple[str, ...] = (), **status: Any) -> PodView:
    """Node 0's pod; ``at`` is the second after noon of its last line."""
    name = f"{JOB}-master-0" if rank == 0 else f"{JOB}-worker-{rank - 1}"
    metadata = {"name": name, "uid": f"uid-{rank}", **status.pop("metadata", {})}
    timed = [(1795262400.0 + at, line) for line in lines]
    gone, seen = status.pop("gone_at", None), status.pop("seen_at", None)
    return PodView({"metadata": metadata, "status": status}, rank, timed, gone, seen)


def worker(index: int = 0, **more: Any) -> PodView:
    return master(rank=index + 1, **more)


def terminated(code: int, second: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    """The part of a pod's status that says how its container ended."""
    end = {"exitCode": code, "reason": reason, "finishedAt": NOON.format(second)}
    if message:
        end["message"] = message
    state = {"terminated": end}
    return {
        "phase": "Succeeded" if code == 0 else "Failed",
        "containerStatuses": [{"name": "pytorch", "image": "local/x:1", "state": state}],
    }


def reported(code: int, second: int, kind: str, message: str) -> dict[str, Any]:
    """The same of a program that wrote its error into the pod's termination message."""
    report = ErrorReport(kind, code, message).to_json().decode()
    return terminated(code, second, message=report)


def running() -> dict[str, Any]:
    state = {"running": {"startedAt": NOON.format(0)}}
    return {"phase": "Running", "containerStatuses": [{"name": "pytorch", "state": state}]}


def deleted(second: int, grace: int = 30) -> dict[str, Any]:
    """Metadata of a pod whose deletion was asked for at a second after noon, plus the grace."""
    total = second + grace
    stamp = f"2026-11-21T12:{total // 60:02}:{total % 60:02}Z"
    return {"metadata": {"deletionTimestamp": stamp, "deletionGracePeriodSeconds": grace}}


def warning(about: str, reason: str, message: str) -> dict[str, Any]:
    return {"involvedObject": {"name": about}, "reason": reason, "message": message}
