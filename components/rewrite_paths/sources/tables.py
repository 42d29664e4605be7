"""Turns Parquet files and saved data sets of the datasets library into JSON Lines."""

import datetime
import decimal
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
                for row in batch.to_pylist():
                    out.write(json.dumps(_plain(row), ensure_ascii=False).encode() + b"\n")
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


def _plain(value: Any) -> Any:
    """Return a value that JSON has: times and decimals as their text, bytes too if they are one.

    Of other bytes, such as those of an image, their number is told: no record holds them.
    """
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return f"({human_bytes(len(value))})"
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, decimal.Decimal | datetime.date | datetime.time | datetime.timedelta):
        return str(value)
    return value
