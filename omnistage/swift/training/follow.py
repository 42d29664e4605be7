"""Follow a training by its log: progress for people, and lines for whoever watches it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omnistage.stage.contract import Context
from omnistage.swift.training.curve import parse_log_line


class Follow:
    """Reads what the trainer has logged since the last look."""

    def __init__(
        self,
        context: Context[Any],
        log: Path,
        figures: tuple[str, ...],
        watch: Callable[[bytes], str | None] | None,
        offset: int,
    ) -> None:
        self.context, self.log, self.figures, self.watch = context, log, figures, watch
        self.offset = offset

    def __call__(self) -> str | None:
        """Read the new lines; return why the training is to be stopped, if it is."""
        if not self.log.exists():
            return None
        with self.log.open("rb") as f:
            f.seek(self.offset)
            data = f.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        for line in whole.splitlines():
            row = parse_log_line(line)
            if row is None:
                continue
            shown = {n: row[n] for n in self.figures if row.get(n) is not None}
            self.context.events.progress(row["step"], row["max_steps"], "steps", **shown)
            reason = self.watch(line) if self.watch else None
            if reason:
                return reason
        return None
