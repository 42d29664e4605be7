"""The command that serves a model with ms-swift, under the bounds on media it was trained with."""

import shlex

from omnistage.swift.export.model import Trained
from omnistage.swift.family import Family
from omnistage.swift.media import MediaSettings, environment

_VARIABLES = (
    "MAX_PIXELS",
    "VIDEO_MAX_PIXELS",
    "VIDEO_MIN_PIXELS",
    "FPS",
    "FPS_MIN_FRAMES",
    "FPS_MAX_FRAMES",
    "USE_AUDIO_IN_VIDEO",
    "ENABLE_AUDIO_OUTPUT",
)
"""Those of the media that a server reads, too."""


def serve_command(what: Trained, family: Family, model: str, adapter: str | None) -> str:
    """Return the command; it answers as OpenAI's chat completions do, on port 8000.

    Args:
        what: The step's result.
        family: The model's.
        model: Folder or hub name of the weights.
        adapter: Folder or hub name of an adapter on them.
    """
    media = MediaSettings.model_validate(what.config.get("media", {}))
    variables = environment(media, 1, family)
    words = [f"{name}={variables[name]}" for name in _VARIABLES]
    words += ["swift", "deploy", "--model", model, "--model_type", family.model_type]
    words += ["--template", family.template, "--torch_dtype", what.config.get("dtype", "bfloat16")]
    words += ["--adapters", f"{what.step}={adapter}"] if adapter else []
    words += ["--infer_backend", "vllm", "--served_model_name", what.step, "--port", "8000"]
    return " ".join(shlex.quote(word) if "=" not in word else word for word in words)
