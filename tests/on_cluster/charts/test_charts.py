"""The charts on a real API server: installed, changed, taken back, taken away; rights and pods."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from omnistage.cluster.settings import ClaimMount
from tests.on_cluster.charts import chart_kit
from tests.on_cluster.charts.chart_kit import APPLICATION, EVERYTHING
from tests.on_cluster.harness import images, storage
from tests.on_cluster.harness.cluster import Cluster, ClusterError

KINDS = (
    "serviceaccounts,roles,rolebindings,configmaps,networkpolicies,resourcequotas,limitranges,"
    "persistentvolumeclaims,deployments,services,pods,secrets"
)
CLUSTER_KINDS = "clusterroles,clusterrolebindings,priorityclasses"


def helm(cluster: Cluster, *arguments: str, values: dict[str, Any] | None = None) -> str:
    """Run helm with values from its input."""
    given = ("--values", "-") if values is not None else ()
    text = yaml.safe_dump(values) if values is not None else None
    return cluster.run("helm", *arguments, *given, text=text)


def install(cluster: Cluster, namespace: str, *arguments: str, values: dict[str, Any]) -> None:
    command = ("install", "omnistage", str(APPLICATION), "--namespace", namespace)
    helm(cluster, *command, *arguments, values=values)


def names(cluster: Cluster, kinds: str, *where: str) -> set[str]:
    """``Kind/name`` of the objects that there are."""
    found = cluster.get(kinds, *where)["items"]
    return {f"{o['kind']}/{o['metadata']['name']}" for o in found}


def launch_settings(cluster: Cluster, namespace: str) -> dict[str, Any]:
    data = cluster.get("configmap", "omnistage-launch", "-n", namespace)["data"]
    return yaml.safe_load(data["launch.yaml"])


# The life of a release


def test_install_upgrade_roll_back_and_uninstall(cluster: Cluster, namespace: str) -> None:
    where = ("-n", namespace)
    before = names(cluster, KINDS, *where)
    install(cluster, namespace, values={"store": {"s3": {"endpoint": "http://store:9000"}}})
    store = cluster.get("configmap", "omnistage-store", *where)["data"]
    assert store["AWS_ENDPOINT_URL_S3"] == "http://store:9000"
    assert "retries" not in launch_settings(cluster, namespace)

    change = {"launch": {"settings": {"retries": 5}}, "quota": {"hard": {"pods": "50"}}}
    command = ("upgrade", "omnistage", str(APPLICATION), *where)
    helm(cluster, *command, "--reuse-values", values=change)
    assert launch_settings(cluster, namespace)["retries"] == 5
    store = cluster.get("configmap", "omnistage-store", *where)["data"]
    assert store["AWS_ENDPOINT_URL_S3"] == "http://store:9000"
    assert "ResourceQuota/omnistage" in names(cluster, KINDS, *where)

    helm(cluster, "rollback", "omnistage", "1", *where)
    assert "retries" not in launch_settings(cluster, namespace)
    assert "ResourceQuota/omnistage" not in names(cluster, KINDS, *where)

    helm(cluster, "uninstall", "omnistage", *where)
    assert names(cluster, KINDS, *where) == before


@pytest.mark.usefixtures("trainer_operator", "kueue")
def test_with_everything_on_only_the_results_stay(cluster: Cluster, namespace: str) -> None:
    where = ("-n", namespace)
    # The Prometheus operator, whose PrometheusRule the alerts are, is not on this cluster.
    alerts = {"alerts": {**EVERYTHING["monitoring"]["alerts"], "enabled": False}}
    classes = [{"name": f"urgent-{namespace}", "value": 100000}]
    values = {
        **EVERYTHING,
        "monitoring": {**EVERYTHING["monitoring"], **alerts},
        "priorityClasses": classes,
    }
    before = names(cluster, KINDS, *where)
    install(cluster, namespace, values=values)
    made = names(cluster, KINDS, *where) | names(cluster, CLUSTER_KINDS)
    assert {
        "NetworkPolicy/omnistage-trainer",
        "NetworkPolicy/omnistage-launcher",
        "NetworkPolicy/omnistage-tensorboard",
        "NetworkPolicy/omnistage-reaper",
        "PersistentVolumeClaim/omnistage-store",
        f"PriorityClass/urgent-{namespace}",
        f"ClusterRole/{namespace}-omnistage-launcher-reader",
        "ConfigMap/omnistage-dashboard",
    } <= made
    extra = "trainingruntimes.trainer.kubeflow.org,localqueues.kueue.x-k8s.io"
    assert names(cluster, extra, *where) == {"TrainingRuntime/omnistage", "LocalQueue/omnistage"}
    helm(cluster, "uninstall", "omnistage", *where, "--wait")
    left = names(cluster, KINDS, *where) - before
    assert left == {"PersistentVolumeClaim/omnistage-store"}
    # What the chart makes for the whole cluster is named after the release's namespace.
    assert not [name for name in names(cluster, CLUSTER_KINDS) if namespace in name]
    assert names(cluster, extra, *where) == set()


# Rights

LAUNCHER_MAY = [
    *(("kubeflow.org/pytorchjobs", verb) for verb in ("create", "get", "list", "patch", "delete")),
    *(
        ("trainer.kubeflow.org/trainjobs", verb)
        for verb in ("create", "get", "list", "patch", "delete")
    ),
    ("/pods", "get"),
    ("/pods", "list"),
    ("/pods/log", "get"),
    ("/events", "list"),
    ("kueue.x-k8s.io/workloads", "list"),
    ("kueue.x-k8s.io/localqueues", "get"),
    ("argoproj.io/workflows", "get"),
]
NOBODY_MAY = [
    *(("/secrets", verb) for verb in ("get", "list", "watch", "create", "delete")),
    *(("/pods", verb) for verb in ("create", "delete", "patch", "update")),
    *((f"/pods/{part}", "create") for part in ("exec", "attach", "portforward", "eviction")),
    ("/configmaps", "get"),
    ("/configmaps", "patch"),
    ("/persistentvolumeclaims", "delete"),
    ("/serviceaccounts/token", "create"),
    ("/serviceaccounts", "impersonate"),
    ("apps/deployments", "create"),
    ("batch/jobs", "create"),
    ("batch/jobs", "get"),
    ("kubeflow.org/pytorchjobs", "deletecollection"),
    ("kubeflow.org/pytorchjobs", "update"),
    ("kubeflow.org/pytorchjobs/status", "get"),
    ("kubeflow.org/pytorchjobs/status", "patch"),
    ("kueue.x-k8s.io/workloads", "patch"),
    ("argoproj.io/workflows", "list"),
    ("argoproj.io/workflows", "delete"),
    ("rbac.authorization.k8s.io/roles", "escalate"),
    ("rbac.authorization.k8s.io/rolebindings", "create"),
]


def allowed(
    cluster: Cluster, account: str, namespace: str, asked: list[tuple[str, str]]
) -> set[tuple[str, str]]:
    """Ask the API server which of these things a service account, ``NAMESPACE:NAME``, may do.

    Args:
        cluster: The cluster.
        account: Who.
        namespace: Where; empty for the whole cluster.
        asked: Pairs of ``GROUP/RESOURCE[/SUBRESOURCE][=NAME]`` and verb.
    """
    reviews = []
    for what, verb in asked:
        path, _, name = what.partition("=")
        group, resource, *sub = path.split("/")
        attributes = {"group": group, "resource": resource, "verb": verb, "namespace": namespace}
        attributes |= {"name": name} if name else {}
        attributes |= {"subresource": sub[0]} if sub else {}
        reviews.append(
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": f"system:serviceaccount:{account}",
                    "groups": ["system:serviceaccounts", "system:authenticated"],
                    "resourceAttributes": attributes,
                },
            }
        )
    text = "\n".join(json.dumps(review) for review in reviews)
    said = cluster.kubectl("create", "-f", "-", "-o", "json", text=text)
    decoder, answers, at = json.JSONDecoder(), [], 0
    while at < len(said):
        answer, at = decoder.raw_decode(said, at)
        answers += answer["items"] if answer["kind"] == "List" else [answer]
        at += len(said[at:]) - len(said[at:].lstrip())
    assert len(answers) == len(asked)
    return {one for one, a in zip(asked, answers, strict=True) if a["status"]["allowed"]}


def test_a_launcher_may_do_what_it_needs_and_nothing_else(cluster: Cluster, namespace: str) -> None:
    install(cluster, namespace, values={})
    launcher = f"{namespace}:omnistage-launcher"
    asked = LAUNCHER_MAY + NOBODY_MAY
    assert allowed(cluster, launcher, namespace, asked) == set(LAUNCHER_MAY)
    assert allowed(cluster, launcher, "default", asked) == set()
    nodes = [("/nodes", "list"), ("/namespaces", "list"), ("/secrets", "list")]
    assert allowed(cluster, launcher, "", LAUNCHER_MAY + nodes) == set()


def test_a_training_pod_may_do_nothing(cluster: Cluster, namespace: str) -> None:
    install(cluster, namespace, values={})
    trainer = f"{namespace}:omnistage-trainer"
    asked = LAUNCHER_MAY + NOBODY_MAY
    assert allowed(cluster, trainer, namespace, asked) == set()
    assert allowed(cluster, trainer, "", asked) == set()


def test_kfps_runner_gets_the_launchers_rights_when_named(cluster: Cluster, namespace: str) -> None:
    runner = {"name": "pipeline-runner", "namespace": "elsewhere"}
    install(cluster, namespace, values={"rbac": {"launchers": [runner]}})
    asked = LAUNCHER_MAY + NOBODY_MAY
    assert allowed(cluster, "elsewhere:pipeline-runner", namespace, asked) == set(LAUNCHER_MAY)
    assert allowed(cluster, f"{namespace}:pipeline-runner", namespace, asked) == set()


def test_the_launchers_account_may_run_kfps_tasks_and_read_no_other_secret(
    cluster: Cluster, namespace: str
) -> None:
    """KFP's driver and Argo's executor run under it with ``submit --service-account``."""
    install(cluster, namespace, values={"rbac": {"pipelines": {"secrets": ["artifact-keys"]}}})
    launcher = f"{namespace}:omnistage-launcher"
    may = [("argoproj.io/workflowtaskresults", verb) for verb in ("create", "patch")]
    may += [("/configmaps=kfp-launcher", "get"), ("/secrets=artifact-keys", "get")]
    others = [("/secrets=omnistage-store", "get"), ("/configmaps=omnistage-launch", "get")]
    others += [("argoproj.io/workflowtaskresults", "delete"), ("/secrets=artifact-keys", "patch")]
    assert allowed(cluster, launcher, namespace, may + others + NOBODY_MAY) == set(may)
    assert allowed(cluster, f"{namespace}:omnistage-trainer", namespace, may) == set()


def test_doctor_may_look_at_nodes_only_when_that_is_switched_on(
    cluster: Cluster, namespace: str
) -> None:
    install(cluster, namespace, values={"rbac": {"clusterReader": True}})
    launcher = f"{namespace}:omnistage-launcher"
    may = [("/nodes", "list"), ("apps/deployments", "list"), ("/namespaces", "get")]
    may += [("storage.k8s.io/storageclasses", "list")]
    may += [("apiextensions.k8s.io/customresourcedefinitions", "get")]
    others = [("/nodes", "patch"), ("/secrets", "list"), ("/pods", "list")]
    assert allowed(cluster, launcher, "", may + others) == set(may)


def test_the_api_server_itself_turns_a_launcher_away(cluster: Cluster, namespace: str) -> None:
    install(cluster, namespace, values={})
    token = cluster.kubectl("create", "token", "omnistage-launcher", "-n", namespace).strip()
    # Without --kubeconfig's certificate, which would go before the token.
    server = ("--server", f"https://{cluster.address}:6443", "--insecure-skip-tls-verify")
    as_launcher = ("--kubeconfig", "/dev/null", *server, "--token", token, "-n", namespace)
    assert cluster.kubectl(*as_launcher, "get", "pods", "-o", "name") == ""
    with pytest.raises(ClusterError, match="Forbidden"):
        cluster.kubectl(*as_launcher, "get", "secrets")


# Pods


@pytest.fixture
def host_values(
    cluster: Cluster, namespace: str, host_mounts: list[ClaimMount], tmp_path: Path
) -> dict[str, Any]:
    """Values with which the chart's own pods run this repository, on a store of this machine."""
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents:
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o5)
    cluster.apply(*storage.claim(namespace, "omnistage-store", tmp_path))
    repository, tag = images.HOST.rsplit(":", 1)
    return {
        "image": {"launcher": {"repository": repository, "tag": tag}},
        "store": {"secret": "", "volume": {"enabled": True, "create": False}},
        "launch": {
            "settings": {
                "cpu": "1",
                "memory": "2Gi",
                "volumes": [m.model_dump() for m in host_mounts],
            }
        },
        "tensorboard": {
            "image": images.HOST,
            "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
        },
    }


EVENTS = """\
import sys
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter
writer = EventFileWriter(sys.argv[1])
summary = Summary(value=[Summary.Value(tag="train/loss", simple_value=0.5)])
writer.add_event(Event(wall_time=1.0, step=1, summary=summary))
writer.close()
"""


def test_tensorboard_shows_the_stores_curves_in_a_restricted_namespace(
    cluster: Cluster, namespace: str, host_values: dict[str, Any], tmp_path: Path
) -> None:
    run = [sys.executable, "-c", EVENTS, str(tmp_path / "sft" / "runs")]
    subprocess.run(run, check=True, capture_output=True)
    values = {**host_values, "tensorboard": {**host_values["tensorboard"], "enabled": True}}
    install(cluster, namespace, "--wait", "--timeout", "3m", values=values)
    service = f"/api/v1/namespaces/{namespace}/services/omnistage-tensorboard:http/proxy"
    shown = cluster.wait(
        "TensorBoard has read the run",
        lambda: json.loads(cluster.kubectl("get", "--raw", f"{service}/data/runs")),
    )
    assert shown == ["sft/runs"]


@pytest.mark.usefixtures("training_operator")
def test_helm_test_runs_doctor_in_a_restricted_namespace(
    cluster: Cluster, namespace: str, host_values: dict[str, Any]
) -> None:
    install(cluster, namespace, values={**host_values, "rbac": {"clusterReader": True}})
    said = helm(cluster, "test", "omnistage", "-n", namespace, "--logs", "--timeout", "3m")
    assert "Phase:          Succeeded" in said
    right = {line.split()[1] for line in said.splitlines() if line.startswith("ok ")}
    assert {"api", "namespace", "settings", "crd", "operator", "gpus", "rbac", "store"} <= right
    assert names(cluster, "pods", "-n", namespace) == set()


# The platform chart


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chart_kit.assemble(tmp_path_factory.mktemp("charts"))


def test_the_api_server_takes_every_object_of_the_platform(
    cluster: Cluster, namespace: str, platform: Path
) -> None:
    values = {"kubeflow-trainer": {"enabled": True}, "store": {"enabled": True}}
    rendered = chart_kit.objects(chart_kit.template(platform, values=values))
    for one in rendered:
        if one["metadata"].get("namespace"):
            one["metadata"]["namespace"] = namespace
    arguments = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"]
    done = subprocess.run(
        ["kubectl", *arguments],
        input=json.dumps({"apiVersion": "v1", "kind": "List", "items": rendered}),
        env=cluster.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The namespace enforces the restricted pod standard and warns of Deployments that offend.
    assert "would violate PodSecurity" not in done.stderr
    assert len(done.stdout.splitlines()) == len(rendered)


@pytest.fixture
def queues(cluster: Cluster, namespace: str, kueue: None, platform: Path) -> Iterator[str]:
    """A release of the platform chart with nothing but queues; the name of its ClusterQueue."""
    name = f"charts-{uuid.uuid4().hex[:6]}"
    off = {d: {"enabled": False} for d in ("gpu-operator", "training-operator", "kueue")}
    queue = {
        "name": name,
        "cohort": name,
        "namespaces": [namespace],
        "flavors": [{"name": name, "quotas": {"cpu": "2", "nvidia.com/gpu": "8"}}],
        "borrowingLimits": {"cpu": "1"},
        "preemption": {"withinClusterQueue": "LowerPriority"},
    }
    flavor = {"name": name, "nodeLabels": {"omnistage.dev/pool": "gpu"}}
    wanted = {"create": True, "flavors": [flavor], "clusterQueues": [queue]}
    command = ("install", name, str(platform), "--namespace", namespace)
    helm(cluster, *command, values={**off, "queues": wanted})
    yield name
    helm(cluster, "uninstall", name, "--namespace", namespace, "--wait")
    made = "clusterqueues,resourceflavors,cohorts"
    assert not {n for n in names(cluster, made) if n.endswith(f"/{name}")}


def test_a_namespaces_queue_draws_from_the_platforms(
    cluster: Cluster, namespace: str, queues: str
) -> None:
    values = {"queue": {"create": True, "clusterQueue": queues}}
    install(cluster, namespace, values=values)
    wait = ("wait", "--for=condition=Active", "--timeout=60s")
    cluster.kubectl(*wait, "localqueue/omnistage", "-n", namespace)
    cluster.kubectl(*wait, f"clusterqueue/{queues}")
    assert launch_settings(cluster, namespace)["queue"] == "omnistage"
    helm(cluster, "uninstall", "omnistage", "-n", namespace)
