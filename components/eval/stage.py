"""Evaluation: models on the same test records, and the report."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.eval.config import EvalSettings
from components.eval.gate import check_gate
from components.eval.models import common_base, models_of, named_models, reward_weights
from omnistage.files import write_atomic, write_json, write_jsonl
from omnistage.records.media_facts import split_files
from omnistage.stage.contract import Context, Result, Stage, always
from omnistage.stage.media import records_root
from omnistage.swift.encoding import Encoded, encode_records
from omnistage.swift.family import Family
from omnistage.swift.lineage import MODELS
from omnistage.swift.prepare import encoding_of
from omnistage.swift.training.curve import read_curve
from omnistage.swift.training.train import LIBRARIES

if TYPE_CHECKING:  # numpy and the template are loaded only where a report is made
    from components.eval.ask import Answers
    from components.eval.grading import Graded
    from components.eval.records import TestRecord
    from components.eval.report.data import ModelResult
    from components.eval.report.page import Report


def run(context: Context[EvalSettings]) -> Result:
    """Ask, grade, and write the report and ``judgements/<model>.jsonl``.

    The report is ``report.html``, and the same as ``report.json`` and ``report.md``.

    Raises:
        InputError: If no test record can be evaluated, or the last model does not reach what the
            settings require; the report is written all the same.
        StageFailedError: If the models cannot be asked.
    """
    # Here and not above: a look-up in the store needs neither numpy nor the page's template.
    from components.eval.provenance import card_findings, seeds, stage_runs
    from components.eval.records import box_frame, read_test_records
    from components.eval.report.data import ReportData
    from components.eval.report.page import build_report

    began, config = time.monotonic(), context.config
    root, models, base = records_root(context), named_models(context), common_base(context)
    family = base.family
    split = context.folder("records") / "test.jsonl"
    encoded: Sequence[Encoded] = ()
    if split.stat().st_size:
        encoded = encode_records(context, base, config.media, config.dtype, "test", root)
    sizes = box_frame(family, config.media)
    records = read_test_records(split, root, config.max_records, sizes, encoded)
    answers = _answers(context, family, records, root)
    weights, left_out = reward_weights(config, models)
    notes = [f"Rewards that ask a server are not computed here: {', '.join(left_out)}."]
    results, without = _grade(context, records, answers, list(weights))
    samples, rotated = grade_variants(context, records, answers)
    judged, unread = _judged(context, records, results)
    picked = _picked(context, family, records, samples, root)
    report = build_report(
        ReportData(
            recipe=config.title or "evaluation",
            models=results,
            records=records,
            ablations=without,
            samples=samples,
            judged=judged,
            picked=picked,
            picked_by=config.best_of_n_judge,
            rotated=rotated,
            protocols=config.protocols,
            reward_weights=weights,
            curves={
                name: read_curve(context.files(model) / "logs" / "logging.jsonl")
                for name, model in models.items()
                if model.kind != "BaseModel"
            },
            stages=stage_runs(context, time.monotonic() - began),
            seeds=seeds(context),
            cost_per_gpu_hour=config.cost_per_gpu_hour,
            currency=config.currency,
            notes=[*config.notes, *card_findings(context), *unread, *(notes if left_out else [])],
            bootstrap_samples=config.bootstrap_samples,
            bootstrap_seed=config.seed,
        )
    )
    return _finish(context, report, len(records))


def _answers(
    context: Context[EvalSettings],
    family: Family,
    records: "Sequence[TestRecord]",
    root: Path,
) -> "dict[str, Answers]":
    """Have the models answer the records, as they are, under each ablation, and in variants."""
    from components.eval.ask import ask
    from components.eval.records import prompts_of, tasks_of
    from components.eval.variants.ablation import Ablator
    from components.eval.variants.rotations import rotated_prompts
    from components.eval.variants.samples import sampled_prompts

    config, prompts = context.config, prompts_of(records)
    mute = context.store.scratch / "mute" / root.name
    ablator = Ablator(root, mute, sound_in_clips=config.media.use_audio_in_video)
    ablated = ablator.prompts_of(prompts, config.ablations, tasks_of(records))
    rotated = rotated_prompts(records, prompts) if config.rotate_options else []
    sampled = sampled_prompts(
        prompts, config.samples, config.sample_temperature, config.sample_top_p, config.seed
    )
    models = models_of(context, family)
    asked = [*prompts, *ablated, *rotated, *sampled]
    return ask(context, models, family, asked, [root, mute])


def _grade(
    context: Context[EvalSettings],
    records: "Sequence[TestRecord]",
    answers: "Mapping[str, Answers]",
    rewards: Sequence[str],
) -> "tuple[list[ModelResult], dict[str, list[ModelResult]]]":
    """Grade the answers, write ``judgements``, and return results as asked and by ablation."""
    from components.eval.grading import grade
    from components.eval.report.data import ModelResult
    from components.eval.variants.ablation import answers_to

    config = context.config
    results: list[ModelResult] = []
    without: dict[str, list[ModelResult]] = {ablation: [] for ablation in config.ablations}
    for name, found in answers.items():
        graded = grade(records, found, rewards, strict=config.strict)
        rows = [g.row(r) for g, r in zip(graded, records, strict=True)]
        write_jsonl(context.out / "judgements" / f"{name}.jsonl", rows)
        results.append(ModelResult(name, graded))
        for ablation, models in without.items():
            changed, said = answers_to(ablation, records, found)
            models.append(ModelResult(name, grade(changed, said, strict=config.strict)))
    return results, without


def grade_variants(
    context: Context[EvalSettings],
    records: "Sequence[TestRecord]",
    answers: "Mapping[str, Answers]",
) -> "tuple[dict[str, list[list[Graded]]], dict[str, dict[str, list[str | None]]]]":
    """Grade the samples, write ``samples``, and return them and the rotations, both by model."""
    from components.eval.grading import grade
    from components.eval.variants.rotations import rotated_answers
    from components.eval.variants.samples import sampled_answers, write_samples

    config = context.config
    samples: dict[str, list[list[Graded]]] = {}
    rotated: dict[str, dict[str, list[str | None]]] = {}
    for name, found in answers.items():
        if config.rotate_options:
            rotated[name] = rotated_answers(records, found, strict=config.strict)
        for number in range(1, config.samples + 1):
            said = sampled_answers(number, records, found)
            samples.setdefault(name, []).append(grade(records, said, strict=config.strict))
        if config.samples:
            write_samples(context.out / "samples" / f"{name}.jsonl", records, samples[name])
    return samples, rotated


def _judged(
    context: Context[EvalSettings],
    records: "Sequence[TestRecord]",
    results: "Sequence[ModelResult]",
) -> "tuple[dict[str, dict[str, float | None]], list[str]]":
    """Return the LLM judge's scores, if one is set, and notes on answers that it gave none."""
    from components.eval.judged import judge_answers, judge_notes

    judge = context.config.judge
    if judge is None:
        return {}, []
    models = {result.name: result.graded for result in results}
    judged = judge_answers(records, models, judge, context.store.uri)
    return judged, judge_notes(records, judged)


def _picked(
    context: Context[EvalSettings],
    family: Family,
    records: "Sequence[TestRecord]",
    samples: "Mapping[str, Sequence[Sequence[Graded]]]",
    root: Path,
) -> "dict[str, list[Graded]]":
    """Have the judge of the settings pick one sample of each record, of every model."""
    from components.eval.ask import ask
    from components.eval.variants.best_of_n import best_of

    config = context.config
    if not config.best_of_n_judge:
        return {}
    judge = [m for m in models_of(context, family) if m.name == config.best_of_n_judge]

    def asked(prompts: list[dict[str, Any]]) -> "Answers":
        return ask(context, judge, family, prompts, [root])[config.best_of_n_judge]

    return {name: best_of(records, of, asked, strict=config.strict) for name, of in samples.items()}


def _finish(context: Context[EvalSettings], report: "Report", records: int) -> Result:
    """Write the report, name what went wrong, and check it against what is required."""
    write_atomic(context.out / "report.html", report.html)
    write_atomic(context.out / "report.md", report.markdown)
    write_json(context.out / "report.json", report.json)
    for row in report.json["errors"][:10]:
        context.events.warn(f"{row['model']}: {row['id']}: {row['error']}; counted as wrong")
    page = str(context.out / "report.html")
    check_gate(report.json, context.config.require, page, context.step)
    headline = report.json["headline"]
    values = {name: value["value"] for name, value in headline["models"].items()}
    errors = len({row["id"] for row in report.json["errors"]})
    return Result(
        counts={"records": records, "errors": errors},
        metadata={headline["metric"]: values, "headline": headline},
    )


STAGE = Stage(
    name="eval",
    kind="EvalReport",
    version=5,
    config=EvalSettings,
    inputs={"data": "DatasetTarball", "records": "RewrittenJSONL", "model": MODELS},
    several=frozenset({"data", "model"}),
    # The media that are read are told by the split's own files.
    reads={"data": (), "records": split_files("test")},
    run=run,
    libraries=LIBRARIES,
    program="components.eval",
    preparation=encoding_of("test"),
    launched=always,
    max_nodes=1,
)
