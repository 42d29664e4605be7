"""What led to an evaluation: the steps before it, and their seeds."""

from collections.abc import Mapping
from typing import Any

from components.eval.config import EvalSettings
from components.eval.models import named_models
from components.eval.report.data import RowCounts, StageRun
from omnistage.records.record import SPLITS
from omnistage.stage.contract import Context
from omnistage.stage.key import pinned_version
from omnistage.store.manifest import Manifest
from omnistage.swift.lineage import lineage_of
from omnistage.swift.training.train import LIBRARIES


def stage_runs(context: Context[EvalSettings]) -> list[StageRun]:
    """Return what ran before, from the manifests' own words, and this stage."""
    runs = [
        StageRun(
            name=name,
            key=m.key,
            digest=m.digest,
            seconds=m.produced_by.get("seconds"),
            versions={
                "omnistage": m.produced_by.get("omnistage", "?"),
                **m.produced_by.get("libraries", {}),
            },
            config=m.produced_by.get("config", {}),
            rows=row_counts(m.counts),
        )
        for name, m in _before(context).items()
    ]
    own = StageRun(
        name=context.step,
        key=context.key,
        versions={name: pinned_version(name) for name in LIBRARIES},
        config=context.config.model_dump(mode="json"),
    )
    return [*runs, own]


def row_counts(counts: Mapping[str, Any]) -> RowCounts | None:
    """Return what a manifest says of rows: rewriting counts by split, training what it trains."""
    if "rows" in counts:
        kept = sum(counts[split] for split in SPLITS)
        return RowCounts(counts["rows"], kept, counts["rejected"], counts["left_out"])
    if "read" in counts:
        return RowCounts(counts["read"], counts["records"], counts["rejected"])
    return None


def seeds(context: Context[EvalSettings]) -> dict[str, int]:
    """Return the seed of every step that has one, by its name."""
    found = {
        name: m.produced_by["config"]["seed"]
        for name, m in _before(context).items()
        if isinstance(m.produced_by.get("config", {}).get("seed"), int)
    }
    return {**found, context.step: context.config.seed}


def _before(context: Context[EvalSettings]) -> dict[str, Manifest]:
    """Return what went into the evaluation by name: data, base model, records, trained models."""
    models = named_models(context)
    base = lineage_of(next(iter(models.values()))).base
    sets = {
        m.stage if n == 1 else f"{m.stage} {n}": m for n, m in enumerate(context.several("data"), 1)
    }
    records = context.inputs["records"]
    trained = {name: m for name, m in models.items() if m.kind != "BaseModel"}
    return {**sets, base.stage: base, records.stage: records, **trained}
