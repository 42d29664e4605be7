"""Keep what a training has made: weights, logs, and what the manifest says of it."""

import shutil
from pathlib import Path
from typing import Any

from omnistage.stage.contract import Context, Result
from omnistage.store.manifest import Kind
from omnistage.swift.lineage import ADAPTER, Start
from omnistage.swift.rows import TrainingRows
from omnistage.swift.settings import TrainingSettings
from omnistage.swift.training.checkpoints import copy_model
from omnistage.swift.training.train import Trained

_LOGS = ("logging.jsonl", "completions.jsonl", "rewards.jsonl", "args.json")


def keep(
    context: Context[Any],
    start: Start,
    trained: Trained,
    rows: TrainingRows,
    config: TrainingSettings,
    **metadata: Any,
) -> Result:
    """Copy a training's weights and logs into the artifact, and say what was trained.

    The artifact gets ``model/``, a whole model folder, or ``adapter/`` for LoRA, and ``logs/``.

    Args:
        context: The stage's.
        start: What the training started from.
        trained: What it left.
        rows: What it was trained on.
        config: The stage's settings.
        metadata: What only this stage says.
    """
    made = "model" if config.tuner == "full" else ADAPTER
    copy_model(trained.checkpoint, context.out / made, base=start.name)
    _keep_logs(trained, context.work, context.out / "logs")
    return Result(
        counts={**rows.counts, "steps": trained.curve[-1]["step"]},
        metadata={
            "tuner": config.tuner,
            "lineage": start.lineage(config.tuner),
            "tokens": rows.tokens,
            "trainable": trained.checks.trainable,
            "training_seconds": round(trained.seconds, 3),
            "resumed_from_step": trained.resumed_from,
            **metadata,
        },
    )


def rl_kind(config: TrainingSettings) -> Kind:
    """Return the kind of artifact that a training stage after SFT makes."""
    return "RLCheckpoint" if config.tuner == "full" else "LoRAAdapter"


def _keep_logs(trained: Trained, work: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shutil.copy2(work / "train.log", target)
    for name in _LOGS:
        if (trained.logs / name).exists():
            shutil.copy2(trained.logs / name, target)
    if (trained.logs / "runs").is_dir():
        shutil.copytree(trained.logs / "runs", target / "runs")
