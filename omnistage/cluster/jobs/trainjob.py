"""TrainJob (trainer.kubeflow.org/v1alpha1) of Kubeflow Trainer 2.2 and newer."""

from collections.abc import Mapping
from typing import Any, ClassVar

from omnistage.cluster.api import Resource
from omnistage.cluster.jobs import pod
from omnistage.cluster.jobs.job import JOB_VERBS, ClusterJob, JobStatus, Phase, Right
from omnistage.cluster.settings import LaunchSettings
from omnistage.errors import InputError

_MANAGER = "omnistage.dev/launcher"
_RUNTIMES = Resource("trainer.kubeflow.org", "v1alpha1", "trainingruntimes")
_ENDS: dict[str, Phase] = {"Complete": "succeeded", "Failed": "failed"}


def _node(job: ClusterJob) -> dict[str, Any]:
    """Return what is put over the runtime's pods."""
    return {
        "serviceAccountName": job.settings.service_account,
        "securityContext": pod.pod_security(job),
        **pod.placement(job),
        **pod.pull_secrets(job),
        "containers": [
            {
                "name": "node",
                "volumeMounts": pod.volume_mounts(job),
                "securityContext": pod.container_security(job),
            }
        ],
        "volumes": pod.volumes(job),
    }


class TrainJobs:
    """Renders TrainJobs and reads their status.

    A TrainJob cannot set a pod's restart policy, its Job's back-off limit or whether it gets a
    token: the TrainingRuntime ``omnistage``, which the chart installs, does.
    """

    name = "trainjob"
    group = "trainer.kubeflow.org"
    version = "v1alpha1"
    plural = "trainjobs"
    kind = "TrainJob"
    custom_resources: ClassVar[Mapping[str, str]] = {
        "trainjobs.trainer.kubeflow.org": "v1alpha1",
        "jobsets.jobset.x-k8s.io": "v1alpha2",
    }
    operator = "trainer-controller-manager"
    install = "Kubeflow Trainer 2.2 or newer (or set cluster.backend: pytorchjob)"
    rights = (
        Right("trainer.kubeflow.org", "trainjobs", JOB_VERBS),
        Right("trainer.kubeflow.org", "trainingruntimes", ("get",)),
    )

    def render(self, job: ClusterJob) -> dict[str, Any]:
        """Return the manifest.

        Raises:
            InputError: For a setting that a TrainJob has no field for.
        """
        settings = job.settings
        for name in ("scheduler", "priority_class"):
            if getattr(settings, name):
                raise InputError(
                    f"cluster.{name}: a TrainJob has no field for it; leave it out, set it in the "
                    f"TrainingRuntime {settings.training_runtime!r}, or use backend pytorchjob"
                )
        template = {"metadata": pod.pod_metadata(job), "spec": _node(job)}
        patch = {"name": "node", "template": {"spec": {"template": template}}}
        spec: dict[str, Any] = {
            "runtimeRef": {
                "apiGroup": self.group,
                "kind": "TrainingRuntime",
                "name": settings.training_runtime,
            },
            "activeDeadlineSeconds": settings.run_timeout,
            "trainer": {
                "image": job.image,
                "command": list(job.command),
                "env": pod.environment(job),
                "numNodes": settings.nodes,
                "numProcPerNode": settings.gpus_per_node or 1,
                "resourcesPerNode": pod.resources(job),
            },
            "runtimePatches": [
                {
                    "manager": _MANAGER,
                    "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [patch]}}},
                }
            ],
        }
        if settings.queue:
            spec["suspend"] = True  # Kueue starts it
        return pod.with_hash(
            {
                "apiVersion": f"{self.group}/{self.version}",
                "kind": self.kind,
                "metadata": pod.metadata(job),
                "spec": spec,
            }
        )

    def status(self, manifest: Mapping[str, Any]) -> JobStatus:
        """Return what the conditions and the counts of its Jobs say."""
        status = manifest.get("status", {})
        true = {c["type"]: c for c in status.get("conditions") or [] if c["status"] == "True"}
        for kind, phase in _ENDS.items():
            if kind in true:
                found = true[kind]
                return JobStatus(phase, found.get("reason", ""), found.get("message", ""))
        if "Suspended" in true or manifest["spec"].get("suspend"):
            found = true.get("Suspended", {})
            return JobStatus("queued", found.get("reason", ""), found.get("message", ""))
        jobs = status.get("jobsStatus") or []
        ready = any(j["name"] == "node" and (j.get("ready") or j.get("succeeded")) for j in jobs)
        return JobStatus("running" if ready else "pending")

    def pod_selector(self, name: str) -> str:
        """Return JobSet's own label of a job's pods; the JobSet has the TrainJob's name."""
        return f"jobset.sigs.k8s.io/jobset-name={name}"

    def node_rank(self, pod: Mapping[str, Any]) -> int:
        """Return the completion index of the pod in its indexed Job."""
        return int(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"])

    def runtime(self, settings: LaunchSettings) -> tuple[Resource, str]:
        """Return the TrainingRuntime that the settings name."""
        return _RUNTIMES, settings.training_runtime


BACKEND = TrainJobs()
