"""PyTorchJob (kubeflow.org/v1) of the Kubeflow training operator."""

from collections.abc import Mapping
from typing import Any, ClassVar

from omnistage.cluster.jobs import pod
from omnistage.cluster.jobs.job import JOB_VERBS, ClusterJob, JobStatus, Phase, Right
from omnistage.cluster.settings import LaunchSettings

_REPLICA_TYPE = "training.kubeflow.org/replica-type"
_REPLICA_INDEX = "training.kubeflow.org/replica-index"
_ENDS: dict[str, Phase] = {"Succeeded": "succeeded", "Failed": "failed"}


class PyTorchJobs:
    """Renders PyTorchJobs and reads their status."""

    name = "pytorchjob"
    group = "kubeflow.org"
    version = "v1"
    plural = "pytorchjobs"
    kind = "PyTorchJob"
    custom_resources: ClassVar[Mapping[str, str]] = {"pytorchjobs.kubeflow.org": "v1"}
    operator = "training-operator"
    install = "the Kubeflow training operator (or set cluster.backend: trainjob)"
    rights = (Right("kubeflow.org", "pytorchjobs", JOB_VERBS),)

    def render(self, job: ClusterJob) -> dict[str, Any]:
        """Return the manifest: one Master and, for more than one node, N - 1 Workers.

        The operator restarts nothing (``Never``): a single pod that comes back cannot rejoin
        a running gang (training-operator #2000). ``cleanPodPolicy: Running`` ends a Master that
        waits for a dead Worker (#1579). The launcher restarts the whole gang.
        """
        settings = job.settings
        replicas: dict[str, Any] = {"Master": self._replica(job, 1)}
        # The webhook refuses a Worker entry with no replicas.
        if settings.nodes > 1:
            replicas["Worker"] = self._replica(job, settings.nodes - 1)
        policy: dict[str, Any] = {
            "cleanPodPolicy": "Running",
            "backoffLimit": 0,
            "activeDeadlineSeconds": settings.run_timeout,
            "ttlSecondsAfterFinished": settings.ttl,
        }
        if settings.queue:
            policy["suspend"] = True  # Kueue starts it
        if settings.scheduler:
            policy["schedulingPolicy"] = {"minAvailable": settings.nodes}
        return pod.with_hash(
            {
                "apiVersion": f"{self.group}/{self.version}",
                "kind": self.kind,
                "metadata": pod.metadata(job),
                "spec": {
                    # "auto", the default, would be one process a CPU core on a node without GPU.
                    "nprocPerNode": str(settings.gpus_per_node or 1),
                    "runPolicy": policy,
                    "pytorchReplicaSpecs": replicas,
                },
            }
        )

    def _replica(self, job: ClusterJob, count: int) -> dict[str, Any]:
        settings = job.settings
        spec: dict[str, Any] = {  # its restartPolicy is the replica's; one here gets a warning
            "serviceAccountName": settings.service_account,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": settings.stop_timeout,
            "securityContext": pod.pod_security(job),
            **pod.placement(job),
            **pod.pull_secrets(job),
            "containers": [
                {
                    "name": "pytorch",
                    "image": job.image,
                    "command": list(job.command),
                    "env": pod.environment(job),
                    "resources": pod.resources(job),
                    "volumeMounts": pod.volume_mounts(job),
                    "securityContext": pod.container_security(job),
                    "terminationMessagePath": pod.TERMINATION_LOG,
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                }
            ],
            "volumes": pod.volumes(job),
        }
        if settings.priority_class:
            spec["priorityClassName"] = settings.priority_class
        if settings.scheduler:
            spec["schedulerName"] = settings.scheduler
        template = {"metadata": pod.pod_metadata(job), "spec": spec}
        return {"replicas": count, "restartPolicy": "Never", "template": template}

    def status(self, manifest: Mapping[str, Any]) -> JobStatus:
        """Return what the conditions say; the newest true one of those that exclude each other."""
        status = manifest.get("status", {})
        true = {c["type"]: c for c in status.get("conditions") or [] if c["status"] == "True"}
        for kind, phase in _ENDS.items():
            if kind in true:
                found = true[kind]
                return JobStatus(phase, found.get("reason", ""), found.get("message", ""))
        if "Suspended" in true or manifest["spec"].get("runPolicy", {}).get("suspend"):
            found = true.get("Suspended", {})
            return JobStatus("queued", found.get("reason", ""), found.get("message", ""))
        wanted = sum(r["replicas"] for r in manifest["spec"]["pytorchReplicaSpecs"].values())
        active = sum(r.get("active", 0) for r in (status.get("replicaStatuses") or {}).values())
        found = true.get("Running", {})
        phase: Phase = "running" if found and active >= wanted else "pending"
        return JobStatus(phase, found.get("reason", ""), found.get("message", ""))

    def pod_selector(self, name: str) -> str:
        """Return the operator's own label of a job's pods."""
        return f"training.kubeflow.org/job-name={name}"

    def node_rank(self, pod: Mapping[str, Any]) -> int:
        """Return 0 for the Master and 1 + index for a Worker."""
        found = pod["metadata"]["labels"]
        return 0 if found[_REPLICA_TYPE] == "master" else 1 + int(found[_REPLICA_INDEX])

    def runtime(self, settings: LaunchSettings) -> None:
        """Return nothing: a PyTorchJob is complete by itself."""


BACKEND = PyTorchJobs()
