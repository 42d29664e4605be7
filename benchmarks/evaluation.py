"""How fast stored predictions are scored on one core: ``python -m benchmarks.evaluation``.

Prints the processor seconds from a file of 100,000 predictions to the report, intervals and pages
included, and the size of the page. The bar is 10 s.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy is loaded: one core

import random  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

from components.eval.stored.score import score_predictions  # noqa: E402
from omnistage.files import human_bytes, write_jsonl  # noqa: E402

SIZE = 100_000


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_jsonl(folder / "model.jsonl", map(prediction, range(SIZE)))
        began = time.process_time()
        score_predictions([folder / "model.jsonl"], folder / "report", task="choice")
        seconds = time.process_time() - began
        size = (folder / "report" / "report.html").stat().st_size
    print(f"{SIZE:,} predictions scored in {seconds:.1f} s; the page has {human_bytes(size)}")


def prediction(number: int) -> dict[str, str]:
    """A completion with a thought, right in a quarter of the cases."""
    chance = random.Random(number)
    thought = f"<think>The sound of clip {number} seems to be a dog, so not the cat.</think>"
    said, gold = chance.choices("ABCD", k=2)
    return {"id": str(number), "text": f"{thought}<answer>{said}</answer>", "solution": gold}


if __name__ == "__main__":
    main()
