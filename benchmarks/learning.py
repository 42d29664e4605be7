"""What the tiny recipe learns, over several seeds: SFT against base, GRPO against SFT.

The data set, and so the test records, are the same for every seed; the model's weights, the order
of the data and the sampling are not. Prints, for each seed, the accuracy and mean reward of the
three models on the test set, the best constant baseline, and over all seeds together the paired
difference GRPO − SFT with its 95% bootstrap interval, records drawn as clusters.

``python -m benchmarks.learning [--recipe tiny] [--seeds 1 2 3] [--set KEY=VALUE] [--home FOLDER]``

In the environment of ``make test-vllm``, ``--set grpo.vllm={}`` shows what it learns where vLLM
rolls out.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from components.eval.metrics.bootstrap import bootstrap_mean
from omnistage.files import read_json, read_jsonl


def run(recipe: str, seed: int, settings: list[str], home: Path) -> Path:
    """Run the recipe with a seed and return the run's folder; cached stages are not run again."""
    given = [f"seed={seed}", f"model.sources.0.settings.seed={seed}", *settings]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "omnistage", "run", recipe, "--home", str(home)),
            *(word for value in given for word in ("--set", value)),
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"seed {seed} failed:\n{done.stdout}\n{done.stderr}")
    return Path(done.stdout.splitlines()[-1]).parent


def values(run_folder: Path, model: str, weights: dict[str, float]) -> dict[str, dict[str, float]]:
    """Return accuracy and mean reward of each record, over both orders."""
    finished = [
        row
        for row in read_jsonl(run_folder / "events.jsonl")
        if row["event"] == "finished" and row["stage"] == "eval"
    ]
    folder = Path(finished[-1]["uri"].removeprefix("file://"))
    found = {}
    for row in read_jsonl(folder / "judgements" / f"{model}.jsonl"):
        reward = sum(weights[name] * row["rewards"][name] for name in weights)
        found[row["id"]] = {"accuracy": row["score"], "reward": reward / sum(weights.values())}
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="tiny")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--set", action="append", default=[], help="as for omnistage run")
    parser.add_argument("--home", type=Path, default=Path("build/learning"))
    options = parser.parse_args()
    differences: dict[str, list[float]] = {"accuracy": [], "reward": []}
    clusters: list[str] = []
    for seed in options.seeds:
        folder = run(options.recipe, seed, options.set, options.home)
        report: dict[str, Any] = read_json(folder / "report.json")
        weights = report["provenance"]["reward_weights"]
        by_model = {name: values(folder, name, weights) for name in report["headline"]["models"]}
        print(f"seed {seed}")
        for name, rows in by_model.items():
            accuracy = bootstrap_mean([r["accuracy"] for r in rows.values()])
            reward = np.mean([r["reward"] for r in rows.values()])
            print(
                f"  {name:5} accuracy {accuracy.mean:.3f} [{accuracy.low:.3f}, "
                f"{accuracy.high:.3f}]   mean reward {reward:+.3f}"
            )
        best = report["headline"]["constant"]
        print(f"  best constant: {best['name']} {best['value']:.3f}", flush=True)
        clusters += by_model["sft"]
        for name, collected in differences.items():
            collected += [
                by_model["grpo"][i][name] - by_model["sft"][i][name] for i in by_model["sft"]
            ]
    print(f"GRPO - SFT over seeds {', '.join(map(str, options.seeds))}")
    for name, collected in differences.items():
        found = bootstrap_mean(collected, clusters)
        print(f"  {name:8} {found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]")


if __name__ == "__main__":
    main()
