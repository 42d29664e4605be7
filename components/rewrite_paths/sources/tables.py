"""Turns Parquet files and saved data sets of the datasets library into JSON Lines."""

import datetime
import decimal
import json
import math
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from omnistage.errors import InputError
from omnistage.files import human_bytes

_ROWS = 1024  # at a time
_STATE = "state.json"


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder is one that ``Dataset.save_to_disk`` has written."""
    return (path / _STATE).is_file()


def table_to_lines(path: Path, target: Path) -> Path:
    """Write each row of a table as a line, and return the file.

    Args:
        path: A Parquet file, or a saved data set's folder.
        target: File to write.

    Raises:
        InputError: If it cannot be read.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("wb") as out:
            for batch in _batches(path):
                _check_names(path, batch.schema.names)
                kind, features = pa.struct(list(batch.schema)), _features(batch.schema)
                for row in batch.to_pylist():
                    row = _plain(row, kind, features)
                    out.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as e:
        raise InputError(f"{path}: not a table that can be read: {str(e).splitlines()[0]}") from e
    return target


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    if path.is_file():
        yield from pyarrow.parquet.ParquetFile(path).iter_batches(_ROWS)
        return
    for part in orjson.loads((path / _STATE).read_bytes())["_data_files"]:
        with pa.memory_map(str(path / part["filename"])) as source:
            for batch in pyarrow.ipc.open_stream(source):
                for start in range(0, batch.num_rows, _ROWS):
                    yield batch.slice(start, _ROWS)


def _check_names(path: Path, names: list[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: two columns are named {twice!r}; rename one of them")


def _features(schema: pa.Schema) -> Any:
    """Return what the datasets library says of a table's columns, by name; None if nothing."""
    try:
        about = orjson.loads((schema.metadata or {})[b"huggingface"])
        return about["info"]["features"]
    except (KeyError, TypeError, orjson.JSONDecodeError):
        return None


def _plain(value: Any, kind: pa.DataType, feature: Any = None) -> Any:
    """Return a value that JSON has: times and decimals as their text, bytes too if they are one.

    Of other bytes, such as those of an image, their number is told: no record holds them. A number
    of less than 64 bits has the shortest text that means it, and a class its name.

    Args:
        value: As Arrow gives it.
        kind: Its type.
        feature: What the datasets library says of it.
    """
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if isinstance(value, dict) and pa.types.is_struct(kind):
        inner = feature if isinstance(feature, dict) else {}
        if inner.get("_type") == "Sequence" and isinstance(inner.get("feature"), dict):
            inner = inner["feature"]  # a sequence of objects is kept as an object of sequences
        return {k: _plain(v, kind.field(k).type, inner.get(k)) for k, v in value.items()}
    if isinstance(value, list) and not pa.types.is_map(kind):
        inner = feature[0] if isinstance(feature, list) and feature else feature
        inner = inner.get("feature") if isinstance(inner, dict) and "feature" in inner else inner
        return [_plain(item, kind.value_type, inner) for item in value]
    if isinstance(value, list):
        return [[_plain(k, kind.key_type), _plain(v, kind.item_type)] for k, v in value]
    if isinstance(value, int) and isinstance(feature, dict) and "names" in feature:
        names = feature["names"]
        return names[value] if 0 <= value < len(names) else None
    if isinstance(value, float) and (pa.types.is_float16(kind) or pa.types.is_float32(kind)):
        value = float(str(np.float16(value) if pa.types.is_float16(kind) else np.float32(value)))
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return f"({human_bytes(len(value))})"
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, decimal.Decimal):
        return f"{value:f}"
    if isinstance(value, uuid.UUID | datetime.date | datetime.time | datetime.timedelta):
        return str(value)
    return value
