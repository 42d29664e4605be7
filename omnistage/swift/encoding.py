"""What the trainer makes of every record, known before anything is trained.

The records of a split are encoded once, by the trainer's own template and processor on CPU
processes side by side (:mod:`omnistage.swift.encode_rows`). The results are kept in the store under
a key (records, media, processor, bounds, versions; not the maximum length, which is compared
afterwards), so that a second run, another stage and evaluation pay nothing. On a cluster a job of
its own does it before the job that holds GPUs (:mod:`omnistage.swift.prepare`), which so finds the
results; should they be gone again, node 0 encodes and the other nodes wait for it.
"""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from omnistage.errors import StageFailedError
from omnistage.files import count_lines, counted, read_jsonl, write_atomic
from omnistage.records.record import SPLITS, Split
from omnistage.stage.contract import Context
from omnistage.stage.key import pinned_version
from omnistage.stage.media import data_digests
from omnistage.store.layout import Store
from omnistage.store.manifest import Manifest
from omnistage.swift.encode_rows import EncodeSpec, RowsFile, whole_lines
from omnistage.swift.family import Family, family_named
from omnistage.swift.lineage import Start
from omnistage.swift.media import MediaSettings, environment, facts_environment
from omnistage.torchrun import run as local
from omnistage.torchrun.job import TorchrunJob

_VERSION = 2  # raised when a row would be encoded to something else
_AREA, _ROWS, _PART = "encoded", "rows.jsonl", "part.jsonl"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_SMALL = 20_000  # rows of other splits that are encoded along: less than another start costs
_SAVE_SECONDS = 60
_POLL_SECONDS = 5
_WAIT_SECONDS = 3600


@dataclass(frozen=True)
class Encoded:
    """What became of a record."""

    tokens: Mapping[str, int]
    """Tokens by modality, ``text``, ``image``, ``audio``, ``video``; empty if it cannot be."""
    missing: str | None = None
    error: str | None = None

    @property
    def length(self) -> int:
        """Tokens in all."""
        return sum(self.tokens.values())


def encode_records(
    context: Context[Any],
    start: Start,
    media: MediaSettings,
    dtype: str,
    split: Split,
    root: Path,
) -> list[Encoded]:
    """Return what becomes of each record of a split, in order.

    Args:
        context: The stage's, with inputs ``records`` and ``data``.
        start: What is trained: its base model's processor encodes.
        media: Bounds on media.
        dtype: Type that features are made in.
        split: The records.
        root: Media root.

    Raises:
        StageFailedError: If the encoding fails as a whole.
    """
    folder = context.work / "encoded"
    folder.mkdir(exist_ok=True)
    keys: dict[Split, str] = {
        name: _key(context, start, media, dtype, name) for name in _present(context)
    }
    if not _fetched(context, keys[split], _ROWS, folder / f"{split}.jsonl"):
        if context.world.node_rank:
            _wait(context, keys[split], folder / f"{split}.jsonl")
        else:
            _encode(context, start, media, dtype, _along(context, keys, split), root)
    return _read(folder / f"{split}.jsonl")


def is_encoded(
    context: Context[Any], base: Manifest, media: MediaSettings, dtype: str, split: Split
) -> bool:
    """Return whether the store has the encoding of a split; needs no files.

    Args:
        context: A stage's, with inputs ``records`` and ``data``.
        base: The base model, whose manifest names its ``model_type``.
        media: Bounds on media.
        dtype: Type that features are made in.
        split: The records.
    """
    family = family_named(base.metadata.get("model_type", ""), context.step)
    key = encoding_key(
        context.inputs["records"],
        data_digests(context),
        base,
        family,
        media,
        dtype=dtype,
        split=split,
    )
    return _ROWS in context.store.list_work(_AREA, key)


def token_figures(rows: Sequence[Encoded]) -> dict[str, Any]:
    """Return what the rows are like, for the manifest.

    Returns:
        ``total`` tokens of an epoch, ``by_modality``, ``media_share`` (0..1), ``longest``,
        ``median``, and ``histogram``: rows by the power of two that their tokens do not exceed.
    """
    lengths = sorted(row.length for row in rows)
    kinds: Counter[str] = Counter()
    for row in rows:
        kinds.update(row.tokens)
    total = sum(lengths)
    bins = Counter(1 << (length - 1).bit_length() for length in lengths if length)
    return {
        "total": total,
        "by_modality": dict(sorted(kinds.items())),
        "media_share": round(1 - kinds["text"] / total, 4) if total else 0.0,
        "longest": lengths[-1] if lengths else 0,
        "median": lengths[len(lengths) // 2] if lengths else 0,
        "histogram": {str(most): bins[most] for most in sorted(bins)},
    }


def _records(context: Context[Any], split: Split) -> Path:
    return context.folder("records") / f"{split}.jsonl"


def _present(context: Context[Any]) -> list[Split]:
    return [s for s in SPLITS if (p := _records(context, s)).is_file() and p.stat().st_size]


def _key(
    context: Context[Any], start: Start, media: MediaSettings, dtype: str, split: Split
) -> str:
    records, base = context.inputs["records"], start.below.base
    return encoding_key(
        records, data_digests(context), base, start.family, media, dtype=dtype, split=split
    )


def encoding_key(
    records: Manifest,
    data: list[str],
    base: Manifest,
    family: Family,
    media: MediaSettings,
    *,
    dtype: str,
    split: Split,
) -> str:
    """Return the key that the encoding of a split's records is kept under.

    Args:
        records: The RewrittenJSONL.
        data: Digest of each data set that the records come from, in order.
        base: The base model, whose processor encodes.
        family: Its family.
        media: Bounds on media.
        dtype: Type that features are made in.
        split: The records.
    """
    parts = {
        "version": _VERSION,
        "records": [f.sha256 for f in records.files if f.path == f"{split}.jsonl"],
        "data": data,
        "processor": sorted((f.path, f.sha256) for f in base.files if not is_weight(f.path)),
        "family": family.model_type,
        "media": media.model_dump(mode="json"),
        "dtype": dtype,
        "prompts": split != "sft",
        "libraries": {name: pinned_version(name) for name in ("ms-swift", "transformers")},
    }
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def kept_encoding(store: Store, key: str, target: Path) -> list[Encoded] | None:
    """Return what is kept under a key, fetched to ``target``, or None if there is nothing."""
    if _ROWS not in store.list_work(_AREA, key):
        return None
    store.fetch_work(_AREA, key, _ROWS, target)
    return _read(target)


def _read(path: Path) -> list[Encoded]:
    return [
        Encoded(row.get("tokens", {}), row.get("missing"), row.get("error"))
        for row in read_jsonl(path)
    ]


def is_weight(path: str) -> bool:
    """Return whether a file of a model holds weights, which encoding does not depend on."""
    return path.endswith(_WEIGHTS) or path.endswith(".index.json")


def _along(context: Context[Any], keys: Mapping[Split, str], split: Split) -> dict[Split, str]:
    """Return the splits to encode: the one that is wanted, and small ones that will be."""
    wanted: dict[Split, str] = {split: keys[split]}
    for other, key in keys.items():
        kept = _ROWS in context.store.list_work(_AREA, key)
        if other != split and not kept and count_lines(_records(context, other)) <= _SMALL:
            wanted[other] = key
    return wanted


def _fetched(context: Context[Any], key: str, name: str, target: Path) -> bool:
    if name not in context.store.list_work(_AREA, key):
        return False
    context.store.fetch_work(_AREA, key, name, target)
    return True


def _wait(context: Context[Any], key: str, target: Path) -> None:
    """Wait for node 0's results, as long as it goes on."""
    names, since = [], time.monotonic()
    while not _fetched(context, key, _ROWS, target):
        now = context.store.list_work(_AREA, key)
        if now != names:
            names, since = now, time.monotonic()
        if time.monotonic() - since > _WAIT_SECONDS:
            raise StageFailedError(
                f"{context.step}: node 0 has not encoded the records within {_WAIT_SECONDS} seconds"
            )
        time.sleep(_POLL_SECONDS)


def _encode(
    context: Context[Any],
    start: Start,
    media: MediaSettings,
    dtype: str,
    wanted: Mapping[Split, str],
    root: Path,
) -> None:
    folder, store = context.work / "encoded", context.store
    outs = {split: folder / f"{split}.jsonl" for split in wanted}
    for split, key in wanted.items():
        if not outs[split].exists():
            _fetched(context, key, _PART, outs[split])
    total = sum(count_lines(_records(context, split)) for split in wanted)
    processes = max(1, min(len(os.sched_getaffinity(0)), total // 8))
    spec = EncodeSpec(
        model=str(start.base),
        model_type=start.family.model_type,
        dtype=dtype,
        root=str(root),
        files=[
            RowsFile(
                records=str(_records(context, split)), out=str(outs[split]), prompts=split != "sft"
            )
            for split in wanted
        ],
        processes=processes,
    )
    path = context.work / "encode.spec.json"
    write_atomic(path, spec.model_dump_json())
    job = TorchrunJob(
        name="encode",
        program=("-m", "omnistage.swift.encode_rows", str(path)),
        log=context.work / "encode.log",
        env={
            **environment(media, 0, start.family),
            **facts_environment(context.folder("records"), root),
            "CUDA_VISIBLE_DEVICES": "",
        },
    )
    context.events.message(f"encoding {counted(total, 'record')} once; processes: {processes}")
    saved = time.monotonic()

    def follow() -> None:
        nonlocal saved
        done = sum(count_lines(out) for out in outs.values() if out.exists())
        context.events.progress(done, total, "records")
        if context.runtime.keep_checkpoints and time.monotonic() - saved > _SAVE_SECONDS:
            saved = time.monotonic()
            for split, key in wanted.items():
                if outs[split].exists():
                    store.save_work(_AREA, key, _PART, outs[split])

    seconds = local.run(job, follow)
    context.events.emit("process", name=job.name, seconds=seconds)
    for split, key in wanted.items():
        if whole_lines(outs[split]) != count_lines(_records(context, split)):
            raise StageFailedError(f"{context.step}: {split} was not encoded whole; see {job.log}")
        store.save_work(_AREA, key, _ROWS, outs[split])
        store.drop_work(_AREA, key, _PART)
