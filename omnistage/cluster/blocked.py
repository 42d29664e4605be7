"""Why the pods of a gang do not start: images, secrets, quotas and admission.

Pure over pods and events as the API server gives them, but for remembering since when.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from omnistage.cluster.failures import Failure, containers, told
from omnistage.errors import InputError, StageFailedError

_IMAGE = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
}
_NO_SUCH_IMAGE = re.compile(
    r"not found|manifest unknown|name unknown|repository does not exist|unauthorized|forbidden"
    r"|denied|authentication required|invalid reference|couldn't parse|no match for platform"
    r"|not present with pull policy",
    re.IGNORECASE,
)
_CONFIG = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
_REFUSED = re.compile(r"is forbidden|denied the request|is invalid:|violates PodSecurity")
_QUOTA = re.compile(r"exceeded quota: ([^,\s]+)")
_NO_SUCH_VOLUME = re.compile(r'(persistentvolumeclaim|secret|configmap) "[^"]+" not found')
_PULL_SECONDS = 60.0
"""How long a registry may fail to answer."""
_SETTLE_SECONDS = 20.0
"""For what may right itself: a quota that still counts the last gang, a Secret just being made."""


class StartWatch:
    """Looks at pods that have not started and says which never will.

    Args:
        name: Of the job.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._since: dict[str, float] = {}

    def look(
        self,
        pods: Sequence[Mapping[str, Any]],
        expected: int,
        events: Sequence[Mapping[str, Any]],
        now: float,
    ) -> Failure | None:
        """Return why the gang cannot start, or ``None`` as long as it may.

        Args:
            pods: Those it has.
            expected: Number of pods that it should have.
            events: Warnings about the job and its pods.
            now: Seconds of any clock that does not go back.
        """
        if len(pods) < expected:
            refused = self._refused(events, now)
            if refused:
                return refused
        for pod in pods:
            found = self._waiting(pod, events, now) or self._unplaceable(pod, events, now)
            if found:
                return found
        return None

    def _refused(self, events: Sequence[Mapping[str, Any]], now: float) -> Failure | None:
        for event in events:
            message = event.get("message") or ""
            if not event.get("reason", "").startswith("FailedCreate"):
                continue
            quota = _QUOTA.search(message)
            if quota:
                if self._lasts("quota", _SETTLE_SECONDS, now):
                    return _wrong(
                        f"job {self._name}: its pods are refused by the ResourceQuota "
                        f"{quota[1]!r}: {message}. Ask for fewer nodes, GPUs or memory, wait until "
                        "others are done, or have the quota raised"
                    )
            elif _REFUSED.search(message):
                return _wrong(f"job {self._name}: the cluster refuses its pods: {message}")
        return None

    def _waiting(
        self, pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]], now: float
    ) -> Failure | None:
        name = pod["metadata"]["name"]
        for container in containers(pod):
            waiting = container.get("state", {}).get("waiting") or {}
            reason, message = waiting.get("reason", ""), waiting.get("message", "")
            who = f"job {self._name}: pod {name} cannot start"
            if reason in _IMAGE:
                said = _about(name, events, "Failed") or message
                text = f"{who}: image {container['image']}: {reason}: {said}"
                if _NO_SUCH_IMAGE.search(f"{said} {message}") or reason == "InvalidImageName":
                    return _wrong(
                        f"{text}. Give an image that exists and that the nodes may pull "
                        "(cluster.image_pull_secrets)"
                    )
                if self._lasts(f"image {name}", _PULL_SECONDS, now):
                    return Failure(
                        StageFailedError(f"{text}. Can the nodes reach the image's registry?")
                    )
            elif reason in _CONFIG and self._lasts(f"config {name}", _SETTLE_SECONDS / 4, now):
                return _wrong(f"{who}: {reason}: {message}")
        return None

    def _unplaceable(
        self, pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]], now: float
    ) -> Failure | None:
        name = pod["metadata"]["name"]
        if pod.get("status", {}).get("phase") != "Pending":
            return None
        said = unscheduled(pod) or _about(name, events, "FailedMount")
        missing = _NO_SUCH_VOLUME.search(said)
        if missing and self._lasts(f"volume {name}", _SETTLE_SECONDS, now):
            return _wrong(
                f"job {self._name}: pod {name} cannot start: {missing[0]} ({said}). Make it, or "
                "name another one (cluster.volumes, cluster.store_secret, cluster.store_config)"
            )
        return None

    def _lasts(self, what: str, limit: float, now: float) -> bool:
        return now - self._since.setdefault(what, now) >= limit


def unscheduled(pod: Mapping[str, Any]) -> str:
    """Return why a pod has no node yet, in the scheduler's words; nothing if it has one."""
    for condition in pod.get("status", {}).get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("message") or condition.get("reason") or "not scheduled"
    return ""


def started(pod: Mapping[str, Any]) -> bool:
    """Return whether a pod's program has been started."""
    states = [c.get("state", {}) for c in pod.get("status", {}).get("containerStatuses") or []]
    return any("running" in s or "terminated" in s for s in states)


def ended(pod: Mapping[str, Any]) -> bool:
    """Return whether a pod's programs have all ended."""
    states = [c.get("state", {}) for c in pod.get("status", {}).get("containerStatuses") or []]
    return bool(states) and all("terminated" in s for s in states)


def waits_for(
    pods: Sequence[Mapping[str, Any]], expected: int, events: Sequence[Mapping[str, Any]]
) -> str:
    """Return in a few words what a pending gang waits for."""
    for pod in pods:
        name, why = pod["metadata"]["name"], unscheduled(pod)
        if why:
            return f"pod {name} has no node: {why}"
    for pod in pods:
        if not started(pod):
            states = [c.get("state", {}).get("waiting") or {} for c in containers(pod)]
            reasons = [f"{s['reason']} {s.get('message', '')}".strip() for s in states if s]
            return f"pod {pod['metadata']['name']} starts: {'; '.join(reasons) or 'no state yet'}"
    failed = [e for e in events if e.get("reason", "").startswith("Failed")]
    return f"{len(pods)} of {expected} pods are there{told(failed)}"


def _about(pod: str, events: Sequence[Mapping[str, Any]], reason: str) -> str:
    said = [
        e.get("message") or ""
        for e in events
        if e["involvedObject"].get("name") == pod and e.get("reason") == reason
    ]
    # Of the kubelet's "Failed to pull image …: why" and "Error: ErrImagePull", the longer one.
    return max(said, key=len, default="")


def _wrong(text: str) -> Failure:
    return Failure(InputError(text))
