"""The process that decoders run in: what crashes, hangs or eats memory there harms nothing else.

:mod:`components.download.index.probe_process` is the other side.
"""

import io
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO, cast

from components.download.index.probe import probe
from omnistage.archives.file_views import JoinedFiles, Section
from omnistage.workers.loop import serve

_MEMORY = 4 << 30  # bytes of address space; of it a decoder's libraries take about one


def _do(task: dict[str, Any]) -> dict[str, Any]:
    """Probe a range of the files ``parts`` one after another, within ``seconds``.

    The timer is the kernel's and has no handler, so it also ends a decoder that never comes back,
    and one whose caller was killed.
    """
    if not task:
        return {}  # the question whether this process has started
    signal.setitimer(signal.ITIMER_REAL, task["seconds"])
    try:
        with JoinedFiles([Path(part) for part in task["parts"]]) as whole:
            section = Section(cast(BinaryIO, whole), task["start"], task["size"])
            file = io.BufferedReader(section, 1 << 16)
            return {"media": probe(task["kind"], file, task["decode"])}
    except MemoryError:
        return {"media": {"error": f"the decoder wants more than {_MEMORY >> 30} GB of memory"}}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy's buffers for many cores fill the limit
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere this limit is refused or without effect
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    serve(_do)
