"""How much faster an evaluation asks in batches than one record at a time, with the same answers.

Makes the tiny model and questions about drawn pictures, has the program of the evaluation answer
them greedily once in batches and once one at a time, each from start to end, and prints the
processor seconds of both without those of one question alone, which are the program's start, their
ratio (bar 4), and how many answers are the same.

``python -m benchmarks.batching [--records 600] [--batch-size 32]``
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from components.download.tiny.media import draw
from components.download.tiny.model import write_model
from components.download.tiny.settings import TinyModelSettings
from components.eval.generate import JudgedModel, JudgeSpec, answered
from omnistage.files import write_jsonl
from omnistage.swift.family import FAMILIES
from omnistage.swift.media import MediaSettings, environment

TOKENS = 32


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--records", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "model", TinyModelSettings())
        prompts = [_prompt(folder, number) for number in range(options.records)]
        start, _ = _ask(folder, "start", prompts[:1], 1)
        batched, answers = _ask(folder, "batched", prompts, options.batch_size)
        single, others = _ask(folder, "single", prompts, 1)
    same = sum(answers[p["id"]] == others[p["id"]] for p in prompts)
    batched, single = batched - start, single - start
    print(f"{options.records} records, {TOKENS} tokens each, batches of {options.batch_size}")
    print(f"in batches     {batched:7.1f} s")
    print(f"one at a time  {single:7.1f} s")
    print(f"ratio          {single / batched:7.2f}   (bar 4)")
    print(f"same answers   {same} of {options.records}")


def _prompt(folder: Path, number: int) -> dict[str, Any]:
    traits = {"colour": number % 3, "paper": number % 2, "count": number % 3}
    picture = folder / f"{number}.png"
    picture.write_bytes(draw("image", traits, (0, 0, 0, number)))
    asked = f"<image>Question {number}: what is drawn, and {'on which paper' * (number % 4)}?"
    messages = [{"role": "user", "content": asked}]
    return {"id": str(number), "messages": messages, "images": [str(picture)]}


def _ask(
    folder: Path, name: str, prompts: list[dict[str, Any]], batch_size: int
) -> tuple[float, dict[str, dict[str, Any]]]:
    """Return the processor seconds of the program, and its answers by id."""
    out = folder / name
    out.mkdir()
    write_jsonl(out / "prompts", prompts)
    spec = JudgeSpec(
        models=[JudgedModel(name="tiny", model=str(folder / "model"), answers=str(out))],
        prompts=str(out / "prompts"),
        batch_size=batch_size,
        max_completion_length=TOKENS,
        dtype="float32",
        attn_impl="sdpa",
        model_type="qwen2_5_omni",
    )
    (out / "spec.json").write_text(spec.model_dump_json())
    bounds = MediaSettings(max_pixels=3136, video_max_pixels=3136)
    env = {**os.environ, **environment(bounds, 0, FAMILIES["qwen2_5_omni"])}
    program = [sys.executable, "-m", "components.eval.generate", str(out / "spec.json")]
    before = _processor_seconds()
    subprocess.run(program, env=env, check=True, capture_output=True)
    return _processor_seconds() - before, answered(out)


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
