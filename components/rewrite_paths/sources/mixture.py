"""Reads OmniRL's mixtures: a YAML file that lists record files and how each is sampled."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from components.rewrite_paths.config import Records
from omnistage.errors import InputError


def read_mixture(path: Path, files: Path, entry: Records) -> Iterator[tuple[Records, Path]]:
    """Yield the record files of a mixture.

    The paths in it are of somebody else's disk: each means the file of the data set whose path
    ends most like it.

    Args:
        path: The YAML file: ``datasets``, a list of ``json_path`` and ``sampling_strategy``.
        files: Folder with the data set's files.
        entry: What the recipe says about the mixture; sampling comes from the mixture.

    Raises:
        InputError: If it is not a mixture, or a file is missing or ambiguous.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: not YAML: {e}") from e
    listed = content.get("datasets") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{path}: not a mixture: a list under 'datasets' is needed")
    known = sorted(p for p in files.rglob("*") if p.suffix in (".json", ".jsonl"))
    for number, item in enumerate(listed):
        where = f"{path}: datasets.{number}"
        if not isinstance(item, dict) or not isinstance(item.get("json_path"), str):
            raise InputError(f"{where}: json_path is needed")
        yield _sampled(entry, item, where), _nearest(item["json_path"], files, known, where)


def _sampled(entry: Records, item: dict[str, Any], where: str) -> Records:
    values = entry.model_dump() | {"sampling": str(item.get("sampling_strategy", "all"))}
    try:
        return Records.model_validate(values)
    except ValidationError as e:
        raise InputError(f"{where}.sampling_strategy: {e.errors()[0]['msg']}") from e


def _nearest(raw: str, files: Path, known: list[Path], where: str) -> Path:
    parts = raw.replace("\\", "/").split("/")
    common = {
        path: _common(path.relative_to(files).parts, parts)
        for path in known
        if path.name == parts[-1]
    }
    best = [path for path, count in common.items() if count == max(common.values())]
    if len(best) != 1:
        what = "several files are" if best else "no file of the data set is"
        raise InputError(f"{where}: {what} named like {raw!r}")
    return best[0]


def _common(a: tuple[str, ...], b: list[str]) -> int:
    count = 0
    for x, y in zip(reversed(a), reversed(b), strict=False):
        if x != y:
            break
        count += 1
    return count
