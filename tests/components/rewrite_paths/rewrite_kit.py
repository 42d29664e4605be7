"""Makes small DatasetTarball artifacts and rewrites them, for the tests of rewrite_paths."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.rewrite_paths.config import RewriteSettings
from components.rewrite_paths.stage import STAGE
from omnistage.files import read_jsonl, write_json, write_jsonl
from omnistage.stage.contract import Outcome
from omnistage.stage.execute import execute
from omnistage.store.folder import FolderStore
from omnistage.store.manifest import Manifest

IMAGE = {"type": "image", "format": "png", "width": 56, "height": 56}
SOUND = {"type": "audio", "format": "wav", "duration": 2.5, "sample_rate": 16000, "channels": 1}
CLIP = {"type": "video", "format": "mp4", "duration": 4.0, "fps": 4.0, "has_audio": True}
SILENT = CLIP | {"has_audio": False}
_BY_SUFFIX = {".png": IMAGE, ".jpg": IMAGE, ".wav": SOUND, ".mp4": CLIP}


def member(
    path: str, media: dict[str, Any] | None = None, content: str | None = None
) -> dict[str, Any]:
    """Return a line of index.jsonl; the medium is told from the suffix, the bytes from the path."""
    return {
        "path": path,
        "file": "media.zip",
        "member": path,
        "size": 10,
        "sha256": hashlib.sha256((content or path).encode()).hexdigest(),
        "media": media or _BY_SUFFIX.get(Path(path).suffix),
    }


def verdict(better: str = "A", a: int = 8, b: int = 3, **changes: Any) -> dict[str, Any]:
    """Return a judge's verdict, its keys in the order of OmniCritic's prompt."""
    return {
        "score_A": a,
        "score_B": b,
        "better": better,
        "reasoning": "<think>Answer A is fluent and relevant.</think>",
        "final_verdict": f"<answer>[[{better}]]</answer>",
    } | changes


def judge_row(path: str, field: str = "images", **changes: Any) -> dict[str, Any]:
    """Return a row of OmniCritic's new shape, with the path in the prompt."""
    word = field[:-1].capitalize()
    return {
        "messages": [
            {"role": "system", "content": "You judge. Start with {."},
            {
                "role": "user",
                "content": f"{word} file: {path}  \nQuestion: what?\n"
                "Response A: a dog\nResponse B: a cat",
            },
        ],
        field: [path],
        "solution": json.dumps(verdict()),
    } | changes


def dataset(
    tmp: Path,
    files: Mapping[str, Sequence[Any] | bytes],
    members: Sequence[str | dict[str, Any]] = (),
) -> tuple[FolderStore, Manifest]:
    """Put a data set into a store.

    Args:
        tmp: Folder for the store.
        files: Record files: rows to write as JSON Lines (as a list for ``.json``), or bytes.
        members: Media, as paths or as lines of index.jsonl.
    """
    store = FolderStore(tmp / "store")
    folder = tmp / "data"
    for name, content in files.items():
        path = folder / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif path.suffix == ".json":
            path.write_text(json.dumps(content, indent=1))
        else:
            write_jsonl(path, content)
    (folder / "files").mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "index.jsonl", [member(m) if isinstance(m, str) else m for m in members])
    write_json(folder / "sources.json", [])
    manifest = store.commit(folder, "DatasetTarball", "download", "0" * 32)
    return store, manifest


def rewrite(
    tmp: Path,
    files: Mapping[str, Sequence[Any] | bytes],
    members: Sequence[str | dict[str, Any]] = (),
    **settings: Any,
) -> "Rewritten":
    """Run the stage on a small data set; record files are named by split unless settings say."""
    store, manifest = dataset(tmp, files, members)
    config = RewriteSettings.model_validate({"workers": 1} | settings)
    outcome = execute(STAGE, config, {"data": manifest}, store)
    return Rewritten(store.local(outcome.manifest), outcome)


class Rewritten:
    """The output of a run."""

    def __init__(self, folder: Path, outcome: Outcome) -> None:
        self.folder = folder
        self.counts = outcome.manifest.counts
        self.digest = outcome.manifest.digest

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of sft, rl, test or rejected."""
        return list(read_jsonl(self.folder / f"{name}.jsonl"))

    def reasons(self) -> list[str]:
        """Return why rows were rejected, in order."""
        return [row["reason"] for row in self.rows("rejected")]

    def balanced(self) -> bool:
        """Whether every row read is kept, rejected or left out."""
        kept = sum(self.counts[split] for split in ("sft", "rl", "test"))
        out = sum(self.counts["rejected"].values()) + sum(self.counts["left_out"].values())
        return self.counts["rows"] == kept + out
