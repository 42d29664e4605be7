"""What a recipe's steps will take: rows, optimizer steps, tokens, memory, checkpoints.

What the store holds already is read from there: the model's configuration, the counts of records,
and the encoding of every record where a training has made it. The rest is estimated and said to be.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from components.download.peek import peek
from components.grpo.config import GRPOSettings, idle_settings
from components.grpo.stage import check_step, prompts_per_step
from omnistage.errors import InputError, OmnistageError
from omnistage.files import human_bytes
from omnistage.records.media_facts import split_files
from omnistage.records.record import Split
from omnistage.stage.contract import numbered
from omnistage.store.layout import Store
from omnistage.store.manifest import Manifest
from omnistage.store.open import read_artifact_file
from omnistage.swift.encoding import Encoded, encoding_key, kept_encoding, token_figures
from omnistage.swift.family import CONFIG, Family
from omnistage.swift.settings import TrainingSettings, process_count, split_batch
from omnistage.swift.size.geometry import Geometry, read_geometry
from omnistage.swift.size.memory import Load, Memory, checkpoint_bytes, memory
from omnistage.swift.size.tokens import estimate
from pipelines.graph import Graph, Step
from pipelines.recipe import Recipe
from pipelines.steps import MODEL_STAGE, TRAINED

_LARGEST_CONFIG = 1 << 20
_LARGEST_RECORDS = 200_000_000
"""Bytes of records that are read to estimate their tokens; a larger file is not worth the wait."""


@dataclass(frozen=True)
class Forecast:
    """What a step that trains or evaluates will take; None is what cannot be known yet."""

    step: str
    stage: str
    ranks: int
    rows: int | None = None
    steps: int | None = None
    """Optimizer steps."""
    tokens: Mapping[str, Any] | None = None
    """:func:`omnistage.swift.encoding.token_figures` of an epoch."""
    estimated: bool = False
    """Whether the tokens are an estimate; if not, the trainer's own template has counted them."""
    memory: Memory | None = None
    """Of a rank."""
    makes: float | None = None
    """Bytes of the artifact."""
    keeps: float | None = None
    """Bytes of all checkpoints that are kept while training."""
    findings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Known:
    """What is known before a run."""

    recipe: Recipe
    graph: Graph
    store: Store
    made: Mapping[str, Manifest]
    """What the store holds, by step."""
    geometry: Geometry | None
    gpu_memory: float | None
    """Bytes of a GPU, to compare with."""


def model_geometry(recipe: Recipe, made: Mapping[str, Manifest]) -> Geometry:
    """Return the geometry of a recipe's base model, without its weights.

    Raises:
        InputError: If its ``config.json`` cannot be had, or its family is not known here.
        TransientError: If its source does not answer.
    """
    model = made.get(MODEL_STAGE.name)
    if model:
        data, where = read_artifact_file(model, f"files/{CONFIG}"), f"{model.uri}/files/{CONFIG}"
    else:
        data = peek(recipe.model.sources, CONFIG, "model", _LARGEST_CONFIG)
        where = f"model.sources: {CONFIG}"
    try:
        return read_geometry(orjson.loads(data), where)
    except orjson.JSONDecodeError as e:
        raise InputError(f"{where}: not valid JSON: {e}") from e


def forecast(known: Known) -> Iterator[Forecast]:
    """Yield what each step that trains or evaluates will take."""
    for name in known.recipe.steps:
        step = known.graph[name]
        yield _training(known, step) if step.stage.name in TRAINED else _evaluation(known, step)


def _training(known: Known, step: Step) -> Forecast:
    config: Any = step.config
    split, ranks = TRAINED[step.stage.name], _ranks(known.recipe, step)
    device, accumulation = split_batch(
        config.batch_size, config.per_device_batch_size, ranks, step.name
    )
    rows, encoded, estimated = _rows(known, step, config, split)
    fitting = [row for row in encoded or () if row.length and row.length <= config.max_length]
    figures = token_figures(fitting) if encoded is not None else None
    rows = len(fitting) if encoded is not None else rows
    made = Forecast(
        step.name,
        step.stage.name,
        ranks,
        rows=rows,
        steps=_steps(config, rows, device * ranks, accumulation),
        tokens=figures,
        estimated=estimated,
        findings=[
            *_idle(config),
            *_too_few(config, rows, step.name),
            *_left_out(encoded, fitting, config, estimated),
        ],
    )
    if known.geometry is None:
        return made
    load = _load(config, device, accumulation, ranks, figures, step.stage.name)
    needed = memory(known.geometry, load)
    vllm = config.vllm if isinstance(config, GRPOSettings) else None
    if vllm and known.gpu_memory:
        needed = replace(needed, cache=vllm.gpu_memory_utilization * known.gpu_memory)
    product, checkpoint = checkpoint_bytes(known.geometry, load)
    made.findings.extend(_too_large(known, step.name, config, load, needed))
    return replace(made, memory=needed, makes=product, keeps=checkpoint * config.save_total_limit)


def _evaluation(known: Known, step: Step) -> Forecast:
    config: Any = step.config
    tests = known.made.get(step.sources["records"])
    rows = tests.counts.get("test") if tests else None
    if rows is not None and config.max_records:
        rows = min(rows, config.max_records)
    made = Forecast(step.name, step.stage.name, _ranks(known.recipe, step, nodes=1), rows=rows)
    if known.geometry is None:
        return made
    longest = max((s.max_length for s in known.recipe.steps.values() if _trains(s)), default=0)
    load = Load(
        "full", 1, True, True, config.dtype, 0, 1, True, 0,
        tokens=longest + config.max_completion_length, rollout=config.batch_size,
    )  # fmt: skip
    needed = replace(memory(known.geometry, load), gradients=0.0, optimizer=0.0)
    if known.gpu_memory and needed.peak > known.gpu_memory:
        made.findings.append(f"{_size(needed, known)}; lower {step.name}.batch_size")
    return replace(made, memory=needed)


def _trains(step: Any) -> bool:
    return step.stage in TRAINED


def _ranks(recipe: Recipe, step: Step, nodes: int | None = None) -> int:
    """Return how many processes a step has: as the recipe says, or as this machine would."""
    cluster = recipe.cluster
    if cluster.model_fields_set & {"nodes", "gpus_per_node"}:
        return (nodes or cluster.nodes) * cluster.gpus_per_node
    return process_count(step.runtime.nproc_per_node if step.runtime else None)


def _too_few(config: Any, rows: int | None, step: str) -> Iterator[str]:
    """Say that there are fewer rows than an optimizer step takes, if there are."""
    if isinstance(config, GRPOSettings) and rows is not None:
        try:
            check_step(rows, prompts_per_step(config), step)
        except InputError as e:
            yield str(e)


def _steps(config: Any, rows: int | None, batch: int, accumulation: int) -> int | None:
    """Return the optimizer steps, counted as transformers' Trainer does."""
    if isinstance(config, GRPOSettings):
        steps = None
        if rows is not None:
            an_epoch = rows // prompts_per_step(config) * config.num_iterations
            steps = math.ceil(config.epochs * an_epoch)
    else:
        steps = None
        if rows is not None:
            an_epoch = max(1, math.ceil(math.ceil(rows / batch) / accumulation))
            steps = math.ceil(config.epochs * an_epoch)
    if steps is None or config.max_steps is None:
        return config.max_steps if steps is None else steps
    return min(steps, config.max_steps)


def _rows(
    known: Known, step: Step, config: TrainingSettings, split: Split
) -> tuple[int | None, list[Encoded] | None, bool]:
    """Return how many rows a step has, their tokens, and whether these are estimated."""
    records = known.made.get(step.sources["records"])
    if records is None:
        return None, None, False
    rows = records.counts.get(split)
    if known.geometry is None:
        return rows, None, False
    family = known.geometry.family
    with TemporaryDirectory() as folder:
        found = _encoded(known, step, config, split, records, family, Path(folder))
        if found is not None:
            return rows, found, False
        lines = next((f for f in records.files if f.path == f"{split}.jsonl"), None)
        if lines is None or lines.size > _LARGEST_RECORDS:
            return rows, None, False
        for name in split_files(split):
            (Path(folder) / name).write_bytes(read_artifact_file(records, name))
        path = Path(folder) / f"{split}.jsonl"
        return rows, list(estimate(path, split != "sft", config.media, family)), True


def _encoded(
    known: Known,
    step: Step,
    config: TrainingSettings,
    split: Split,
    records: Manifest,
    family: Family,
    folder: Path,
) -> list[Encoded] | None:
    """Return what the encoding pass has found, if the store has it."""
    names = [numbered("data", n) for n in range(1, len(step.sources) + 1)]
    data = [known.made.get(step.sources[n]) for n in names if n in step.sources]
    base = known.made.get(MODEL_STAGE.name)
    if base is None or None in data:
        return None
    digests = [manifest.digest for manifest in data if manifest]
    key = encoding_key(
        records, digests, base, family, config.media, dtype=config.dtype, split=split
    )
    return kept_encoding(known.store, key, folder / "encoded.jsonl")


def _load(
    config: Any,
    device: int,
    accumulation: int,
    ranks: int,
    figures: Mapping[str, Any] | None,
    stage: str,
) -> Load:
    """Return what a rank holds at once, of the longest record that is known or allowed."""
    longest = (figures or {}).get("longest") or config.max_length
    kinds = (figures or {}).get("by_modality", {})
    total = sum(kinds.values())
    shown = kinds.get("image", 0) + kinds.get("video", 0)
    share = (shown / total, kinds.get("audio", 0) / total) if total else (1.0, 1.0)
    grpo = isinstance(config, GRPOSettings)
    completion = config.max_completion_length if grpo else 0
    by_trainer = grpo and config.vllm is None
    return Load(
        tuner=config.tuner,
        lora_rank=config.lora_rank,
        freeze_vit=config.freeze_vit,
        freeze_aligner=config.freeze_aligner,
        dtype=config.dtype,
        zero_stage=config.zero_stage,
        ranks=ranks,
        checkpointing=config.gradient_checkpointing,
        sequences=device * (2 if stage == "dpo" else 1),
        tokens=longest + completion,
        vision=round(longest * share[0]),
        audio=round(longest * share[1]),
        completion=completion,
        reference=config.tuner == "full" and (stage == "dpo" or (grpo and config.beta > 0)),
        rollout=device * accumulation if by_trainer else 0,
    )


def _idle(config: Any) -> list[str]:
    return idle_settings(config) if isinstance(config, GRPOSettings) else []


def _left_out(
    encoded: list[Encoded] | None, fitting: list[Encoded], config: Any, estimated: bool
) -> list[str]:
    """Return a sentence about the rows that would not be trained on, if there are any."""
    count = len(encoded or ()) - len(fitting)
    if not count:
        return []
    about = "about " if estimated else ""
    return [
        f"{about}{count} of {len(encoded or ())} rows are longer than max_length "
        f"{config.max_length} or cannot be encoded; they would be set aside"
    ]


def _too_large(known: Known, step: str, config: Any, load: Load, needed: Memory) -> Iterator[str]:
    """Yield what does not fit a GPU, and what to change."""
    if not known.gpu_memory or needed.peak <= known.gpu_memory:
        return
    changes = []
    if not load.checkpointing:
        changes.append("set gradient_checkpointing")
    if config.per_device_batch_size > 1:
        changes.append("lower per_device_batch_size")
    if load.zero_stage < 3 and load.ranks > 1:
        changes.append(f"raise zero_stage from {load.zero_stage}")
    if load.tuner == "full":
        changes.append(
            "set tuner to lora" if load.ranks > 1 else "set tuner to lora, or take more GPUs"
        )
    if needed.cache > needed.activations + needed.logits and load.rollout:
        changes.append("lower batch_size, or roll out by vllm")
    changes.append("lower max_length")
    yield f"{_size(needed, known)}; {', '.join(changes)}"


def _size(needed: Memory, known: Known) -> str:
    assert known.gpu_memory
    return (
        f"does not fit: about {human_bytes(needed.peak)} of a GPU that has "
        f"{human_bytes(known.gpu_memory)}"
    )


def geometry_or_reason(
    recipe: Recipe, made: Mapping[str, Manifest]
) -> tuple[Geometry | None, str | None]:
    """Return the model's geometry, or why it is not known."""
    try:
        return model_geometry(recipe, made), None
    except OmnistageError as e:
        return None, (
            f"the model is not known here, so neither memory nor checkpoints are told: {e}. Name a "
            "folder with its config.json: --set 'model.sources=[{type: folder, path: FOLDER}]'"
        )
