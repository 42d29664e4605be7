"""What the encoding pass costs beside the trainer's own data loading.

Draws short image rows over a hundred images, then runs two programs from start to end, each on all
cores: the pass that encodes every row once, and one epoch of ms-swift's own lazy data set in a
torch data loader with as many workers, which is what the trainer does first. Prints the seconds of
both and their ratio (bar 1.3).

``python benchmarks/encoding.py [--rows 10000]``
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from components.download.tiny.media import draw
from components.download.tiny.model import write_model
from components.download.tiny.settings import TinyModelSettings
from omnistage.files import write_jsonl
from omnistage.swift.encode_rows import EncodeSpec, RowsFile
from omnistage.swift.family import FAMILIES
from omnistage.swift.media import MediaSettings, environment

_EPOCH = """
import sys
from datasets import load_dataset
from swift.dataset import LazyLLMDataset
from swift.model import get_model_processor
from swift.template import get_template
from torch.utils.data import DataLoader
model, rows, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
_, processor = get_model_processor(model, load_model=False, model_type="qwen2_5_omni")
template = get_template(processor, template_type="qwen2_5_omni")
template.set_mode("train")
data = LazyLLMDataset(load_dataset("json", data_files=rows)["train"], template.encode)
seen = sum(len(batch) for batch in DataLoader(data, 16, num_workers=workers, collate_fn=list))
print(seen, "rows")
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    count = parser.parse_args().rows
    cores = len(os.sched_getaffinity(0))
    bounds = MediaSettings(max_pixels=3136, video_max_pixels=3136)
    env = {**os.environ, **environment(bounds, 0, FAMILIES["qwen2_5_omni"])}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env["HF_DATASETS_CACHE"] = str(folder / "cache")
        write_model(folder / "model", TinyModelSettings())
        for number in range(100):
            traits = {"colour": number % 3, "paper": number % 2, "count": number % 3}
            (folder / f"{number}.png").write_bytes(draw("image", traits, (0, 0, 0, number)))
        rows = [
            {
                "messages": [
                    {"role": "user", "content": f"<image>Question {number}: what is drawn?"},
                    {"role": "assistant", "content": "It is drawn in red."},
                ],
                "images": [f"{number % 100}.png"],
            }
            for number in range(count)
        ]
        write_jsonl(folder / "rows.jsonl", rows)
        placed = [row | {"images": [str(folder / row["images"][0])]} for row in rows]
        write_jsonl(folder / "placed.jsonl", placed)
        spec = EncodeSpec(
            model=str(folder / "model"),
            model_type="qwen2_5_omni",
            dtype="float32",
            root=name,
            files=[
                RowsFile(
                    records=str(folder / "rows.jsonl"), out=str(folder / "out.jsonl"), prompts=False
                )
            ],
            processes=cores,
        )
        (folder / "spec.json").write_text(spec.model_dump_json())
        program = [sys.executable, "-m", "omnistage.swift.encode_rows", str(folder / "spec.json")]
        encoding = _seconds(program, env)
        where = [str(folder / "model"), str(folder / "placed.jsonl"), str(cores)]
        epoch = _seconds([sys.executable, "-c", _EPOCH, *where], env)
    print(f"{count:,} rows on {cores} cores")
    print(f"encoding pass                {encoding:7.1f} s")
    print(f"first epoch of data loading  {epoch:7.1f} s")
    print(f"ratio                        {encoding / epoch:7.2f}   (bar 1.3)")


def _seconds(program: list[str], env: dict[str, str]) -> float:
    began = time.monotonic()
    subprocess.run(program, env=env, check=True, capture_output=True)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
