"""Supervised fine-tuning: a model and SFT records in, checkpoint and curve out."""

from components.sft.config import SFTSettings
from omnistage.records.media_facts import split_files
from omnistage.stage.contract import Context, Result, Stage, always
from omnistage.swift.lineage import MODELS, start_of
from omnistage.swift.prepare import encoding_of
from omnistage.swift.rows import training_file, training_rows
from omnistage.swift.training.keep import keep
from omnistage.swift.training.train import LIBRARIES, train, trainer_arguments


def run(context: Context[SFTSettings]) -> Result:
    """Train, and keep the last checkpoint's weights and the trainer's logs.

    The artifact has ``model/``, a whole model folder, or ``adapter/`` for LoRA, ``logs/``, and
    ``rejected.jsonl`` with the records that cannot be trained on, and ``data_card.md``, which sums
    up what is.

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
    last = trained.curve[-1]
    return keep(
        context,
        start,
        trained,
        rows,
        config,
        loss=last["loss"],
        token_accuracy=last.get("token_acc"),
        media_change=trained.checks.media,
        steps_per_epoch=-(-rows.counts["records"] // config.batch_size),
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
    preparation=encoding_of("sft"),
    launched=always,
)
