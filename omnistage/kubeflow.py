"""The artifact types of the pipeline in Kubeflow Pipelines, and the body that its components share.

An artifact of Kubeflow here is a small JSON file, the manifest; the bytes stay in the store. So
KFP's launcher copies kilobytes, and its cache, which compares inputs, sees content digests.
"""

import os
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson
from kfp import dsl

from omnistage.artifacts import Manifest
from omnistage.errors import InputError
from omnistage.files import write_json
from omnistage.stage import Spec, Stage, main
from omnistage.store import manifest_uri, open_store, store_uri

EVENTS_VARIABLE = "OMNISTAGE_EVENTS"
FORCE_VARIABLE = "OMNISTAGE_FORCE"
CACHED_ONLY_VARIABLE = "OMNISTAGE_CACHED_ONLY"


class DatasetTarball(dsl.Dataset):
    """Archives as they were published, with an index of their members."""

    schema_title = "system.DatasetTarball"


class BaseModel(dsl.Model):
    """A model folder to start from."""

    schema_title = "system.BaseModel"


class RewrittenJSONL(dsl.Dataset):
    """Canonical records in splits."""

    schema_title = "system.RewrittenJSONL"


class SFTCheckpoint(dsl.Model):
    """A fine-tuned model or adapter."""

    schema_title = "system.SFTCheckpoint"


class LoRAAdapter(dsl.Model):
    """The adapter that GRPO trained."""

    schema_title = "system.LoRAAdapter"


class EvalReport(dsl.Artifact):
    """The judgements and the report."""

    schema_title = "system.EvalReport"


def run_stage(
    module: str,
    config: str,
    store: str,
    output: dsl.Artifact,
    inputs: Mapping[str, dsl.Artifact | None] | None = None,
    runtime: str = "{}",
) -> Manifest:
    """Run a stage inside its KFP task and fill in the output artifact.

    Args:
        module: Where the stage is, such as ``components.sft.stage:STAGE``.
        config: Its settings, as JSON.
        store: URI of the store.
        output: Becomes the manifest, with its digest, key and counts as metadata.
        inputs: Artifacts whose files are manifests; None for one that is left out.
        runtime: How it runs here, as JSON.

    Raises:
        SystemExit: With the stage's exit code if it fails; its message is in the log.
    """
    path, _, attribute = module.partition(":")
    stage: Stage[Any] = getattr(import_module(path), attribute)
    uris = {n: _manifest_of(n, a) for n, a in (inputs or {}).items() if a is not None}
    with tempfile.TemporaryDirectory() as folder:
        spec, manifest = Path(folder) / "spec.json", Path(folder) / "manifest.json"
        write_json(
            spec,
            Spec(
                config=orjson.loads(config),
                inputs=uris,
                store=store,
                runtime=orjson.loads(runtime),
                force=stage.name in os.environ.get(FORCE_VARIABLE, "").split(","),
                cached_only=stage.name in os.environ.get(CACHED_ONLY_VARIABLE, "").split(","),
                # Inputs of a stage that runs alone were not just made or checked by this run.
                verify_inputs=any(
                    a and "digest" not in a.metadata for a in (inputs or {}).values()
                ),
                manifest=str(manifest),
                events=os.environ.get(EVENTS_VARIABLE),
            ).model_dump(),
        )
        code = main(stage, ["--spec", str(spec)])
        if code:
            raise SystemExit(code)
        made = Manifest.from_json(manifest.read_bytes(), str(manifest))
    target = Path(output.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(made.to_json())
    output.metadata.update(
        {
            "digest": made.digest,
            "key": made.key,
            "uri": made.uri,
            "manifest": manifest_uri(made),
            "bytes": made.size,
            **{f"count_{k}": v for k, v in made.counts.items() if isinstance(v, int | float | str)},
        }
    )
    return made


def _manifest_of(name: str, artifact: dsl.Artifact) -> str:
    """Return the URI, in the store, of the manifest that an input artifact holds."""
    path = Path(artifact.path)
    try:
        manifest = Manifest.from_json(path.read_bytes(), f"input {name!r}")
    except FileNotFoundError as e:
        raise InputError(f"input {name!r}: no manifest at {artifact.uri}") from e
    return manifest_uri(manifest)


def publish_report(manifest: Manifest, html: dsl.HTML, metrics: dsl.Metrics) -> None:
    """Copy the report into KFP's own ``HTML`` artifact and its figures into ``Metrics``."""
    folder = open_store(store_uri(manifest)).local(manifest)
    target = Path(html.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes((folder / "report.html").read_bytes())
    report = orjson.loads((folder / "report.json").read_bytes())
    for model, figures in report["models"].items():
        metrics.log_metric(f"{model}_accuracy", figures["accuracy"]["value"])
        metrics.log_metric(f"{model}_accuracy_low", figures["accuracy"]["low"])
        metrics.log_metric(f"{model}_accuracy_high", figures["accuracy"]["high"])
