"""What vLLM is started with so that it samples as transformers does."""

import json
from pathlib import Path
from typing import Any


def engine_arguments(model: Path) -> dict[str, Any]:
    """Return arguments of vLLM for a model folder."""
    path = model / "generation_config.json"
    if path.exists() and json.loads(path.read_bytes()).get("suppress_tokens"):
        return {"logits_processors": ["omnistage.swift.rollout.barred:BarredTokens"]}
    return {}
