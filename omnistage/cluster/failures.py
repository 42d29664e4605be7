"""Why a gang of pods failed: which pod was first, what it died of, and whether to retry.

A stage's program writes its error into its pod's termination message (:class:`ErrorReport`). A pod
that died without one, for want of memory or with its node, is judged by its status and its log.
Pure functions over pods and events as the API server gives them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omnistage.cluster.api import seconds
from omnistage.errors import (
    ErrorReport,
    InputError,
    KilledError,
    LostPeerError,
    OmnistageError,
    StageFailedError,
)
from omnistage.torchrun.job import diagnose, lost_peer

_TAKEN_AWAY = {
    "Evicted",
    "NodeAffinity",
    "NodeLost",
    "NodeShutdown",
    "Preempted",
    "Preempting",
    "Shutdown",
    "Terminated",
    "UnexpectedAdmissionError",
}
"""Reasons of a pod that its node or the scheduler ended; those that start with OutOf too."""
_OVER_LIMIT = re.compile(
    r"exceeds the (total )?limit|exceeded its local ephemeral storage limit", re.IGNORECASE
)
_ERROR = re.compile(r"^(\[rank\d+\]: )?([\w.]*(Error|Exception)\b|[a-z_]+: error: )", re.MULTILINE)
_MEMORY_ADVICE = (
    "The pod used more memory than cluster.memory allows, /dev/shm (cluster.shm) included. Raise "
    "cluster.memory; or lower per_device_batch_size (the global batch stays), the number of data "
    "workers, max_pixels or video_max_pixels."
)
_DISK_ADVICE = (
    "It would happen again: raise cluster.scratch (disk for models, media and checkpoints) or "
    "cluster.shm, whichever the message names."
)


@dataclass(frozen=True)
class PodView:
    """What is known of one pod of a gang, also after the pod itself is gone."""

    manifest: Mapping[str, Any]
    """As it was last seen."""
    rank: int
    """Rank of its node."""
    lines: Sequence[tuple[float, str]] = ()
    """Last lines of its log, each with when it was written, in seconds since the epoch."""
    gone_at: float | None = None
    """When it was found to be gone, or on its way, although nothing of the job had ended it."""
    seen_at: float | None = None
    """When it was last seen with nothing asking for its end, by the API server's clock."""

    @property
    def name(self) -> str:
        """Of the pod."""
        return self.manifest["metadata"]["name"]


@dataclass(frozen=True)
class Failure:
    """How an attempt ended."""

    error: OmnistageError
    retryable: bool = False


@dataclass(frozen=True)
class _Ending:
    pod: PodView
    at: float
    what: str
    retryable: bool
    code: int | None = None
    advice: str = ""
    deleted: bool = False
    vanished: bool = False
    """Was deleted and is gone; when is not known."""
    since: float | None = None
    """The earliest that it can have ended, where :attr:`at` is only when that was found."""
    lost: bool = False
    """Died because another pod did not answer."""
    until: float = float("inf")
    """What it wrote later has another cause."""


def explain(name: str, pods: Sequence[PodView], events: Sequence[Mapping[str, Any]]) -> Failure:
    """Return why a gang failed.

    The pod that failed first is blamed: not those that lost their peers afterwards, nor those that
    were deleted when the job had failed.

    Args:
        name: Of the job.
        pods: All pods that it had.
        events: Warnings about it and its pods.
    """
    endings = [e for e in map(_ending, pods) if e]
    if not endings:
        return Failure(
            StageFailedError(f"job {name} failed and none of its pods says why{told(events)}"),
            retryable=False,
        )
    first = _first(endings)
    if first.lost:
        first = _silent_culprit(first, pods) or first
    failed = sum(not e.deleted for e in endings)
    order = " first" if failed > 1 else ""
    who = f"job {name}: node {first.pod.rank} (pod {first.pod.name})"
    said = _last_words(first.pod, first.until)
    if first.code == 2:
        return Failure(InputError(f"{said}\n({who} ended with exit code 2)"))
    warned = told([e for e in events if e["involvedObject"].get("name") in (name, first.pod.name)])
    text = f"{who} {first.what}{order}"
    together = [e.pod.name for e in endings if e.deleted and e.at == first.at and e is not first]
    if first.deleted and together:
        # A pod's deletion is known to the second only.
        text += f", and in the same second {', '.join(together)}"
    text += f"; its log ends:\n{said}" if said else "; it wrote nothing to its log"
    advice = f"\n{first.advice}" if first.advice else ""
    return Failure(StageFailedError(f"{text}{warned}{advice}"), first.retryable)


def told(events: Sequence[Mapping[str, Any]]) -> str:
    """Return the last events as lines of a message; nothing if there are none."""
    shown = list(dict.fromkeys(f"  {e.get('reason')}: {e.get('message')}" for e in events))[-5:]
    return "\nevents:\n" + "\n".join(line[:500] for line in shown) if shown else ""


def _first(endings: Sequence[_Ending]) -> _Ending:
    failed = [e for e in endings if not e.deleted]
    earliest = min((e.at for e in failed), default=float("inf"))
    missed = all(e.lost for e in failed)
    # A pod that was deleted afterwards was deleted because the job had failed.
    deleted = [e for e in endings if e.deleted and (e.at < earliest or (missed and e.vanished))]
    return min(
        [*failed, *deleted],
        key=lambda e: (e.lost, _earliest(e), _last_time(e.pod), e.pod.rank),
    )


def _earliest(ending: _Ending) -> float:
    return ending.at if ending.since is None else ending.since


def _silent_culprit(lost: _Ending, pods: Sequence[PodView]) -> _Ending | None:
    """Return the pod that wrote an error but did not end before another one missed it.

    torchrun takes its time to end the other processes of its node; by then the job has failed, and
    the pod is deleted.
    """
    until = lost.at + 1  # a pod's times are cut to seconds
    for pod in pods:
        words = _last_words(pod, until)
        if pod is not lost.pod and _ERROR.search(words) and not lost_peer(words):
            return _Ending(pod, until, "wrote an error", False, until=until)
    return None


def _last_time(pod: PodView) -> float:
    return pod.lines[-1][0] if pod.lines else 0.0


def _ending(pod: PodView) -> _Ending | None:
    """Return how a pod ended, or ``None`` if it did not end or ended well."""
    status = pod.manifest.get("status", {})
    ended = [c["state"]["terminated"] for c in containers(pod.manifest) if _terminated(c)]
    died = next((t for t in ended if t["exitCode"]), None)
    at = seconds(died.get("finishedAt")) if died else None
    deletion = _deletion(pod.manifest)
    now_or_then = at or deletion or pod.gone_at or float("inf")

    def end(what: str, retryable: bool, **more: Any) -> _Ending:
        return _Ending(pod, more.pop("at", now_or_then), what, retryable, **more)

    reason, message = status.get("reason", ""), status.get("message", "")
    disrupted = _condition(status, "DisruptionTarget")
    if reason == "Evicted" and _OVER_LIMIT.search(message):
        return end(f"was evicted: {message}", False, advice=_DISK_ADVICE)
    if disrupted:
        why = f"{disrupted.get('reason', '')}: {disrupted.get('message', '')}"
        since = seconds(disrupted.get("lastTransitionTime"))
        return end(f"was taken away ({why})", True, at=since or now_or_then)
    if reason in _TAKEN_AWAY or reason.startswith("OutOf"):
        return end(f"was taken away ({reason}: {message})", True)
    if status.get("phase") == "Unknown":
        return end("was lost with its node", True)
    if died is None:
        if deletion or pod.gone_at:
            gone = "was deleted from outside while the job ran"
            if deletion:
                return end(gone, True, at=deletion, deleted=True)
            # It went between two looks, perhaps only since the job had failed by another pod.
            since = float("-inf") if pod.seen_at is None else pod.seen_at
            return end(gone, True, at=pod.gone_at, deleted=True, vanished=True, since=since)
        return None
    code, how = died["exitCode"], died.get("reason", "")
    what = f"ended with exit code {code}" + (f" ({how})" if how not in ("", "Error") else "")
    if how == "OOMKilled":
        return end(f"ran out of memory ({what})", False, code=code, advice=_MEMORY_ADVICE)
    if how == "ContainerStatusUnknown":
        return end("was lost with its node", True)
    if how in ("StartError", "ContainerCannotRun"):
        return end(f"could not start: {died.get('message', '')}", False)
    if deletion and code in (137, 143):
        gone = f"was deleted from outside while the job ran ({what})"
        return end(gone, True, at=deletion, code=code, deleted=True)
    if code in (137, 143):
        return end(f"was killed from outside by signal {code - 128}", True, code=code)
    report = ErrorReport.parse(died.get("message", ""))
    kind = report.kind if report else ""
    lost = kind == LostPeerError.__name__ if report else code != 2 and lost_peer(_last_words(pod))
    killed = kind == KilledError.__name__
    if killed:
        what += ", since one of its processes was killed from outside"
    return end(what, code == 75 or lost or killed, code=code, lost=lost)


def containers(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the statuses of a pod's init containers and containers."""
    status = manifest.get("status", {})
    return [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]


def _terminated(container: Mapping[str, Any]) -> bool:
    return "terminated" in container.get("state", {})


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    found = (c for c in status.get("conditions") or [] if c["type"] == kind)
    return next((c for c in found if c["status"] == "True"), None)


def _deletion(manifest: Mapping[str, Any]) -> float | None:
    """Return when a pod's deletion was asked for; its time stamp is when the grace ends."""
    metadata = manifest["metadata"]
    at = seconds(metadata.get("deletionTimestamp"))
    return None if at is None else at - (metadata.get("deletionGracePeriodSeconds") or 0)


def _last_words(pod: PodView, until: float = float("inf")) -> str:
    """Return why a pod ended: the message of its program, else the end of its log."""
    ended = [c["state"]["terminated"] for c in containers(pod.manifest) if _terminated(c)]
    messages = [t.get("message", "") for t in ended if t["exitCode"]]
    if report := next(filter(None, map(ErrorReport.parse, messages)), None):
        return report.message
    lines = [line for at, line in pod.lines if at < until]
    # Without a report, the kubelet puts the end of the log there, but at most 2 KB of it.
    return diagnose("\n".join(lines or messages))
