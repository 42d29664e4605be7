"""The encoding pass before a job on a cluster holds its GPUs."""

from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from omnistage.errors import DamagedError
from omnistage.records.record import Split
from omnistage.stage.contract import Context, Preparation
from omnistage.stage.media import records_root
from omnistage.store.manifest import Manifest
from omnistage.store.open import read_artifact_file
from omnistage.swift.encoding import encode_records, is_encoded, is_weight
from omnistage.swift.family import family_of
from omnistage.swift.lineage import Lineage, Start, lineage_of
from omnistage.swift.rows import check_hearing, count_records


def encoding_of(split: Split) -> Preparation:
    """Return the encoding of a split as the preparation of a stage that trains or tests on it.

    The stage's settings have ``media`` and ``dtype``; what it starts from or evaluates is its input
    ``start`` or ``model``.
    """
    return Preparation(partial(_missing, split), partial(_encode, split))


def _base(context: Context[Any]) -> Manifest:
    return lineage_of(context.inputs.get("start") or context.inputs["model"]).base


def _missing(split: Split, context: Context[Any]) -> bool:
    config = context.config
    files = context.inputs["records"].files
    if not any(f.path == f"{split}.jsonl" and f.size for f in files):
        return False  # the stage says what that means
    return not is_encoded(context, _base(context), config.media, config.dtype, split)


def _encode(split: Split, context: Context[Any]) -> None:
    config, base = context.config, _base(context)
    folder = _processor(base, context.work / "processor")
    start = Start(Lineage(base, base), family_of(base, folder), folder, folder, None)
    count_records(context, split)
    check_hearing(context.folder("records") / f"{split}.jsonl", start.family, config.media)
    encode_records(context, start, config.media, config.dtype, split, records_root(context))


def _processor(base: Manifest, folder: Path) -> Path:
    """Fetch a base model without its weights, which encoding does not need.

    Raises:
        DamagedError: If a file differs from its manifest.
    """
    for file in base.files:
        if is_weight(file.path):
            continue
        data = read_artifact_file(base, file.path)
        if sha256(data).hexdigest() != file.sha256:
            raise DamagedError(f"{base.uri}/{file.path} differs from its manifest")
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder / "files"
