"""What the post-training pipeline is made of: its stages, their order, and a recipe's settings."""

from typing import Any

from components.download.stage import MODEL_STAGE
from components.download.stage import STAGE as DOWNLOAD
from components.eval.stage import STAGE as EVAL
from components.grpo.stage import STAGE as GRPO
from components.rewrite_paths.stage import STAGE as REWRITE
from components.sft.stage import STAGE as SFT
from omnistage.stage.contract import Stage

STAGES: dict[str, Stage[Any]] = {
    s.name: s for s in (DOWNLOAD, MODEL_STAGE, REWRITE, SFT, GRPO, EVAL)
}
SOURCES: dict[str, dict[str, str]] = {
    "rewrite_paths": {"data": "download"},
    "sft": {"data": "download", "records": "rewrite_paths", "model": "download_model"},
    "grpo": {
        "data": "download",
        "records": "rewrite_paths",
        "model": "download_model",
        "sft": "sft",
    },
    "eval": {
        "data": "download",
        "records": "rewrite_paths",
        "model": "download_model",
        "sft": "sft",
        "grpo": "grpo",
    },
}
"""For each stage, which stage makes each of its inputs."""
LAUNCHED = ("sft", "grpo", "eval")
"""Stages that are training jobs on a cluster; see also :func:`launched`."""
IMAGES = {"launcher": tuple(STAGES), "trainer": LAUNCHED}
"""Image to the stages that need it: the tasks run in the launcher, the jobs in the trainer."""


def needed(stage: str) -> list[str]:
    """Return all stages that a stage rests on, in the order of the pipeline, and itself."""
    found = {stage}
    for name in reversed(STAGES):
        if name in found:
            found.update(SOURCES.get(name, {}).values())
    return [name for name in STAGES if name in found]
