"""Having the models answer, once: answers are kept apart from what is made of them.

A model's answers lie in the store's scratch folder under a key over the model, the data set, the
bounds on media and the decoding; each under a digest of its prompt. So a killed evaluation goes on,
and a model is not asked again when a metric, a report setting, the test split or another model
changes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson

from components.eval.config import EvalSettings
from components.eval.generate import JudgedModel, JudgeSpec, answered
from omnistage.errors import StageFailedError
from omnistage.files import locked, write_atomic, write_jsonl
from omnistage.records.record import MEDIA
from omnistage.stage.contract import Context
from omnistage.stage.key import pinned_version
from omnistage.stage.media import data_digests
from omnistage.swift.family import Family
from omnistage.swift.media import environment, facts_environment
from omnistage.swift.settings import process_count
from omnistage.swift.training.train import LIBRARIES
from omnistage.torchrun import run as local
from omnistage.torchrun.job import TorchrunJob, gpu_count

Answers = dict[str, Mapping[str, Any]]


def ask(
    context: Context[EvalSettings],
    models: Sequence[JudgedModel],
    family: Family,
    prompts: Sequence[Mapping[str, Any]],
    roots: Sequence[Path],
) -> dict[str, Answers]:
    """Have every model answer every prompt; return ``text`` or ``error`` by model and prompt id.

    Args:
        context: Of the stage.
        models: The models.
        family: Theirs.
        prompts: With ``id``, ``messages`` and absolute media paths; with ``sampling`` where the
            answer is not the greedy one.
        roots: The media root, and further folders that media lie in; they do not count for a
            prompt's digest.

    Raises:
        StageFailedError: If the models cannot be asked, or one could answer nothing.
    """
    digests = {prompt["id"]: _digest(prompt, roots) for prompt in prompts}
    distinct = {digests[p["id"]]: {**p, "id": digests[p["id"]]} for p in prompts}
    folders = {m.name: _folder(context, m) for m in models}
    with ExitStack() as held:
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(folder / "lock", "eval"))
        _run(
            context,
            [m.model_copy(update={"answers": str(folders[m.name])}) for m in models],
            family,
            list(distinct.values()),
            roots[0],
        )
        found = {name: answered(folder) for name, folder in folders.items()}
    for name, rows in found.items():
        failed = [rows[d]["error"] for d in distinct if d in rows and "error" in rows[d]]
        if distinct and len(failed) == len(distinct):
            raise StageFailedError(f"model {name} could answer none of the prompts: {failed[0]}")
    return {
        name: {i: rows[d] for i, d in digests.items() if d in rows} for name, rows in found.items()
    }


def _run(
    context: Context[EvalSettings],
    models: list[JudgedModel],
    family: Family,
    prompts: list[dict[str, Any]],
    root: Path,
) -> None:
    """Start the program for what has no answer yet."""
    config = context.config
    asked = {p["id"] for p in prompts}

    def done() -> int:
        return sum(len(asked & answered(Path(m.answers)).keys()) for m in models)

    total = len(prompts) * len(models)
    if done() == total:
        context.events.message(f"{total:,} answers are there already")
        return
    spec = JudgeSpec(
        models=models,
        prompts=str(context.work / "prompts.jsonl"),
        batch_size=config.batch_size,
        max_completion_length=config.max_completion_length,
        dtype=config.dtype,
        attn_impl=config.attn_impl,
        model_type=family.model_type,
    )
    write_jsonl(Path(spec.prompts), prompts)
    write_atomic(context.work / "judge.json", spec.model_dump_json())
    job = TorchrunJob(
        name="judge",
        program=("-m", "components.eval.generate", str(context.work / "judge.json")),
        log=context.work / "judge.log",
        env={
            **environment(config.media, gpu_count(), family),
            **facts_environment(context.folder("records"), root),
        },
        nproc_per_node=process_count(context.runtime.nproc_per_node),
    )

    def follow() -> None:
        lines = sum(
            path.read_bytes().count(b"\n")
            for m in models
            for path in Path(m.answers).glob("*.jsonl")
        )
        context.events.progress(min(lines, total), total, "answers")

    seconds = local.run(job, follow)
    context.events.emit("process", name=job.name, seconds=seconds)


def _folder(context: Context[EvalSettings], model: JudgedModel) -> Path:
    config = context.config
    counts = {
        "model": model.digests,
        "data": data_digests(context),
        "media": config.media.model_dump(mode="json"),
        "decoding": [config.max_completion_length, config.batch_size],
        "weights": [config.dtype, config.attn_impl],
        "libraries": {name: pinned_version(name) for name in LIBRARIES},
    }
    key = hashlib.sha256(orjson.dumps(counts, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return context.store.scratch / "answers" / key[:32]


def _digest(prompt: Mapping[str, Any], roots: Sequence[Path]) -> str:
    media = {k: [_relative(Path(p), roots) for p in prompt.get(k, ())] for k in MEDIA}
    sampling = [prompt["sampling"]] if "sampling" in prompt else []
    return hashlib.sha256(orjson.dumps([prompt["messages"], media, *sampling])).hexdigest()


def _relative(path: Path, roots: Sequence[Path]) -> str:
    """Return a path below the first root, or below another one, whose name then stands before."""
    number, root = next((n, r) for n, r in enumerate(roots) if path.is_relative_to(r))
    return f"{root.name}:{path.relative_to(root)}" if number else str(path.relative_to(root))
