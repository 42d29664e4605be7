"""Run ms-swift to the end: launch, follow, resume."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omnistage.errors import InputError, OmnistageError, StageFailedError
from omnistage.stage.contract import Context, NodeDone
from omnistage.swift.arguments import Command, check_arguments, command_line
from omnistage.swift.checks.spec import FOUND, VARIABLE, Found, checks_spec
from omnistage.swift.checks.spec import NAME as CHECKS
from omnistage.swift.family import Family
from omnistage.swift.media import RECORDS_VARIABLE, environment, facts_environment
from omnistage.swift.rows import TrainingRows
from omnistage.swift.settings import TrainingSettings, process_count, split_batch
from omnistage.swift.training.checkpoints import checkpoints, is_last, newest_whole, step_of
from omnistage.swift.training.curve import read_curve
from omnistage.swift.training.follow import Follow
from omnistage.swift.training.saved import SavedCheckpoints
from omnistage.torchrun import run as local
from omnistage.torchrun.job import SILENCE_SECONDS, TorchrunJob, gpu_count

_PLUGINS = Path(__file__).parents[1] / "plugins"
PLUGINS = tuple(_PLUGINS / name for name in ("templates.py", "checks.py", "plots.py"))
"""The plugins that register omnistage's templates and checks with ms-swift."""

VLLM_ON_CPU = _PLUGINS / "vllm_on_cpu.py"
"""The plugin that lets vLLM take the trainer's weights where there is no GPU."""

LIBRARIES = ("ms-swift", "peft", "torch", "transformers", "trl")
"""What decides the result of a training stage."""


_LOADED = re.compile(r"train_dataset: Dataset\(\{[^}]*?num_rows: (\d+)")


@dataclass(frozen=True)
class Trained:
    """What a finished training left."""

    checkpoint: Path
    curve: list[dict[str, Any]]
    logs: Path
    """Folder with ``logging.jsonl`` and the trainer's other logs."""
    seconds: float
    resumed_from: int | None
    """Step of the checkpoint that this attempt went on from."""
    checks: Found
    """What was seen before the first step."""


def _lora_arguments(config: TrainingSettings) -> dict[str, Any]:
    """Return the arguments of an adapter."""
    return {
        "lora_rank": config.lora_rank,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "target_modules": config.target_modules,
    }


def common_arguments(
    config: TrainingSettings, family: Family, processes: int, where: str
) -> dict[str, Any]:
    """Return the arguments of ``swift sft`` and ``swift rlhf`` alike.

    Args:
        config: The stage's settings.
        family: The model's.
        processes: Training processes in all.
        where: Recipe section, for errors.
    """
    gpus = gpu_count()
    device, accumulation = split_batch(
        config.batch_size, config.per_device_batch_size, processes, where
    )
    lora = config.tuner == "lora"
    return {
        "model_type": family.model_type,
        "template": family.omnistage_template,
        "external_plugins": [str(path) for path in PLUGINS],
        "callbacks": [CHECKS],
        "check_model": False,
        "tuner_type": config.tuner,
        **(_lora_arguments(config) if lora else {}),
        "target_parameters": _expert_weights(config, family, where),
        "freeze_vit": config.freeze_vit,
        "freeze_aligner": config.freeze_aligner,
        "num_train_epochs": config.epochs,
        "max_steps": config.max_steps,
        "per_device_train_batch_size": device,
        "gradient_accumulation_steps": accumulation,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.lr_scheduler,
        "warmup_ratio": config.warmup_ratio,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "max_length": config.max_length,
        # Every row is known to fit and to be encodable: a surprise ends the run with its name.
        "truncation_strategy": "delete",
        "strict": True,
        "torch_dtype": config.dtype,
        "attn_impl": config.attn_impl,
        "gradient_checkpointing": config.gradient_checkpointing,
        "deepspeed": f"zero{config.zero_stage}" if gpus and config.zero_stage else None,
        "use_cpu": None if gpus else True,
        "ddp_backend": "gloo" if processes > 1 and not gpus else None,
        "seed": config.seed,
        "data_seed": config.seed,
        "split_dataset_ratio": 0.0,
        "dataset_num_proc": 1,
        "load_from_cache_file": False,
        "dataloader_num_workers": config.workers,
        "save_steps": config.save_steps,
        "save_total_limit": config.save_total_limit,
        "logging_steps": config.logging_steps,
        "logging_first_step": True,
        "report_to": list(config.report_to) or ["none"],
        "add_version": False,
    }


def trainer_arguments(
    context: Context[Any],
    command: Command,
    arguments: Mapping[str, Any],
    config: TrainingSettings,
    family: Family,
) -> dict[str, Any]:
    """Return all arguments of the trainer, checked; a stage asks before it encodes its records.

    Args:
        context: The stage's.
        command: ms-swift's sub-command.
        arguments: The stage's own arguments; they and ``config.swift_arguments`` are put over
            :func:`common_arguments`.
        config: The stage's settings.
        family: The model's.

    Raises:
        InputError: If an argument is wrong, or the batch does not divide by the processes.
    """
    processes = process_count(context.runtime.nproc_per_node) * context.world.nodes
    everything = {
        **common_arguments(config, family, processes, context.step),
        **arguments,
        **config.swift_arguments,
        "output_dir": str(output_folder(context)),
    }
    check_arguments(command, everything, f"{context.step}.swift_arguments")
    return everything


def refuse_hanging(
    config: TrainingSettings, family: Family, rows: TrainingRows, gpus: int, where: str
) -> None:
    """Refuse what is known to hang: the audio encoder of Qwen2.5-Omni under ZeRO-3.

    A process whose batch has no sound does not call that encoder, and the others wait for it for
    ever (ms-swift's ``Qwen2_5OmniTemplate._post_encode``).

    Raises:
        InputError: If this training would.
    """
    heard = rows.tokens["by_modality"].get("audio", 0)
    if gpus and config.zero_stage == 3 and heard and family.model_type == "qwen2_5_omni":
        raise InputError(
            f"{where}.zero_stage: 3 hangs when {family.title} hears and a batch of one process has "
            "no sound; set it to 2"
        )


def _expert_weights(config: TrainingSettings, family: Family, where: str) -> list[str] | None:
    """Return the weights of experts that get an adapter beside the linear layers, if any.

    Raises:
        InputError: If they should have dropout, which peft does not offer for them.
    """
    if not family.experts or config.tuner != "lora" or config.target_modules != ["all-linear"]:
        return None
    if config.lora_dropout:
        raise InputError(
            f"{where}.lora_dropout: {family.title}'s experts get adapters, which peft gives no "
            "dropout: set it to 0"
        )
    return list(family.experts)


def output_folder(context: Context[Any]) -> Path:
    """Return the folder that the trainer writes checkpoints and logs to."""
    return context.work / "output"


def train(
    context: Context[Any],
    command: Command,
    arguments: Mapping[str, Any],
    *,
    config: TrainingSettings,
    family: Family,
    rows: TrainingRows,
    watch: Callable[[bytes], str | None] | None = None,
    figures: tuple[str, ...] = ("loss",),
    media_checked: bool = False,
) -> Trained:
    """Train, going on from the newest whole checkpoint of an earlier attempt.

    Args:
        context: The stage's.
        command: ms-swift's sub-command.
        arguments: The stage's own, see :func:`trainer_arguments`.
        config: The stage's settings.
        family: The model's.
        rows: What is trained on.
        watch: Sees each line of ``logging.jsonl``; a text that it returns stops the training.
        figures: Which logged figures the progress line shows.
        media_checked: Whether it is known that the media reach the model.

    Raises:
        InputError: If an argument is wrong, or something else would be trained than was asked for.
        StageFailedError: If the training fails or is stopped by ``watch``.
        NodeDone: When it has ended well, on a node that is not node 0.
    """
    refuse_hanging(config, family, rows, gpu_count(), context.step)
    processes = process_count(context.runtime.nproc_per_node)
    world, output = context.world, output_folder(context)
    output.mkdir(exist_ok=True)
    everything = trainer_arguments(context, command, arguments, config, family)
    saved = _saved_checkpoints(context, processes)
    resume, over = _earlier(context, output)
    if resume:
        everything["resume_from_checkpoint"] = str(resume)
    checks = checks_spec(config, family, None if media_checked else str(rows.path))
    env = {
        **environment(config.media, gpu_count(), family),
        **facts_environment(rows.records.parent, rows.root),
        RECORDS_VARIABLE: str(rows.records),
        VARIABLE: checks.model_dump_json(),
    }
    job = _job(context, command, everything, env, processes)
    log = output / "logging.jsonl"
    follow = Follow(context, log, figures, watch, log.stat().st_size if log.exists() else 0)
    seconds = 0.0 if over else _launch(context, job, follow, saved, output / FOUND)
    if saved:
        saved.wait()
    if world.node_rank:
        raise NodeDone
    found, curve = checkpoints(output), read_curve(log)
    if not found or not curve:
        raise StageFailedError(f"{context.step}: the trainer ended without a checkpoint; {job.log}")
    _check_rows(job.log, rows)
    resumed = step_of(resume) if resume else None
    return Trained(found[0], curve, output, seconds, resumed, _found(output / FOUND))


def _job(
    context: Context[Any],
    command: Command,
    arguments: Mapping[str, Any],
    env: dict[str, str],
    processes: int,
) -> TorchrunJob:
    """Return the training processes of this node."""
    return TorchrunJob(
        name=f"swift {command}",
        program=(_program(command), *command_line(arguments)),
        log=context.work / "train.log",
        env=env,
        nproc_per_node=processes,
        world=context.world,
        silence=SILENCE_SECONDS,
    )


def _earlier(context: Context[Any], output: Path) -> tuple[Path | None, bool]:
    """Return the newest whole checkpoint of an earlier attempt, and whether it is the last one."""
    resume = newest_whole(output)
    if resume is None:
        return None, False
    over = is_last(resume)
    how = "the training had ended at" if over else "going on from"
    context.events.message(f"{how} step {step_of(resume)}")
    return resume, over


def _check_rows(log: Path, rows: TrainingRows) -> None:
    """Compare the rows that the trainer says it has loaded with those it was given.

    Raises:
        StageFailedError: If it has left some out.
    """
    loaded = _LOADED.findall(log.read_text(errors="replace"))
    if loaded and int(loaded[-1]) != rows.counts["records"]:
        raise StageFailedError(
            f"{log}: the trainer has loaded {loaded[-1]} of {rows.counts['records']} rows"
        )


def _saved_checkpoints(context: Context[Any], processes: int) -> SavedCheckpoints | None:
    """Return the checkpoints in the store, the newest fetched, or None where none are kept."""
    if not context.runtime.keep_checkpoints:
        return None
    saved = SavedCheckpoints(
        context.store,
        context.name,
        context.key,
        context.work,
        context.world,
        processes,
        context.events,
    )
    saved.restore()
    return saved


def _program(command: Command) -> str:
    module = find_spec(f"swift.cli.{command}")
    if module is None or module.origin is None:
        raise InputError("ms-swift is not installed here: install omnistage with its extra `train`")
    return module.origin


def _launch(
    context: Context[Any],
    job: TorchrunJob,
    follow: Callable[[], str | None],
    saved: SavedCheckpoints | None,
    checks: Path,
) -> float:
    """Run the training processes to their end and return their seconds.

    Raises:
        InputError: If the checks, whose result is in the file ``checks``, stopped it.
    """
    world, several = context.world, "es" * (job.nproc_per_node > 1)
    where = f" on node {world.node_rank} of {world.nodes}" if world.nodes > 1 else ""
    context.events.message(f"starting {job.nproc_per_node} training process{several}{where}")

    def look() -> str | None:
        if saved:
            saved.look()
        return follow()

    checks.unlink(missing_ok=True)
    try:
        seconds = local.run(job, look)
    except OmnistageError as e:
        problem = _found(checks).problem
        if problem:
            raise InputError(f"{context.step}: {problem}; see {job.log}") from e
        raise
    context.events.emit("process", name=job.name, seconds=seconds)
    return seconds


def _found(path: Path) -> Found:
    """Return what the checks found; nothing where they were not made, as on another node."""
    return Found.model_validate_json(path.read_bytes()) if path.exists() else Found()
