"""What a result says of the machine that made it."""

import os
from pathlib import Path

import pytest

from omnistage.torchrun import machine as module
from omnistage.torchrun.machine import gpu_model, machine

INFORMATION = """\
Model: \t\t {}
IRQ:   \t\t 171
GPU UUID: \t GPU-0
"""


def driver(folder: Path, *models: str) -> Path:
    for number, model in enumerate(models):
        gpu = folder / f"0000:{number:02x}:00.0"
        gpu.mkdir(parents=True)
        (gpu / "information").write_text(INFORMATION.format(model))
    return folder


def test_the_driver_tells_the_model(tmp_path: Path) -> None:
    same = driver(tmp_path / "same", "NVIDIA H200", "NVIDIA H200")
    assert gpu_model(same) == "NVIDIA H200"
    mixed = driver(tmp_path / "mixed", "NVIDIA A100-SXM4-80GB", "NVIDIA L4")
    assert gpu_model(mixed) == "NVIDIA A100-SXM4-80GB and NVIDIA L4"
    assert gpu_model(tmp_path / "none") == ""


def test_all_nodes_count_and_only_who_holds_gpus_has_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "gpu_count", lambda: 8)
    monkeypatch.setattr(module, "gpu_model", lambda: "NVIDIA H200")
    cpus = 2 * (os.cpu_count() or 1)
    trained = {"nodes": 2, "cpus": cpus, "gpus": 16, "gpu": "NVIDIA H200"}
    assert machine(2, holds_gpus=True) == trained
    assert machine(2, holds_gpus=False) == {**trained, "gpus": 0, "gpu": ""}
