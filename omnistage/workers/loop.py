"""The side of a worker process: tasks come in on stdin, answers go out on stdout.

A module of its own, because it must load fast; :mod:`omnistage.workers.pool` is the other side.
"""

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import orjson

from omnistage.errors import OmnistageError


def serve(do: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer tasks until stdin ends; whatever else writes to stdout goes to stderr.

    Args:
        do: Does a task; an :class:`OmnistageError` it raises reaches the caller as it is.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        try:
            answer = do(orjson.loads(line))
        except OmnistageError as e:
            answer = {"error": type(e).__name__, "message": str(e)}
        except Exception:
            answer = {"error": "StageFailedError", "message": traceback.format_exc()}
        try:
            answers.write(orjson.dumps(answer) + b"\n")
            answers.flush()
        except BrokenPipeError:  # whoever asked has ended
            os._exit(0)
