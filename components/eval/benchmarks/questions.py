"""Questions about images, sounds and clips: one reader for each layout."""

from collections.abc import Iterator, Mapping
from typing import Any

from components.eval.benchmarks.benchmark import (
    Benchmark,
    Fetch,
    Folder,
    Item,
    LayoutError,
    Row,
    letter_of,
    plain_options,
    text_of,
)


def _mathvista(row: Row, folder: Folder) -> Iterator[Item]:
    """``precision`` says to how many decimals a number counts; here it is always 2."""
    name = text_of(row, "pid")
    options = plain_options(row["choices"]) if row.get("choices") else []
    kinds = {"text": "free_form", "integer": "numeric", "float": "numeric", "list": "math"}
    task = "choice" if options else kinds.get(str(row.get("answer_type")), "math")
    answer = text_of(row, "answer")
    yield Item(
        id=name,
        task=task,
        question=text_of(row, "question", "query"),
        gold=letter_of(answer, options) if options else answer,
        media=[folder.medium("images", row.get("decoded_image") or row.get("image"), name)],
        options=options,
        group=_nested(row, "metadata", "task"),
    )


def _mathverse(row: Row, folder: Folder) -> Iterator[Item]:
    name = text_of(row, "sample_index")
    choice = row.get("question_type") == "multi-choice"
    version = str(row.get("problem_version") or "")
    yield Item(
        id=name,
        task="choice" if choice else "math",
        question=text_of(row, "question", "query_wo"),  # the choices stand in the question
        gold=text_of(row, "answer"),
        media=[] if version == "Text Only" else [folder.medium("images", row.get("image"), name)],
        group=version,
    )


def _omnibench(row: Row, folder: Folder) -> Iterator[Item]:
    name, options = text_of(row, "index"), plain_options(row.get("options"))
    yield Item(
        id=name,
        task="choice",
        question=text_of(row, "question"),
        gold=letter_of(text_of(row, "answer"), options),
        media=[
            folder.medium("images", row.get("image") or row.get("image_path"), name),
            folder.medium("audios", row.get("audio") or row.get("audio_path"), name),
        ],
        options=options,
        group=str(row.get("task type") or ""),
    )


def _mmau(row: Row, folder: Folder) -> Iterator[Item]:
    name, options = text_of(row, "id"), plain_options(row.get("choices"))
    yield Item(
        id=name,
        task="choice",
        question=text_of(row, "question"),
        gold=letter_of(text_of(row, "answer"), options),
        media=[folder.medium("audios", row.get("audio") or row.get("audio_id"), name)],
        options=options,
        group=str(row.get("task") or ""),
    )


def _worldsense(row: Row, folder: Folder) -> Iterator[Item]:
    """A row is a clip by its name (``key``), with ``task0``, ``task1`` and so on."""
    clip = text_of(row, "key")
    tasks = [k for k in row if k.startswith("task") and isinstance(row[k], Mapping)]
    if not tasks:
        raise LayoutError(f"{clip}: no task0")
    for task in tasks:
        asked = row[task]
        options = plain_options(asked.get("candidates"))
        yield Item(
            id=f"{clip}:{task}",
            task="choice",
            question=text_of(asked, "question"),
            gold=letter_of(text_of(asked, "answer"), options),
            media=[folder.medium("videos", f"videos/{clip}.mp4", clip)],
            options=options,
            group=str(asked.get("task_domain") or ""),
        )


def _daily_omni(row: Row, folder: Folder) -> Iterator[Item]:
    """Clip and sound are two files; a protocol says which of them are shown."""
    clip, options = text_of(row, "video_id"), plain_options(row.get("Choice"))
    place, question = f"Videos/{clip}/{clip}", text_of(row, "Question")
    yield Item(
        id=f"{clip}:{question}",
        task="choice",
        question=question,
        gold=letter_of(text_of(row, "Answer"), options),
        media=[
            folder.medium("videos", f"{place}_video.mp4", clip),
            folder.medium("audios", f"{place}_audio.wav", clip),
        ],
        options=options,
        group=str(row.get("Type") or ""),
    )


_INTENT_TASKS = {
    "multiple choice": "choice",
    "emer_ov_mc": "multi_choice",
    "judge": "yes_no",
    "numerical": "numeric",
    "OCR": "ocr",
    "free-form": "free_form",
    "regression": "regression",
}


def _intentbench(row: Row, folder: Folder) -> Iterator[Item]:
    """HumanOmniV2's layout: ``path`` is a clip, or names a file for each modality."""
    kind = text_of(row, "problem_type")
    task = _INTENT_TASKS.get(kind)
    if task is None:
        raise LayoutError(f"problem_type: {kind!r} is none of {', '.join(_INTENT_TASKS)}")
    options = plain_options(row["options"]) if row.get("options") else []
    gold = text_of(row, "solution").replace("<answer>", "").replace("</answer>", "").strip()
    path = row.get("path")
    named = path if isinstance(path, Mapping) else {str(row.get("data_type") or "video"): path}
    name = text_of(row, "id", "problem_id", "number")
    yield Item(
        id=name,
        task=task,
        question=text_of(row, "problem"),
        gold=gold,
        media=[folder.medium(f"{k}s", v, name) for k, v in named.items() if v],
        options=options,
        group=kind,
    )


def _nested(row: Row, *keys: str) -> str:
    value: Any = row
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return str(value or "")


BENCHMARKS = (
    Benchmark(
        name="mathvista",
        title="MathVista",
        files=("testmini*.parquet", "*.parquet", "testmini.json", "*.json", "*.jsonl"),
        read=_mathvista,
        fetch=[Fetch("data/testmini-*.parquet", "hub: AI4Math/MathVista", "CC BY-SA 4.0")],
        protocols=("omnistage", "vlmevalkit_choice"),
    ),
    Benchmark(
        name="mathverse",
        title="MathVerse",
        files=("testmini.parquet", "testmini.json", "*.parquet", "*.json"),
        read=_mathverse,
        fetch=[Fetch("testmini.json and images", "hub: AI4Math/MathVerse", "MIT")],
        protocols=("omnistage", "vlmevalkit_choice"),
    ),
    Benchmark(
        name="omnibench",
        title="OmniBench",
        files=("*.parquet", "*.json", "*.jsonl"),
        read=_omnibench,
        fetch=[Fetch("data/*.parquet", "hub: m-a-p/OmniBench", "as named there")],
        protocols=("omnistage", "videomme_letter", "vlmevalkit_choice"),
    ),
    Benchmark(
        name="worldsense",
        title="WorldSense",
        files=("worldsense_qa.json",),
        read=_worldsense,
        fetch=[
            Fetch(
                "worldsense_qa.json, worldsense_videos*.zip unpacked to videos/",
                "hub: honglyhly/WorldSense",
                "CC BY-NC 4.0",
            )
        ],
        protocols=("videomme_letter", "omnistage"),
    ),
    Benchmark(
        name="daily_omni",
        title="Daily-Omni",
        files=("qa.json",),
        read=_daily_omni,
        fetch=[Fetch("qa.json, Videos.tar unpacked", "hub: liarliar/Daily-Omni", "as named there")],
        protocols=("videomme_letter", "omnistage"),
    ),
    Benchmark(
        name="mmau",
        title="MMAU",
        files=("mmau-test-mini.json", "*.json", "*.parquet"),
        read=_mmau,
        fetch=[
            Fetch(
                "mmau-test-mini.json, test-mini-audios.tar.gz unpacked",
                "GitHub: Sakshi113/mmau",
                "as named there; the sounds under the terms of their own sets",
            )
        ],
        protocols=("mmau", "omnistage"),
    ),
    Benchmark(
        name="intentbench",
        title="IntentBench",
        files=("qa.json", "*_rewrite.json", "*.json"),
        read=_intentbench,
        fetch=[
            Fetch(
                "qa.json, videos.zip unpacked; IntentTrain: emer_rewrite.json, "
                "social_iq_v2_rewrite.json",
                "hub: PhilipC/IntentBench and PhilipC/IntentTrain",
                "as named there; the clips of EMER and Social-IQ 2.0 under their own terms",
            )
        ],
    ),
)
