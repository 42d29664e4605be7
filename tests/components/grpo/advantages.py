"""Prints the advantages that ms-swift makes of rewards that leave completions out."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from swift.rl_core.advantage import compute_advantages
from swift.rl_core.data import GRPOSample
from swift.rl_core.grpo_algorithm import compute_rewards_per_func
from swift.utils import import_external_file

K = 4


def judged(
    completions: list[str], **columns: Any
) -> list[float | None]:  # a judge that says nothing of an empty completion
    columns["log_extra"]("judge", [text[:1] for text in completions])
    return [float(text) if text else None for text in completions]


def honest(completions: list[str], **columns: Any) -> list[float]:
    return [float(len(text)) for text in completions]


def rewards_of(completions: list[str], ids: list[str], folder: str) -> torch.Tensor:
    args = types.SimpleNamespace(output_dir=folder, num_generations=K)
    plugin = import_external_file("components/grpo/plugin.py")
    functions = [
        plugin.orm_class(name, function)(args=args)
        for name, function in (("Judged", judged), ("Length", honest))
    ]
    samples = [
        GRPOSample(
            messages=[{"role": "user", "content": "?"}, {"role": "assistant", "content": text}],
            extra={"id": name},
        )
        for text, name in zip(completions, ids, strict=True)
    ]
    return compute_rewards_per_func(samples, functions, [None, None], torch.device("cpu"))


def odd_text(folder: str) -> Any:
    """What the table holds of half a pair of surrogates."""
    plugin = import_external_file("components/grpo/plugin.py")
    table = plugin.Table(types.SimpleNamespace(output_dir=f"{folder}/odd"))
    Path(folder, "odd").mkdir()
    table.log("answer", ["\ud800 √5"])
    table.write("r", 1, [0.0])
    return json.loads(Path(folder, "odd", "rewards.jsonl").read_text())["answer"]


def advantages(
    rewards: torch.Tensor, weights: tuple[float, float] = (1.0, 0.0), **how: Any
) -> list[float]:
    return compute_advantages(rewards, torch.tensor(weights), K, **how)[0].tolist()


def on_one_of_two(
    rank: int, completions: list[str], ids: list[str], folder: str, results: Any
) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    half = len(completions) // 2
    mine = slice(rank * half, rank * half + half)
    results[rank] = rewards_of(completions[mine], ids[mine], folder).tolist()
    dist.destroy_process_group()


if __name__ == "__main__":
    folder = sys.argv[1]
    completions = ["1", "3", "", "2", "", "", "", "", "7", "7", "", "7"]
    ids = [name for name in "abc" for _ in range(K)]
    rewards = rewards_of(completions, ids, folder)
    alone = torch.tensor([[1.0], [3.0], [2.0]])
    with processes.Manager() as manager:
        results = manager.dict()
        cut = (completions[:6], ids[:6], folder, results)
        processes.spawn(on_one_of_two, cut, nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
        two = results[0] + results[1]
    found = {
        "none": advantages(rewards, scale_rewards="none"),
        "group": advantages(rewards),
        "rloo": advantages(rewards, advantage_estimator="rloo", scale_rewards="none"),
        "without": compute_advantages(alone, torch.ones(1), 3, scale_rewards="none")[0].tolist(),
        "mixed": advantages(rewards, (1.0, 1.0), scale_rewards="none"),
        "whole": [row[0] for row in rewards[:6].tolist()],
        "two": [row[0] for row in two],
        "odd": odd_text(folder),
        "table": json.loads((Path(folder) / "rewards.jsonl").read_text().splitlines()[0]),
    }
    print(json.dumps(found).replace("NaN", "null"))
