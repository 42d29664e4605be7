"""Rendering the charts of this repository with the pinned helm."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.on_cluster.harness import tools
from tests.on_cluster.harness.cluster import REPOSITORY

CHARTS = REPOSITORY / "charts"
APPLICATION = CHARTS / "omnistage"
CLOUDS = ("gke", "eks", "aks", "bare-metal")
KUEUE_API = "kueue.x-k8s.io/v1beta1/ClusterQueue"

EVERYTHING: dict[str, Any] = {
    "image": {
        "launcher": {
            "repository": "registry.example.org/omnistage/launcher",
            "digest": "sha256:" + "0123456789abcdef" * 4,
        },
        "pullSecrets": ["registry"],
    },
    "serviceAccounts": {"launcher": {"annotations": {"example.org/role": "omnistage"}}},
    "rbac": {
        "launchers": [{"name": "pipeline-runner", "namespace": "kubeflow"}, {"name": "editor"}],
        "clusterReader": True,
    },
    "store": {
        "env": {"AWS_MAX_ATTEMPTS": "5"},
        "volume": {"enabled": True, "storageClass": "nfs", "volumeName": "results"},
    },
    "hub": {"secret": "omnistage-hub"},
    "launch": {
        "settings": {
            "rdma": {"rdma/ib": 8},
            "volumes": [{"claim": "models", "mount_path": "/models", "read_only": True}],
        },
        "policy": {"own_rewards": False, "env": ["NCCL_*"]},
    },
    "trainingRuntime": {"create": True},
    "queue": {"create": True},
    "networkPolicy": {
        "apiServerCIDRs": ["10.0.0.1/32", "fd00::1/128"],
        "refusedCIDRs": ["10.96.0.0/12", "fd00:96::/112"],
        "launcherEgress": [{"ports": [{"port": 988, "protocol": "TCP"}]}],
        "trainerEgress": [{"ports": [{"port": 8000, "protocol": "TCP"}]}],
    },
    "quota": {"hard": {"requests.nvidia.com/gpu": "16", "count/pytorchjobs.kubeflow.org": "20"}},
    "limitRange": {"defaultRequest": {"cpu": "100m"}, "default": {"memory": "1Gi"}},
    "priorityClasses": [{"name": "omnistage-high", "value": 100000, "description": "Urgent."}],
    "tensorboard": {"enabled": True, "image": "registry.example.org/omnistage/trainer:1"},
    "monitoring": {
        "dashboard": {"enabled": True},
        "alerts": {"enabled": True, "labels": {"release": "prometheus"}},
    },
}
"""Values that switch every part of the chart omnistage on."""


def environment() -> dict[str, str]:
    """Return variables with which helm, kubectl and kubeconform are found."""
    return {**os.environ, "PATH": f"{tools.binaries()}:{os.environ['PATH']}"}


def run(*argv: str, text: str | None = None) -> str:
    """Run a program and return its output.

    Raises:
        subprocess.CalledProcessError: With its output, if it failed.
    """
    done = subprocess.run(
        argv, input=text, env=environment(), capture_output=True, text=True, check=True
    )
    return done.stdout


def assemble(output: Path) -> Path:
    """Return the platform chart with all dependencies but the GPU operator's."""
    script = str(CHARTS / "deps.py")
    run(sys.executable, script, "--output", str(output), "--without", "gpu-operator")
    return output / "omnistage-platform"


def template(chart: Path, *arguments: str, values: dict[str, Any] | None = None) -> str:
    """Return what helm makes of a chart, as release ``omnistage`` in namespace ``team``."""
    return run(
        *("helm", "template", "omnistage", str(chart), "--namespace", "team"),
        *("--kube-version", tools.KUBERNETES, "--include-crds", *arguments, "--values", "-"),
        text=yaml.safe_dump(values or {}),
    )


def objects(rendered: str) -> list[dict[str, Any]]:
    """Return the objects of a rendering."""
    return [one for one in yaml.load_all(rendered, Loader=yaml.CSafeLoader) if one]


def own(rendered: str, chart: str) -> str:
    """Return the documents of a rendering that come from a chart's own templates."""
    parts = rendered.split("---\n")
    mine = [p.strip("\n") for p in parts if p.startswith(f"# Source: {chart}/templates/")]
    return "".join(f"---\n{part}\n" for part in mine)


def pod_specs(rendered: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the spec of every pod that a rendering makes."""
    for one in objects(rendered):
        name = f"{one['kind']}/{one['metadata']['name']}"
        if one["kind"] == "Pod":
            yield name, one["spec"]
        elif one["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            yield name, one["spec"]["template"]["spec"]
        elif one["kind"] == "CronJob":
            yield name, one["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def offences(pod: dict[str, Any]) -> list[str]:
    """Return how a pod offends against the restricted pod standard of Kubernetes 1.34.

    See kubernetes.io/docs/concepts/security/pod-security-standards; only what charts could do.
    """
    found = [f for f in ("hostNetwork", "hostPID", "hostIPC") if pod.get(f)]
    allowed = {"configMap", "downwardAPI", "emptyDir", "persistentVolumeClaim", "projected"}
    allowed |= {"csi", "ephemeral", "secret", "name"}
    found += [f"volume {key}" for v in pod.get("volumes", []) for key in set(v) - allowed]
    whole = pod.get("securityContext", {})
    for one in (*pod.get("initContainers", []), *pod["containers"]):
        context = {**whole, **one.get("securityContext", {})}
        capabilities = context.get("capabilities", {})
        rules = {
            "runAsNonRoot": context.get("runAsNonRoot") is True,
            "runAsUser": context.get("runAsUser") != 0,
            "allowPrivilegeEscalation": context.get("allowPrivilegeEscalation") is False,
            "privileged": not context.get("privileged"),
            "drop": capabilities.get("drop") == ["ALL"],
            "add": set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"},
            "seccompProfile": context.get("seccompProfile", {}).get("type")
            in ("RuntimeDefault", "Localhost"),
            "hostPort": not any(p.get("hostPort") for p in one.get("ports", [])),
        }
        found += [f"{one['name']}: {rule}" for rule, kept in rules.items() if not kept]
    return found
