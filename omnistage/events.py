"""What a stage reports while it works: a JSON object a line, for people and the live table."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from omnistage.files import human_bytes, printable
from omnistage.redact import redact, redacted

_INTERVAL, _LONGEST = 0.5, 10.0  # seconds between two progress lines, at first and after hours


class Events:
    """Writes a stage's progress and messages to a file that others may follow, and to stderr.

    Args:
        stage: Name that each line carries.
        path: JSON Lines file to append to; ``None`` writes to stderr only.
        echo: Whether messages, and progress every few seconds, also go to stderr (a pod's log).
    """

    def __init__(self, stage: str, path: Path | None = None, echo: bool = True) -> None:
        self.stage = stage
        self.path = path
        self.echo = echo
        self._progressed = 0.0
        self._echoed = 0.0
        self._unwritten = False
        self._began: tuple[float, float] | None = None
        self._ended: tuple[str, float] | None = None

    def progress(
        self, done: float, total: float | None = None, unit: str = "steps", **figures: Any
    ) -> None:
        """Report how far the work is; called as often as one likes, written twice a second at
        first, after hours every ten seconds.

        Args:
            done: Units done.
            total: Units in all, or ``None`` when it is not known.
            unit: What is counted.
            **figures: Shown beside it, such as ``loss=0.31``.
        """
        now = time.monotonic()
        if self._began is None or done < self._began[1]:
            self._began = (now, done)
        last = total is not None and done >= total
        # A table wants the news at once, and a week's run must not fill the disk with them.
        interval = min(_LONGEST, max(_INTERVAL, (now - self._began[0]) / 2000))
        said = (unit, done) == self._ended
        if said or (now - self._progressed < interval and not last):
            return
        self._progressed = now
        self._ended = (unit, done) if last else None
        rate = (done - self._began[1]) / (now - self._began[0]) if now > self._began[0] else 0.0
        left = (total - done) / rate if total is not None and rate > 0 else None
        self.emit(
            "progress", done=done, total=total, unit=unit, rate=rate, seconds_left=left, **figures
        )
        if self.echo and (last or now - self._echoed >= 5):
            self._echoed = now
            self._say(progress_line(self.stage, done, total, unit, left, figures))

    def message(self, text: str) -> None:
        """Report one line for the user."""
        text = printable(text)
        self.emit("message", text=text)
        if self.echo:
            self._say(f"{self.stage}: {text}")

    def warn(self, text: str) -> None:
        """Report something the user should look at although the work goes on."""
        text = printable(text)
        self.emit("warning", text=text)
        if self.echo:
            self._say(f"{self.stage}: warning: {text}")

    def emit(self, event: str, **fields: Any) -> None:
        """Append one event line; lines of several processes do not mix (``O_APPEND``)."""
        if self.path is None:
            return
        line = orjson.dumps(
            {"time": time.time(), "stage": self.stage, "event": event, **redacted(fields)},
            default=str,
            option=orjson.OPT_SERIALIZE_NUMPY,
        )
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(handle, line + b"\n")
            finally:
                os.close(handle)
        except OSError as e:  # the work goes on: a training is worth more than its progress
            if not self._unwritten:
                self._say(f"{self.stage}: warning: {self.path} cannot be written: {e.strerror}")
            self._unwritten = True

    @staticmethod
    def _say(text: str) -> None:
        print(redact(text), file=sys.stderr, flush=True)


def progress_line(
    stage: str,
    done: float,
    total: float | None,
    unit: str,
    seconds_left: float | None,
    figures: dict[str, Any],
) -> str:
    """Return a progress report as one line: ``sft: 120/420 steps, loss 0.31, 1:05 left``."""
    if unit == "bytes":
        of = f" of {human_bytes(total)}" if total is not None else ""
        parts = [f"{stage}: {human_bytes(done)}{of}"]
    else:
        of = f"/{total:g}" if total is not None else ""
        parts = [f"{stage}: {done:g}{of} {unit}"]
    parts += [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items()]
    if seconds_left is not None:
        parts.append(f"{clock(seconds_left)} left")
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """Return a duration for people: ``1:05`` or ``2:03:10``."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes}:{secs:02}"
