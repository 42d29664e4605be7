"""The difficulty filter: only prompts that the model at hand answers rightly now and then.

Before training, the model that a step starts from answers each prompt several times, as it will in
training. The mean of one reward over these answers is the prompt's accuracy; prompts within a band
are trained on (HumanOmniV2 keeps 0 < accuracy < .75). A group whose completions all earn the same
teaches nothing, and prompts that are never answered rightly cost as much as any.

What was seen is kept in the store, under a key of its own: the band, and all settings that decide
only about training, may change without asking again. A killed sampling goes on.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from components.grpo.config import DifficultySettings, GRPOSettings
from components.grpo.difficulty.sample import SampleSpec, sampled
from omnistage.errors import InputError, StageFailedError
from omnistage.files import counted, read_jsonl, write_atomic, write_jsonl
from omnistage.stage.contract import Context
from omnistage.stage.key import pinned_version
from omnistage.stage.media import data_digests
from omnistage.swift.encoding import encode_records, token_figures
from omnistage.swift.lineage import Start
from omnistage.swift.media import environment, facts_environment
from omnistage.swift.rows import TrainingRows
from omnistage.swift.settings import process_count
from omnistage.swift.training.train import LIBRARIES
from omnistage.torchrun import run as local
from omnistage.torchrun.job import TorchrunJob, gpu_count

TABLE = "difficulty.jsonl"
"""In the artifact: ``id``, ``accuracy`` (null where no answer was graded), and ``kept``."""
_VERSION = 1
_AREA, _SCORES = "difficulty", "scores.jsonl"
_POLL_SECONDS, _WAIT_SECONDS = 5, 24 * 3600


def within_band(context: Context[GRPOSettings], start: Start, rows: TrainingRows) -> TrainingRows:
    """Return the rows whose accuracy lies in the band of the step's ``difficulty``; all without it.

    Rows that the reward does not grade are kept. The trainer's file is written anew.

    Raises:
        InputError: If none is left; the message says how many were never and too often right.
        StageFailedError: If the model cannot be asked.
    """
    band = context.config.difficulty
    if band is None:
        return rows
    accuracy = _accuracies(context, start, rows, band)
    table = [{"id": i, "accuracy": a, "kept": _fits(a, band)} for i, a in accuracy.items()]
    write_jsonl(context.out / TABLE, table)
    kept = {row["id"] for row in table if row["kept"]}
    reasons = Counter(_reason(a, band) for i, a in accuracy.items() if i not in kept)
    told = f"{reasons['too hard']} too hard and {reasons['too easy']} too easy"
    if not kept:
        raise InputError(
            f"{context.step}.difficulty: no prompt's {band.reward} lies above {band.above} and "
            f"below {band.below}: {told}; widen the band, or train what it starts from further"
        )
    context.events.message(f"difficulty: {counted(len(kept), 'prompt')} kept, {told}")
    chosen = [row for row in read_jsonl(rows.path) if row["id"] in kept]
    write_jsonl(rows.path, chosen)
    left_out = {"too_hard": reasons["too hard"], "too_easy": reasons["too easy"]}
    counts = {**rows.counts, "records": len(kept), **left_out}
    return replace(rows, counts=counts, tokens=_figures(context, start, rows, kept))


def _fits(accuracy: float | None, band: DifficultySettings) -> bool:
    return accuracy is None or band.above < accuracy < band.below


def _reason(accuracy: float | None, band: DifficultySettings) -> str:
    return "too hard" if (accuracy or 0.0) <= band.above else "too easy"


def _figures(
    context: Context[GRPOSettings], start: Start, rows: TrainingRows, kept: set[Any]
) -> dict[str, Any]:
    """Return the token figures of the rows that are left; the encoding is in the store already."""
    config = context.config
    encoded = encode_records(context, start, config.media, config.dtype, "rl", rows.root)
    records = read_jsonl(rows.records)
    return token_figures([e for e, r in zip(encoded, records, strict=True) if r["id"] in kept])


def _accuracies(
    context: Context[GRPOSettings], start: Start, rows: TrainingRows, band: DifficultySettings
) -> dict[Any, float | None]:
    """Return each row's accuracy by its id, from the store or by asking the model."""
    ids = [row["id"] for row in read_jsonl(rows.path)]
    key, target = _key(context, start, ids, band), context.work / _SCORES
    if not _kept(context, key, target):
        if context.world.node_rank:
            _wait(context, key, target)
        else:
            _sample(context, start, rows, band)
            seen = sampled(context.work / _AREA)
            if seen.keys() != set(ids):
                raise StageFailedError(f"{context.step}: not every prompt was answered")
            write_jsonl(target, ({"id": i, "accuracy": seen[i]} for i in ids))
            context.store.save_work(_AREA, key, _SCORES, target)
    return {row["id"]: row["accuracy"] for row in read_jsonl(target)}


def _key(
    context: Context[GRPOSettings], start: Start, ids: list[Any], band: DifficultySettings
) -> str:
    config, start_from = context.config, context.inputs["start"]
    parts: Mapping[str, Any] = {
        "version": _VERSION,
        "start": start_from.digest,
        "records": [f.sha256 for f in context.inputs["records"].files if f.path == "rl.jsonl"],
        "rows": hashlib.sha256(orjson.dumps(ids)).hexdigest(),
        "data": data_digests(context),
        "asked": [band.samples, band.reward, config.reward_code.get(band.reward)],
        "sampling": [config.temperature, config.top_p, config.top_k, config.max_completion_length],
        "weights": [config.dtype, config.attn_impl, config.on_adapter],
        "media": config.media.model_dump(mode="json"),
        "seed": config.seed,
        "libraries": {name: pinned_version(name) for name in LIBRARIES},
    }
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def _kept(context: Context[Any], key: str, target: Path) -> bool:
    if _SCORES not in context.store.list_work(_AREA, key):
        return False
    context.store.fetch_work(_AREA, key, _SCORES, target)
    return True


def _wait(context: Context[Any], key: str, target: Path) -> None:
    """Wait for what node 0 sees."""
    since = time.monotonic()
    while not _kept(context, key, target):
        if time.monotonic() - since > _WAIT_SECONDS:
            raise StageFailedError(f"{context.step}: node 0 has not sampled the prompts in a day")
        time.sleep(_POLL_SECONDS)


def _sample(
    context: Context[GRPOSettings], start: Start, rows: TrainingRows, band: DifficultySettings
) -> None:
    """Have the model answer what it has not answered yet."""
    config, folder = context.config, context.work / _AREA
    folder.mkdir(exist_ok=True)
    spec = SampleSpec(
        model=str(start.model),
        adapter=str(start.adapter) if start.adapter else None,
        model_type=start.family.model_type,
        rows=str(rows.path),
        answers=str(folder),
        reward=band.reward,
        reward_code=config.reward_code,
        samples=band.samples,
        batch_size=max(config.per_device_batch_size, band.samples),
        max_completion_length=config.max_completion_length,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        dtype=config.dtype,
        attn_impl=config.attn_impl,
        seed=config.seed,
    )
    path = context.work / "difficulty.spec.json"
    write_atomic(path, spec.model_dump_json())
    total = rows.counts["records"]
    context.events.message(
        f"difficulty: {counted(band.samples, 'answer')} to each of {counted(total, 'prompt')}"
    )
    job = TorchrunJob(
        name="difficulty",
        program=("-m", "components.grpo.difficulty.sample", str(path)),
        log=context.work / "difficulty.log",
        env={
            **environment(config.media, gpu_count(), start.family),
            **facts_environment(rows.records.parent, rows.root),
        },
        nproc_per_node=process_count(context.runtime.nproc_per_node),
    )

    def follow() -> None:
        context.events.progress(len(sampled(folder)), total, "prompts")

    seconds = local.run(job, follow)
    context.events.emit("process", name=job.name, seconds=seconds)
