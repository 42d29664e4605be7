"""The Helm charts, as far as Python alone can look at them; tests/on_cluster has the rest."""

import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml

from omnistage.cluster.jobs.backends import BACKENDS
from omnistage.cluster.jobs.job import ClusterJob
from omnistage.cluster.settings import LaunchSettings, merge_settings
from omnistage.doctor.rules import rights
from pipelines.graph import STAGES

ROOT = Path(__file__).resolve().parents[2]
CHARTS = ROOT / "charts"
VALUES = sorted(str(p.relative_to(CHARTS)) for p in CHARTS.glob("*/values*.yaml"))
OURS = ("omnistage", "omnistage-platform")
METRICS = {
    # dcgm-exporter's default counters
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_XID_ERRORS",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
    # kube-state-metrics
    "kube_pod_status_phase",
    # training operator 1.9: pkg/common/metrics.go
    "training_operator_jobs_created_total",
    "training_operator_jobs_successful_total",
    "training_operator_jobs_failed_total",
    # Kueue 0.14: pkg/metrics/metrics.go
    "kueue_pending_workloads",
    "kueue_admitted_workloads_total",
    "kueue_admission_wait_time_seconds_bucket",
}


def script(name: str) -> ModuleType:
    """A script of charts/, imported as it sees itself: beside its siblings."""
    spec = importlib.util.spec_from_file_location(name, CHARTS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(CHARTS)


@pytest.fixture
def generate(scripts: None) -> ModuleType:
    return script("generate")


def merged(name: str) -> dict[str, Any]:
    """A values file over the chart's defaults, as Helm merges them."""
    path = CHARTS / name
    values = yaml.safe_load((path.parent / "values.yaml").read_text())
    return over(values, yaml.safe_load(path.read_text()))


def over(base: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {**base}
    for key, value in above.items():
        inner = isinstance(value, dict) and isinstance(base.get(key), dict)
        both[key] = over(base[key], value) if inner else value
    return both


def schema(chart: str) -> dict[str, Any]:
    return json.loads((CHARTS / chart / "values.schema.json").read_text())


# Values


@pytest.mark.parametrize("chart", OURS)
def test_a_schema_is_one(chart: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(chart))


def with_schema() -> list[str]:
    return [name for name in VALUES if name.split("/")[0] in OURS]


@pytest.mark.parametrize("name", with_schema())
def test_every_values_file_fits_its_schema(name: str) -> None:
    validator = jsonschema.Draft202012Validator(schema(name.split("/")[0]))
    assert [error.message for error in validator.iter_errors(merged(name))] == []


@pytest.mark.parametrize("chart", OURS)
def test_a_schema_describes_every_value(chart: str) -> None:
    described = set(leaves_of_schema(schema(chart)))
    own = {n for n in leaves(merged(f"{chart}/values.yaml")) if not n.startswith(DEPENDENCIES)}
    own = {re.sub(r"^launch\.settings\..*", "launch.settings", n) for n in own}
    assert {n for n in own if not any(n == d or n.startswith(d + ".") for d in described)} == set()


DEPENDENCIES = ("gpu-operator.", "training-operator.", "kubeflow-trainer.", "kueue.")


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def leaves_of_schema(node: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in node.get("properties", {}).items():
        if "properties" in value:
            yield from leaves_of_schema(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


@pytest.mark.parametrize(
    ("chart", "at", "wrong"),
    [
        ("omnistage", "image.launcher.digest", "sha256:abc"),
        ("omnistage", "image.pullPolicy", "Sometimes"),
        ("omnistage", "image.pullSecret", "one"),
        ("omnistage", "serviceAccounts.trainer.name", "Not A Name"),
        ("omnistage", "store.s3.endpoint", "minio:9000"),
        ("omnistage", "store.env.AWS_SECRET_ACCESS_KEY", "hunter2"),
        ("omnistage", "store.env.HF_TOKEN", "hf_x"),
        ("omnistage", "store.uri", "https://bucket"),
        ("omnistage", "launch.settings.backend", "mpijob"),
        ("omnistage", "launch.settings.gpus", 8),
        ("omnistage", "launch.settings.nodes", 0),
        ("omnistage", "launch.settings.memory", "64 GB"),
        ("omnistage", "launch.settings.node_pools.gpu.selector", {}),
        ("omnistage", "networkPolicy.apiServerCIDRs", ["10.0.0.1"]),
        ("omnistage", "networkPolicy.storePorts", ["443"]),
        ("omnistage", "priorityClasses", [{"name": "high"}]),
        ("omnistage", "tensorboard.logdir", "store"),
        ("omnistage", "monitoring.alerts.stuckMinutes", 0),
        ("omnistage", "replicas", 1),
        ("omnistage-platform", "gpu-operator.mig.strategy", "some"),
        ("omnistage-platform", "gpu-operator.enabled", "yes"),
        ("omnistage-platform", "kueue.enabled", None),
        ("omnistage-platform", "queues.clusterQueues", [{"name": "q", "flavors": []}]),
        ("omnistage-platform", "queues.clusterQueues", []),
        ("omnistage-platform", "store.size", "much"),
        ("omnistage-platform", "store.buckets", ["UPPER"]),
        ("omnistage-platform", "store.accessKey", "x"),
    ],
)
def test_a_schema_refuses_what_is_wrong(chart: str, at: str, wrong: object) -> None:
    above: Any = wrong
    for key in reversed(at.split(".")):
        above = {key: above}
    values = over(merged(f"{chart}/values.yaml"), above)
    with pytest.raises(jsonschema.ValidationError) as error:
        jsonschema.validate(values, schema(chart))
    named = [str(part) for part in error.value.absolute_path if isinstance(part, str)]
    assert named[:2] == at.split(".")[: len(named[:2])]


@pytest.mark.parametrize("name", [n for n in VALUES if n.startswith("omnistage/")])
def test_the_job_settings_of_every_values_file_are_launch_settings(name: str) -> None:
    settings = merge_settings(merged(name)["launch"]["settings"])
    assert settings.pool().tolerations


def granted(role: str) -> set[tuple[str, str, str]]:
    rules = yaml.safe_load((CHARTS / "omnistage" / "files" / f"{role}-rules.yaml").read_text())
    return {
        (verb, group, resource)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_launchers_role_grants_what_doctor_asks_for() -> None:
    for backend in BACKENDS:
        needed = rights(merge_settings({"backend": backend.name, "queue": "one"}))
        assert set(needed) <= granted("launcher")


def test_the_reaper_may_delete_jobs_and_little_else() -> None:
    assert {verb for verb, _, _ in granted("reaper")} == {"list", "delete", "get"}
    assert {r for v, _, r in granted("reaper") if v == "delete"} == {b.plural for b in BACKENDS}
    assert {r for v, _, r in granted("reaper") if v == "get"} == {"workflows"}


def test_accounts_and_secrets_are_called_what_launch_settings_call_them() -> None:
    values, defaults = merged("omnistage/values.yaml"), LaunchSettings()
    assert values["serviceAccounts"]["trainer"]["name"] == defaults.service_account
    assert values["store"]["secret"] == defaults.store_secret
    assert values["store"]["config"] == defaults.store_config
    assert values["trainingRuntime"]["name"] == defaults.training_runtime


def test_no_chart_has_a_place_for_a_secret() -> None:
    for chart in OURS:
        for template in (CHARTS / chart / "templates").rglob("*.yaml"):
            assert not re.search(r"^kind: Secret$", template.read_text(), re.M), template
    names = [n for name in with_schema() for n in leaves(merged(name))]
    suspicious = [n for n in names if re.search(r"(?i)(password|token|accesskey|secretkey)", n)]
    assert suspicious == []


# Generated parts


def test_readmes_and_schema_are_up_to_date(generate: ModuleType) -> None:
    assert generate.main(["--check"]) == 0


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CHARTS, tmp_path / "charts"))


def test_drift_is_named_and_mended(
    generate: ModuleType, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = copied / "omnistage" / "values.yaml"
    values.write_text(values.read_text().replace("-- Its name.", "-- The name."))
    file = copied / "omnistage" / "values.schema.json"
    file.write_text(file.read_text().replace('"trainjob"', '"mpijob"'))
    assert generate.main(["--check"], copied) == 1
    named = "charts/omnistage/README.md, charts/omnistage/values.schema.json"
    assert capsys.readouterr().err.startswith(f"not up to date: {named};")
    assert generate.main([], copied) == 0
    assert "| The name. |" in (copied / "omnistage" / "README.md").read_text()
    assert generate.main(["--check"], copied) == 0


def test_a_value_without_a_description_is_an_error(
    generate: ModuleType, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = copied / "omnistage" / "values.yaml"
    values.write_text(values.read_text() + "extra:\n  one: 1\n")
    assert generate.main(["--check"], copied) == 2
    error = "error: omnistage/values.yaml: no description (a comment `# -- …`) for extra.one\n"
    assert capsys.readouterr().err == error


# Monitoring


def dashboard() -> dict[str, Any]:
    return json.loads((CHARTS / "omnistage" / "files" / "dashboard.json").read_text())


def alerts_text() -> str:
    return (CHARTS / "omnistage" / "templates" / "monitoring.yaml").read_text()


def test_dashboard_and_alerts_ask_for_metrics_that_exist() -> None:
    asked = " ".join(t["expr"] for p in dashboard()["panels"] for t in p["targets"])
    name = r"\b(?:DCGM_|kube_|kueue_|training_operator_)\w+"
    assert set(re.findall(name, asked + alerts_text())) == METRICS


def test_the_dashboards_panels_do_not_overlap() -> None:
    taken = [
        (x, y)
        for p in dashboard()["panels"]
        for x in range(p["gridPos"]["x"], p["gridPos"]["x"] + p["gridPos"]["w"])
        for y in range(p["gridPos"]["y"], p["gridPos"]["y"] + p["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    ids = [p["id"] for p in dashboard()["panels"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("stage", [n for n, s in STAGES.items() if s.libraries])
def test_alerts_know_the_pods_of_jobs(stage: str) -> None:
    helpers = (CHARTS / "omnistage" / "templates" / "_helpers.tpl").read_text()
    (pattern,) = re.findall(r'pod=~"([^"]+)"', helpers)
    expressions = [t["expr"] for p in dashboard()["panels"] for t in p["targets"]]
    assert {m for e in expressions for m in re.findall(r'pod=~"([^"]+)"', e)} == {pattern}
    job = ClusterJob(stage, "0123456789abcdef" * 4, "i", ("x",), LaunchSettings(), "ns", 2)
    for pod in (f"{job.name}-master-0", f"{job.name}-worker-3", f"{job.name}-node-0-1-x7k2p"):
        assert re.fullmatch(pattern, pod), pod
    for pod in ("omnistage-tensorboard-5d9c7b-x2x", "post-training-abc12-system-container-impl-1"):
        assert not re.fullmatch(pattern, pod), pod
