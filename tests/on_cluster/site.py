"""A namespace set up by the chart ``omnistage``, and the tiny recipe's inputs in its store."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from omnistage.cluster.launch import launch_stage
from omnistage.cluster.settings import ClaimMount
from omnistage.events import Events
from omnistage.recipe.document import read_recipe, validate
from omnistage.stage.contract import ClusterRuntime, Outcome
from omnistage.stage.execute import execute
from omnistage.store import s3_client
from omnistage.store.layout import Store
from omnistage.store.manifest import Manifest
from omnistage.store.open import open_store
from omnistage.swift.training.curve import read_curve
from pipelines.graph import graph_of
from pipelines.recipe import Recipe
from tests.on_cluster.harness.cluster import REPOSITORY, Cluster
from tests.on_cluster.harness.images import HOST
from tests.on_cluster.harness.storage import S3

RECIPE = Path(__file__).with_name("recipe.yaml")
CHART = REPOSITORY / "charts" / "omnistage"


@dataclass
class Site:
    """Where the tests' jobs run.

    Attributes:
        cluster: The cluster.
        namespace: Has the chart's release.
        settings: Default settings of jobs, as the chart's ConfigMap has them.
    """

    cluster: Cluster
    namespace: str
    s3: S3
    settings: dict[str, Any]
    digests: dict[str, Manifest] = field(default_factory=dict)

    def recipe(self, **sections: Mapping[str, Any]) -> Recipe:
        """Return the tests' recipe with some settings of its steps changed."""
        document = read_recipe(RECIPE)
        steps = document.values["steps"]
        for name, values in sections.items():
            steps[name] = {**steps[name], **values}
        return validate(document, Recipe).resolve()

    def run(
        self,
        recipe: Recipe,
        stage: str,
        store: str,
        inputs: Mapping[str, Manifest],
        **settings: Any,
    ) -> Outcome:
        """Run a stage: a training stage as a job, for which settings may be given."""
        cluster = ClusterRuntime(image=HOST, settings=settings)
        step = graph_of(recipe)[stage]
        return execute(
            step.stage,
            step.config,
            {name: inputs[source] for name, source in step.sources.items()},
            open_store(store),
            events=Events(stage),
            launch=partial(launch_stage, cluster=cluster) if settings else None,
        )

    def jobs(self, plural: str = "pytorchjobs") -> list[str]:
        """Return the names of the jobs in the namespace."""
        found = self.cluster.get(plural, "-n", self.namespace)["items"]
        return sorted(job["metadata"]["name"] for job in found)

    def pods(self) -> list[dict[str, Any]]:
        """Return the pods of training jobs."""
        label = "app.kubernetes.io/component=trainer"
        return self.cluster.get("pods", "-n", self.namespace, "-l", label)["items"]


def curve(store: Store, manifest: Manifest) -> list[float]:
    """Return the losses that a training logged, step by step."""
    log = store.local(manifest) / "logs" / "logging.jsonl"
    return [row["loss"] for row in read_curve(log) if "loss" in row]


def install(cluster: Cluster, namespace: str, s3: S3, mounts: list[ClaimMount], home: Path) -> Site:
    """Install the chart for pods that run this repository, and point this process at the site."""
    settings = {
        "cpu": "100m",
        "memory": "3Gi",
        "encoding_cpu": "100m",
        "encoding_memory": "3Gi",
        "shm": "256Mi",
        "scratch": "10Gi",
        "retry_delay": 1,
        "silence_timeout": 900,
        "volumes": [mount.model_dump(mode="json") for mount in mounts],
    }
    values = {
        "store": {"s3": {"endpoint": s3.url, "region": "us-east-1"}},
        "launch": {"settings": settings},
        "trainingRuntime": {"create": True},
        "networkPolicy": {"enabled": False},
    }
    path = home / "values.yaml"
    path.write_text(yaml.safe_dump(values))
    secret, _ = s3.objects(namespace)
    cluster.apply(secret)
    cluster.helm("upgrade", "--install", "omnistage", str(CHART), "-n", namespace, "-f", str(path))
    found = cluster.get("configmap", "omnistage-launch", "-n", namespace)
    defaults = home / "launch.yaml"
    defaults.write_text(found["data"]["launch.yaml"])
    kubeconfig = home / "kubeconfig"
    kubeconfig.write_text(cluster.kubeconfig.read_text())
    cluster.run(
        *("kubectl", "--kubeconfig", str(kubeconfig)),
        *("config", "set-context", "--current", f"--namespace={namespace}"),
    )
    os.environ["KUBECONFIG"] = str(kubeconfig)
    os.environ["OMNISTAGE_LAUNCH_DEFAULTS"] = str(defaults)
    os.environ["OMNISTAGE_SCRATCH"] = str(home / "scratch")
    os.environ.update({**s3.credentials, **s3.settings})
    use_s3()
    return Site(cluster, namespace, s3, yaml.safe_load(defaults.read_text()))


def use_s3() -> None:
    """Forget the client of an earlier endpoint."""
    s3_client.client.cache_clear()
