"""The platform chart's dependencies: pinned, switched off one by one, their CRDs slim."""

from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.charts.test_charts import CHARTS, merged, script, scripts

__all__ = ["scripts"]


@pytest.fixture
def deps(scripts: None) -> ModuleType:
    return script("deps")


@pytest.fixture
def crds(scripts: None) -> ModuleType:
    return script("crds")


def test_pins_are_the_versions_that_the_chart_names(deps: ModuleType) -> None:
    listed = yaml.safe_load((CHARTS / "omnistage-platform" / "Chart.yaml").read_text())
    versions = {d["name"]: d["version"] for d in listed["dependencies"]}
    assert deps.TRAINING_OPERATOR.version == "v" + versions["training-operator"]
    assert deps.KUEUE.version == "v" + versions["kueue"]
    assert deps.TRAINER.version == "v" + versions["kubeflow-trainer"]
    own = yaml.safe_load((CHARTS / "training-operator" / "Chart.yaml").read_text())
    assert own["version"] == versions["training-operator"]
    values = merged("omnistage-platform/values.yaml")
    images = [
        (values["kueue"]["controllerManager"]["manager"]["image"], deps.KUEUE),
        (values["kubeflow-trainer"]["jobset"]["image"], deps.JOBSET),
    ]
    assert all(image["tag"] == module.version for image, module in images)


def test_every_dependency_can_be_switched_off() -> None:
    listed = yaml.safe_load((CHARTS / "omnistage-platform" / "Chart.yaml").read_text())
    values = merged("omnistage-platform/values.yaml")
    for dependency in listed["dependencies"]:
        assert dependency["condition"] == f"{dependency['name']}.enabled"
        assert isinstance(values[dependency["name"]]["enabled"], bool)


def test_the_sum_of_a_module_is_gos_own(deps: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "go.mod").write_text("module example.com/m\n")
    (tmp_path / "sub" / "a.go").write_text("package sub\n")
    # As golang.org/x/mod/sumdb/dirhash.HashDir(dir, "example.com/m@v1.0.0", Hash1) gives it.
    expected = "h1:aWcK7D7XMD7BlY5TTjy3mSRmSRxDf2T1KH8kFPHxY3o="
    assert deps.sum_of(tmp_path, "example.com/m@v1.0.0") == expected
    (tmp_path / "sub" / "a.go").write_text("package sub // changed\n")
    assert deps.sum_of(tmp_path, "example.com/m@v1.0.0") != expected


def test_an_unknown_dependency_is_refused(
    deps: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deps.main(["--output", str(tmp_path), "--without", "gpus"]) == 2
    known = "gpu-operator, kubeflow-trainer, kueue, training-operator"
    assert capsys.readouterr().err == f"error: --without: expected some of {known}\n"


CRD = """\
{{- if .Values.crds.enabled }}
metadata:
  annotations:
    {{- toYaml .Values.annotations | nindent 4 }}
spec:
  versions:
  - name: v1
    schema:
      openAPIV3Schema:
        description: What it is.
        properties:
          description:
            description: |-
              A field of that name
              is kept.
            type: string
            default: a description
        type: object
{{- end }}
"""


def test_a_crd_loses_descriptions_and_nothing_else(crds: ModuleType) -> None:
    slim = crds.slim_crd(CRD)
    assert slim.splitlines()[:6] == CRD.splitlines()[:6]
    assert slim.splitlines()[-1] == "{{- end }}"
    (version,) = yaml.safe_load("\n".join(slim.splitlines()[5:-1]))["versions"]
    field = {"type": "string", "default": "a description"}
    wanted = {"properties": {"description": field}, "type": "object"}
    assert version == {"name": "v1", "schema": {"openAPIV3Schema": wanted}}


def test_a_crd_of_another_layout_is_refused(crds: ModuleType) -> None:
    with pytest.raises(ValueError, match="one line '  versions:'"):
        crds.slim_crd(CRD.replace("  versions:", "  version:"))
    with pytest.raises(ValueError, match="directive"):
        crds.slim_crd(CRD.replace("type: string", "type: '{{ .Values.type }}'"))


def test_workers_wait_in_a_restricted_container() -> None:
    text = (CHARTS / "training-operator" / "init-container.yaml").read_text()
    for name in ("InitContainerImage", "MasterAddr", "MaxTries"):
        assert f"{{{{.{name}}}}}" in text
        text = text.replace(f"{{{{.{name}}}}}", "1")
    (container,) = yaml.safe_load(text)
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
