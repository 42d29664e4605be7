"""JSON schemas for kubeconform, from Kubernetes' own OpenAPI and from CRDs, without a network.

kubeconform normally downloads schemas made from the same files. Like its strict ones, these refuse
fields that are not described.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

LOCATION = "{{ .ResourceKind }}{{ .KindSuffix }}.json"
"""Name of a schema's file, as a template of kubeconform's."""
_INT_OR_STRING = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"


def write_builtin(swagger: Path, folder: Path) -> None:
    """Write a schema for every kind of Kubernetes.

    Args:
        swagger: ``api/openapi-spec/swagger.json`` of the Kubernetes source.
        folder: Where the schemas go.
    """
    definitions = json.loads(swagger.read_text())["definitions"]
    strict = {name: _strict(node) for name, node in definitions.items()}
    strict[_QUANTITY] = {"anyOf": [{"type": "number"}, {"type": "string"}]}
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            top = {**strict[name], "required": ["apiVersion", "kind"]}
            reached = {other: strict[other] for other in _reached(strict, name)}
            _write(folder, kind, {**top, "definitions": reached})


def write_custom(crds: Iterable[Mapping[str, Any]], folder: Path) -> None:
    """Write a schema for every version of the kinds that CRDs define."""
    for crd in crds:
        spec = crd["spec"]
        for version in spec["versions"]:
            schema = _strict(version["schema"]["openAPIV3Schema"])
            schema.setdefault("properties", {})["metadata"] = {"type": "object"}
            kind = {
                "group": spec["group"],
                "version": version["name"],
                "kind": spec["names"]["kind"],
            }
            _write(folder, kind, schema)


def _write(folder: Path, kind: Mapping[str, str], schema: Mapping[str, Any]) -> None:
    # kubeconform names a file by the kind, the first label of the group, and the version.
    parts = [kind["kind"], kind["group"].split(".")[0], kind["version"]]
    name = "-".join(part for part in parts if part).lower()
    (folder / f"{name}.json").write_text(json.dumps(schema))


def _reached(definitions: Mapping[str, Any], name: str) -> set[str]:
    """Return the names of all definitions that one refers to, at any depth."""
    found: set[str] = set()
    todo = [name]
    while todo:
        text = json.dumps(definitions[todo.pop()])
        for reference in text.split('"#/definitions/')[1:]:
            other = reference.split('"', 1)[0]
            if other not in found:
                found.add(other)
                todo.append(other)
    return found


def _strict(node: Any) -> Any:
    """Return a schema that refuses unknown fields and knows Kubernetes' own extensions."""
    if isinstance(node, list):
        return [_strict(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    if node.get("x-kubernetes-int-or-string") or node.get("format") == "int-or-string":
        return _INT_OR_STRING
    own = {k: v for k, v in node.items() if k not in ("description", "format", "default")}
    fields = own.pop("properties", None)
    strict = {k: v if k in ("enum", "required") else _strict(v) for k, v in own.items()}
    if isinstance(fields, dict):
        strict["properties"] = {k: _strict(v) for k, v in fields.items()}
        if "additionalProperties" not in node and not node.get(
            "x-kubernetes-preserve-unknown-fields"
        ):
            strict["additionalProperties"] = False
    if node.get("nullable") and isinstance(node.get("type"), str):
        strict["type"] = [node["type"], "null"]
    return strict
