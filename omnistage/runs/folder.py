"""Runs on this machine: a folder each, under ``.omnistage/runs``.

::

    run.json       what was asked: recipe, store, stages to force; without secrets
    state.json     when it began and how it ended
    lock           held by the run's processes while they live
    events.jsonl   what the stages report, see :mod:`omnistage.events`
    log.txt        all output of the stages
    report.html, report.json   when the evaluation is done
"""

import fcntl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import orjson

from omnistage.errors import InputError, machine_errors
from omnistage.files import read_json, write_json
from omnistage.redact import redacted

RunState = Literal["running", "done", "failed", "stopped", "killed"]
StageState = Literal["waiting", "running", "done", "cached", "failed", "stopped"]
RUN_EVENT = "run"
"""What events that belong to no stage give as their stage."""
STOPPED = 130
"""Exit code of a run ended by Ctrl-C, as a shell would say it."""


def new_run(home: Path, name: str, request: dict[str, Any], stages: Sequence[str]) -> Path:
    """Make the folder of a new run and write what it is asked to do.

    Args:
        home: omnistage's folder, such as ``.omnistage``.
        name: Of the recipe; the end of the folder's name.
        request: What is asked; written for people, without secrets. ``events`` is added.
        stages: Names in the order they run, for those who look at the run.

    Raises:
        InputError: If the folder cannot be written.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    with machine_errors("writing the run's folder"):
        runs = home.absolute() / "runs"
        try:
            runs.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as e:
            raise InputError(f"{e.filename}: not a folder; choose another --home") from e
        count = 1
        while True:
            folder = runs / (f"{stamp}-{name}" + (f"-{count}" if count > 1 else ""))
            try:
                folder.mkdir()
                break
            except FileExistsError:  # begun in the same second by somebody else
                count += 1
        write_json(
            folder / "run.json", redacted({**request, "events": str(folder / "events.jsonl")})
        )
        write_json(folder / "state.json", {"started": time.time(), "stages": list(stages)})
    return folder


def acquire_run_lock(folder: Path) -> IO[str]:
    """Return the run's lock file, locked; processes that inherit it keep it locked."""
    handle = (folder / "lock").open("w")
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def finish(folder: Path, exit_code: int) -> None:
    """Write down how a run ended."""
    state = read_json(folder / "state.json")
    write_json(folder / "state.json", {**state, "finished": time.time(), "exit_code": exit_code})


@dataclass
class StageView:
    """What is known of a stage of a run from its events."""

    name: str
    state: StageState = "waiting"
    key: str | None = None
    began: float | None = None
    """Unix time."""
    seconds: float | None = None
    uri: str | None = None
    progress: dict[str, Any] = field(default_factory=dict)
    message: str = ""
    warnings: list[str] = field(default_factory=list)
    error: str = ""


def apply_event(stages: dict[str, StageView], event: dict[str, Any]) -> None:
    """Bring the view of a run's stages up to date with one event."""
    name, kind = event["stage"], event["event"]
    stage = stages.setdefault(name, StageView(name))
    if kind == "started":
        stages[name] = StageView(name, "running", event["key"], event["time"])
    elif kind == "progress":
        stage.progress = {k: v for k, v in event.items() if k not in {"stage", "event", "time"}}
    elif kind == "message":
        stage.message = event["text"]
    elif kind == "warning":
        stage.warnings.append(event["text"])
    elif kind == "finished":
        stage.state = "cached" if event["cached"] else "done"
        stage.key, stage.uri, stage.seconds = event["key"], event["uri"], event["seconds"]
    elif kind == "failed":
        stage.state, stage.error = "failed", event["message"]
        stage.seconds = max(0.0, event["time"] - stage.began) if stage.began else None


class EventReader:
    """Reads the events of a run as they are written.

    Args:
        path: The events file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._line = 0

    def read(self) -> list[dict[str, Any]]:
        """Return the events since the last call; a line still being written waits.

        A damaged line (the disk was full, the machine went down) becomes a warning.
        """
        if not self.path.exists():
            return []
        with self.path.open("rb") as f:
            f.seek(self._offset)
            whole, _, _ = f.read().rpartition(b"\n")
        if not whole:
            return []
        self._offset += len(whole) + 1
        return [self._parse(line) for line in whole.split(b"\n")]

    def _parse(self, line: bytes) -> dict[str, Any]:
        self._line += 1
        try:
            event = orjson.loads(line)
        except orjson.JSONDecodeError:
            event = None
        if isinstance(event, dict) and {"stage", "event", "time"} <= event.keys():
            return event
        text = f"{self.path}:{self._line}: a damaged line was passed over"
        return {"time": 0.0, "stage": RUN_EVENT, "event": "warning", "text": text}


@dataclass(frozen=True)
class Run:
    """A run as found on the disk."""

    folder: Path
    state: RunState
    recipe: str
    started: float
    finished: float | None
    exit_code: int | None
    stages: list[StageView]

    @property
    def report(self) -> Path | None:
        """The report, if the run got that far."""
        path = self.folder / "report.html"
        return path if path.is_file() else None

    def to_json(self) -> dict[str, Any]:
        """Return what ``omnistage show --json`` prints."""
        whole = next((s for s in self.stages if s.name == RUN_EVENT), StageView(RUN_EVENT))
        return {
            "run": self.folder.name,
            "folder": str(self.folder),
            "state": self.state,
            "recipe": self.recipe,
            "started": self.started,
            "finished": self.finished,
            "exit_code": self.exit_code,
            "report": str(self.report) if self.report else None,
            "error": whole.error or None,
            "warnings": whole.warnings,
            "stages": [
                {
                    "stage": s.name,
                    "state": s.state,
                    "key": s.key,
                    "cached": s.state == "cached" if s.state in {"cached", "done"} else None,
                    "seconds": s.seconds,
                    "uri": s.uri,
                    "error": s.error or None,
                    "warnings": s.warnings,
                }
                for s in self.stages
                if s.name != RUN_EVENT
            ],
        }


def read_run(folder: Path) -> Run:
    """Read a run's folder.

    Raises:
        InputError: If it is not one.
    """
    state = read_json(folder / "state.json")
    request = read_json(folder / "run.json")
    stages = {name: StageView(name) for name in state["stages"]}
    for event in EventReader(folder / "events.jsonl").read():
        apply_event(stages, event)
    how = _run_state(folder, state.get("exit_code"))
    if how != "running":
        for stage in stages.values():
            if stage.state == "running":
                stage.state = "stopped"
    return Run(
        folder,
        how,
        request["recipe"].get("name", "?"),
        state["started"],
        state.get("finished"),
        state.get("exit_code"),
        list(stages.values()),
    )


def all_runs(home: Path) -> list[Path]:
    """Return the folders of all runs, latest first."""
    found = [(read_json(s)["started"], s.parent) for s in (home / "runs").glob("*/state.json")]
    return [folder for _, folder in sorted(found, reverse=True)]


def find_run(home: Path, name: str | None) -> Path:
    """Return the folder of a run.

    Args:
        home: omnistage's folder.
        name: A run's name, a part of it that only one run has, or a path; None for the latest.

    Raises:
        InputError: If there is none, or several, by that name.
    """
    if name and (Path(name) / "state.json").is_file():
        return Path(name)
    runs = all_runs(home)
    if not runs:
        raise InputError(f"{home / 'runs'}: no run yet; 'omnistage run tiny' makes one")
    if name is None:
        return runs[0]
    found = [r for r in runs if r.name == name] or [r for r in runs if name in r.name]
    if len(found) != 1:
        several = ", ".join(r.name for r in found[:5]) or "none"
        raise InputError(f"run {name!r}: expected one run by that name in {home}, found {several}")
    return found[0]


def _run_state(folder: Path, exit_code: int | None) -> RunState:
    if exit_code is not None:
        return "done" if exit_code == 0 else "stopped" if exit_code == STOPPED else "failed"
    lock = folder / "lock"
    if not lock.exists():
        return "killed"
    with lock.open() as f:
        try:
            fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return "running"
    return "killed"
