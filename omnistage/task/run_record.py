"""The records that the tasks of a run on a cluster leave for its exit task.

Kubeflow Pipelines does not tell an exit task why a run failed, so every task writes how it ended
to the store, and the exit task puts these records together::

    runs/<run id>/<stage>.json    how a task began or ended
    runs/<run id>/summary.json    the run, written by the exit task
"""

import os
import sys
import time
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from omnistage.cluster.launch import RUN_VARIABLE
from omnistage.errors import InputError, OmnistageError
from omnistage.files import write_atomic
from omnistage.redact import redacted
from omnistage.store.uris import uri_path

POD_VARIABLE = "OMNISTAGE_POD_NAME"
SUMMARY = "summary"
EXIT = "exit"
"""Name of the exit task, which writes the summary and no record of its own."""

TaskState = Literal["running", "done", "cached", "failed"]


@dataclass(frozen=True)
class RunRecord:
    """The records of one run.

    Args:
        store: URI of the store.
        run: Id of the run.
    """

    store: str
    run: str

    def uri(self, name: str) -> str:
        """Return where the record of a stage, or :data:`SUMMARY`, is."""
        return f"{self.store.rstrip('/')}/runs/{self.run}/{name}.json"

    def write(self, name: str, record: dict[str, Any]) -> None:
        """Write a record, without secrets.

        Raises:
            InputError: If the store may not be written.
            TransientError: If it does not answer.
        """
        data = orjson.dumps(redacted(record), default=str, option=orjson.OPT_INDENT_2)
        uri = self.uri(name)
        if uri.startswith("s3://"):
            from omnistage.store import objects  # boto3 takes half a second

            objects.write(uri, data)
            return
        path = uri_path(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)

    def note(self, stage: str, state: TaskState, **fields: Any) -> None:
        """Write the state of a stage; if that fails, warn and go on."""
        pod = os.environ.get(POD_VARIABLE, "")
        try:
            self.write(
                stage, {"stage": stage, "state": state, "time": time.time(), "pod": pod, **fields}
            )
        except (OmnistageError, OSError) as e:
            print(f"{stage}: warning: the run's record was not written: {e}", file=sys.stderr)

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a record, or None if there is none.

        Raises:
            InputError: If the store may not be read.
            TransientError: If it does not answer.
        """
        uri = self.uri(name)
        if uri.startswith("s3://"):
            from omnistage.store import objects  # boto3, as above

            data = objects.read(uri)
        else:
            path = uri_path(uri)
            data = path.read_bytes() if path.is_file() else None
        return None if data is None else _parse(data, uri)


def record_here(store: str) -> RunRecord | None:
    """Return the records of the run that this process is a task of, or None outside of one."""
    run = os.environ.get(RUN_VARIABLE, "")
    return RunRecord(store, run) if run else None


def _parse(data: bytes, uri: str) -> dict[str, Any]:
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError as e:
        raise InputError(f"{uri}: not JSON: {e}") from e
    if not isinstance(record, dict):
        raise InputError(f"{uri}: not a record")
    return record
