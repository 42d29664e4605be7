"""Rollout by vLLM: what it is started with, and how far it may be from the trainer."""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from components.grpo.config import GRPOSettings, VLLMSettings
from omnistage.errors import InputError
from omnistage.files import read_jsonl
from omnistage.swift.rollout.engine import LOGPROBS_VARIABLE
from omnistage.swift.training.train import VLLM_ON_CPU
from omnistage.torchrun.job import gpu_count


def check_vllm(config: GRPOSettings, step: str) -> None:
    """Check that there is a vLLM where one is to roll out.

    Raises:
        InputError: If there is none.
    """
    if config.vllm and find_spec("vllm") is None:
        raise InputError(
            f"{step}.vllm: vLLM is not installed here; the trainer image for GPUs has it. Without "
            "this section transformers rolls out"
        )


def vllm_arguments(config: GRPOSettings, vllm: VLLMSettings) -> dict[str, Any]:
    """Return the arguments of a rollout by vLLM; without a GPU it neither sleeps nor compiles."""
    gpus = gpu_count()
    return {
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": vllm.gpu_memory_utilization,
        "vllm_tensor_parallel_size": vllm.tensor_parallel_size,
        "vllm_max_model_len": config.max_length + config.max_completion_length,
        "sleep_level": vllm.sleep_level if gpus else 0,
        "vllm_enforce_eager": None if gpus else True,
        "log_rollout_offpolicy_metrics": True,
    }


def plugins_for_vllm(config: GRPOSettings) -> list[str]:
    """Return what vLLM needs where there is no GPU."""
    return [str(VLLM_ON_CPU)] if config.vllm and not gpu_count() else []


def most_media(rows: Path, use_audio_in_video: bool) -> dict[str, int]:
    """Return how many items of each medium a prompt has at most, but at least one.

    vLLM reserves memory for so many, and leaves out an encoder of which there is none.
    """
    most = {"image": 1, "audio": 1, "video": 1}
    for row in read_jsonl(rows):
        count = {kind: len(row.get(f"{kind}s") or []) for kind in most}
        count["audio"] += count["video"] if use_audio_in_video else 0
        most = {kind: max(most[kind], count[kind]) for kind in most}
    return most


def fit_to_rows(config: GRPOSettings, rows: Path) -> dict[str, Any]:
    """Return the arguments that depend on the rows, and set what vLLM's process inherits."""
    if config.vllm is None:
        return {}
    told = "processed_logprobs" if rollout_kl(config) is None else "raw_logprobs"
    os.environ[LOGPROBS_VARIABLE] = told
    limits = most_media(rows, config.media.use_audio_in_video)
    return {"vllm_limit_mm_per_prompt": json.dumps(limits)}


def preflight_engine(config: GRPOSettings, rows: Path) -> dict[str, Any] | None:
    """Return what preflight needs to know of vLLM, or None where it does not roll out."""
    if config.vllm is None:
        return None
    arguments = vllm_arguments(config, config.vllm)
    return {
        "max_model_len": arguments["vllm_max_model_len"],
        "limit_mm_per_prompt": most_media(rows, config.media.use_audio_in_video),
        "gpu_memory_utilization": config.vllm.gpu_memory_utilization,
        "enforce_eager": bool(arguments["vllm_enforce_eager"]),
    }


def rollout_kl(config: GRPOSettings) -> float | None:
    """Return by how many nats a token rollout and trainer may differ; None if it is not told.

    vLLM tells the probabilities before top_p and top_k cut them, which the trainer computes too,
    without the temperature.
    """
    if config.vllm is None or config.temperature != 1:
        return None
    return config.watch.rollout_kl or (1e-3 if config.dtype == "float32" else 0.02)
