"""Plays the child of a run: reports what its run.json tells it to, and can fail like the real one.

``play`` in run.json, or the variable ``PLAY``, is a list of steps:
``["event", stage, kind, {fields}]``,
``["print", text]``, ``["write", file, text]``, ``["sleep", seconds]``, ``["orphan", pid file]`` (a
process in a session of its own that would outlive its parent), ``["ignore SIGTERM"]`` and
``["exit", code]``.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from omnistage.events import Events


def main(folder: Path) -> None:
    request = json.loads((folder / "run.json").read_text())
    for action, *rest in request.get("play") or json.loads(os.environ["PLAY"]):
        if action == "event":
            stage, kind, fields = rest
            Events(stage, Path(request["events"])).emit(kind, **fields)
        elif action == "print":
            print(rest[0], flush=True)
        elif action == "write":
            (folder / rest[0]).write_text(rest[1])
        elif action == "sleep":
            time.sleep(rest[0])
        elif action == "orphan":
            process = subprocess.Popen(["sleep", "600"], start_new_session=True)
            Path(rest[0]).write_text(str(process.pid))
        elif action == "ignore SIGTERM":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        elif action == "exit":
            sys.exit(rest[0])
        else:
            raise ValueError(action)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
