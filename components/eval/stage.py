"""Evaluation: base, SFT and GRPO model on the same test records, and the report."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from components.eval.config import EvalSettings, ModelName
from components.eval.generate import JudgeSpec, answered
from components.eval.models import models_of, reward_weights
from components.eval.report.data import ModelResult, ReportData, StageRun
from components.eval.tasks.pairwise import (
    judgements_of,
    prompts_of,
    read_test_records,
    report_record,
)
from omnistage.archives.media_root import media_root
from omnistage.files import write_atomic, write_json, write_jsonl
from omnistage.stage.contract import Context, Result, Stage, always
from omnistage.stage.key import pinned_version
from omnistage.store.manifest import Manifest
from omnistage.swift.curve import read_curve
from omnistage.swift.family import family_of
from omnistage.swift.media import environment
from omnistage.swift.settings import process_count
from omnistage.swift.train import LIBRARIES
from omnistage.torchrun import run as local
from omnistage.torchrun.job import TorchrunJob, gpu_count


def ask(
    context: Context[EvalSettings], prompts: list[dict[str, Any]]
) -> dict[ModelName, dict[str, str]]:
    """Have every model answer every prompt and return the answers by model and prompt id."""
    config = context.config
    folder = context.work / "answers"
    folder.mkdir(exist_ok=True)
    write_jsonl(context.work / "prompts.jsonl", prompts)
    models = models_of(context)
    family = family_of(context.inputs["model"], context.folder("model") / "files")
    spec = JudgeSpec(
        models=models,
        prompts=str(context.work / "prompts.jsonl"),
        answers=str(folder),
        batch_size=config.batch_size,
        max_completion_length=config.max_completion_length,
        dtype=config.dtype,
        attn_impl=config.attn_impl,
        model_type=family.model_type,
    )
    write_atomic(context.work / "judge.json", spec.model_dump_json())
    for model in models:
        answered(folder, model.name)  # cuts what a killed run left half-written
    job = TorchrunJob(
        name="judge",
        program=("-m", "components.eval.generate", str(context.work / "judge.json")),
        log=context.work / "judge.log",
        env=environment(config.media, gpu_count(), family),
        nproc_per_node=process_count(context.runtime.nproc_per_node),
    )
    total = len(prompts) * len(models)

    def follow() -> None:
        done = sum(path.read_bytes().count(b"\n") for path in folder.glob("*.jsonl"))
        context.events.progress(done, total, "answers")

    seconds = local.run(job, follow)
    context.events.emit("process", name=job.name, seconds=seconds)
    return {model.name: answered(folder, model.name) for model in models}


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


def _seeds(inputs: Mapping[str, Manifest], config: EvalSettings) -> dict[str, int]:
    seeds = {
        m.stage: m.produced_by["config"]["seed"]
        for m in inputs.values()
        if isinstance(m.produced_by["config"].get("seed"), int)
    }
    return {**seeds, "eval": config.seed}


def run(context: Context[EvalSettings]) -> Result:
    """Judge, grade, and write ``report.html``, ``report.json`` and ``judgements/<model>.jsonl``.

    Raises:
        InputError: If the test split is empty or not of pairs.
        StageFailedError: If the models cannot be asked.
    """
    # Here and not above: a look-up in the store needs neither numpy nor the page's template.
    from components.eval.report.page import build_report

    config = context.config
    data = context.inputs["data"]
    root = media_root(context.folder("data"), data.digest, context.store.scratch, context.events)
    model = context.folder("model") / "files"
    records = context.folder("records") / "test.jsonl"
    rows = read_test_records(records, root, model, config.max_records)
    answers = ask(context, prompts_of(rows))
    weights, left_out = reward_weights(config, context.inputs.get("grpo"))
    notes = [f"Rewards of GRPO that ask a server are not computed here: {', '.join(left_out)}."]
    results = []
    for name, texts in answers.items():
        judgements = judgements_of(rows, texts, list(weights))
        write_jsonl(context.out / "judgements" / f"{name}.jsonl", map(dict, judgements))
        results.append(ModelResult(name, judgements))
    trained: Sequence[ModelName] = [n for n in get_args(ModelName) if n in context.inputs]
    report = build_report(
        ReportData(
            recipe=config.title or "evaluation",
            models=results,
            records=[report_record(row) for row in rows],
            reward_weights=weights,
            curves={n: read_curve(context.folder(n) / "logs" / "logging.jsonl") for n in trained},
            stages=stage_runs(context),
            seeds=_seeds(context.inputs, config),
            notes=[*config.notes, *(notes if left_out else [])],
            bootstrap_samples=config.bootstrap_samples,
            bootstrap_seed=config.seed,
        )
    )
    write_atomic(context.out / "report.html", report.html)
    write_json(context.out / "report.json", report.json)
    accuracy = {n: m["accuracy"]["value"] for n, m in report.json["models"].items()}
    return Result(counts={"records": len(rows)}, metadata={"accuracy": accuracy})


STAGE = Stage(
    name="eval",
    kind="EvalReport",
    version=2,
    config=EvalSettings,
    inputs={
        "data": "DatasetTarball",
        "records": "RewrittenJSONL",
        "model": "BaseModel",
        "sft": "SFTCheckpoint",
        "grpo": "LoRAAdapter",
    },
    optional=frozenset({"sft", "grpo"}),
    run=run,
    libraries=LIBRARIES,
    program="components.eval",
    launched=always,
    max_nodes=1,
)
