"""Evaluation: base, SFT and GRPO model on the same test records, and the report."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from components.eval.config import EvalSettings, ModelName
from components.eval.judge import JudgedModel, JudgeSpec, answered
from components.eval.report_data import (
    Answer,
    EvalRecord,
    Judgement,
    ModelResult,
    ReportData,
    StageRun,
)
from components.grpo.rewards import REWARDS
from omnistage.artifacts import Manifest
from omnistage.errors import InputError, StageFailedError
from omnistage.files import write_atomic, write_json, write_jsonl
from omnistage.launch import local
from omnistage.launch.job import Job, gpu_count
from omnistage.materialize import media_root
from omnistage.pairs import candidates, find_candidates, swap_candidates
from omnistage.records import prompt_of
from omnistage.stage import Context, Result, Stage, pinned_version
from omnistage.swift.curve import read_curve
from omnistage.swift.media import environment
from omnistage.swift.settings import process_count
from omnistage.swift.train import LIBRARIES
from omnistage.training_data import MEDIA, with_media_root
from omnistage.verdict import VerdictError, parse_verdict, swap_better, swap_json

SWAPPED = "#swapped"


def read_test_records(path: Path, root: Path, most: int | None) -> list[dict[str, Any]]:
    """Return the test records with absolute media paths.

    Raises:
        InputError: If there is none, or one is not a pair to judge.
    """
    rows = []
    for number, row in enumerate(with_media_root(path, root), 1):
        if row["task"] != "judge" or candidates(prompt_of(row)) is None:
            raise InputError(
                f"{path}:{number} ({row['id']}): task {row['task']!r} without two candidates; this "
                "stage evaluates pairwise judging"
            )
        rows.append(row)
        if len(rows) == most:
            break
    if not rows:
        raise InputError(f"{path}: no test records; eval needs a test split")
    return rows


def prompts_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return two prompts a record, in its own order and with the candidates exchanged.

    They are grouped by medium, so that a batch needs little padding.
    """
    prompts = []
    for row in rows:
        media = {k: row[k] for k in MEDIA if row.get(k)}
        messages = prompt_of(dict(row))
        prompts.append({"id": row["id"], "messages": messages, **media})
        swapped = swap_candidates(messages, row["id"])
        prompts.append({"id": row["id"] + SWAPPED, "messages": swapped, **media})
    return sorted(prompts, key=lambda p: [k in p for k in MEDIA])


def modality_of(row: Mapping[str, Any]) -> str:
    """Return ``image``, ``audio``, ``video``, several joined by ``+``, or ``text``."""
    return "+".join(name.removesuffix("s") for name in MEDIA if row.get(name)) or "text"


def judgements_of(
    rows: Sequence[Mapping[str, Any]], answers: Mapping[str, str], rewards: Sequence[str]
) -> list[Judgement]:
    """Grade a model's answers.

    A reward is the mean over both orders, each graded against the gold verdict for its own order.

    Args:
        rows: The test records.
        answers: Text by prompt id.
        rewards: Names of the rewards.

    Raises:
        StageFailedError: If an answer is missing.
    """
    missing = [r["id"] for r in rows for s in ("", SWAPPED) if r["id"] + s not in answers]
    if missing:
        raise StageFailedError(f"{len(missing)} answers are missing, the first of {missing[0]}")
    columns = {k: [row.get(k) for row in rows] for k in ("solution", "messages", "cmp_gt")}
    mirrored = {**columns, "solution": [swap_json(row["solution"]) for row in rows]}
    graded: dict[str, list[float | None]] = {}
    for name in rewards:
        first = REWARDS[name]([answers[r["id"]] for r in rows], **columns)
        second = REWARDS[name]([answers[r["id"] + SWAPPED] for r in rows], **mirrored)
        graded[name] = [
            None if a is None or b is None else (a + b) / 2
            for a, b in zip(first, second, strict=True)
        ]
    return [
        Judgement(
            id=row["id"],
            modality=modality_of(row),
            gold=parse_verdict(row["solution"]).better,
            first=_answer(answers[row["id"]], mirrored=False),
            second=_answer(answers[row["id"] + SWAPPED], mirrored=True),
            rewards={name: graded[name][n] for name in rewards},
        )
        for n, row in enumerate(rows)
    ]


def _answer(text: str, *, mirrored: bool) -> Answer:
    try:
        verdict = parse_verdict(text, strict=True)
    except VerdictError:
        return Answer(text=text, valid=False, better=None)
    better = swap_better(verdict.better) if mirrored else verdict.better
    return Answer(text=text, valid=True, better=better)


def models_of(context: Context[EvalSettings]) -> list[JudgedModel]:
    """Return the models to ask: those the settings name and the inputs have."""
    base = str(context.folder("model") / "files")
    models = {"base": JudgedModel(name="base", model=base)}
    if "sft" in context.inputs:
        folder = context.folder("sft")
        lora = (folder / "adapter").is_dir()
        models["sft"] = JudgedModel(
            name="sft",
            model=base if lora else str(folder / "model"),
            adapter=str(folder / "adapter") if lora else None,
        )
    if "grpo" in context.inputs:
        start = models["sft"] if context.inputs["grpo"].metadata["start_from"] == "sft" else None
        # An adapter that GRPO trained on from an SFT adapter holds both, so it replaces that one.
        models["grpo"] = JudgedModel(
            name="grpo",
            model=start.model if start else base,
            adapter=str(context.folder("grpo") / "adapter"),
        )
    return [models[name] for name in context.config.models if name in models]


def ask(
    context: Context[EvalSettings], prompts: list[dict[str, Any]]
) -> dict[ModelName, dict[str, str]]:
    """Have every model answer every prompt and return the answers by model and prompt id."""
    config = context.config
    folder = context.work / "answers"
    folder.mkdir(exist_ok=True)
    write_jsonl(context.work / "prompts.jsonl", prompts)
    models = models_of(context)
    spec = JudgeSpec(
        models=models,
        prompts=str(context.work / "prompts.jsonl"),
        answers=str(folder),
        batch_size=config.batch_size,
        max_completion_length=config.max_completion_length,
        dtype=config.dtype,
        attn_impl=config.attn_impl,
    )
    write_atomic(context.work / "judge.json", spec.model_dump_json())
    for model in models:
        answered(folder, model.name)  # cuts what a killed run left half-written
    job = Job(
        name="judge",
        program=("-m", "components.eval.judge", str(context.work / "judge.json")),
        log=context.work / "judge.log",
        env=environment(config.media, gpu_count()),
        nproc_per_node=process_count(context.runtime.nproc_per_node),
    )
    total = len(prompts) * len(models)

    def follow() -> None:
        done = sum(path.read_bytes().count(b"\n") for path in folder.glob("*.jsonl"))
        context.events.progress(done, total, "answers")

    seconds = local.run(job, follow)
    context.events.emit("process", name=job.name, seconds=seconds)
    return {model.name: answered(folder, model.name) for model in models}


def report_record(row: Mapping[str, Any]) -> EvalRecord:
    """Return a test record as the report shows it."""
    pair = candidates(prompt_of(dict(row)))
    assert pair is not None  # read_test_records has checked it
    user = next(m["content"] for m in prompt_of(dict(row)) if find_candidates(m["content"]))
    kind = next((k for k in ("videos", "images", "audios") if row.get(k)), None)
    asked = re.search(r"^Question:[ \t]*(.+)$", user, re.MULTILINE)
    found = find_candidates(user)
    before = user[: found.first[0]] if found else user
    question = asked[1] if asked else re.sub(r"<(image|audio|video)>", "", before).strip()
    return EvalRecord(
        id=row["id"],
        modality=modality_of(row),
        question=question,
        response_a=pair[0],
        response_b=pair[1],
        gold=parse_verdict(row["solution"]).better,
        media=Path(row[kind][0]) if kind else Path(),
        media_type={"videos": "video", "audios": "audio"}.get(kind or "", "image"),  # pyright: ignore[reportArgumentType]
    )


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
    from components.eval.report import build_report

    config = context.config
    data = context.inputs["data"]
    root = media_root(context.folder("data"), data.digest, context.store.scratch, context.events)
    rows = read_test_records(context.folder("records") / "test.jsonl", root, config.max_records)
    answers = ask(context, prompts_of(rows))
    results = []
    for name, texts in answers.items():
        judgements = judgements_of(rows, texts, list(config.reward_weights))
        write_jsonl(context.out / "judgements" / f"{name}.jsonl", map(dict, judgements))
        results.append(ModelResult(name, judgements))
    trained: Sequence[ModelName] = [n for n in get_args(ModelName) if n in context.inputs]
    report = build_report(
        ReportData(
            recipe=config.title or "evaluation",
            models=results,
            records=[report_record(row) for row in rows],
            reward_weights=config.reward_weights,
            curves={n: read_curve(context.folder(n) / "logs" / "logging.jsonl") for n in trained},
            stages=stage_runs(context),
            seeds=_seeds(context.inputs, config),
            notes=config.notes,
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
    version=1,
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
)
