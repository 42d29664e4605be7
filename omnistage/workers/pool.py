"""Worker processes that take JSON tasks on stdin and answer on stdout.

Unlike ``multiprocessing`` they do not import the caller's main module again, and they end by
themselves when the caller is killed, because their stdin does. Their side is
:mod:`omnistage.workers.loop`.
"""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import orjson

from omnistage.errors import InputError, StageFailedError, TransientError

_ERRORS = {e.__name__: e for e in (InputError, TransientError, StageFailedError)}


class WorkerEndedError(Exception):
    """A worker process ended in the middle of a task.

    Args:
        code: Its exit code; minus the signal's number where a signal ended it.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


class WorkerProcess:
    """One process, which does a task at a time.

    Args:
        module: The program, run as ``python -m module``; it calls
            :func:`omnistage.workers.loop.serve`.
        pass_fds: Open files that it inherits, under the same numbers.
    """

    def __init__(self, module: str, pass_fds: Sequence[int] = ()) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=pass_fds,
        )

    def ask(self, task: dict[str, Any]) -> dict[str, Any]:
        """Have a task done.

        Raises:
            WorkerEndedError: If the process ends instead of answering.
            OmnistageError: What the worker raised.
        """
        self.send(task)
        return self.receive()

    def send(self, task: dict[str, Any]) -> None:
        """Hand it a task; several may wait to be received, in the order they were sent."""
        assert self._process.stdin is not None  # asked for when it was started
        with contextlib.suppress(BrokenPipeError):  # it has ended: receive() will say so
            self._process.stdin.write(orjson.dumps(task) + b"\n")
            self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """Wait for the answer to the first task that was sent and not yet answered.

        Raises:
            WorkerEndedError: If the process ends instead of answering.
            OmnistageError: What the worker raised.
        """
        assert self._process.stdout is not None  # asked for when it was started
        line = self._process.stdout.readline()
        if not line:
            raise WorkerEndedError(self._process.wait())
        answer = orjson.loads(line)
        if "error" in answer:
            raise _ERRORS.get(answer["error"], StageFailedError)(answer["message"])
        return answer

    def kill(self) -> None:
        """End it, also in the middle of a task."""
        self._process.kill()

    def close(self) -> None:
        """Wait for its end, after :meth:`kill`, and close the pipes."""
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError):  # what it was not sent any more
                    pipe.close()


class WorkerPool:
    """Processes of one program, each doing a task at a time, in the order of submission.

    Args:
        module: The program, run as ``python -m module``; it calls
            :func:`omnistage.workers.loop.serve`.
        count: Processes at most; each is started with its first task.
    """

    def __init__(self, module: str, count: int) -> None:
        self._module = module
        self._local = threading.local()
        self._processes: list[WorkerProcess] = []
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
            process.close()

    def submit(self, task: dict[str, Any]) -> "Future[dict[str, Any]]":
        """Have a task done; the future raises what the worker raised."""
        return self._threads.submit(self._do, task)

    def _do(self, task: dict[str, Any]) -> dict[str, Any]:
        process: WorkerProcess | None = getattr(self._local, "process", None)
        if process is None:
            process = WorkerProcess(self._module)
            self._processes.append(process)
            self._local.process = process
            if self._closed:
                process.kill()
        try:
            return process.ask(task)
        except WorkerEndedError as e:
            self._local.process = None
            raise StageFailedError(
                f"a worker process ended with code {e.code} on the task {task}"
            ) from e
