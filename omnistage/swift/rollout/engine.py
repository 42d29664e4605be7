"""What vLLM is started with so that it samples, and tells probabilities, as transformers does."""

import json
import os
from pathlib import Path
from typing import Any

LOGPROBS_VARIABLE = "OMNISTAGE_ROLLOUT_LOGPROBS"
"""vLLM's ``logprobs_mode``, over the one that ms-swift starts it with."""


def engine_arguments(model: Path) -> dict[str, Any]:
    """Return arguments of vLLM for a model folder."""
    found: dict[str, Any] = {}
    path = model / "generation_config.json"
    if path.exists() and json.loads(path.read_bytes()).get("suppress_tokens"):
        found["logits_processors"] = ["omnistage.swift.rollout.barred:BarredTokens"]
    if mode := os.environ.get(LOGPROBS_VARIABLE):
        found["logprobs_mode"] = mode
    return found
