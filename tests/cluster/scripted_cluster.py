"""A scripted cluster: an operator that makes the pods of jobs, and what becomes of them."""

from dataclasses import dataclass, field

from omnistage.errors import ErrorReport
from tests.cluster.scripted_api import Manifest, Server


@dataclass
class Pod:
    """What becomes of the pods of a gang, in seconds since the job was made."""

    starts: float = 2.0
    ends: float = float("inf")
    code: int = 0
    reason: str = ""
    report: ErrorReport | None = None
    """Written into the termination message."""
    lines: tuple[str, ...] = ()
    """Said one a second from the start on."""
    waiting: Manifest | None = None
    """State of the container until it starts."""
    status: Manifest = field(default_factory=dict)
    """Put into the status when it ends, such as an eviction's reason."""
    vanishes: bool = False
    """Whether the pod is deleted from outside instead of ending."""
    grace: float = 1.0
    """Seconds that it takes to end when it is deleted."""


class Cluster(Server):
    """An API server with the training operator and nodes, which act once a second.

    Args:
        gangs: What becomes of the pods of each job that is made, one after the other; the last
            one also of all that follow. Either for all nodes or one a node.
    """

    def __init__(self, *gangs: Pod | list[Pod]) -> None:
        super().__init__()
        self.gangs = list(gangs) or [Pod(ends=10)]
        self.violations: list[str] = []
        self._scripts: dict[str, tuple[Pod, float]] = {}

    def tick(self) -> None:
        """Let a second pass for everything that is not the launcher."""
        with self.changed:
            for job in self.jobs():
                self._operate(job)
            for pod in self.pods():
                self._run(pod)
            owners = {p["metadata"]["labels"]["job-uid"] for p in self.pods()}
            if len(owners) > 1:
                self.violations.append(f"pods of {len(owners)} gangs at once: {sorted(owners)}")
            self.changed.notify_all()

    def _operate(self, job: Manifest) -> None:
        spec, status = job["spec"], job.setdefault("status", {"conditions": []})
        ended = {c["type"] for c in status["conditions"]} & {"Succeeded", "Failed"}
        if ended or spec["runPolicy"].get("suspend"):
            return
        nodes = sum(r["replicas"] for r in spec["pytorchReplicaSpecs"].values())
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        for rank in range(nodes):
            kind, index = ("master", 0) if rank == 0 else ("worker", rank - 1)
            if ("pods", f"{name}-{kind}-{index}") not in self.objects:
                self._make_pod(job, rank, f"{name}-{kind}-{index}", kind, index)
        pods = [p for p in self.pods() if p["metadata"]["labels"]["job-uid"] == uid]
        failed = [p for p in pods if p["status"]["phase"] == "Failed"]
        done = [p for p in pods if p["status"]["phase"] == "Succeeded" and p["rank"] == 0]
        if failed or done:
            end = "Failed" if failed else "Succeeded"
            self._condition(job, end)
            for pod in pods:  # cleanPodPolicy: Running
                if pod["status"]["phase"] in ("Pending", "Running"):
                    self.remove("pods", pod["metadata"]["name"])
        elif all(p["status"]["phase"] == "Running" for p in pods):
            status["replicaStatuses"] = {"Master": {"active": nodes}}
            self._condition(job, "Running")

    def _condition(self, job: Manifest, kind: str) -> None:
        known = [c["type"] for c in job["status"]["conditions"]]
        if kind not in known:
            made = {"type": kind, "status": "True", "lastTransitionTime": self.stamp()}
            job["status"]["conditions"].append(made)
            self._touch(job)

    def _make_pod(self, job: Manifest, rank: int, name: str, kind: str, index: int) -> None:
        uid = job["metadata"]["uid"]
        if uid not in self.made:
            self.made.append(uid)
        gang = self.gangs[min(self.made.index(uid), len(self.gangs) - 1)]
        labels = {
            **job["metadata"]["labels"],
            "job-uid": uid,
            "training.kubeflow.org/job-name": job["metadata"]["name"],
            "training.kubeflow.org/replica-type": kind,
            "training.kubeflow.org/replica-index": str(index),
        }
        pod: Manifest = {
            "metadata": {"name": name, "labels": labels},
            "spec": {"containers": [{"name": "pytorch"}], "nodeName": f"node-{rank}"},
            "status": {"phase": "Pending", "containerStatuses": []},
            "log": [],
            "rank": rank,
        }
        script = gang[rank] if isinstance(gang, list) else gang
        made = self.put("pods", pod)
        self._scripts[made["metadata"]["uid"]] = (script, self.clock.monotonic())

    def _run(self, pod: Manifest) -> None:
        metadata = pod["metadata"]
        script, begun = self._scripts[metadata["uid"]]
        passed = self.clock.monotonic() - begun
        job = ("pytorchjobs", metadata["labels"]["training.kubeflow.org/job-name"])
        there = self.objects.get(job)
        if there is None or there["metadata"]["uid"] != metadata["labels"]["job-uid"]:
            metadata.setdefault("deletionTimestamp", self.stamp())
        if "deletionTimestamp" in metadata:
            pod["dying"] = pod.get("dying", 0) + 1
            if pod["dying"] > script.grace:
                del self.objects[("pods", metadata["name"])]
            return
        if pod["status"]["phase"] in ("Succeeded", "Failed"):
            return
        if passed >= script.ends and script.vanishes:
            del self.objects[("pods", metadata["name"])]
        elif passed >= script.ends:
            self._end_pod(pod, script)
        elif passed >= script.starts:
            pod["status"] = _status(
                "Running", {"running": {"startedAt": self.stamp(passed - script.starts)}}
            )
        elif script.waiting:
            pod["status"] = _status("Pending", {"waiting": script.waiting})
        said = int(max(min(passed, script.ends) - script.starts, 0))
        for number in range(len(pod["log"]), min(said, len(script.lines))):
            stamp = self.stamp().replace("Z", f".{number:09}Z")
            pod["log"].append(f"{stamp} {script.lines[number]}\n")

    def _end_pod(self, pod: Manifest, script: Pod) -> None:
        begun = self._scripts[pod["metadata"]["uid"]][1] + script.starts
        end: Manifest = {"exitCode": script.code, "finishedAt": self.stamp()}
        end["startedAt"] = self.stamp(self.clock.monotonic() - begun)
        end["reason"] = script.reason or ("Completed" if script.code == 0 else "Error")
        if script.report:
            end["message"] = script.report.to_json().decode()
        phase = "Failed" if script.code or script.status else "Succeeded"
        pod["status"] = {**_status(phase, {"terminated": end}), **script.status}


def _status(phase: str, state: Manifest) -> Manifest:
    return {
        "phase": phase,
        "containerStatuses": [{"name": "pytorch", "image": "local/x:1", "state": state}],
    }
