"""DPO: a model and RL records in, an adapter or checkpoint that prefers right verdicts out."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.dpo.config import DPOSettings
from omnistage.errors import InputError
from omnistage.files import read_jsonl, write_jsonl
from omnistage.records.media_facts import split_files
from omnistage.records.preference import preference
from omnistage.records.record import MEDIA
from omnistage.stage.contract import Context, Result, Stage, always
from omnistage.swift.lineage import MODELS, Start, start_of
from omnistage.swift.prepare import encoding_of
from omnistage.swift.rows import TrainingRows, training_rows
from omnistage.swift.training.keep import keep, rl_kind
from omnistage.swift.training.train import LIBRARIES, train, trainer_arguments

PREFERENCES = "preferences.jsonl"
"""The trainer's input file, in the work folder."""


def with_preferences(rows: TrainingRows) -> TrainingRows:
    """Write the right and the wrong answer into the trainer's file, with the media of both.

    Records without a preference are left out and counted as ``undecided``.

    Raises:
        InputError: If none is left.
    """

    def pairs() -> Iterator[dict[str, Any]]:
        for row in read_jsonl(rows.path):
            answers = preference(row)
            if answers:
                right = {"role": "assistant", "content": answers[0]}
                media = {name: row[name] for name in MEDIA if row.get(name)}
                yield {
                    "id": row.get("id"),
                    "messages": [*row["messages"], right],
                    "rejected_response": answers[1],
                    **media,
                }

    path = rows.path.with_name(PREFERENCES)
    count = write_jsonl(path, pairs())
    if not count:
        raise InputError(
            f"{rows.records}: no record has a preference; DPO learns judge records whose verdict "
            "is A or B"
        )
    undecided = rows.counts["records"] - count
    return replace(
        rows, path=path, counts={**rows.counts, "records": count, "undecided": undecided}
    )


def dpo_arguments(config: DPOSettings, start: Start, dataset: Path) -> dict[str, Any]:
    """Return the arguments of ``swift rlhf`` that only DPO has."""
    adapters = [str(start.adapter)] if start.adapter else None
    return {
        "rlhf_type": "dpo",
        "model": str(start.model),
        "adapters": adapters,
        "ref_adapters": adapters,
        "dataset": [str(dataset)],
        "beta": config.beta,
        "loss_type": [config.loss_type],
        "label_smoothing": config.label_smoothing,
        "rpo_alpha": config.sft_weight or None,
    }


def run(context: Context[DPOSettings]) -> Result:
    """Train, and keep what was trained with the trainer's logs.

    The artifact has ``adapter/``, or ``model/``, a whole model folder, where all weights were
    trained; ``logs/``; ``rejected.jsonl`` with the records that cannot be trained on; and
    ``data_card.md``, which sums up what is.

    Raises:
        InputError: If no record has a preference or a setting does not fit ms-swift.
        StageFailedError: If the training fails.
    """
    config = context.config
    start = start_of(context, config)
    arguments = dpo_arguments(config, start, context.work / PREFERENCES)
    trainer_arguments(context, "rlhf", arguments, config, start.family)
    rows = with_preferences(training_rows(context, start, config, "rl"))
    trained = train(
        context,
        "rlhf",
        arguments,
        config=config,
        family=start.family,
        rows=rows,
        figures=("loss", "rewards/accuracies"),
    )
    last = trained.curve[-1]
    return keep(
        context,
        start,
        trained,
        rows,
        config,
        loss=last["loss"],
        preference_accuracy=last.get("rewards/accuracies"),
        margin=last.get("rewards/margins"),
        media_change=trained.checks.media,
        steps_per_epoch=-(-rows.counts["records"] // config.batch_size),
    )


STAGE = Stage(
    name="dpo",
    kind="LoRAAdapter",
    choose_kind=rl_kind,
    version=1,
    config=DPOSettings,
    inputs={"data": "DatasetTarball", "records": "RewrittenJSONL", "start": MODELS},
    several=frozenset({"data"}),
    # The media that are read are told by the split's own files.
    reads={"data": (), "records": split_files("rl")},
    run=run,
    libraries=LIBRARIES,
    program="components.dpo",
    preparation=encoding_of("rl"),
    launched=always,
)
