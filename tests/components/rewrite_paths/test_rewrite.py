"""The stage rewrite_paths on small data sets, from record files to canonical records."""

import json
from pathlib import Path

from components.download.tiny.data import JSONL, SPLITS, TinyDataSettings, _records, write_dataset
from components.download.tiny.text import MODALITIES
from omnistage.records.record import read_records
from tests.components.rewrite_paths.rewrite_kit import (
    CLIP,
    IMAGE,
    SOUND,
    judge_row,
    member,
    rewrite,
    verdict,
)


def test_new_shape_becomes_a_canonical_record(tmp_path: Path) -> None:
    row = judge_row("/home/x/rlaif-v-dataset/images/3.png")

    done = rewrite(tmp_path, {"image/final_rl.jsonl": [row]}, ["rlaif-v-dataset/images/3.png"])

    assert done.rows("rl") == [
        {
            "id": "image/final_rl.jsonl:1",
            "source": "image/final_rl",
            "task": "judge",
            "messages": [
                {"role": "system", "content": "You judge. Start with {."},
                {
                    "role": "user",
                    "content": "<image>\nQuestion: what?\nResponse A: a dog\nResponse B: a cat",
                },
            ],
            "images": ["rlaif-v-dataset/images/3.png"],
            "solution": json.dumps(verdict()),
            "better": "A",
            "score_A": 8,
            "score_B": 3,
        }
    ]


def test_tiny_data_set_is_rewritten_whole(tmp_path: Path) -> None:
    settings = TinyDataSettings(sft=24, rl=24, test=12)
    write_dataset(tmp_path / "tiny", settings)
    files = {
        f"{m}/{JSONL[s]}": (tmp_path / "tiny" / m / JSONL[s]).read_bytes()
        for m in MODALITIES
        for s in SPLITS
    }
    media = {"image": IMAGE, "audio": SOUND, "video": CLIP}
    folder = {"image": "", "audio": "Clotho-AQA dataset/", "video": "video/"}
    members = [
        member(folder[m] + r.member, media[m])
        for m in MODALITIES
        for s in SPLITS
        for r in _records(s, m, settings)
    ]

    done = rewrite(tmp_path, files, members)

    assert done.reasons() == []
    assert [done.counts[s] for s in SPLITS] == [24, 24, 12]
    for split in SPLITS:
        for record in read_records(done.folder / f"{split}.jsonl"):
            roles = [m["role"] for m in record["messages"]]
            assert roles == ["system", "user"] + ["assistant"] * (split == "sft")
            assert "file:" not in record["messages"][1]["content"]
