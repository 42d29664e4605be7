"""Starts a run in a child process, shows it while it goes on and says how it ended."""

import errno
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from omnistage.errors import machine_errors
from omnistage.files import read_json
from omnistage.runs.folder import RUN_EVENT, STOPPED, EventReader, acquire_run_lock, finish
from omnistage.runs.live import View, open_view, stage_table

_POLL = 0.1  # seconds: how soon a finished child or a new event is seen
_LOG_LINES = 20
_NO_TERMINAL = {errno.EIO, errno.EPIPE}
"""What writing to a terminal that was closed gives."""


def supervise(
    folder: Path,
    names: list[str],
    command: Sequence[str],
    console: Console,
    request: Mapping[str, Any] | None = None,
) -> int:
    """Run the child of a run to its end and return the exit code.

    The child and all it starts end with this process, see :mod:`omnistage.runs.guard`.

    Args:
        folder: The run's folder.
        names: Its stages, in order.
        command: The child's command line.
        console: Where the run is shown.
        request: What the child reads as JSON on its standard input: the run's request with the
            secrets that its folder does not have. Nothing by default.
    """
    view = open_view(names, console)
    reader = EventReader(folder / "events.jsonl")
    with (
        machine_errors("starting the run"),
        acquire_run_lock(folder) as lock,
        (folder / "log.txt").open("ab") as log,
        tempfile.TemporaryFile() as asked,  # has no name, and is gone with the last who holds it
    ):
        asked.write(orjson.dumps(request) if request else b"")
        asked.seek(0)
        guard = subprocess.Popen(
            [sys.executable, "-m", "omnistage.runs.guard", str(asked.fileno()), *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[lock.fileno(), asked.fileno()],
        )
        try:
            with _interruptible(), view:
                code = _follow(guard, reader, view)
        except (KeyboardInterrupt, OSError) as e:
            if isinstance(e, OSError) and e.errno not in _NO_TERMINAL:
                raise
            with suppress(OSError):
                console.print("stopping …")
            guard.terminate()
            guard.wait()
            code = STOPPED
        finally:
            if guard.stdin:
                guard.stdin.close()
            guard.wait()
    code = code if code in {0, 2, 75, STOPPED} else 1
    finish(folder, code)
    _say_end(folder, view, console, code, guard.returncode)
    return code


def _say_end(folder: Path, view: View, console: Console, code: int, ended: int) -> None:
    if code == 0:
        _say_success(folder, view, console)
    elif code == STOPPED:
        with suppress(OSError):  # nobody reads it when the terminal is gone
            _say_stopped(folder, view, console)
    else:
        _say_failure(folder, view, ended)


def _follow(guard: "subprocess.Popen[bytes]", reader: EventReader, view: View) -> int:
    while True:
        try:
            code = guard.wait(_POLL)
        except subprocess.TimeoutExpired:
            code = None
        for event in reader.read():
            view.take(event)
        if code is not None:
            return code


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the run as Ctrl-C does."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say_success(folder: Path, view: View, console: Console) -> None:
    console.print()
    if not console.is_terminal:  # in a terminal the live table is still there
        console.print(stage_table(list(view.stages.values())))
        console.print()
    if not (folder / "report.html").is_file():
        print(f"done; 'omnistage show' says where the artifacts are; log: {folder / 'log.txt'}")
        return
    console.print(headline_table(read_json(folder / "report.json")))
    console.print()
    sys.stdout.flush()
    print(folder / "report.html", flush=True)


def headline_table(report: dict[str, Any]) -> Table:
    """Return each model's headline metric in percent with its interval, from ``report.json``."""
    headline = report.get("headline") or {  # reports of schema 1 had accuracy alone
        "metric": "accuracy",
        "models": {name: model["accuracy"] for name, model in report["models"].items()},
    }
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("model")
    table.add_column(headline["metric"], justify="right")
    table.add_column("interval", justify="right")
    for name, value in headline["models"].items():
        table.add_row(
            name,
            f"{100 * value['value']:.1f} %",
            f"{100 * value['low']:.1f} – {100 * value['high']:.1f}",
        )
    return table


def _say_stopped(folder: Path, view: View, console: Console) -> None:
    at = next((s.name for s in view.stages.values() if s.state == "running"), None)
    console.print(
        f"stopped{f' in {at}' if at else ''}; run the same command again to go on from there",
        highlight=False,
    )
    print(f"log: {folder / 'log.txt'}", file=sys.stderr)


def _say_failure(folder: Path, view: View, code: int) -> None:
    log = folder / "log.txt"
    failed = next((s for s in view.stages.values() if s.state == "failed"), None)
    if failed:
        named = failed.name == RUN_EVENT or failed.error.startswith(f"{failed.name}: ")
        said = failed.error if named else f"{failed.name}: {failed.error}"
    else:
        by = f" by signal {code - 128} ({_signal_name(code - 128)})" if code > 128 else ""
        said = f"the run was ended{by}" if by else f"the run failed with exit code {code}"
        with log.open(errors="replace") as f:
            said += "; the last lines of its log:\n" + "".join(deque(f, _LOG_LINES)).rstrip()
    print(f"omnistage: error: {said}\nlog: {log}", file=sys.stderr, flush=True)


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return "unknown"
    return f"{name}; out of memory?" if number == signal.SIGKILL else name
