"""Encodes every row once, as the trainer would: the program of :mod:`omnistage.swift.encoding`.

``python -m omnistage.swift.encode_rows SPEC``. The template is loaded once and the process forks
its workers, because loading it takes as long as encoding thousands of rows. Results are appended
in the order of the rows, a JSON object a line, so that a killed run goes on after the last::

    {"tokens": {"text": 61, "image": 4}}
    {"missing": "no file /media/p/x.png"}
    {"error": "p/x.png: OSError: image file is truncated"}
"""

import multiprocessing
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel

from omnistage.files import check_readable, read_jsonl
from omnistage.records.record import MEDIA
from omnistage.swift.family import family_named

CHUNK = 16
ROW_SECONDS = 120.0
"""How long one row may take before its media count as hanging their decoder."""


class RowsFile(BaseModel):
    """A file of records to encode."""

    records: str
    """JSON Lines of canonical records."""
    out: str
    """JSON Lines to append the results to."""
    prompts: bool
    """Whether rows are prompts to answer, and not dialogues to learn."""


class EncodeSpec(BaseModel):
    """What the program is told."""

    model: str
    model_type: str
    dtype: str
    root: str
    """Media root."""
    files: list[RowsFile]
    processes: int


class Encoder:
    """The trainer's template without its model."""

    def __init__(self, spec: EncodeSpec) -> None:
        import torch
        from swift.model import get_model_processor
        from swift.template import get_template

        import omnistage.swift.template  # noqa: F401 - registers the templates

        self.family = family_named(spec.model_type, "encoding")
        _, processor = get_model_processor(
            spec.model,
            load_model=False,
            model_type=spec.model_type,
            torch_dtype=getattr(torch, spec.dtype),
        )
        self.template: Any = get_template(
            processor, template_type=self.family.omnistage_template, max_length=sys.maxsize
        )
        self.root = Path(spec.root)
        ids = self.template.tokenizer.convert_tokens_to_ids
        self.kinds = {ids(token): kind for kind, token in self.family.placeholders.items()}
        self.sound_start = ids(self.family.sound_start) if self.family.sound_start else None

    def encode(self, row: dict[str, Any], prompt: bool) -> dict[str, Any]:
        """Return what becomes of a row."""
        media = {name: [str(self.root / item) for item in row.get(name) or ()] for name in MEDIA}
        missing = [path for paths in media.values() for path in paths if not Path(path).is_file()]
        if missing:
            return {"missing": f"no file {missing[0]}"}
        messages = row["messages"]
        if prompt and messages[-1]["role"] == "assistant":
            messages = messages[:-1]
        self.template.set_mode("transformers" if prompt else "train")
        try:
            given = {"messages": messages, **media}
            if row.get("objects"):
                given["objects"] = row["objects"]
            ids = self.template.encode(given)["input_ids"]
        except Exception as e:  # of any kind: decoders raise their own
            check_readable(path for paths in media.values() for path in paths)
            return {"error": self._cause(media, e)}
        counts = Counter(self.kinds.get(token, "text") for token in ids)
        silent = self._empty_sounds(ids)
        if silent:
            be = "is" if silent == 1 else "are"
            return {"error": f"{silent} of its sounds {be} too short to fill one token"}
        return {"tokens": dict(sorted(counts.items()))}

    def _empty_sounds(self, ids: list[int]) -> int:
        pairs = zip(ids, [*ids[1:], None], strict=True)
        return sum(a == self.sound_start and b not in self.kinds for a, b in pairs)

    def _cause(self, media: dict[str, list[str]], error: Exception) -> str:
        """Return an error in one line, with the medium that cannot be encoded by itself."""
        for name, paths in media.items():
            for path in paths:
                row = {"messages": [{"role": "user", "content": f"<{name[:-1]}>"}], name: [path]}
                try:
                    self.template.encode(row)
                except Exception as e:
                    return f"{Path(path).relative_to(self.root)}{_size(name, path)}: {_one_line(e)}"
        return _one_line(error)


def _size(name: str, path: str) -> str:
    """Return the size of an image: very flat ones vanish when the processor shrinks them."""
    if name != "images":
        return ""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return f" ({image.width} x {image.height} pixels)"
    except OSError:
        return ""


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"


_ENCODER: Encoder | None = None  # of this program, inherited by its forked workers


def _encode(rows: list[dict[str, Any]], prompt: bool) -> list[dict[str, Any]]:
    assert _ENCODER is not None  # main() has made it
    return [_ENCODER.encode(row, prompt) for row in rows]


class Workers:
    """Forked processes; one that dies or hangs costs the row that it was at, not the run."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = self._start(count)

    @staticmethod
    def _start(count: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("fork"))

    def results(self, rows: Iterator[dict[str, Any]], prompt: bool) -> Iterator[dict[str, Any]]:
        """Yield the rows' results in their order."""
        ahead: list[tuple[list[dict[str, Any]], Future[list[dict[str, Any]]]]] = []
        while True:
            while len(ahead) < 4 * self.count and (chunk := list(islice(rows, CHUNK))):
                ahead.append((chunk, self._submit(chunk, prompt)))
            if not ahead:
                return
            chunk, future = ahead.pop(0)
            try:
                yield from future.result(timeout=ROW_SECONDS * CHUNK)
            except (BrokenProcessPool, TimeoutError):
                self._restart(self.count)
                yield from self._one_by_one(chunk, prompt)
                self._restart(self.count)
                ahead = [(later, self._submit(later, prompt)) for later, _ in ahead]

    def _submit(self, chunk: list[dict[str, Any]], prompt: bool) -> Future[list[dict[str, Any]]]:
        try:
            return self._pool.submit(_encode, chunk, prompt)
        except BrokenProcessPool:  # seen here first when it broke since the last look
            self._restart(self.count)
            return self._pool.submit(_encode, chunk, prompt)

    def _one_by_one(self, chunk: list[dict[str, Any]], prompt: bool) -> Iterator[dict[str, Any]]:
        self._restart(1)
        for row in chunk:
            try:
                yield from self._pool.submit(_encode, [row], prompt).result(timeout=ROW_SECONDS)
            except BrokenProcessPool:
                self._restart(1)
                yield {"error": "decoding its media crashes the process"}
            except TimeoutError:
                self._restart(1)
                yield {"error": f"decoding its media takes more than {ROW_SECONDS:.0f} seconds"}

    def _restart(self, count: int) -> None:
        self.close()
        self._pool = self._start(count)

    def close(self) -> None:
        """End the processes, also in the middle of a row."""
        for process in list((self._pool._processes or {}).values()):
            process.kill()
        self._pool.shutdown(cancel_futures=True)


def main(spec: EncodeSpec) -> None:
    """Load the template and encode the rows of every file that have no result yet."""
    global _ENCODER
    _ENCODER = Encoder(spec)
    encode_files(spec)


def encode_files(spec: EncodeSpec) -> None:
    """Encode the rows of every file that have no result yet, by this program's encoder."""
    workers = Workers(spec.processes)
    for file in spec.files:
        out = Path(file.out)
        done = whole_lines(out)
        with out.open("ab") as f:
            rows = islice(read_jsonl(Path(file.records)), done, None)
            for result in workers.results(rows, file.prompts):
                f.write(orjson.dumps(result) + b"\n")
                f.flush()
    workers.close()


def whole_lines(path: Path) -> int:
    """Return the lines of a file of results; what a kill cut short is removed."""
    if not path.exists():
        return 0
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end != len(data):
        path.write_bytes(data[:end])
    return data.count(b"\n")


if __name__ == "__main__":
    main(EncodeSpec.model_validate_json(Path(sys.argv[1]).read_bytes()))
