"""Worker processes that take JSON tasks on stdin and answer on stdout.

Unlike ``multiprocessing`` they do not import the caller's main module again, and they end by
themselves when the caller is killed, because their stdin does. Their side is
:mod:`omnistage.worker_loop`.
"""

import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any

import orjson

from omnistage.errors import InputError, StageFailedError, TransientError

_ERRORS = {e.__name__: e for e in (InputError, TransientError, StageFailedError)}


class WorkerPool:
    """Processes of one program, each doing a task at a time, in the order of submission.

    Args:
        module: The program, run as ``python -m module``; it calls
            :func:`omnistage.worker_loop.serve`.
        count: Processes at most; each is started with its first task.
    """

    def __init__(self, module: str, count: int) -> None:
        self._module = module
        self._local = threading.local()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._closed = False
        self._threads = ThreadPoolExecutor(max_workers=count, thread_name_prefix="worker")

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes, also in the middle of a task."""
        self._closed = True
        for process in list(self._processes):
            process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()

    def submit(self, task: dict[str, Any]) -> "Future[dict[str, Any]]":
        """Have a task done; the future raises what the worker raised."""
        return self._threads.submit(self._do, task)

    def _do(self, task: dict[str, Any]) -> dict[str, Any]:
        process: subprocess.Popen[bytes] | None = getattr(self._local, "process", None)
        if process is None:
            process = subprocess.Popen(
                [sys.executable, "-m", self._module], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            self._processes.append(process)
            self._local.process = process
            if self._closed:
                process.kill()
        stdin, stdout = _pipes(process)
        try:
            stdin.write(orjson.dumps(task) + b"\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            self._local.process = None
            raise StageFailedError(
                f"a worker process ended with code {process.wait()} on the task {task}"
            )
        answer = orjson.loads(line)
        if "error" in answer:
            raise _ERRORS.get(answer["error"], StageFailedError)(answer["message"])
        return answer


def _pipes(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None  # both are asked for when it is started
    assert process.stdout is not None
    return process.stdin, process.stdout
