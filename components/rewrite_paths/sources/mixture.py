"""Reads OmniRL's mixtures: a YAML file that lists record files and how each is sampled."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from components.rewrite_paths.config import Records
from omnistage.errors import InputError

_KEYS = ("json_path", "sampling_strategy")
_SUFFIXES = (".json", ".jsonl", ".parquet")


def read_mixture(path: Path, files: Path, entry: Records) -> Iterator[tuple[Records, Path]]:
    """Yield the record files of a mixture.

    The paths in it are of somebody else's disk: each means the file of the data set whose path
    ends most like it.

    Args:
        path: The YAML file: ``datasets``, a list of ``json_path`` and ``sampling_strategy``.
        files: Folder with the data set's files.
        entry: What the recipe says about the mixture; sampling comes from the mixture.

    Raises:
        InputError: If it is not a mixture, or a file is missing, ambiguous or listed twice.
    """
    content = _load(path)
    listed = content.get("datasets") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{path}: not a mixture: a list under 'datasets' is needed")
    known = sorted(p for p in files.rglob("*") if p.suffix.lower() in _SUFFIXES)
    given: dict[Path, int] = {}
    for number, item in enumerate(listed):
        where = f"{path}: datasets.{number}"
        if not isinstance(item, dict) or not isinstance(item.get("json_path"), str):
            raise InputError(f"{where}: json_path is needed")
        other = next((key for key in item if key not in _KEYS), None)
        if other is not None:
            raise InputError(f"{where}.{other}: unknown; known are {', '.join(_KEYS)}")
        found = _nearest(item["json_path"], files, known, where)
        if found in given:
            raise InputError(
                f"{where}: {found.name} stands in datasets.{given[found]} already; a file is "
                "listed once"
            )
        given[found] = number
        yield _sampled(entry, item, where), found


def _load(path: Path) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(path.read_text())
    except MarkedYAMLError as e:  # a key given twice is one too
        line = f":{e.problem_mark.line + 1}" if e.problem_mark else ""
        what = str(e.problem or e.context).splitlines()[0]
        raise InputError(f"{path}{line}: not valid YAML: {what}") from e
    except (YAMLError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: not valid YAML: {str(e).splitlines()[0]}") from e


def _sampled(entry: Records, item: dict[str, Any], where: str) -> Records:
    values = entry.model_dump() | {"sampling": str(item.get("sampling_strategy", "all"))}
    try:
        return Records.model_validate(values)
    except ValidationError as e:
        what = e.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"{where}.sampling_strategy: {what}") from e


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
