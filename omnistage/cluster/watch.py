"""Watch one attempt of a gang until it ends, and end it when it takes too long."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omnistage.cluster.api import EVENTS, PODS, WORKLOADS, Api, ApiError, seconds
from omnistage.cluster.blocked import StartWatch, ended, started, unscheduled, waits_for
from omnistage.cluster.claim import changed_at, runs_of
from omnistage.cluster.failures import Failure, PodView, containers, explain, told
from omnistage.cluster.jobs.job import Backend, ClusterJob, JobStatus
from omnistage.cluster.lease import RENEW_SECONDS, renew
from omnistage.cluster.pod_log import PodLog
from omnistage.errors import StageFailedError
from omnistage.events import Events, clock

_EARLY, _LATER = 1.0, 4.0
"""Seconds between two looks: while something changes, and when nothing has for a while."""
_CALM = 60.0
_EVENTS_EVERY = 5.0
_LOG_SECONDS = 15.0
"""How long the last lines of a failed gang are waited for."""
_LOST_SECONDS = 6.0
"""How long the operator may take to see that a pod is gone, and why."""
_DEADLINE = ("longer than specified deadline", "DeadlineExceeded")


class GangWatcher:
    """Watches one attempt of a gang.

    Args:
        job: What was launched.
        manifest: The job as the API server gave it.
        api: The cluster.
        backend: The job's kind.
        events: Told what the job waits for.
        say: Given the lines of node 0 as they come.
    """

    def __init__(
        self,
        job: ClusterJob,
        manifest: Mapping[str, Any],
        api: Api,
        backend: Backend,
        events: Events,
        say: Callable[[str], None],
    ) -> None:
        self._job = job
        self._name: str = manifest["metadata"]["name"]
        self._uid: str = manifest["metadata"]["uid"]
        self._created: float = seconds(manifest["metadata"]["creationTimestamp"]) or 0.0
        self._manifest = manifest
        self._api = api
        self._backend = backend
        self._events = events
        self._say = say
        self._pods: dict[str, dict[str, Any]] = {}
        """By uid, as last seen."""
        self._gone: dict[str, float] = {}
        self._alive: dict[str, float] = {}
        """When each was last seen with nothing asking for its end, by the API server's clock."""
        self._logs: dict[str, PodLog] = {}
        self._start = StartWatch(self._name)
        self._renewed = api.clock.monotonic()
        self._told = ""
        self._clock = api.clock
        self._changed = self._clock.monotonic()
        self._warnings: list[dict[str, Any]] = []
        self._warned = float("-inf")

    def wait(self) -> Failure | None:
        """Return how the attempt failed, or ``None`` when it has succeeded."""
        try:
            while True:
                over, failure = self._look()
                if over:
                    return failure
                calm = self._clock.monotonic() - self._changed > _CALM
                self._clock.sleep(_LATER if calm else _EARLY)
        finally:
            for log in self._logs.values():
                log.stop()

    def _look(self) -> tuple[bool, Failure | None]:
        manifest = self._api.get(self._backend, self._job.namespace, self._name)
        if manifest is None or manifest["metadata"]["uid"] != self._uid:
            return True, self._deleted()
        self._manifest = manifest
        if self._clock.monotonic() - self._renewed >= RENEW_SECONDS:
            renew(self._api, self._backend, manifest)
            self._renewed = self._clock.monotonic()
        status = self._backend.status(manifest)
        pods = self._see_pods()
        if status.phase == "succeeded":
            self._finish_logs()
            return True, None
        if status.phase == "failed":
            return True, self._failed(status, pods)
        if "deletionTimestamp" in manifest["metadata"]:
            return True, self._deleted()
        if status.phase == "queued":
            # Kueue may take a running job back into its queue: that its pods end is no fault.
            self._pods, self._gone = {}, {}
            failure = self._queued()
        else:
            failure = self._lost(pods) or self._slow(pods)
        return failure is not None, failure

    def _see_pods(self) -> list[dict[str, Any]]:
        """Take note of the pods that there are, follow their logs, and return them."""
        selector = self._backend.pod_selector(self._name)
        pods = self._api.list(PODS, self._job.namespace, labels=selector)
        for pod in pods:
            uid = pod["metadata"]["uid"]
            self._pods[uid] = pod
            if "deletionTimestamp" not in pod["metadata"]:
                self._alive[uid] = self._api.now()
            if started(pod) and uid not in self._logs:
                aloud = self._backend.node_rank(pod) == 0
                self._logs[uid] = PodLog(self._api, pod, self._say if aloud else _keep_quiet)
        return pods

    def _queued(self) -> Failure | None:
        said = self._kueue_says()
        self._tell(f"is queued: {said}")
        waited = self._api.now() - max(self._created, changed_at(self._manifest))
        if waited < self._job.settings.queue_timeout:
            return None
        return self._ended(
            f"has waited {clock(waited)} in queue {self._job.settings.queue!r} "
            f"(cluster.queue_timeout): {said}. Ask for less, choose another queue, or raise "
            "cluster.queue_timeout"
        )

    def _slow(self, pods: Sequence[Mapping[str, Any]]) -> Failure | None:
        """Return why a gang that is to run is ended, if it is."""
        settings = self._job.settings
        running = [p for p in pods if started(p)]
        if len(running) >= settings.nodes:
            return self._overdue(running)
        events = self._read_events()
        failure = self._start.look(pods, settings.nodes, events, self._clock.monotonic())
        if failure:
            return failure
        waits = waits_for(pods, settings.nodes, events)
        self._tell(f"is pending: {waits}")
        admitted = max(self._created, self._admitted())
        now = self._api.now()
        if any(unscheduled(p) for p in pods):
            if now - admitted < settings.queue_timeout:
                return None
            return self._ended(
                f"has waited {clock(now - admitted)} for free nodes (cluster.queue_timeout): "
                f"{waits}. Ask for fewer nodes or GPUs, choose another node pool, or raise "
                "cluster.queue_timeout"
            )
        since = max([admitted, *(_scheduled(p) for p in pods)])
        if now - since < settings.start_timeout:
            return None
        return self._ended(
            f"has not started within {clock(now - since)} (cluster.start_timeout): {waits}"
            f"{told(events)}"
        )

    def _overdue(self, pods: Sequence[Mapping[str, Any]]) -> Failure | None:
        """Return why a running gang is ended, if it is: too long, or silent."""
        settings = self._job.settings
        nodes = ", ".join(sorted({p["spec"].get("nodeName", "") for p in pods}))
        self._tell(f"runs on {nodes}")
        ran = self._api.now() - max(_began(p) for p in pods)
        if ran > settings.run_timeout + _LOST_SECONDS:
            return self._too_long()
        silent = self._clock.monotonic() - max(log.heard for log in self._logs.values())
        if silent < settings.silence_timeout:
            return None
        last = "\n".join(self._said_by_node_0()[-15:])
        return self._ended(
            f"was silent for {clock(silent)} (cluster.silence_timeout): no pod wrote a line. The "
            f"last ones of node 0 were:\n{last or '(none)'}\nIf it was at work, raise "
            "cluster.silence_timeout"
        )

    def _lost(self, pods: Sequence[Mapping[str, Any]]) -> Failure | None:
        """Return the failure of a gang that lost a pod although it runs on.

        The operator makes a new pod, which cannot rejoin a running gang.
        """
        there = {p["metadata"]["uid"] for p in pods if "deletionTimestamp" not in p["metadata"]}
        for uid, pod in self._pods.items():
            if uid not in there and started(pod):
                self._gone.setdefault(uid, self._clock.time())
        if not self._gone or self._clock.time() - min(self._gone.values()) < _LOST_SECONDS:
            return None
        return explain(self._name, self._views(), self._read_events(fresh=True))

    def _failed(self, status: JobStatus, pods: Sequence[Mapping[str, Any]]) -> Failure:
        if any(word in f"{status.reason} {status.message}" for word in _DEADLINE):
            return self._too_long()
        there = {p["metadata"]["uid"] for p in pods}
        for uid in self._pods:
            if uid not in there:
                self._gone.setdefault(uid, self._clock.time())
        self._finish_logs()
        return explain(self._name, self._views(), self._read_events(fresh=True))

    def _deleted(self) -> Failure:
        others = [run for run in runs_of(self._manifest) if run != self._job.run]
        # Another run's launcher deletes a failed job to make the next attempt.
        return Failure(
            StageFailedError(
                f"{self._backend.kind} {self._job.namespace}/{self._name} was deleted while it "
                "was waited for. If that was not meant, launch again: it goes on from the last "
                "checkpoint"
            ),
            retryable=bool(others),
        )

    def _too_long(self) -> Failure:
        last = "\n".join(self._said_by_node_0()[-15:])
        return self._ended(
            f"ran longer than {clock(self._job.settings.run_timeout)} (cluster.run_timeout); node "
            f"0 wrote last:\n{last or '(nothing)'}\nRaise cluster.run_timeout: it goes on from "
            "the last checkpoint"
        )

    def _ended(self, why: str) -> Failure:
        return Failure(StageFailedError(f"job {self._name} {why}"))

    def _views(self) -> list[PodView]:
        views = []
        for uid, pod in self._pods.items():
            log = self._logs.get(uid)
            views.append(
                PodView(
                    pod,
                    self._backend.node_rank(pod),
                    log.lines() if log else (),
                    self._gone.get(uid),
                    self._alive.get(uid),
                )
            )
        return views

    def _said_by_node_0(self) -> list[str]:
        for uid, pod in self._pods.items():
            if self._backend.node_rank(pod) == 0 and uid in self._logs:
                return [line for _, line in self._logs[uid].lines()]
        return []

    def _finish_logs(self) -> None:
        """Wait for the last lines of the programs that have ended."""
        deadline = self._clock.monotonic() + _LOG_SECONDS
        for uid, log in self._logs.items():
            if uid in self._pods and ended(self._pods[uid]):
                log.finish(max(deadline - self._clock.monotonic(), 0.0))

    def _read_events(self, fresh: bool = False) -> list[dict[str, Any]]:
        """Return the warnings about this job and what belongs to it, oldest first."""
        now = self._clock.monotonic()
        if fresh or now - self._warned >= _EVENTS_EVERY:
            self._warned = now
            found = self._api.list(EVENTS, self._job.namespace, fields="type=Warning")
            self._warnings = sorted((e for e in found if self._is_about(e)), key=_event_time)
        return self._warnings

    def _is_about(self, event: Mapping[str, Any]) -> bool:
        about = event["involvedObject"].get("name", "")
        ours = about == self._name or about.startswith(f"{self._name}-")
        # The operator warns of every job that it sets a restart policy, which is the one we set.
        if event.get("reason") == "SetPodTemplateRestartPolicy":
            return False
        # A job that had this name before may have left events.
        return ours and _event_time(event) >= self._created - 1

    def _kueue_says(self) -> str:
        try:
            workloads = self._api.list(WORKLOADS, self._job.namespace)
        except ApiError as e:
            return f"(what Kueue says cannot be read: {e})"
        for workload in workloads:
            owners = workload["metadata"].get("ownerReferences") or []
            if self._uid in [o["uid"] for o in owners]:
                conditions = workload.get("status", {}).get("conditions") or []
                said = {c["type"]: c["message"] for c in conditions if c["status"] == "False"}
                return said.get("QuotaReserved") or "Kueue has not looked at it yet"
        return "suspended, and Kueue has no Workload for it: is it running, for this kind of job?"

    def _admitted(self) -> float:
        """Return when the job was let out of its queue; 0 if it was in none."""
        conditions = self._manifest.get("status", {}).get("conditions") or []
        stamps = [c.get("lastTransitionTime") for c in conditions if c["type"] == "Suspended"]
        return max((seconds(s) or 0.0 for s in stamps), default=0.0)

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._changed = self._clock.monotonic()
            self._events.message(f"{self._name} {text}")


def _keep_quiet(line: str) -> None:
    """Take a line of another node, which is kept but not shown."""


def _scheduled(pod: Mapping[str, Any]) -> float:
    conditions = pod.get("status", {}).get("conditions") or []
    stamps = [c.get("lastTransitionTime") for c in conditions if c["type"] == "PodScheduled"]
    return max((seconds(s) or 0.0 for s in stamps), default=0.0)


def _began(pod: Mapping[str, Any]) -> float:
    """Return when a pod's program began, in seconds since the epoch."""
    states = [s for c in containers(pod) for s in c.get("state", {}).values()]
    return max((seconds(s.get("startedAt")) or 0.0 for s in states), default=0.0)


def _event_time(event: Mapping[str, Any]) -> float:
    series = event.get("series") or {}
    stamp = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return seconds(stamp or event["metadata"].get("creationTimestamp")) or 0.0
