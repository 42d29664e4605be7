"""Supervised fine-tuning: base model and SFT records in, checkpoint and curve out."""

from components.sft.config import SFTSettings
from omnistage.archives.media_root import media_root
from omnistage.records.media_facts import split_files
from omnistage.records.training_data import write_training_file
from omnistage.stage.contract import Context, Result, Stage, always
from omnistage.store.manifest import content_name
from omnistage.swift.checkpoints import copy_model
from omnistage.swift.family import family_of
from omnistage.swift.train import LIBRARIES, keep_logs, train


def run(context: Context[SFTSettings]) -> Result:
    """Train, and keep the last checkpoint's weights and the trainer's logs.

    The artifact has ``model/``, a whole model folder, or ``adapter/`` for LoRA, and ``logs/``.

    Raises:
        InputError: If a record's medium is missing or a setting does not fit ms-swift.
        StageFailedError: If the training fails.
    """
    config = context.config
    data = context.inputs["data"]
    root = media_root(context.folder("data"), data.digest, context.store.scratch, context.events)
    dataset = context.work / "sft.jsonl"
    model = context.folder("model") / "files"
    records = write_training_file(
        context.folder("records") / "sft.jsonl",
        root,
        dataset,
        context.events,
        model=model,
        gold=False,
    )
    family = family_of(context.inputs["model"], model)
    arguments = {"model": str(model), "dataset": [str(dataset)]}
    trained = train(context, "sft", arguments, config=config, family=family)
    copy_model(
        trained.checkpoint,
        context.out / ("model" if config.tuner == "full" else "adapter"),
        base=f"{content_name(context.inputs['model'])}/files",
    )
    keep_logs(trained, context.work, context.out / "logs")
    last = trained.curve[-1]
    return Result(
        counts={"records": records, "steps": last["step"]},
        metadata={
            "tuner": config.tuner,
            "loss": last["loss"],
            "token_accuracy": last.get("token_acc"),
            "training_seconds": round(trained.seconds, 3),
            "resumed_from_step": trained.resumed_from,
        },
    )


STAGE = Stage(
    name="sft",
    kind="SFTCheckpoint",
    version=1,
    config=SFTSettings,
    inputs={"data": "DatasetTarball", "records": "RewrittenJSONL", "model": "BaseModel"},
    # The media that are read are told by the split's own files.
    reads={"data": (), "records": split_files("sft")},
    run=run,
    libraries=LIBRARIES,
    program="components.sft",
    launched=always,
)
