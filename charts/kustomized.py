"""Turn the training operator's own manifests, which upstream offers for kustomize, into a chart."""

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from crds import slim_crd

_NAMESPACE = "{{ .Release.Namespace }}"
_CLUSTER_WIDE = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "ValidatingWebhookConfiguration",
}
_QUOTED_JSON = re.compile(r"'(\{\{ toJson [^']*\}\})'")


def write_chart(rendered: str, skeleton: Path, chart: Path) -> None:
    """Write the sub-chart.

    Args:
        rendered: Output of ``kubectl kustomize``.
        skeleton: Folder with our Chart.yaml, values.yaml and init-container.yaml.
        chart: Folder to write.
    """
    for folder in ("crds", "templates", "files"):
        (chart / folder).mkdir(parents=True)
    for name in ("Chart.yaml", "values.yaml"):
        shutil.copy(skeleton / name, chart / name)
    shutil.copy(skeleton / "init-container.yaml", chart / "files" / "init-container.yaml")
    for manifest in yaml.load_all(rendered, Loader=yaml.CSafeLoader):
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        if kind == "Namespace":  # the release's own
            continue
        if kind == "CustomResourceDefinition":
            (chart / "crds" / f"{name}.yaml").write_text(slim_crd(_dump(manifest)))
            continue
        path = chart / "templates" / f"{kind.lower()}-{name}.yaml"
        path.write_text(_QUOTED_JSON.sub(r"\1", _dump(_templated(manifest))))
    (chart / "templates" / "configmap-init-container.yaml").write_text(_INIT_CONTAINER)


_INIT_CONTAINER = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: training-operator-init-container
  namespace: {{ .Release.Namespace }}
data:
  initContainer.yaml: |
    {{- .Files.Get "files/init-container.yaml" | nindent 4 }}
"""


def _dump(manifest: Mapping[str, Any]) -> str:
    return yaml.dump(dict(manifest), Dumper=yaml.CSafeDumper, sort_keys=False, width=1000)


def _templated(manifest: dict[str, Any]) -> dict[str, Any]:
    """Put the release's namespace and the chart's values into a manifest."""
    if manifest["kind"] not in _CLUSTER_WIDE:
        manifest["metadata"]["namespace"] = _NAMESPACE
    for subject in manifest.get("subjects", ()):
        subject["namespace"] = _NAMESPACE
    for webhook in manifest.get("webhooks", ()):
        webhook["clientConfig"]["service"]["namespace"] = _NAMESPACE
    if manifest["kind"] == "Deployment":
        _set_up_operator(manifest["spec"]["template"]["spec"])
    return manifest


def _set_up_operator(pod: dict[str, Any]) -> None:
    """Give the operator its values, our init container, and the restricted pod standard."""
    (container,) = pod["containers"]
    tag = container["image"].rpartition(":")[2]
    tagged = f'{{{{ .Values.image.tag | default "{tag}" }}}}'
    container["image"] = "{{ .Values.image.repository }}:" + tagged
    container["imagePullPolicy"] = "{{ .Values.image.pullPolicy }}"
    container["args"] = list(_arguments())
    container["resources"] = "{{ toJson .Values.resources }}"
    container["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    container["volumeMounts"].append(
        {"name": "init-container", "mountPath": "/etc/config", "readOnly": True}
    )
    pod["volumes"].append(
        {"name": "init-container", "configMap": {"name": "training-operator-init-container"}}
    )
    pod["securityContext"] = {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    pod["imagePullSecrets"] = "{{ toJson .Values.pullSecrets }}"
    pod["nodeSelector"] = "{{ toJson .Values.nodeSelector }}"
    pod["tolerations"] = "{{ toJson .Values.tolerations }}"


def _arguments() -> Iterator[str]:
    yield "--pytorch-init-container-image={{ .Values.initContainer.image }}"
    yield "--pytorch-init-container-template-file=/etc/config/initContainer.yaml"
    yield "--pytorch-init-container-max-tries={{ .Values.initContainer.maxTries }}"
    yield "--gang-scheduler-name={{ .Values.gangScheduler }}"
