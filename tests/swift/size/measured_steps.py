"""Trains models of random weights for two steps each, and prints what memory that took.

``python -m tests.swift.size.measured_steps SPEC``, a process of its own: SPEC is a JSON list of
runs, see :class:`Run`; the answer is a JSON list of bytes, each the peak over what was resident
before the model was there. Big blocks come from the kernel one by one and go back to it, as
``MALLOC_MMAP_THRESHOLD_`` says, so that what is resident is what is held.
"""

import gc
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """A model and a training of it."""

    config: dict[str, Any]
    """``config.json`` of a Qwen2.5-VL."""
    tokens: int
    checkpointing: bool


def resident(field: str) -> int:
    """Return a figure of ``/proc/self/status`` in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(field)


def peak_of(run: Run) -> int:
    """Return the peak of a step that has states and gradients of the one before it."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    gc.collect()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig.from_dict(run.config))
    model.train()
    if run.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    vocabulary = run.config["text_config"]["vocab_size"]
    ids = torch.randint(10, vocabulary, (1, run.tokens))
    for _ in range(2):
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
    return resident("VmHWM") - before


def main() -> None:
    """Measure every run of the specification."""
    print(json.dumps([peak_of(Run(**run)) for run in json.loads(sys.argv[1])]))


if __name__ == "__main__":
    main()
