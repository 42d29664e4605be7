"""How fast stored predictions are scored on one core: ``python -m benchmarks.evaluation``.

Prints the processor seconds of ``omnistage eval --predictions`` from a file of 100,000 predictions
to the report, the start of Python, intervals and pages included, and the size of the page. The bar
is 10 s.
"""

import os
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from omnistage.files import human_bytes, write_jsonl

SIZE = 100_000


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_jsonl(folder / "model.jsonl", map(prediction, range(SIZE)))
        command = [sys.executable, "-m", "omnistage", "eval", "--task", "choice"]
        files = ["--predictions", "model.jsonl", "--out", "report"]
        one_core = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        subprocess.run(
            [*command, *files], cwd=folder, env={**os.environ, **one_core, **path}, check=True
        )
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        size = (folder / "report" / "report.html").stat().st_size
    seconds = used.ru_utime + used.ru_stime
    print(f"{SIZE:,} predictions scored in {seconds:.1f} s; the page has {human_bytes(size)}")


def prediction(number: int) -> dict[str, str]:
    """A completion with a thought, right in a quarter of the cases."""
    chance = random.Random(number)
    thought = f"<think>The sound of clip {number} seems to be a dog, so not the cat.</think>"
    said, gold = chance.choices("ABCD", k=2)
    return {"id": str(number), "text": f"{thought}<answer>{said}</answer>", "solution": gold}


if __name__ == "__main__":
    main()
