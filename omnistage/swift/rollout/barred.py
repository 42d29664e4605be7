"""Keeps vLLM from generating what a model's ``generation_config.json`` suppresses.

transformers obeys ``suppress_tokens`` there; vLLM and ms-swift pass over it
(``vllm/config/model.py``, ``get_diff_sampling_param``, and ms-swift's
``VllmEngine._load_generation_config``).
"""

from typing import Any

import torch
from vllm.v1.sample.logits_processor import (  # pyright: ignore[reportMissingImports]
    LogitsProcessor,
)


class BarredTokens(LogitsProcessor):
    """Gives the suppressed tokens no probability, in every request."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        barred = vllm_config.model_config.try_get_generation_config().get("suppress_tokens") or []
        self.barred = torch.tensor(barred, dtype=torch.long, device=device)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the logits (requests × vocabulary) without the barred tokens."""
        logits[:, self.barred] = -torch.inf
        return logits

    def is_argmax_invariant(self) -> bool:
        """Tell that it can change the likeliest token."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Do nothing: all requests are treated alike."""
