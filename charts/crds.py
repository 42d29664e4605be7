"""Make CRDs small enough for a Helm release: leave out the descriptions of their fields.

Helm stores a release, its CRDs included, in one Secret of at most 1 MiB. The CRDs of the training
operator, Trainer, JobSet and Kueue hold whole pod templates with all their documentation. What is
validated stays as it is; only ``kubectl explain`` has less to say.
"""

from typing import Any

import yaml

_VERSIONS = "  versions:"
"""The line of a CRD below which its schemas are, and no directive of a Helm template."""


def without_descriptions(schema: Any) -> Any:
    """Return an OpenAPI schema without its descriptions; fields named so are kept."""
    if isinstance(schema, list):
        return [without_descriptions(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for key, value in schema.items():
        if key == "description" and isinstance(value, str):
            continue
        if key == "properties":
            kept[key] = {name: without_descriptions(field) for name, field in value.items()}
        elif key in ("default", "enum", "example"):
            kept[key] = value
        else:
            kept[key] = without_descriptions(value)
    return kept


def slim_crd(text: str) -> str:
    """Return a CRD's file, which may be a Helm template, without the descriptions of its fields.

    Raises:
        ValueError: If it is not laid out as expected.
    """
    lines = text.splitlines()
    if lines.count(_VERSIONS) != 1:
        raise ValueError(f"expected one line {_VERSIONS!r} in a CRD")
    start = lines.index(_VERSIONS)
    end = next(
        (n for n in range(start + 1, len(lines)) if not lines[n].startswith(" ") and lines[n]),
        len(lines),
    )
    loaded = yaml.load("\n".join(lines[start:end]), Loader=yaml.CSafeLoader)
    slim = yaml.dump(
        without_descriptions(loaded), Dumper=yaml.CSafeDumper, sort_keys=False, width=1000
    )
    if "{{" in slim:
        raise ValueError("a directive of a Helm template inside a CRD's schema")
    body = ["  " + line for line in slim.splitlines()]
    return "\n".join([*lines[:start], *body, *lines[end:]]) + "\n"
