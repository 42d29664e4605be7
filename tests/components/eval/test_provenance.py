"""What an evaluation says of the steps before it: which ran, and what their data cards warn of."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from components.eval.config import EvalSettings
from components.eval.provenance import card_findings, seeds, stage_runs
from omnistage.events import Events
from omnistage.stage.contract import Context, TaskRuntime, numbered
from omnistage.store.folder import FolderStore
from omnistage.store.manifest import Kind, Manifest
from omnistage.store.reference import reference


def commit(
    store: FolderStore,
    kind: Kind,
    stage: str,
    base: Manifest | None = None,
    files: dict[str, str] | None = None,
    **inputs: Manifest,
) -> Manifest:
    """An artifact of a step that took an hour."""
    key = f"of-{stage}"
    out = store.work_folder(stage, key) / "out"
    out.mkdir(parents=True)
    for name, text in (files or {"file": stage}).items():
        (out / name).write_text(text)
    made = {
        "config": {"seed": len(stage)},
        "omnistage": "0",
        "libraries": {},
        "seconds": 3600.0,
        "machine": {"nodes": 1, "cpus": 16, "gpus": 8, "gpu": "NVIDIA H200"},
        "inputs": {n: {"digest": m.digest, "key": m.key, "uri": m.uri} for n, m in inputs.items()},
    }
    lineage = {"base": reference(base), "model": None, "adapters": []} if base else None
    return store.commit(out, kind, stage, key, metadata={"lineage": lineage}, produced_by=made)


def evaluation(store: FolderStore, records: Manifest, **models: Manifest) -> Context[EvalSettings]:
    inputs = {numbered("model", n): m for n, m in enumerate(models.values(), 1)}
    work = store.work_folder("eval", "k")
    config = EvalSettings(models=list(models), seed=1)
    events = Events("eval", echo=False)
    given = inputs | {"records": records}
    return Context("eval", config, given, store, work, work, "k", TaskRuntime(), events)


def test_steps_that_led_to_a_model_and_are_not_evaluated_are_told_too(tmp_path: Path) -> None:
    """Given base → sft → dpo → grpo, of which base and grpo are evaluated; then sft is gone."""
    store = FolderStore(tmp_path)
    base = commit(store, "BaseModel", "download_model")
    sft = commit(store, "SFTCheckpoint", "sft", base, start=base)
    dpo = commit(store, "RLCheckpoint", "dpo", base, start=sft)
    grpo = commit(store, "RLCheckpoint", "grpo", base, start=dpo)
    given = evaluation(store, commit(store, "RewrittenJSONL", "mix"), base=base, rl=grpo)
    runs = stage_runs(given, seconds=7.0)
    names = ["download_model", "mix", "start of rl", "start of start of rl", "rl", "eval"]
    assert [run.name for run in runs] == names
    assert [run.seconds for run in runs] == [3600.0] * 5 + [7.0]
    assert [run.machine["gpus"] for run in runs[:-1]] == [8] * 5
    assert seeds(given)["start of rl"] == len("dpo")
    store.discard("sft", sft.key)
    gone = next(r for r in stage_runs(given, seconds=7.0) if r.name == "start of start of rl")
    assert (gone.key, gone.digest, gone.seconds) == (sft.key, sft.digest, None)


def test_a_step_that_is_evaluated_itself_is_told_once(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    base = commit(store, "BaseModel", "download_model")
    sft = commit(store, "SFTCheckpoint", "sft", base, start=base)
    grpo = commit(store, "RLCheckpoint", "grpo", base, start=sft)
    records = commit(store, "RewrittenJSONL", "mix")
    runs = stage_runs(evaluation(store, records, base=base, sft=sft, grpo=grpo), seconds=7.0)
    assert [run.name for run in runs] == ["download_model", "mix", "sft", "grpo", "eval"]


@pytest.mark.parametrize(
    "told",
    [
        {"inputs": 1, "machine": []},
        {"inputs": {"start": "x"}, "machine": {"gpus": "8"}},
        {"inputs": {"start": {"key": "k", "digest": "d", "uri": "x"}}, "machine": {"gpu": 1}},
        {"inputs": {"start": {"key": "..", "digest": "d", "uri": "file:///a/../b/c"}}},
    ],
)
def test_a_manifest_that_says_it_otherwise_ends_nothing(tmp_path: Path, told: Any) -> None:
    store = FolderStore(tmp_path)
    base = commit(store, "BaseModel", "download_model")
    sft = commit(store, "SFTCheckpoint", "sft", base)
    odd = sft.model_copy(update={"produced_by": told})
    records = commit(store, "RewrittenJSONL", "mix").model_copy(update={"produced_by": told})
    given = evaluation(store, records, base=base, sft=odd)
    machines = {run.name: run.machine for run in stage_runs(given, seconds=7.0)}
    assert machines["sft"] == {}
    assert card_findings(given) == []


def test_what_the_data_cards_warn_of_is_told_of_mixed_records_too(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    base = commit(store, "BaseModel", "download_model")

    def rewritten(stage: str, *findings: str) -> Manifest:
        card = orjson.dumps({"findings": findings}).decode()
        return commit(store, "RewrittenJSONL", stage, files={"card.json": card})

    one, other = rewritten("one", "always A is right"), rewritten("other", "2 rows", "3 rows")
    assert card_findings(evaluation(store, one, base=base)) == ["Data card: always A is right"]
    both = commit(store, "RewrittenJSONL", "mix", records=one, records_2=other)
    assert card_findings(evaluation(store, both, base=base)) == [
        "Data card: always A is right",
        "Data card: 2 rows",
        "Data card: 3 rows",
    ]
    without = commit(store, "RewrittenJSONL", "bare")
    assert card_findings(evaluation(store, without, base=base)) == []
