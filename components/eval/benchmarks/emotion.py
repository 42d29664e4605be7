"""Emotions in clips: RAVDESS by its file names, DFEW and MAFW by columns."""

from collections.abc import Iterator

from components.eval.benchmarks.benchmark import (
    Benchmark,
    Fetch,
    Folder,
    Item,
    LayoutError,
    Row,
    text_of,
)

RAVDESS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""Labels by the third field of a file name, from 01 on."""
_ASKED = "Which emotion does the person in the clip show?"


def _ravdess(row: Row, folder: Folder) -> Iterator[Item]:
    """Seven fields of two digits; the first is 01 for a clip with sound, 02 mute, 03 a sound."""
    path = text_of(row, "path")
    fields = path.rpartition("/")[2].partition(".")[0].split("-")
    if len(fields) != 7 or not all(f.isdecimal() and len(f) == 2 for f in fields):
        raise LayoutError(f"{path}: not seven fields of two digits, such as 01-01-03-02-01-01-12")
    number = int(fields[2])
    if not 1 <= number <= len(RAVDESS):
        raise LayoutError(f"{path}: the third field is no emotion from 01 to 08")
    name = "-".join(fields)
    yield Item(
        id=name,
        task="emotion",
        question=_ASKED,
        gold=RAVDESS[number - 1],
        media=[folder.medium("audios" if fields[0] == "03" else "videos", path, name)],
        options=RAVDESS,
        group="speech" if fields[1] == "01" else "song",
    )


def _labelled(row: Row, folder: Folder) -> Iterator[Item]:
    clip = text_of(row, "video")
    yield Item(
        id=str(row.get("id") or clip),
        task="emotion",
        question=_ASKED,
        gold=text_of(row, "label"),
        media=[folder.medium("videos", clip, clip)],
    )


BENCHMARKS = (
    Benchmark(
        name="ravdess",
        title="RAVDESS",
        files=(),
        read=_ravdess,
        fetch=[
            Fetch("Video_Speech_Actor_*.zip unpacked", "Zenodo record 1188976", "CC BY-NC-SA 4.0")
        ],
    ),
    Benchmark(
        name="dfew",
        title="DFEW",
        files=("*.csv", "*.tsv", "*.jsonl", "*.json"),
        read=_labelled,
        fetch=[Fetch("clips and a table of labels", "dfew-dataset.github.io", "signed agreement")],
        verified=False,
    ),
    Benchmark(
        name="mafw",
        title="MAFW",
        files=("*.csv", "*.tsv", "*.jsonl", "*.json"),
        read=_labelled,
        fetch=[Fetch("clips and a table of labels", "mafw-database.github.io", "signed agreement")],
        verified=False,
    ),
)
