"""Pairs of answers to judge: VL-RewardBench, Multimodal RewardBench and preference sets."""

import hashlib
from ast import literal_eval
from collections.abc import Iterator

from components.eval.benchmarks.benchmark import (
    Benchmark,
    Fetch,
    Folder,
    Item,
    LayoutError,
    Medium,
    Row,
    text_of,
)

_GROUPS = {
    "mathverse": "reasoning",
    "mmmu": "reasoning",
    "hallucination": "hallucination",
    "rlhf": "hallucination",
    "rlaif": "hallucination",
}
"""VL-RewardBench's three groups by the first word of an id; all others are ``general``."""


def _vl_rewardbench(row: Row, folder: Folder) -> Iterator[Item]:
    name = text_of(row, "id", "index")
    answers, ranks = (_list(row, key) for key in ("response", "human_ranking"))
    if ranks not in ([0, 1], [1, 0]):
        raise LayoutError(f"human_ranking: ranks 0 and 1 are needed, not {ranks!r:.40}")
    group = _GROUPS.get(name.split("-")[0].split("_")[0].lower(), "general")
    yield Item(
        id=name,
        task="judge",
        question=text_of(row, "query", "question"),
        gold="AB"[ranks.index(0)],  # the better one has rank 0
        media=[folder.medium("images", row.get("image"), name)],
        pair=(str(answers[0]), str(answers[1])),
        group=group,
    )


def _mm_rewardbench(row: Row, folder: Folder) -> Iterator[Item]:
    name, better = text_of(row, "ID"), text_of(row, "Better")
    if better not in ("Output1", "Output2"):
        raise LayoutError(f"Better: Output1 or Output2 is needed, not {better!r:.40}")
    yield Item(
        id=name,
        task="judge",
        question=text_of(row, "Text"),
        gold="A" if better == "Output1" else "B",
        media=[folder.medium("images", row["Image"], name)] if row.get("Image") else [],
        pair=(text_of(row, "Output1"), text_of(row, "Output2")),
        group=str(row.get("Category") or ""),
    )


def _preference(row: Row, folder: Folder) -> Iterator[Item]:
    """A chosen and a rejected answer; a digest of both decides which is A."""
    chosen, rejected = text_of(row, "chosen"), text_of(row, "rejected")
    question = str(row.get("prompt") or row.get("question") or "")
    if not question:  # HH-RLHF: two dialogues that differ in the last turn
        question, chosen = _last_turn(chosen)
        same, rejected = _last_turn(rejected)
        if same != question:
            raise LayoutError("chosen and rejected: the dialogues differ before the last turn")
    digest = hashlib.sha256("\0".join([question, chosen, rejected]).encode()).digest()
    first = digest[0] % 2 == 0
    name = str(row.get("id") or digest.hex()[:16])
    media: list[Medium] = []
    for kind in ("images", "audios", "videos"):
        if row.get(kind[:-1]):
            media.append(folder.medium(kind, row[kind[:-1]], name))
    yield Item(
        id=name,
        task="judge",
        question=question,
        gold="A" if first else "B",
        media=media,
        pair=(chosen, rejected) if first else (rejected, chosen),
    )


def _last_turn(dialogue: str) -> tuple[str, str]:
    before, mark, answer = dialogue.rpartition("\n\nAssistant:")
    if not mark or not answer.strip():
        raise LayoutError("chosen and rejected: no last turn of the assistant")
    turns = before.strip()
    single = turns.removeprefix("Human:").strip()
    return (turns if "\n\nAssistant:" in turns else single), answer.strip()


def _list(row: Row, key: str) -> list:
    """Return a list of two, which a sheet holds as text."""
    value = row.get(key)
    if isinstance(value, str):
        try:
            value = literal_eval(value)
        except (ValueError, SyntaxError) as e:
            raise LayoutError(f"{key}: not a list: {value[:40]!r}") from e
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise LayoutError(f"{key}: a list of two is needed, not {value!r:.40}")
    return list(value)


BENCHMARKS = (
    Benchmark(
        name="vl_rewardbench",
        title="VL-RewardBench",
        files=("*test*.parquet", "*.parquet", "*.tsv", "*.jsonl", "*.json"),
        read=_vl_rewardbench,
        fetch=[Fetch("data/test-*.parquet", "hub: MMInstruction/VL-RewardBench", "as named there")],
        protocols=("lmms_vl_rewardbench", "omnistage"),
    ),
    Benchmark(
        name="mm_rewardbench",
        title="Multimodal RewardBench",
        files=("all_data.json", "*.parquet", "*.jsonl", "*.json"),
        read=_mm_rewardbench,
        fetch=[
            Fetch(
                "data/all_data.json and the images",
                "GitHub: facebookresearch/multimodal_rewardbench",
                "CC BY-NC; the images are fetched by its script from their own sets",
            )
        ],
        protocols=("lmms_mm_rewardbench", "vlmevalkit_mm_rewardbench", "omnistage"),
    ),
    Benchmark(
        name="hh_rlhf",
        title="HH-RLHF",
        files=("test.jsonl*", "*.jsonl", "*.parquet"),
        read=_preference,
        fetch=[Fetch("*/test.jsonl.gz, unpacked", "hub: Anthropic/hh-rlhf", "MIT")],
    ),
    Benchmark(
        name="audio_hh_rlhf",
        title="Audio-HH-RLHF",
        files=("*.jsonl", "*.json", "*.parquet", "*.csv"),
        read=_preference,
        fetch=[Fetch("rows with audio, chosen, rejected", "of OmniCritic's authors", "unknown")],
        verified=False,
    ),
    Benchmark(
        name="sharegpt_video",
        title="ShareGPT-Video",
        files=("*.jsonl", "*.json", "*.parquet", "*.csv"),
        read=_preference,
        fetch=[
            Fetch(
                "rows with video, prompt, chosen, rejected, and the clips",
                "hub: ShareGPTVideo/train_video_and_instruction",
                "as named there",
            )
        ],
        verified=False,
    ),
)
