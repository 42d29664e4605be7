"""The machine that a stage runs on, for what a result says of how it was made."""

import os
import re
from pathlib import Path
from typing import Any

from omnistage.torchrun.job import gpu_count

_DRIVER = Path("/proc/driver/nvidia/gpus")


def machine(nodes: int, *, holds_gpus: bool) -> dict[str, Any]:
    """Return ``nodes``, and of all of them together ``cpus`` and ``gpus``, and the GPUs' model.

    Args:
        nodes: Machines like this one that work together.
        holds_gpus: Whether the stage keeps the GPUs for itself; one that does not has none.
    """
    gpus = gpu_count() if holds_gpus else 0
    return {
        "nodes": nodes,
        "cpus": nodes * (os.cpu_count() or 1),
        "gpus": nodes * gpus,
        "gpu": gpu_model() if gpus else "",
    }


def gpu_model(driver: Path = _DRIVER) -> str:
    """Return the model of this machine's GPUs, several joined; empty where the driver tells none.

    Args:
        driver: Folder in which NVIDIA's driver has a folder with ``information`` for each GPU
            (its README, chapter "The /proc/driver/nvidia interface").
    """
    texts = [path.read_text(errors="replace") for path in sorted(driver.glob("*/information"))]
    models = [
        match[1] for text in texts if (match := re.search(r"^Model:\s*(.+?)\s*$", text, re.M))
    ]
    return " and ".join(dict.fromkeys(models))
