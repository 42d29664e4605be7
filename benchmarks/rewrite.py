"""Measures rewrite_paths against OmniCritic's own script and against bare orjson.

Run ``python benchmarks/rewrite.py``. All sides read and write the same files in the same run:

- *orjson*: ``dumps(loads(line))`` for every line, nothing else, in one process and in two;
- *json*: what OmniCritic's ``change_path.py`` does, with its output path mended. Give the path of a
  copy with ``--change-path`` to run that very code; without, an equivalent loop is used.

``--memory ROWS`` measures peak memory on that many rows instead.
"""

import argparse
import json
import multiprocessing
import os
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from components.rewrite_paths.config import RewriteSettings
from components.rewrite_paths.stage import STAGE
from omnistage.events import Events
from omnistage.stage.contract import Context, TaskRuntime
from omnistage.store.folder import FolderStore
from omnistage.store.manifest import Manifest

MEMBERS = 13_700  # of each kind: 41 thousand in all, as many as OmniCritic has pairs
INSTRUCTIONS = """You judge two answers to a question about {medium}.
### Task
Two candidate answers (Candidate A and Candidate B) are given. Compare their quality and accuracy.
**Dimensions**
1. Fluency and coherence
2. Relevance to the question and the {medium}
3. Accuracy and completeness
4. Reasoning quality
5. Safety and ethical alignment
**Scores**: 9-10 excellent, 6-8 good with minor issues, 3-5 deficient, 0-2 poor.
**Output**: one strictly valid JSON object, no code fence, exactly these keys:
{{
  "score_A": [integer from 0 to 10],
  "score_B": [integer from 0 to 10],
  "better": "A" or "B" or "equal",
  "reasoning": "<think>Part 1: In terms of fluency and coherence, ... For relevance, ... Regarding
     accuracy and completeness, ... In terms of reasoning quality, ... Part 2: ...</think>",
  "final_verdict": "<answer>[[A]]</answer>"
}}
"""
SENTENCE = (
    "The first answer names what is seen while the second stays vague about it and both are easy "
    "to follow; on accuracy the detail in one of them, such as the colour of it, is wrong."
)
WORDS = SENTENCE.split()
KINDS = {
    "image": ("rlaif-v-dataset/images/{}.jpg", "/home/Userlist/someone/omni-critic/"),
    "audio": ("Clotho-AQA dataset/audio_files/{}.wav", "/home/Userlist/someone/omni-critic/"),
    "video": ("video/academic_source/{}.mp4", "C:\\Users\\someone\\"),
}


def row(kind: str, number: int, old: bool, split: str) -> dict[str, Any]:
    """Return a row of OmniCritic's shape and size."""
    name, base = KINDS[kind]
    path = base + name.format(number % MEMBERS)
    if "\\" in base:
        path = path.replace("/", "\\")
    better = "AB"[number % 2]
    length = 110 + number % 60
    text = " ".join(WORDS[(number + i) % len(WORDS)] for i in range(length))
    quoted = f'"{text}"' if number % 8 == 0 else text  # about as often as annotators quote
    verdict = {
        "score_A": 8 if better == "A" else 3,
        "score_B": 3 if better == "A" else 8,
        "better": better,
        "reasoning": f"<think>Part 1: Candidate {better} says {quoted}.</think>",
        "final_verdict": f"<answer>[[{better}]]</answer>",
    }
    answer = json.dumps(verdict, ensure_ascii=False)
    question = (
        f"{kind.capitalize()} file: {path}  \nQuestion: What is in it, number {number}?  \n"
        f"Candidate A: {text[:120]}  \nCandidate B: {text[120:260]}"
    )
    instructions = INSTRUCTIONS.format(medium=kind)
    if old:
        return {"input": f"{instructions}### Context\n{question}", "output": answer, kind: path}
    messages = [
        {"role": "system", "content": instructions},
        {"role": "user", "content": question},
    ]
    if split == "sft":
        messages.append({"role": "assistant", "content": answer})
        return {"messages": messages, kind + "s": [path]}
    return {"messages": messages, kind + "s": [path], "solution": answer}


def make_dataset(folder: Path, rows: int) -> Manifest:
    """Write six record files, half of the image rows in the old shape, and the index."""
    files = folder / "files"
    for place, kind in enumerate(KINDS):
        for split in ("sft", "rl"):
            path = files / kind / f"final_{split}_data.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w") as f:
                for number in range((rows + 5 - 2 * place - (split == "rl")) // 6):
                    value = row(kind, number, kind == "audio", split)
                    f.write(json.dumps(value, ensure_ascii=False) + "\n")
    types = {"image": {"type": "image"}, "audio": {"type": "audio", "duration": 20.0}}
    types["video"] = {"type": "video", "duration": 30.0, "has_audio": True}
    with (folder / "index.jsonl").open("wb") as f:
        for kind, (name, _) in KINDS.items():
            for number in range(MEMBERS):
                entry = {
                    "path": name.format(number),
                    "file": "x.zip",
                    "member": name.format(number),
                    "size": 1,
                    "sha256": f"{list(KINDS).index(kind) * MEMBERS + number:064x}",
                    "media": types[kind],
                }
                f.write(orjson.dumps(entry) + b"\n")
    return Manifest(
        kind="DatasetTarball",
        stage="download",
        key="0" * 32,
        digest="sha256:" + "0" * 64,
        uri="",
        files=[],
    )


def record_files(folder: Path) -> list[Path]:
    return sorted((folder / "files").rglob("*.jsonl"))


def bare_orjson(files: list[Path], out: Path) -> None:
    for path in files:
        with path.open("rb") as source, (out / f"{path.parent.name}-{path.name}").open("wb") as f:
            for line in source:
                f.write(orjson.dumps(orjson.loads(line)) + b"\n")


def two_orjson(files: list[Path], out: Path) -> None:
    """Do half of the files in each of two processes, which share nothing: what two cores give."""
    context = multiprocessing.get_context("fork")
    halves = [context.Process(target=bare_orjson, args=(files[i::2], out)) for i in (0, 1)]
    for half in halves:
        half.start()
    for half in halves:
        half.join()


MARKERS = {"image": "rlaif-v-dataset", "audio": "Clotho-AQA dataset", "video": "academic_source"}


def change_path(folder: Path, out: Path) -> None:
    """Do what change_path.py does: keep paths from a marker on, in fields and in the text."""
    for number, path in enumerate(record_files(folder)):
        with path.open() as source, (out / f"{number}.jsonl").open("w") as target:
            for line in source:
                data = json.loads(line)
                for kind, marker in MARKERS.items():
                    if kind in data:
                        data[kind] = moved(data[kind], marker)
                    if isinstance(data.get(kind + "s"), list):
                        data[kind + "s"] = [moved(p, marker) for p in data[kind + "s"]]
                if "input" in data:
                    data["input"] = moved_text(data["input"])
                else:
                    for message in data["messages"]:
                        message["content"] = moved_text(message["content"])
                target.write(json.dumps(data, ensure_ascii=False) + "\n")


def moved(path: str, marker: str) -> str:
    path = path.replace("audio_files/audio_files", "audio_files")
    at = path.find(marker)
    return os.path.join("/new/base", path[at:]) if at >= 0 else path  # noqa: PTH118


def moved_text(text: str) -> str:
    for kind, marker in MARKERS.items():
        word = kind.capitalize()
        found = re.search(rf"{word} file:\s*(.*?)(\s{{2,}}|\n)", text)
        if found and marker in found[1]:
            line = f"{word} file: {moved(found[1], marker)}  "
            text = re.sub(rf"{word} file:\s*.*?(\s{{2,}}|\n)", line.replace("\\", "/"), text)
    return text


def original(script: Path) -> Callable[[Path, Path], None]:
    """Return a run of change_path.py without its example call and with its output path mended."""
    code = script.read_text().rsplit("\nmodify_paths(", 1)[0]
    mended = code.replace("os.path.join(dir_name, file_name)", "OUTPUT")
    if mended == code:
        raise SystemExit(f"{script}: not the change_path.py that this benchmark knows")

    def run(folder: Path, out: Path) -> None:
        for number, path in enumerate(record_files(folder)):
            names: dict[str, Any] = {"OUTPUT": str(out / f"{number}.jsonl")}
            exec(compile(mended, str(script), "exec"), names)
            names["modify_paths"](str(path), "/new/base")

    return run


def rewrite(folder: Path, out: Path, manifest: Manifest, workers: int) -> dict[str, Any]:
    """Run the stage's own function, without hashing and storing its output."""

    class Here(Context[RewriteSettings]):
        def folder(self, name: str) -> Path:
            return folder

    (out / "work").mkdir()
    (out / "out").mkdir()
    store = FolderStore(out / "store")
    config = RewriteSettings(workers=workers)
    events = Events("rewrite_paths", echo=False)
    context = Here(
        "rewrite_paths",
        config,
        {"data": manifest},
        store,
        out / "work",
        out / "out",
        "0" * 32,
        TaskRuntime(),
        events,
    )
    return STAGE.run(context).counts


def best(runs: dict[str, Callable[[Path], object]], scratch: Path, times: int) -> dict[str, float]:
    """Return the least seconds of several runs of each, in turns, each into a fresh folder."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(times):
        for name, run in runs.items():
            out = Path(tempfile.mkdtemp(dir=scratch))
            began = time.perf_counter()
            run(out)
            seconds[name].append(time.perf_counter() - began)
            shutil.rmtree(out)
    return {name: min(of) for name, of in seconds.items()}


def pss_of(pids: list[int]) -> Iterator[float]:
    """Yield proportional memory of processes in MB; state pages are counted once."""
    for pid in pids:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    yield int(line.split()[1]) / 1000
        except (FileNotFoundError, ProcessLookupError):
            yield 0.0


def measure_memory(folder: Path, scratch: Path, manifest: Manifest) -> None:
    for workers in (1, 2):
        out = Path(tempfile.mkdtemp(dir=scratch))
        process = multiprocessing.get_context("fork").Process(
            target=rewrite, args=(folder, out, manifest, workers)
        )
        process.start()
        peak = 0.0
        while process.is_alive():
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            pids = [process.pid or 0]
            if children.exists():
                pids += [int(pid) for pid in children.read_text().split()]
            peak = max(peak, sum(pss_of(pids)))
            time.sleep(0.1)
        print(f"memory, {workers} processes: peak {peak:.0f} MB (all processes together)")
        shutil.rmtree(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=5, help="runs of each, the best counts")
    parser.add_argument("--change-path", type=Path, help="a copy of OmniCritic's change_path.py")
    parser.add_argument("--memory", type=int, metavar="ROWS", help="measure peak memory instead")
    parser.add_argument("--scratch", type=Path, help="folder for the files; /tmp by default")
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(dir=options.scratch))
    try:
        rows = options.memory or options.rows
        manifest = make_dataset(scratch / "data", rows)
        size = sum(path.stat().st_size for path in record_files(scratch / "data"))
        print(f"{rows:,} rows, {size / 1e6:.0f} MB, {3 * MEMBERS:,} members")
        if options.memory:
            measure_memory(scratch / "data", scratch, manifest)
            return
        compare(options, scratch, manifest)
    finally:
        shutil.rmtree(scratch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"peak memory of this process {peak:.0f} MB")


def compare(options: argparse.Namespace, scratch: Path, manifest: Manifest) -> None:
    data = scratch / "data"
    peer = original(options.change_path) if options.change_path else change_path
    files = record_files(data)
    runs: dict[str, Callable[[Path], object]] = {
        "orjson loads+dumps": lambda out: bare_orjson(files, out),
        "orjson, 2 processes": lambda out: two_orjson(files, out),
        "change_path.py" if options.change_path else "json loop": lambda out: peer(data, out),
        "rewrite_paths, 1 core": lambda out: rewrite(data, out, manifest, 1),
        "rewrite_paths, 2 cores": lambda out: rewrite(data, out, manifest, 2),
    }
    seconds = best(runs, scratch, options.times)
    for name, least in seconds.items():
        print(f"{name:24} {least:7.2f} s {options.rows / least:10,.0f} rows/s")
    bare, both, script, one, two = seconds.values()
    for what, ratio, bar in (
        ("1 core / change_path.py", script / one, 3.0),
        ("1 core / orjson", bare / one, 0.7),
        ("2 cores / 1 core", one / two, 1.7),
    ):
        print(f"{what:24} {ratio:7.2f} x (bar {bar}) {'ok' if ratio >= bar else 'MISSED'}")
    print(f"two orjson processes of their own are {bare / both:.2f} x as fast as one here")


if __name__ == "__main__":
    sys.exit(main())
