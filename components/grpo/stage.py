"""GRPO: a model and RL records in, LoRA adapter or checkpoint, and reward curves out."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.grpo.boxes import add_sizes
from components.grpo.config import GRPOSettings, idle_settings
from components.grpo.difficulty import within_band
from components.grpo.rollout import (
    check_vllm,
    fit_to_rows,
    plugins_for_vllm,
    preflight_engine,
    rollout_kl,
    vllm_arguments,
)
from components.grpo.watch.watch import RunMonitor
from omnistage.errors import InputError
from omnistage.files import counted, write_atomic
from omnistage.records.media_facts import split_files
from omnistage.rewards import METRIC_NAMES, RANGES, register
from omnistage.rewards.own import write_plugin
from omnistage.rewards.served.client import CACHE_VARIABLE
from omnistage.stage.contract import Context, Result, Stage, always
from omnistage.swift.lineage import MODELS, Start, start_of
from omnistage.swift.media import environment, facts_environment
from omnistage.swift.prepare import encoding_of
from omnistage.swift.rows import TrainingRows, count_records, training_file, training_rows
from omnistage.swift.training.keep import keep, rl_kind
from omnistage.swift.training.train import (
    LIBRARIES,
    PLUGINS,
    output_folder,
    train,
    trainer_arguments,
)
from omnistage.torchrun import run as local
from omnistage.torchrun.job import TorchrunJob, gpu_count

PLUGIN = Path(__file__).with_name("plugin.py")
SOFT_OVERLONG = "soft_overlong"
"""ms-swift's own reward of DAPO's punishment."""


def grpo_arguments(
    config: GRPOSettings,
    start: Start,
    dataset: Path,
    plugins: Sequence[Path] = (PLUGIN,),
) -> dict[str, Any]:
    """Return the arguments of ``swift rlhf`` that only GRPO has."""
    soft = config.soft_overlong
    adapters = [str(start.adapter)] if start.adapter else None
    return {
        "rlhf_type": "grpo",
        "model": str(start.model),
        "adapters": adapters,
        "ref_adapters": adapters if config.beta else None,
        "dataset": [str(dataset)],
        "external_plugins": [*map(str, PLUGINS), *map(str, plugins), *plugins_for_vllm(config)],
        # "delete" would draw another prompt in silence where one fails. Nothing is cut from the
        # left: every prompt fits, and the template refuses to cut.
        "truncation_strategy": "left",
        "reward_funcs": [*config.reward_weights, *([SOFT_OVERLONG] if soft else [])],
        "reward_weights": [*config.reward_weights.values(), *([1.0] if soft else [])],
        "soft_cache_length": soft,
        "num_generations": config.num_generations,
        "max_completion_length": config.max_completion_length,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "top_k": config.top_k,
        "beta": config.beta,
        "num_iterations": config.num_iterations,
        "loss_type": config.loss_type,
        "advantage_estimator": config.advantage_estimator,
        "scale_rewards": config.scale_rewards,
        "kl_in_reward": config.kl_in_reward,
        "importance_sampling_level": config.importance_sampling_level,
        "epsilon": config.epsilon,
        "epsilon_high": config.epsilon_high,
        "dynamic_sample": config.dynamic_sample,
        "max_resample_times": config.max_resample_times if config.dynamic_sample else None,
        "overlong_filter": config.overlong_filter,
        "use_vllm": config.vllm is not None,
        **(vllm_arguments(config, config.vllm) if config.vllm else {}),
        "log_completions": True,
        "remove_unused_columns": False,
    }


def prompts_per_step(config: GRPOSettings) -> int:
    """Return how many distinct prompts the trainer draws at once."""
    own = config.swift_arguments
    batch = own.get("generation_batch_size") or config.batch_size
    return max(1, batch // config.num_generations)


def check_step(records: int, prompts: int, step: str) -> int:
    """Check that there are records for a step; the trainer would wait for them for ever.

    Returns:
        Records that an epoch passes over, since they do not fill a step; each time others.

    Raises:
        InputError: If there are too few.
    """
    if records < prompts:
        raise InputError(
            f"{step}: {counted(records, 'record')} to train on, but an optimizer step takes "
            f"{prompts} prompts (batch_size / num_generations): lower {step}.batch_size, raise "
            f"{step}.num_generations, or give more RL records"
        )
    return records % prompts


def preflight(
    context: Context[GRPOSettings],
    start: Start,
    rows: TrainingRows,
) -> dict[str, Any]:
    """Check a few records with the actual model, before hours are spent; once for a stage key.

    Returns:
        Each check's name and what was seen.

    Raises:
        InputError: If a check failed; the message says which and what to do.
    """
    # Here and not above: it needs numpy and PyAV, which a look-up in the store does not.
    from components.grpo.preflight import PreflightResult, PreflightSpec

    config, result = context.config, context.work / "preflight.json"
    if result.exists() and not PreflightResult.model_validate_json(result.read_bytes()).ok:
        result.unlink()  # of an attempt that it has stopped
    if not result.exists():
        context.events.message("preflight: checking prompts, media, rewards and parity")
        spec = PreflightSpec.model_validate(
            {
                "model": str(start.model),
                "model_type": start.family.model_type,
                "adapter": str(start.adapter) if start.adapter else None,
                "records": str(rows.path),
                "use_audio_in_video": config.media.use_audio_in_video,
                "rewards": config.reward_weights,
                "reward_code": config.reward_code,
                "env": {
                    **environment(config.media, gpu_count(), start.family),
                    **facts_environment(rows.records.parent, rows.root),
                },
                "torch_dtype": config.dtype,
                "attn_impl": config.attn_impl,
                "seed": config.seed,
                "vllm": preflight_engine(config, rows.path),
            }
        )
        path = context.work / "preflight.spec.json"
        write_atomic(path, spec.model_dump_json())
        program = ("-m", "components.grpo.preflight", "--spec", str(path), "--result", str(result))
        job = TorchrunJob("preflight", program, context.work / "preflight.log", spec.env)
        seconds = local.run(job, lambda: None)
        context.events.emit("process", name=job.name, seconds=seconds)
    found = PreflightResult.model_validate_json(result.read_bytes())
    for check in found.checks:
        if check.warning:
            context.events.warn(f"preflight: {check.name}: {check.detail}")
    context.events.message(f"preflight: {len(found.checks)} checks passed")
    return {check.name: check.detail for check in found.checks}


class Watcher:
    """Feeds the trainer's two logs to the watch, which stops a run that cannot learn."""

    def __init__(self, config: GRPOSettings, completions: Path) -> None:
        ranges = {METRIC_NAMES[name]: RANGES[name] for name in config.reward_weights}
        self.watch = RunMonitor(config.watch, ranges, rollout_kl(config))
        self.path = completions
        self.offset = completions.stat().st_size if completions.exists() else 0

    def __call__(self, line: bytes) -> str | None:
        """Take a line of ``logging.jsonl``; return why the run should stop, or None."""
        found = self.watch.step(json.loads(line))
        if self.path.exists():
            with self.path.open("rb") as f:
                f.seek(self.offset)
                data = f.read()
            whole = data[: data.rfind(b"\n") + 1]
            self.offset += len(whole)
            for table in whole.splitlines():
                found = found or self.watch.completions(json.loads(table))
        return str(found) if found else None


def run(context: Context[GRPOSettings]) -> Result:
    """Train, and keep what was trained with the trainer's logs.

    The artifact has ``adapter/``, or a whole model in ``model/`` where all weights were trained;
    ``logs/`` (curves, completions); ``rejected.jsonl``, the records that cannot be trained on; and
    with ``difficulty`` the accuracy of each prompt in ``difficulty.jsonl``.

    Raises:
        InputError: If a check before the start fails or a setting does not fit ms-swift.
        StageFailedError: If the training fails, or is stopped because it learns nothing.
    """
    config = context.config
    check_vllm(config, context.step)
    start = start_of(context, config)
    own = write_plugin(config.reward_code, context.work / "own_rewards.py")
    dataset = training_file(context, "rl")
    arguments = grpo_arguments(config, start, dataset, [*own, PLUGIN])
    trainer_arguments(context, "rlhf", arguments, config, start.family)
    for text in idle_settings(config):
        context.events.warn(f"{context.step}.{text}")
    prompts = prompts_per_step(config)
    check_step(count_records(context, "rl"), prompts, context.step)
    rows = training_rows(context, start, config, "rl")
    add_sizes(rows.path, start.family, config.media.max_pixels)
    _make_rewards_known(context)
    rows = within_band(context, start, rows)
    left_over = check_step(rows.counts["records"], prompts, context.step)
    if left_over:
        context.events.message(
            f"each epoch passes over {left_over} of the records, drawn anew: a step takes {prompts}"
        )
    # The checks are the same on every node; the others wait at the rendezvous meanwhile.
    wanted = config.preflight and context.world.node_rank == 0
    checks = preflight(context, start, rows) if wanted else {}
    watcher = Watcher(config, output_folder(context) / "completions.jsonl")
    trained = train(
        context,
        "rlhf",
        arguments | fit_to_rows(config, rows.path),
        config=config,
        family=start.family,
        rows=rows,
        watch=watcher,
        figures=("reward", "loss"),
        media_checked=True,
    )
    last = trained.curve[-1]
    return keep(
        context,
        start,
        trained,
        rows,
        config,
        reward=last.get("reward"),
        rewards={n: last.get(f"rewards/{METRIC_NAMES[n]}/mean") for n in config.reward_weights},
        steps_per_epoch=rows.counts["records"] // prompts,
        left_over_per_epoch=left_over,
        preflight=checks,
        watch=watcher.watch.summarise(),
    )


def _make_rewards_known(context: Context[GRPOSettings]) -> None:
    """Register the recipe's own rewards, and tell where judges are asked."""
    register(context.config.reward_code)
    # The processes that are started later inherit these; what decides a result is in the key.
    os.environ.update(context.config.judge.variables())
    os.environ[CACHE_VARIABLE] = f"{context.store.uri}/judgements"


STAGE = Stage(
    name="grpo",
    kind="LoRAAdapter",
    choose_kind=rl_kind,
    version=4,
    config=GRPOSettings,
    inputs={"data": "DatasetTarball", "records": "RewrittenJSONL", "start": MODELS},
    several=frozenset({"data"}),
    # The media that are read are told by the split's own files.
    reads={"data": (), "records": split_files("rl")},
    run=run,
    libraries=LIBRARIES,
    program="components.grpo",
    preparation=encoding_of("rl"),
    launched=always,
)
