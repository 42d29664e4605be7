"""What one sees of a run: a live table in a terminal, plain lines in a log."""

import time
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from omnistage.events import clock, progress_line
from omnistage.runs.folder import RUN_EVENT, StageView, apply_event

STYLES = {
    "waiting": "dim",
    "running": "bold cyan",
    "done": "green",
    "cached": "blue",
    "failed": "bold red",
    "stopped": "yellow",
}
_PLAIN_EVERY = 10.0  # seconds between two progress lines in a log


class View(Protocol):
    """Shows a run while it goes on; a context manager."""

    stages: dict[str, StageView]

    def __enter__(self) -> "View": ...

    def __exit__(self, *error: object) -> None: ...

    def take(self, event: dict[str, Any]) -> None:
        """Show one event."""
        ...


def open_view(names: list[str], console: Console) -> View:
    """Return a live table where the console is a terminal, else plain lines."""
    return LiveTable(names, console) if console.is_terminal else PlainLines(names, console)


class LiveTable:
    """A table of the stages that is drawn again as they go on, with a progress line below.

    Args:
        names: Stages in their order.
        console: The terminal.
    """

    def __init__(self, names: list[str], console: Console) -> None:
        self.stages = {name: StageView(name) for name in names}
        self.console = console
        self._live = Live(get_renderable=self._draw, console=console, refresh_per_second=4)

    def __enter__(self) -> "LiveTable":
        self._live.start(refresh=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def take(self, event: dict[str, Any]) -> None:
        """Bring the table up to date; warnings are printed above it and stay."""
        apply_event(self.stages, event)
        if event["event"] == "warning":
            self.console.print(
                f"[yellow]{event['stage']}: warning:[/] {escape(event['text'])}", highlight=False
            )

    def _draw(self) -> Group:
        table = stage_table(list(self.stages.values()))
        return Group(table, *(Text(line) for line in current_lines(self.stages)))


class PlainLines:
    """A line for each event, and for progress one every ten seconds.

    Args:
        names: Stages in their order.
        console: Where the lines go.
    """

    def __init__(self, names: list[str], console: Console) -> None:
        self.stages = {name: StageView(name) for name in names}
        self.console = console
        self._progressed: dict[str, float] = {}

    def __enter__(self) -> "PlainLines":
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def take(self, event: dict[str, Any]) -> None:
        """Print the event if it is due."""
        apply_event(self.stages, event)
        line = self._line(event, self.stages[event["stage"]])
        if line:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _line(self, event: dict[str, Any], stage: StageView) -> str | None:
        kind, name = event["event"], event["stage"]
        if kind == "started":
            self._progressed[name] = event["time"]
            return f"{name}: started, key {event['key']}"
        if kind == "progress":
            if event["time"] - self._progressed.get(name, 0.0) < _PLAIN_EVERY:
                return None
            self._progressed[name] = event["time"]
            return stage_progress(stage)
        if kind == "finished":  # a stage that ran has said so itself, with what it made
            return f"{name}: cached, not run again" if event["cached"] else None
        if kind in {"message", "warning"}:
            return f"{name}: {'warning: ' if kind == 'warning' else ''}{event['text']}"
        return None  # a failure is said once, when the run has ended


def stage_table(stages: list[StageView]) -> Table:
    """Return the table of a run's stages: state, key, and how long each took."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("stage", "state", "key"):
        table.add_column(column, no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    for stage in stages:
        if stage.name == RUN_EVENT:
            continue
        state = Text(stage.state, STYLES[stage.state])
        table.add_row(stage.name, state, (stage.key or "")[:12], _time(stage))
    return table


def current_lines(stages: dict[str, StageView]) -> list[str]:
    """Return a line for each stage at work: its progress, or the last thing it said."""
    lines = [""]
    for stage in stages.values():
        if stage.state == "running":
            said = f"{stage.name}: {stage.message}" if stage.message else f"{stage.name}: at work"
            lines.append(stage_progress(stage) or said)
    if len(lines) == 1 and not any(s.state == "failed" for s in stages.values()):
        begun = any(s.state != "waiting" for s in stages.values())
        lines.append("on to the next stage" if begun else "starting")
    return lines


def stage_progress(stage: StageView) -> str | None:
    """Return the stage's progress as one line, or None before it has reported any."""
    figures = dict(stage.progress)
    if not figures:
        return None
    done, total = figures.pop("done"), figures.pop("total")
    unit, left = figures.pop("unit"), figures.pop("seconds_left")
    figures.pop("rate")
    return progress_line(stage.name, done, total, unit, left, figures)


def _time(stage: StageView) -> str:
    if stage.seconds is not None:
        return clock(stage.seconds)
    if stage.state == "running" and stage.began:
        return clock(max(0.0, time.time() - stage.began))
    return ""
