"""Supervised fine-tuning: a model and SFT records in, checkpoint and curve out."""

from components.sft.config import SFTSettings
from omnistage.records.media_facts import split_files
from omnistage.stage.contract import Context, Result, Stage, always
from omnistage.swift.checkpoints import copy_model
from omnistage.swift.lineage import MODELS, start_of
from omnistage.swift.rows import training_file, training_rows
from omnistage.swift.train import LIBRARIES, keep_logs, train, trainer_arguments


def run(context: Context[SFTSettings]) -> Result:
    """Train, and keep the last checkpoint's weights and the trainer's logs.

    The artifact has ``model/``, a whole model folder, or ``adapter/`` for LoRA, ``logs/``, and
    ``rejected.jsonl`` with the records that cannot be trained on.

    Raises:
        InputError: If a record's medium is missing or a setting does not fit ms-swift.
        StageFailedError: If the training fails.
    """
    config = context.config
    start = start_of(context, config)
    arguments = {
        "model": str(start.model),
        "adapters": [str(start.adapter)] if start.adapter else None,
        "dataset": [str(training_file(context, "sft"))],
    }
    trainer_arguments(context, "sft", arguments, config, start.family)
    rows = training_rows(context, start, config, "sft")
    trained = train(context, "sft", arguments, config=config, family=start.family, rows=rows)
    copy_model(
        trained.checkpoint,
        context.out / ("model" if config.tuner == "full" else "adapter"),
        base=start.name,
    )
    keep_logs(trained, context.work, context.out / "logs")
    last = trained.curve[-1]
    return Result(
        counts={**rows.counts, "steps": last["step"]},
        metadata={
            "tuner": config.tuner,
            "lineage": start.lineage(config.tuner),
            "loss": last["loss"],
            "tokens": rows.tokens,
            "trainable": trained.checks.trainable,
            "media_change": trained.checks.media,
            "steps_per_epoch": -(-rows.counts["records"] // config.batch_size),
            "token_accuracy": last.get("token_acc"),
            "training_seconds": round(trained.seconds, 3),
            "resumed_from_step": trained.resumed_from,
        },
    )


STAGE = Stage(
    name="sft",
    kind="SFTCheckpoint",
    version=4,
    config=SFTSettings,
    inputs={"data": "DatasetTarball", "records": "RewrittenJSONL", "start": MODELS},
    several=frozenset({"data"}),
    # The media that are read are told by the split's own files.
    reads={"data": (), "records": split_files("sft")},
    run=run,
    libraries=LIBRARIES,
    program="components.sft",
    launched=always,
)
