"""What led to an evaluation: the steps before it, and their seeds."""

from collections.abc import Mapping
from typing import Any

import orjson

from components.eval.config import EvalSettings
from components.eval.models import named_models
from components.eval.report.data import RowCounts, StageRun
from omnistage.errors import InputError
from omnistage.records.record import SPLITS
from omnistage.stage.contract import Context
from omnistage.stage.key import pinned_version
from omnistage.store.layout import MANIFEST
from omnistage.store.manifest import Manifest
from omnistage.store.open import read_artifact_file
from omnistage.store.reference import referred
from omnistage.swift.lineage import lineage_of
from omnistage.swift.training.train import LIBRARIES
from omnistage.torchrun.machine import machine

CARD = "card.json"
"""The data card of records, with its ``findings``."""
Told = Mapping[str, Any]
"""What a manifest says of an input: its key, digest and URI."""


def stage_runs(context: Context[EvalSettings], seconds: float) -> list[StageRun]:
    """Return what ran before, from the manifests' own words, and this stage.

    Args:
        context: Of this stage.
        seconds: That it has taken until now.
    """
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
            machine=_machine(m),
        )
        for name, m in _before(context).items()
    ]
    gone = [
        StageRun(name, key=told["key"], digest=told["digest"])
        for name, (told, m) in _between(context).items()
        if m is None
    ]
    own = StageRun(
        name=context.step,
        key=context.key,
        seconds=seconds,
        machine=machine(context.world.nodes, holds_gpus=True),
        versions={name: pinned_version(name) for name in LIBRARIES},
        config=context.config.model_dump(mode="json"),
    )
    return [*runs, *gone, own]


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


def card_findings(context: Context[EvalSettings]) -> list[str]:
    """Return what the data cards of the test records warn of.

    Records that were put together from several sets have a card for each.
    """
    records = context.inputs["records"]
    made_from = {} if _has_card(records) else _inputs(records)
    sets = [records, *(_made(told, records) for told in made_from.values())]
    cards = [orjson.loads(read_artifact_file(m, CARD)) for m in sets if m and _has_card(m)]
    found = [card.get("findings") for card in cards if isinstance(card, dict)]
    return [f"Data card: {text}" for texts in found if isinstance(texts, list) for text in texts]


def _has_card(made: Manifest) -> bool:
    return any(entry.path == CARD for entry in made.files)


def _before(context: Context[EvalSettings]) -> dict[str, Manifest]:
    """Return what went into the evaluation by name: data, base model, records, trained models."""
    models = named_models(context)
    base = lineage_of(next(iter(models.values()))).base
    sets = {
        m.stage if n == 1 else f"{m.stage} {n}": m for n, m in enumerate(context.several("data"), 1)
    }
    records = context.inputs["records"]
    trained = {name: m for name, m in models.items() if m.kind != "BaseModel"}
    started = {name: m for name, (_, m) in _between(context).items() if m}
    return {**sets, base.stage: base, records.stage: records, **started, **trained}


def _between(context: Context[EvalSettings]) -> dict[str, tuple[Told, Manifest | None]]:
    """Return the training steps that led to the models and are not evaluated, by what they are.

    Each with what the manifest of the step after it says of it, and its own manifest; None where it
    is no longer in the store.
    """
    models = named_models(context)
    known = {m.key for m in models.values()}
    found: dict[str, tuple[Told, Manifest | None]] = {}
    for name, model in models.items():
        step: Manifest | None = model
        what = name
        while step and (told := _inputs(step).get("start")):
            if told["key"] in known:
                break
            known.add(told["key"])
            step, what = _made(told, step), f"start of {what}"
            if step is None or step.kind != "BaseModel":
                found[what] = told, step
    return found


def _inputs(made: Manifest) -> dict[str, Told]:
    """Return what a manifest says of the inputs, as far as it names artifacts."""
    told = made.produced_by.get("inputs")
    return {
        name: each
        for name, each in (told if isinstance(told, dict) else {}).items()
        if isinstance(each, dict)
        and all(isinstance(each.get(field), str) for field in ("key", "digest", "uri"))
        and each["uri"].count("/") > 1
    }


def _made(told: Told, by: Manifest) -> Manifest | None:
    """Return the manifest of an input, by what the manifest of its reader says of it."""
    folder = told["uri"].rpartition("/")[0]
    place = {"kind": "", "stage": folder.split("/")[-2], "manifest": f"{folder}/{MANIFEST}"}
    try:
        return referred({**told, **place}, by)
    except InputError:
        return None


def _machine(made: Manifest) -> Mapping[str, Any]:
    """Return the machine that a manifest names; nothing where it is not told as it should be."""
    told = made.produced_by.get("machine")
    if not isinstance(told, dict) or not isinstance(told.get("gpu"), str):
        return {}
    return told if all(type(told.get(n)) is int for n in ("nodes", "cpus", "gpus")) else {}
