"""Runs a compiled package on the cluster as Kubeflow Pipelines would: each task is a pod.

There is no KFP back end here. The order of the tasks, their command lines, environment, volumes
and security contexts are those of the package; see ``tests/pipelines/kfp_tasks.py``.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnistage.task.run_record import RunRecord
from tests.on_cluster.harness.cluster import REPOSITORY, Cluster, ClusterError
from tests.on_cluster.site import Site
from tests.pipelines import kfp_tasks

SECONDS = 1800
"""How long a task may take."""


@dataclass(frozen=True)
class Finished:
    """A run that has ended."""

    run: str
    records: dict[str, dict[str, Any]]
    """What each stage wrote down for the exit task."""
    summary: dict[str, Any]
    """What the exit task wrote down."""
    logs: dict[str, str]
    """Log of each task's pod."""
    outputs: dict[str, Any]
    """Each task's outputs, as KFP records them."""

    @property
    def states(self) -> dict[str, str]:
        """How each stage ended: done, cached or failed."""
        return {stage: record["state"] for stage, record in self.records.items()}

    @property
    def keys(self) -> dict[str, str]:
        """The stage keys."""
        return {stage: record["key"] for stage, record in self.records.items()}


@dataclass(frozen=True)
class Kubeflow:
    """What a KFP back end has: a service account for tasks, and an artifact store.

    Attributes:
        site: Where the pods run.
        folder: Of this machine, that pods see as ``/s3``; a claim ``kfp-artifacts`` is bound to it.
        launcher: The launcher image that the nodes have.
        images: Of the packages, by digest.
    """

    site: Site
    folder: Path
    images: dict[str, str]

    def compile(self, recipe: Path, store: str, out: Path, *sets: str) -> Path:
        """Compile a recipe with ``omnistage compile`` and return the package of the pipeline."""
        images = [a for n, ref in self.images.items() for a in ("--image", f"{n}={ref}")]
        changed = [a for setting in sets for a in ("--set", setting)]
        subprocess.run(
            [
                *(sys.executable, "-m", "omnistage", "compile", str(recipe)),
                *("--store", store, "--out", str(out), *images, *changed),
            ],
            check=True,
            cwd=REPOSITORY,
            stdout=subprocess.DEVNULL,
        )
        return out / "post_training.yaml"

    def run(self, package: Path, run: str, parameters: dict[str, Any]) -> Finished:
        """Run every task as a pod, the exit task last, also when one before it fails."""
        outputs: dict[str, Any] = {}
        logs: dict[str, str] = {}
        state = "SUCCEEDED"
        store = parameters["store"]
        tasks = kfp_tasks.package_tasks(package, parameters)
        for task in tasks:
            if state == "FAILED" and not task.status:
                continue
            given = kfp_tasks.executor_input(task, f"s3://kfp/{run}", outputs, state=state)
            name = f"{run}-{task.name}"
            logs[task.name], code = self._pod(
                kfp_tasks.pod(
                    task,
                    given,
                    name=name,
                    namespace=self.site.namespace,
                    run=run,
                    artifacts={"persistentVolumeClaim": {"claimName": "kfp-artifacts"}},
                )
            )
            if code:
                state = "FAILED"
            elif not task.status:
                outputs[task.name] = kfp_tasks.read_output(given, self.folder)
        record = RunRecord(store, run)
        stages = [t.title for t in tasks if not t.status]
        found = {s: r for s in stages if (r := record.read(s)) is not None}
        return Finished(run, found, record.read("summary") or {}, logs, outputs)

    def _pod(self, pod: dict[str, Any]) -> tuple[str, int]:
        cluster: Cluster = self.site.cluster
        cluster.apply(pod)
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]

        def ended() -> dict[str, Any] | None:
            found = cluster.get("pod", name, "-n", namespace)
            return found if found["status"]["phase"] in ("Succeeded", "Failed") else None

        try:
            found = cluster.wait(f"the end of pod {name}", ended, SECONDS)
        except ClusterError as e:
            status = json.dumps(cluster.get("pod", name, "-n", namespace)["status"])
            raise ClusterError(f"{e}; its status: {status}") from e
        log = cluster.kubectl("logs", name, "-n", namespace)
        [status] = found["status"]["containerStatuses"]
        return log, status["state"]["terminated"]["exitCode"]
