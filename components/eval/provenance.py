"""What led to an evaluation: the stages before it, and their seeds."""

from collections.abc import Mapping
from typing import Any

from components.eval.config import EvalSettings
from components.eval.report.data import RowCounts, StageRun
from omnistage.records.record import SPLITS
from omnistage.stage.contract import Context
from omnistage.stage.key import pinned_version
from omnistage.store.manifest import Manifest
from omnistage.swift.train import LIBRARIES


def stage_runs(context: Context[EvalSettings]) -> list[StageRun]:
    """Return what ran before, from the manifests' own words, and this stage."""
    order = ("data", "model", "records", "sft", "grpo")
    runs = [
        StageRun(
            name=m.stage,
            key=m.key,
            digest=m.digest,
            seconds=m.produced_by.get("seconds"),
            versions={"omnistage": m.produced_by["omnistage"], **m.produced_by["libraries"]},
            config=m.produced_by["config"],
            rows=row_counts(m.counts),
        )
        for m in (context.inputs[name] for name in order if name in context.inputs)
    ]
    own = StageRun(
        name="eval",
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


def seeds(inputs: Mapping[str, Manifest], config: EvalSettings) -> dict[str, int]:
    """Return the seed of every stage that has one, by its name."""
    found = {
        m.stage: m.produced_by["config"]["seed"]
        for m in inputs.values()
        if isinstance(m.produced_by["config"].get("seed"), int)
    }
    return {**found, "eval": config.seed}
