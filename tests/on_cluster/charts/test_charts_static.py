"""The charts as the pinned helm renders them: no cluster runs."""

import base64
import gzip
import importlib
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from omnistage.cluster.settings import LaunchSettings
from omnistage.policy import Policy
from tests.on_cluster.charts import chart_kit
from tests.on_cluster.charts.chart_kit import APPLICATION, CHARTS, CLOUDS, EVERYTHING, KUEUE_API
from tests.on_cluster.harness import schemas, tools

GOLDEN = Path(__file__).resolve().parents[2] / "charts" / "golden"
ALL_ON: dict[str, Any] = {
    "kubeflow-trainer": {"enabled": True},
    "queues": {"create": True},
    "store": {"enabled": True},
}


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    """helm, kubectl and kubeconform."""
    try:
        tools.build()
    except tools.ToolsError as e:
        pytest.exit(str(e), returncode=1)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chart_kit.assemble(tmp_path_factory.mktemp("charts"))


@pytest.fixture(scope="module")
def kubernetes() -> Path:
    """The source of Kubernetes, which has its OpenAPI."""
    return source("k8s.io/kubernetes")


def source(module: str) -> Path:
    """The folder of a module that the cluster is built from."""
    (pin,) = (m for m in tools.MODULES if m.path == module)
    name = f"{pin.path}@{pin.version}"
    found = json.loads(chart_kit.run("go", "-C", "/", "mod", "download", "-json", name))
    assert found["Sum"] == pin.sum
    return Path(found["Dir"])


@pytest.fixture(scope="module")
def checked(
    kubernetes: Path, platform: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], str]:
    """A function that returns kubeconform's summary of a rendering, or raises with its errors."""
    folder = tmp_path_factory.mktemp("schemas")
    schemas.write_builtin(kubernetes / "api/openapi-spec/swagger.json", folder)
    everything = chart_kit.template(platform, values={"kubeflow-trainer": {"enabled": True}})
    found = [o for o in chart_kit.objects(everything) if o["kind"] == "CustomResourceDefinition"]
    schemas.write_custom(found, folder)
    location = str(folder / schemas.LOCATION)

    def check(rendered: str) -> str:
        arguments = ("-strict", "-summary", "-schema-location", location)
        # The Prometheus operator is not a dependency, so its CRD is not at hand.
        return chart_kit.run(
            "kubeconform", *arguments, "-skip", "PrometheusRule", "-", text=rendered
        )

    return check


def application(name: str) -> str:
    """The rendering of the chart omnistage with a cloud's values, the defaults or everything on."""
    if name == "everything":
        return chart_kit.template(APPLICATION, values=EVERYTHING)
    file = APPLICATION / (f"values-{name}.yaml" if name in CLOUDS else "values.yaml")
    return chart_kit.template(APPLICATION, "--values", str(file))


def rendered_platform(platform: Path, name: str) -> str:
    """The rendering of the platform chart with a cloud's values, the defaults or everything on."""
    file = platform / (f"values-{name}.yaml" if name in CLOUDS else "values.yaml")
    return chart_kit.template(
        *(platform, "--values", str(file), "--api-versions", KUEUE_API),
        values=ALL_ON if name == "everything" else {"queues": {"create": True}},
    )


NAMES = ("defaults", *CLOUDS, "everything")


@pytest.mark.parametrize("name", ["", *CLOUDS])
def test_helm_lints_without_a_warning(platform: Path, name: str) -> None:
    for chart in (APPLICATION, platform):
        file = chart / (f"values-{name}.yaml" if name else "values.yaml")
        said = chart_kit.run("helm", "lint", "--strict", str(chart), "--values", str(file))
        assert "[WARNING]" not in said
        assert "[ERROR]" not in said


@pytest.mark.parametrize("name", NAMES)
def test_all_objects_of_the_application_fit_their_schemas(
    checked: Callable[[str], str], name: str
) -> None:
    said = checked(application(name))
    assert "Invalid: 0, Errors: 0" in said


@pytest.mark.parametrize("name", NAMES)
def test_all_objects_of_the_platform_fit_their_schemas(
    platform: Path, checked: Callable[[str], str], name: str
) -> None:
    said = checked(rendered_platform(platform, name))
    assert "Invalid: 0, Errors: 0, Skipped: 0" in said


def test_a_field_that_does_not_exist_is_found(checked: Callable[[str], str]) -> None:
    wrong = application("everything").replace("clusterQueue: omnistage", "clusterQueues: omnistage")
    with pytest.raises(subprocess.CalledProcessError) as error:
        checked(wrong)
    assert "LocalQueue omnistage is invalid" in error.value.stdout
    assert "additional properties 'clusterQueues' not allowed" in error.value.stdout


@pytest.mark.parametrize("chart", ["omnistage", "omnistage-platform"])
@pytest.mark.parametrize("name", NAMES)
def test_renderings_are_the_golden_ones(
    platform: Path, update_golden: bool, chart: str, name: str
) -> None:
    whole = application(name) if chart == "omnistage" else rendered_platform(platform, name)
    made = chart_kit.own(whole, chart)
    file = GOLDEN / f"{chart}-{name}.yaml"
    if update_golden:
        GOLDEN.mkdir(parents=True, exist_ok=True)
        file.write_text(made)
    assert made == (file.read_text() if file.exists() else "")


def test_every_pod_meets_the_restricted_pod_standard(platform: Path) -> None:
    both = (application("everything"), rendered_platform(platform, "everything"))
    pods = dict(pair for rendered in both for pair in chart_kit.pod_specs(rendered))
    assert {
        "Pod/omnistage-doctor",
        "CronJob/omnistage-reaper",
        "Deployment/omnistage-tensorboard",
        "Deployment/training-operator",
        "StatefulSet/omnistage-store",
    } <= set(pods)
    assert {
        name: chart_kit.offences(spec) for name, spec in pods.items() if chart_kit.offences(spec)
    } == {}


@pytest.mark.parametrize(
    ("change", "offence"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}, "volume hostPath"),
        ({"securityContext": {}}, "doctor: seccompProfile"),
        ({"containers": [{"name": "doctor"}]}, "doctor: drop"),
    ],
)
def test_the_rules_of_the_standard_find_offenders(change: dict[str, Any], offence: str) -> None:
    pods = dict(chart_kit.pod_specs(application("everything")))
    assert offence in chart_kit.offences({**pods["Pod/omnistage-doctor"], **change})


def test_no_rendering_holds_a_secret(platform: Path) -> None:
    both = application("everything") + rendered_platform(platform, "everything")
    secrets = [o for o in chart_kit.objects(both) if o["kind"] == "Secret"]
    # Operators keep their webhooks' certificates in them; charts make them empty.
    parts = [o.get(part, {}) for o in secrets for part in ("data", "stringData")]
    assert {value for part in parts for value in part.values()} <= {""}


@pytest.mark.parametrize("name", NAMES)
def test_launchers_read_settings_that_name_the_charts_objects(name: str) -> None:
    found = chart_kit.objects(application(name))
    by_name = {(o["kind"], o["metadata"]["name"]): o for o in found}
    text = by_name["ConfigMap", "omnistage-launch"]["data"]["launch.yaml"]
    settings = LaunchSettings.model_validate(yaml.safe_load(text))
    assert ("ServiceAccount", settings.service_account) in by_name
    assert ("ConfigMap", settings.store_config) in by_name
    assert not settings.queue or ("LocalQueue", settings.queue) in by_name
    if name == "everything":
        assert [v.mount_path for v in settings.volumes] == ["/store", "/models"]
        assert ("TrainingRuntime", settings.training_runtime) in by_name
        assert settings.image_pull_secrets == ["registry"]


def test_the_trainers_account_has_no_role_and_no_token() -> None:
    found = chart_kit.objects(application("everything"))
    bindings = [o for o in found if o["kind"].endswith("RoleBinding")]
    bound = {s["name"] for b in bindings for s in b["subjects"]}
    assert bound == {"omnistage-launcher", "omnistage-reaper", "pipeline-runner", "editor"}
    (trainer,) = (
        o
        for o in found
        if o["kind"] == "ServiceAccount" and o["metadata"]["name"] == "omnistage-trainer"
    )
    assert trainer["automountServiceAccountToken"] is False


LINK_LOCAL = (
    ["169.254.0.0/16", "100.100.100.200/32"],
    ["fe80::/10", "fd00:ec2::254/128"],
)


def exceptions(policy: str) -> list[list[str]]:
    """What is cut out of the addresses that pods may reach, a list a rule and family."""
    (spec,) = (
        o["spec"]
        for o in chart_kit.objects(application("everything"))
        if o["kind"] == "NetworkPolicy" and o["metadata"]["name"] == policy
    )
    peers = [peer for rule in spec["egress"] for peer in rule.get("to", []) if "ipBlock" in peer]
    return [p["ipBlock"]["except"] for p in peers if "except" in p["ipBlock"]]


def test_training_pods_reach_neither_the_api_server_nor_a_metadata_service() -> None:
    four, six = LINK_LOCAL
    assert exceptions("omnistage-trainer") == [[*four, "10.0.0.1/32"], [*six, "fd00::1/128"]]


def test_launchers_reach_no_metadata_service_and_no_refused_network() -> None:
    four, six = LINK_LOCAL
    store, hubs = [four, six], [[*four, "10.96.0.0/12"], [*six, "fd00:96::/112"]]
    assert exceptions("omnistage-launcher") == [*store, *hubs]


def test_launchers_are_told_what_is_refused() -> None:
    data = {
        o["metadata"]["name"]: o["data"]
        for o in chart_kit.objects(application("everything"))
        if o["kind"] == "ConfigMap"
    }
    networks = data["omnistage-store"]["OMNISTAGE_REFUSED_NETWORKS"]
    assert networks == "10.96.0.0/12,fd00:96::/112"
    policy = Policy.model_validate(yaml.safe_load(data["omnistage-launch"]["policy.yaml"]))
    assert (policy.own_rewards, policy.env, policy.claims) == (False, ["NCCL_*"], None)


@pytest.mark.parametrize(
    ("setting", "port"),
    [
        ("store.s3.region=us-east-1", 443),
        ("store.s3.endpoint=https://storage.example.org", 443),
        ("store.s3.endpoint=http://minio", 80),
        ("store.s3.endpoint=http://minio.store.svc:9000/path", 9000),
        ("networkPolicy.storePorts={7480},store.s3.endpoint=http://minio:9000", 7480),
    ],
)
def test_training_pods_reach_the_stores_port(setting: str, port: int) -> None:
    found = chart_kit.objects(chart_kit.template(APPLICATION, "--set", setting))
    (policy,) = (
        o["spec"]
        for o in found
        if o["kind"] == "NetworkPolicy" and o["metadata"]["name"] == "omnistage-trainer"
    )
    ports = [p["port"] for rule in policy["egress"] for p in rule.get("ports", [])]
    assert ports == [53, 53, port]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("tensorboard.enabled=true", "tensorboard.enabled needs store.volume.enabled"),
        ("launch.settings.nodes=none", "at '/launch/settings/nodes': got string, want integer"),
        ("image.launcher.digest=latest", "at '/image/launcher/digest'"),
        ("store.volume.enabled=true,tensorboard.enabled=true", "tensorboard.image: name an image"),
    ],
)
def test_wrong_values_are_refused_with_a_message(setting: str, message: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        chart_kit.template(APPLICATION, "--set", setting)
    assert message in error.value.stderr


def test_queues_wait_for_kueue(platform: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        chart_kit.template(platform, "--set", "queues.create=true")
    assert "Install without it first" in error.value.stderr


@pytest.mark.parametrize("name", ["training-operator", "kubeflow-trainer", "kueue"])
def test_a_dependency_can_be_switched_off(platform: Path, name: str) -> None:
    values = {**ALL_ON, name: {"enabled": False}}
    arguments = ("--api-versions", KUEUE_API)
    rendered = chart_kit.template(platform, *arguments, values=values)
    assert f"/charts/{name}/" not in rendered
    assert f"/charts/{name}/" in chart_kit.template(platform, *arguments, values=ALL_ON)


def test_crds_are_upstreams_without_descriptions(
    platform: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(CHARTS)
    without_descriptions = importlib.import_module("crds").without_descriptions
    folder = source("github.com/kubeflow/training-operator") / "manifests/overlays/standalone"
    upstream = chart_kit.objects(chart_kit.run("kubectl", "kustomize", str(folder)))
    jobset = source("sigs.k8s.io/jobset") / "charts/jobset/crds"
    upstream += [o for p in jobset.iterdir() for o in chart_kit.objects(p.read_text())]
    crds = {o["metadata"]["name"]: o for o in upstream if o["kind"] == "CustomResourceDefinition"}
    assert len(crds) == 7
    rendered = chart_kit.objects(rendered_platform(platform, "everything"))
    ours = {o["metadata"]["name"]: o for o in rendered if o["kind"] == "CustomResourceDefinition"}
    for name, crd in crds.items():
        crd["spec"]["versions"] = without_descriptions(crd["spec"]["versions"])
        assert ours[name] == crd


def test_a_release_with_everything_fits_into_its_secret(platform: Path) -> None:
    # As helm.sh/helm/v4/pkg/storage/driver encodes it: JSON with the chart's files in base64,
    # gzip at its best, base64. A Secret holds 1 MiB.
    files = {
        str(p.relative_to(platform)): base64.b64encode(p.read_bytes()).decode()
        for p in platform.rglob("*")
        if p.is_file()
    }
    manifest = rendered_platform(platform, "everything")
    release = json.dumps({"chart": files, "manifest": manifest}).encode()
    stored = base64.b64encode(gzip.compress(release, 9))
    assert len(stored) < 800_000


def kueue_said(config: str, folder: Path) -> str:
    """What Kueue itself says of a configuration before it finds that there is no cluster."""
    file = folder / "config.yaml"
    file.write_text(config)
    server = {"name": "none", "cluster": {"server": "https://127.0.0.1:1"}}
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [server],
        "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
        "current-context": "none",
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    done = subprocess.run(
        [str(tools.binaries() / "kueue"), f"--config={file}"],
        env={**chart_kit.environment(), "KUBECONFIG": str(folder / "kubeconfig")},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_kueue_takes_its_configuration(platform: Path, tmp_path: Path) -> None:
    found = chart_kit.objects(rendered_platform(platform, "defaults"))
    (config,) = (
        o["data"]["controller_manager_config.yaml"]
        for o in found
        if o["kind"] == "ConfigMap" and o["metadata"]["name"].endswith("manager-config")
    )
    loaded = "Successfully loaded configuration"
    assert loaded in kueue_said(config, tmp_path)
    assert "kubeflow.org/pytorchjob" in config
    wrong = kueue_said(config.replace("frameworks:", "framework:"), tmp_path)
    assert 'unknown field \\"integrations.framework\\"' in wrong
    assert loaded not in wrong


def test_alerts_have_the_shape_of_rules() -> None:
    found = chart_kit.objects(application("everything"))
    (rules,) = (o for o in found if o["kind"] == "PrometheusRule")
    (group,) = rules["spec"]["groups"]
    for rule in group["rules"]:
        assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
        assert re.fullmatch(r"[0-9]+m", rule.get("for", "0m"))
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["expr"].count("(") == rule["expr"].count(")")
        # Prometheus' own templates are left to Prometheus.
        assert "{{ .Values" not in str(rule)
    names = [rule["alert"] for rule in group["rules"]]
    assert names == [
        "OmnistageGpuIdle",
        "OmnistageGpuXid",
        "OmnistageJobStuck",
        "OmnistageJobPending",
        "OmnistageJobsFail",
        "OmnistageQueueWait",
    ]
